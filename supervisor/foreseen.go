//go:build linux

package supervisor

import (
	"net/netip"
	"path"
	"slices"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// What is foreseen here is what the sandbox's network and its mounts refuse, for
// Event.Denied: other features make the call fail, in one way or another.

// leadsOutside reports whether a call can't have an address of the Internet because it
// isn't the sandbox's, nor allowed.
func (e *event) leadsOutside(a netip.AddrPort) bool {
	if !e.s.hasOwnNetwork() {
		return false
	}
	if isLoopback(a.Addr()) {
		return false
	}
	switch e.sig.name {
	case "bind":
		return true
	case "connect":
		return !e.s.allowed.allow(a)
	}
	k, ok, err := socketOf(e.th.proc.fd(e.th.tid, e.int(0)))
	if err != nil || !ok {
		return false
	}
	defer k.close()
	return k.protocol == udp && !e.s.allowed.allow(a) // a stream takes no notice of it
}

// hasReadOnly reports whether something is mounted read-only: with Config.Continue, what
// is mounted is what was at first.
func (s *Sandbox) hasReadOnly() bool {
	for ; s != nil; s = s.cfg.Continue {
		if slices.ContainsFunc(s.cfg.Mounts, func(m cow.Mount) bool { return m.ReadOnly }) {
			return true
		}
	}
	return false
}

// changesReadOnly reports whether a call would change a file, or the directory of a name,
// that is mounted read-only.
func (e *event) changesReadOnly(at string) bool {
	if at == "" {
		return false
	}
	switch e.sig.name {
	case "open", "openat", "openat2", "creat":
		flags := e.openFlags()
		const write = unix.O_WRONLY | unix.O_RDWR | unix.O_TRUNC
		readOnly, err := e.s.view.isReadOnly(at)
		switch {
		case flags&unix.O_PATH != 0:
			return false
		case err == unix.ENOENT && flags&unix.O_CREAT != 0:
			readOnly, _ = e.s.view.isReadOnly(path.Dir(at))
			return readOnly
		}
		return readOnly && flags&write != 0
	case "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "bind":
		readOnly, _ := e.s.view.isReadOnly(path.Dir(at))
		return readOnly
	}
	return false
}

// openFlags returns the flags of a call that opens a file.
func (e *event) openFlags() uint64 {
	switch e.sig.name {
	case "creat":
		return unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC
	case "openat2":
		flags, _ := e.how()
		return flags
	}
	return e.args[slices.Index(e.sig.kinds, argOpen)]
}

// isReadOnly reports whether the file at a path without links is mounted read-only.
func (v *view) isReadOnly(at string) (bool, error) {
	f, err := v.tree.Lookup(&cow.Walk{Cred: cow.Superuser(), NoFollow: true}, at)
	if err != nil {
		return false, err
	}
	return f.Access(cow.Superuser(), unix.W_OK) == unix.EROFS, nil
}

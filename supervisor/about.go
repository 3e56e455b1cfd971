//go:build linux

package supervisor

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// about returns what a call is about: the paths that it names, with links followed, or
// that of its first descriptor's file; what that descriptor is, and where it stands in
// the file.
func (e *event) about() (paths []string, fd string, offset int64) {
	dirfd := int32(unix.AT_FDCWD)
	for i, kind := range e.sig.kinds {
		switch kind {
		case argDirFD:
			dirfd = e.int(i)
		case argPath, argName:
			if name, err := e.string(e.args[i]); err == nil {
				if name == "" {
					paths, fd, offset = e.aboutFD(dirfd, paths)
				} else {
					paths = append(paths, e.canonical(dirfd, name, e.follows(i)))
				}
			}
			dirfd = unix.AT_FDCWD
		case argFD:
			if fd == "" {
				paths, fd, offset = e.aboutFD(e.int(i), paths)
			}
		}
	}
	_, addr, _ := e.socketAddress(nil)
	switch name, kind := unixName(addr); kind {
	case unixFile:
		paths = append(paths, e.canonical(unix.AT_FDCWD, name, e.sig.name != "bind"))
	case unixAbstract:
		paths = append(paths, name)
	}
	return paths, fd, offset
}

// socketAddress returns the address that a call binds, connects or sends to, as the
// program has written it, and where; nil if there is none. The header of a message is read
// from what was judged.
func (e *event) socketAddress(j *judgement) (at uint64, addr []byte, err error) {
	size := int32(0)
	if i := slices.Index(e.sig.kinds, argSocket); i >= 0 {
		at, size = e.args[i], e.int(i+1)
	} else if e.sig.name == "sendmsg" || e.sig.name == "sendmmsg" {
		hdr := make([]byte, msghdrSize)
		if !j.read(e.args[1], hdr) {
			if err := e.read(e.args[1], hdr); err != nil {
				return 0, nil, err
			}
		}
		at, size = binary.NativeEndian.Uint64(hdr[msgName:]), int32(binary.NativeEndian.Uint32(hdr[msgNameLen:]))
	}
	if at == 0 || size < 2 || size > mostOfAnAddress {
		return 0, nil, nil
	}
	addr = make([]byte, size)
	if err := e.read(at, addr); err != nil {
		return 0, nil, err
	}
	return at, addr, nil
}

// A unixKind is what kind of name an address of a Unix socket is.
type unixKind int

const (
	unixNone     unixKind = iota // it isn't such an address, or has no name
	unixFile                     // a path
	unixAbstract                 // written with an @
)

// unixName returns the name in an address.
func unixName(addr []byte) (string, unixKind) {
	switch {
	case len(addr) <= 2 || familyOf(addr) != unix.AF_UNIX:
		return "", unixNone
	case addr[2] == 0:
		return "@" + string(addr[3:]), unixAbstract
	}
	name, _, _ := stringsCut(addr[2:])
	return name, unixFile
}

// follows reports whether a call follows a symbolic link at the end of the path that is
// its argument i.
func (e *event) follows(i int) bool {
	follow := e.sig.kinds[i] == argPath
	const whole = unix.O_CREAT | unix.O_EXCL
	if e.sig.name == "openat2" {
		flags, _ := e.how()
		return flags&unix.O_NOFOLLOW == 0 && flags&whole != whole
	}
	for j := i + 1; j < len(e.sig.kinds); j++ {
		switch e.sig.kinds[j] {
		case argPath, argName:
			return follow
		case argOpen:
			return e.args[j]&unix.O_NOFOLLOW == 0 && e.args[j]&whole != whole
		case argAt:
			if follow {
				return e.args[j]&unix.AT_SYMLINK_NOFOLLOW == 0
			}
			return e.args[j]&unix.AT_SYMLINK_FOLLOW != 0
		}
	}
	return follow
}

// canonical returns the path of the file that a path leads to, without links, also where
// it is to be made. Where its directory isn't there either, it is the path itself.
func (e *event) canonical(dirfd int32, name string, follow bool) string {
	at, err := e.where(dirfd, name, follow)
	if err != nil {
		return e.lexical(dirfd, name)
	}
	return at
}

// programPath returns the path from the root of a program that is to be executed. A link
// at its end is what it is called by.
func (e *event) programPath(dirfd int32, name string) string {
	switch {
	case name == "":
		if paths, _, _ := e.aboutFD(dirfd, nil); len(paths) > 0 {
			return paths[0]
		}
		return fmt.Sprintf("/dev/fd/%d", dirfd) // as the kernel calls it
	case path.IsAbs(name) && path.Clean(name) == name:
		return name
	}
	dir, base := path.Split(name)
	at, err := e.where(dirfd, cmp.Or(dir, "."), true)
	if err != nil {
		return path.Clean(name) // which can't be executed, or not any more
	}
	return path.Join(at, base)
}

// aboutFD adds the path of a descriptor's file to paths, if it has one, and returns
// what the descriptor is and where it stands.
func (e *event) aboutFD(num int32, paths []string) (_ []string, kind string, offset int64) {
	fd, err := e.th.proc.fd(e.th.tid, num)
	if err != nil {
		return paths, "", 0
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return paths, "", 0
	}
	if f, err := e.s.view.fileOf(fd, &st, false); err == nil && f != nil {
		paths = append(paths, f.Path())
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		offset, _ = unix.Seek(fd, 0, unix.SEEK_CUR)
		return paths, "file", offset
	case unix.S_IFDIR:
		return paths, "dir", 0
	case unix.S_IFIFO:
		return paths, "pipe", 0
	case unix.S_IFSOCK:
		return paths, "socket", 0
	case unix.S_IFCHR:
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			return paths, "terminal", 0
		}
		return paths, "device", 0
	case unix.S_IFBLK:
		return paths, "device", 0
	}
	return paths, "other", 0
}

// loaderSize is more than a dynamic linker has, and less than what lies between it and
// whatever comes next.
const loaderSize = 256 << 10

// byLoader reports whether the dynamic linker itself makes the call.
func (e *event) byLoader() bool {
	pc := uint64(0)
	switch {
	case e.call != nil:
		pc = e.call.n.IP
	case e.stop != nil:
		pc = e.stop.regs.PC()
	}
	base := e.th.proc.loader.Load()
	return base != 0 && pc-base < loaderSize
}

//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// locks keeps the locks of programs from the host's files.
//
// Source: a file that is only read is the host's, and so would a lock on it be: it would wait
// for programs outside, and they for it. Eliminated: before a lock is taken or asked about, a
// file of the host's gets bytes of its own, and the descriptor is replaced by one of those,
// wherever it was inherited to (handover.go). Who opens the file afterwards gets the same.
//
// What remains: a process that job control has stopped, or whose call is looked at when it
// ends (most waits with a timeout), can't be given another descriptor; a lock on one that it
// shares is refused (ENOLCK). A large file is copied for its first lock. Locks on directories
// and devices are on the host's. A program whose threads exchange a descriptor meanwhile may
// lock a file of the host's.
func locks(s *Sandbox) feature {
	const andNotBlock = 1<<32 - 1&^unix.LOCK_NB
	return feature{name: "locks", calls: []call{
		{name: "flock", notify: s.lock, conds: []seccomp.Cond{{Arg: 1, Mask: andNotBlock, Value: unix.LOCK_UN, Not: true}}},
		{name: "fcntl", notify: s.lock, anyOf: anyIs(1, unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW)},
	}}
}

func (s *Sandbox) lock(c *Call) Answer {
	_, own, a := s.detached(c)
	if own < 0 {
		return a
	}
	unix.Close(own)
	defer s.handovers.enter(c)()
	st, own, a := s.detached(c) // another may have seen to it meanwhile
	if own < 0 {
		return a
	}
	defer unix.Close(own)
	if err := c.replace(st, own); err != nil {
		return c.refusedWith(err)
	}
	return goOn
}

// detached opens the file anew that the call's descriptor is of, if that is a file of the
// host's, where it is at in it. Otherwise own is -1, and it returns an answer.
func (s *Sandbox) detached(c *Call) (st *unix.Stat_t, own int, a Answer) {
	fd, err := c.Process.fd(int(c.n.PID), c.Int(0))
	if err != nil {
		return nil, -1, c.descriptorFailed(err)
	}
	defer unix.Close(fd)
	st = new(unix.Stat_t)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(fd, st)
	}
	switch {
	case err != nil:
		return nil, -1, c.refusedWith(err)
	case flags&unix.O_PATH != 0 || flags&unix.O_ACCMODE != unix.O_RDONLY || st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, -1, goOn // what is written to is the layer's already
	}
	own = -1
	err = c.lookupFD(c.Int(0), 0, func(f *cow.File, _ *cow.Cred) (err error) {
		own, err = f.Detach(st, flags)
		return err
	})
	switch o := isOutside(err); {
	case o != nil:
		unix.Close(o.fd)
		return nil, -1, goOn
	case err != nil:
		return nil, -1, c.done(err)
	case own < 0:
		return nil, -1, goOn
	}
	at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	if err == nil {
		_, err = unix.Seek(own, at, unix.SEEK_SET)
	}
	if err != nil {
		unix.Close(own)
		return nil, -1, c.refusedWith(err)
	}
	return st, own, goOn
}

// replace puts another open file into the place of the one behind the call's descriptor,
// of which st tells, wherever the sandbox has it. ENOLCK means that some process can't be
// given it.
func (c *Call) replace(st *unix.Stat_t, own int) error {
	h := handover{of: c.Process, fd: c.Int(0), st: st, own: own}
	for again := true; again; { // for who was created meanwhile by one that hadn't been given it yet
		again = false
		for _, pid := range c.s.threads.processes() {
			th := c.s.threads.get(pid)
			if th == nil || th.proc == c.Process {
				continue
			}
			same, err := th.proc.descriptorsOf(c.Process, c.Int(0), st)
			if err == nil && len(same) > 0 {
				err = c.handOver(th.proc, h)
				again = true
			}
			if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) && !th.proc.ended() {
				return unix.ENOLCK
			}
		}
	}
	if !sameOpenFile(c.Process, c.Int(0), c.Process, c.Int(0)) {
		return unix.ENOLCK // the kernel has no kcmp
	}
	return h.take(c)
}

// descriptorsOf returns which descriptors of p are the same open file as fd of another
// process, a file of which st tells, and whether each is closed on exec.
func (p *Process) descriptorsOf(other *Process, fd int32, st *unix.Stat_t) (same map[int32]bool, err error) {
	dir := fmt.Sprintf("/proc/%d/fd", p.TGID)
	list, err := os.ReadDir(dir)
	for _, e := range list {
		n, _ := strconv.Atoi(e.Name())
		var there unix.Stat_t
		if unix.Stat(dir+"/"+e.Name(), &there) != nil || there.Dev != st.Dev || there.Ino != st.Ino || !sameOpenFile(p, int32(n), other, fd) {
			continue
		}
		info, err := readKernelFile(fmt.Sprintf("/proc/%d/fdinfo/%d", p.TGID, n))
		if err != nil {
			return nil, err
		}
		_, text, _ := strings.Cut(string(info), "flags:\t")
		text, _, _ = strings.Cut(text, "\n")
		flags, err := strconv.ParseUint(text, 8, 32)
		if err != nil {
			return nil, fmt.Errorf("flags of descriptor %d: %w", n, err)
		}
		if same == nil {
			same = map[int32]bool{}
		}
		same[int32(n)] = flags&unix.O_CLOEXEC != 0
	}
	return same, err
}

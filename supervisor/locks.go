//go:build linux

package supervisor

import (
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
// What remains: a process that job control has stopped, or whose vfork the caller is, can't be
// given another descriptor; a lock on one that it shares is refused (ENOLCK). A large file is
// copied for its first lock. Locks on directories and devices are on the host's. A program
// whose threads exchange a descriptor meanwhile may lock a file of the host's.
func locks(s *Sandbox) feature {
	const andNotBlock = 1<<32 - 1&^unix.LOCK_NB
	return feature{name: "locks", calls: []call{
		{name: "flock", notify: s.lock, conds: []seccomp.Cond{{Arg: 1, Mask: andNotBlock, Value: unix.LOCK_UN, Not: true}}},
		{name: "fcntl", notify: s.lock, anyOf: anyIs(1, unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW)},
	}}
}

func (s *Sandbox) lock(c *Call) Answer {
	s.receivers.closed()
	h, a := s.detached(c)
	if h == nil {
		return a
	}
	h.close()
	defer s.handovers.enter(c)()
	if h, a = s.detached(c); h == nil { // another has seen to it meanwhile
		return a
	}
	defer h.close()
	err := h.position()
	if err == nil {
		err = c.replace(*h)
	}
	if err != nil {
		return c.refusedWith(err)
	}
	return goOn
}

// detached opens the file anew that the call's descriptor is of, if that is a file of the
// host's. Otherwise it returns nil and an answer.
func (s *Sandbox) detached(c *Call) (*handover, Answer) {
	var flags int
	st, err := c.Process.look(int(c.n.PID), c.Int(0), &flags)
	if err != nil {
		return nil, c.descriptorFailed(err)
	}
	if !mayBeDetached(&st, flags) {
		return nil, goOn
	}
	if f := s.view.tree.Descriptor(&st); f != nil && f.IsOwn(&st) {
		return nil, goOn
	}
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return nil, c.descriptorFailed(err)
	}
	h, err := newHandover(fd, func(st *unix.Stat_t, flags int) (own int, err error) {
		own = -1
		err = c.lookupFD(c.Int(0), 0, func(f *cow.File, _ *cow.Cred) (err error) {
			own, err = f.Detach(st, flags)
			return err
		})
		return own, err
	})
	if o := isOutside(err); o != nil {
		unix.Close(o.fd)
		return nil, goOn
	}
	if err != nil {
		return nil, c.done(err)
	}
	return h, goOn
}

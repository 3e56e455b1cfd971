//go:build linux

package supervisor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// A connection is begun by the supervisor, on behalf of the program and without waiting.
// Where that takes long, because the server has as many as it wants, the program waits
// itself, so that a signal or the socket's timeout (SO_SNDTIMEO) ends it as they do
// natively: the thread sends nothing instead, for which the kernel waits until there is a
// connection. What it may not do itself is connect, as Landlock sees to.

// A connecting is a connection that a thread waits for.
type connecting struct {
	to     []byte // the address, its own
	cookie uint64 // of the socket (SO_COOKIE)
	begun  bool   // by a call before
	ends   bool   // it has a timeout, and the kernel doesn't go on with it after a signal
}

// expired is what connect says when its time is up.
func (k *connecting) expired() unix.Errno {
	if k.begun {
		return unix.EALREADY
	}
	return unix.EINPROGRESS
}

func (s *Sandbox) connectInternet(c *Call) Answer {
	return c.onSocket(func(k *socket) Answer {
		a, unspecified, err := c.address(1, k)
		switch {
		case err != nil:
			return c.refusedWith(err)
		case unspecified:
			return c.done(disconnect(k.fd))
		}
		var waits *connecting
		err = s.reaching(k, c.Process, a, true, func(real netip.AddrPort) (err error) {
			waits, err = k.connect(appendAddress(c.scratch(mostOfAnAddress)[:0], k.domain, real))
			return err
		})
		if waits != nil && err == nil {
			return c.waitToConnect(k, waits)
		}
		return c.done(err)
	})
}

// connect connects a socket as far as that goes without waiting, and returns what the
// program wants to wait for.
func (k *socket) connect(to []byte) (waits *connecting, err error) {
	flags, err := unix.FcntlInt(uintptr(k.fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	if k.protocol == udp || flags&unix.O_NONBLOCK != 0 {
		return nil, rawConnect(k.fd, to)
	}
	if _, err := unix.FcntlInt(uintptr(k.fd), unix.F_SETFL, flags|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	begun := false
	if err = rawConnect(k.fd, to); err == unix.EALREADY {
		begun = true
	} else if err == unix.EINPROGRESS {
		err = rawConnect(k.fd, to) // which tells how it went, if it has
	}
	if _, err := unix.FcntlInt(uintptr(k.fd), unix.F_SETFL, flags); err != nil {
		return nil, err
	}
	if err == unix.EALREADY {
		return &connecting{to: slices.Clone(to), begun: begun}, nil
	}
	return nil, err
}

// waitToConnect lets the caller wait for a connection that has begun.
func (c *Call) waitToConnect(k *socket, w *connecting) Answer {
	var err error
	if w.cookie, err = unix.GetsockoptUint64(k.fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
		return c.failed(fmt.Errorf("name a socket: %w", err))
	}
	timeout, err := unix.GetsockoptTimeval(k.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO)
	if err != nil {
		return c.failed(fmt.Errorf("look at a socket's timeout: %w", err))
	}
	w.ends = *timeout != unix.Timeval{}
	return c.makeAnew(&again{connects: w})
}

// connects returns the connection that the thread waits for, nil if it doesn't.
func (th *thread) connects() *connecting {
	if a := th.again.Load(); a != nil {
		return a.connects
	}
	return nil
}

// letConnect lets a thread that stands at the end of connect, which is to be made anew,
// wait for the connection instead.
func (t *tracer) letConnect(th *thread, regs *tracee.Regs, a *again) {
	given := *regs
	regs.SetNr(unix.SYS_SENDTO)
	for i, v := range []uint64{0, 0, unix.MSG_NOSIGNAL, 0, 0} {
		regs.SetArg(i+1, v)
	}
	if regs.Store(th.tid) != nil {
		return // killed
	}
	made := *a
	made.at = regs.PC()
	th.again.Store(&made)
	var ended func(*Stop)
	ended = func(st *Stop) {
		if st.Result() == -int64(unix.ENOSYS) { // its entry
			made.begun = true
			st.OnExit(ended)
			return
		}
		st.th.again.Store(nil)
		if st.regs.Nr() >= 0 {
			st.regs.SetNr(given.Nr())
		}
		for i := range 6 {
			st.regs.SetArg(i, given.Arg(i))
		}
		st.regs.SetResult(made.connects.result(st))
		_ = st.regs.Store(st.th.tid) // it fails only when the thread was killed
		st.t.s.tracing.goneOn(st.th, st.Result())
	}
	th.onExit = ended
}

// result returns what connect returns, at the end of the call that has waited for it.
func (k *connecting) result(st *Stop) int64 {
	switch r := st.Result(); {
	case r == -int64(unix.EAGAIN): // the timeout
		return -int64(k.expired())
	case interrupted(r):
		return r
	}
	fd, err := st.fd(int32(st.Arg(0)))
	if err != nil {
		return st.Result() // another thread has closed it
	}
	defer unix.Close(fd)
	if cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil || cookie != k.cookie {
		return st.Result()
	}
	// To the kernel the connection is over when this has told so.
	own := socket{fd: fd}
	switch _, err := own.connect(k.to); {
	case st.Result() < 0 && st.Result() != -int64(unix.EPIPE):
		return st.Result()
	case err == nil || err == unix.EISCONN:
		return 0
	default:
		if errno, ok := err.(unix.Errno); ok {
			return -int64(errno)
		}
		return -int64(unix.EIO)
	}
}

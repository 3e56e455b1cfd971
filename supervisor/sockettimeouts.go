//go:build linux

package supervisor

import (
	"encoding/binary"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// socketTimeouts lets the timeouts that sockets have of their own follow the
// sandbox's clock.
//
// Source: a send or receive on a socket with SO_SNDTIMEO or SO_RCVTIMEO counts the
// host's time. Eliminated under the virtual clock: the kernel's timeout is a
// century and a second for each microsecond that the program has asked for, so
// that it never ends and yet goes wherever the socket does. When everything waits,
// threads that are in a call on such a socket are put on the agenda, and ended
// like other waits.
//
// What remains: the kernel's own limit to a connection attempt (tcp_syn_retries)
// counts the host's time.
func socketTimeouts(s *Sandbox) feature {
	f := feature{name: "sockets"}
	if s.cfg.Clock != det.Virtual {
		return f
	}
	var options [][]seccomp.Cond
	for _, option := range []uint64{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO, unix.SO_RCVTIMEO_NEW, unix.SO_SNDTIMEO_NEW} {
		options = append(options, []seccomp.Cond{
			{Arg: 1, Mask: 1<<32 - 1, Value: unix.SOL_SOCKET}, {Arg: 2, Mask: 1<<32 - 1, Value: option},
		})
	}
	f.calls = []call{
		{name: "setsockopt", anyOf: options, notify: s.setSocketTimeout},
		{name: "getsockopt", anyOf: options, notify: s.getSocketTimeout},
	}
	return f
}

const (
	timeoutBase = 4_000_000_000 // seconds
	longestWait = 1<<52 - 1     // microseconds: with 1,000 jiffies a second the kernel counts twice as far
	timevalSize = 16
)

func (s *Sandbox) setSocketTimeout(c *Call) Answer {
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return c.descriptorFailed(err)
	}
	defer unix.Close(fd)
	if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return c.refusedWith(err)
	}
	if c.Int(4) < timevalSize {
		return Errno(unix.EINVAL)
	}
	b := c.scratch(timevalSize)
	if err := c.Read(c.Arg(3), b); err != nil {
		return c.failed(err)
	}
	tv := unix.Timeval{Sec: int64(binary.NativeEndian.Uint64(b)), Usec: int64(binary.NativeEndian.Uint64(b[8:]))}
	if d, ok := parsePair(b, time.Microsecond); ok && d > 0 && tv.Usec < 1e6 {
		tv = unix.Timeval{Sec: timeoutBase + min(int64((d+time.Microsecond-1)/time.Microsecond), longestWait)}
		s.socketTimeouts.Store(true)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, int(c.Int(2)), &tv); err != nil {
		return c.refusedWith(err)
	}
	if s.lending != nil {
		if err := s.lending.keepTimeout(fd, int(c.Int(2)), tv); err != nil {
			return Fatal(err)
		}
	}
	return Return(0)
}

// socketTimeout reads a timeout of a socket of the supervisor's.
func socketTimeout(fd, option int) (tv unix.Timeval, ours bool, err error) {
	got, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, option)
	if err != nil {
		return tv, false, err
	}
	tv, ours = timeoutOf(got)
	return tv, ours, nil
}

// timeoutOf returns what a socket's timeout says, if it is one of the sandbox's.
func timeoutOf(got *unix.Timeval) (tv unix.Timeval, ours bool) {
	if got.Sec <= timeoutBase {
		return *got, false // none, or from outside
	}
	us := got.Sec - timeoutBase
	return unix.Timeval{Sec: us / 1e6, Usec: us % 1e6}, true
}

func (s *Sandbox) getSocketTimeout(c *Call) Answer {
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return c.descriptorFailed(err)
	}
	defer unix.Close(fd)
	tv, _, err := socketTimeout(fd, int(c.Int(2)))
	if err != nil {
		return c.refusedWith(err)
	}
	b := c.scratch(4)
	if err := c.Read(c.Arg(4), b); err != nil {
		return c.failed(err)
	}
	size := int32(binary.NativeEndian.Uint32(b))
	if size < 0 {
		return Errno(unix.EINVAL)
	}
	size = min(size, timevalSize)
	binary.NativeEndian.PutUint32(b, uint32(size))
	if a := c.reply(c.Arg(4), b); a.kind != answerReturn {
		return a
	}
	b = binary.NativeEndian.AppendUint64(c.scratch(timevalSize)[:0], uint64(tv.Sec))
	b = binary.NativeEndian.AppendUint64(b, uint64(tv.Usec))
	return c.reply(c.Arg(3), b[:size])
}

// A socketWait is a thread's wait in a call on a socket that has a timeout. It
// belongs to the agenda.
type socketWait struct {
	entry
	nr     int
	result int64  // of the call when its time is up
	runs   uint64 // how often the thread has run by then
	ended  bool
}

// enlist puts the threads on the agenda that wait on a socket with a timeout, and
// takes those off that have gone on. It is called when everything waits.
func (d *detector) enlist() bool {
	if !d.s.socketTimeouts.Load() {
		return true
	}
	for _, th := range d.order {
		t := d.task(th)
		if t == nil {
			return false
		}
		if t.settled != t.enlisted {
			t.enlisted = t.settled
			d.enlistThread(th, t.settled)
		}
	}
	return true
}

func (d *detector) enlistThread(th *thread, runs uint64) {
	w := &th.socket
	d.agenda.remove(&w.entry)
	b, _ := blockedIn(th)
	connects := th.connects()
	if connects != nil && b.nr == unix.SYS_SENDTO {
		b.nr = unix.SYS_CONNECT
	}
	option, known := socketOption(b.nr)
	if b.th == nil || !known {
		return
	}
	tv, ours := d.s.timeoutIn(th, int32(b.args[0]), option)
	if !ours {
		return
	}
	result := -int64(unix.EAGAIN)
	if connects != nil {
		result = -int64(connects.expired())
	}
	d.agenda.mu.Lock()
	w.nr, w.result, w.runs, w.ended = b.nr, result, runs, false
	w.at = addTime(d.agenda.clock.Elapsed(), time.Duration(tv.Nano()))
	w.proc, w.thread = th.proc, th.index
	w.happen = func(int) { w.end(d.s, th) }
	d.agenda.mu.Unlock()
	d.agenda.add(&w.entry)
}

// timeoutIn returns a timeout of the socket that is a thread's descriptor, if it is one of the
// sandbox's. Otherwise the call has failed, or doesn't wait for that.
func (s *Sandbox) timeoutIn(th *thread, fd int32, option int) (tv unix.Timeval, ours bool) {
	if s.lending != nil {
		return s.lending.keptTimeout(th, fd, option)
	}
	own, err := th.proc.fd(th.tid, fd)
	if err != nil {
		return tv, false
	}
	defer unix.Close(own)
	tv, ours, err = socketTimeout(own, option)
	return tv, ours && err == nil
}

// end interrupts the call, if the thread is still in it.
func (w *socketWait) end(s *Sandbox, th *thread) {
	t := openTask(s, th.taskDir())
	defer t.close()
	if t.runs() != w.runs {
		return
	}
	w.ended = true
	s.agenda.mu.afterwards(th.poke)
}

// endSocketWait gives a call that has been interrupted because its time is up the
// result that says so.
func (t *tracer) endSocketWait(th *thread, regs *tracee.Regs) bool {
	if t.s.agenda == nil {
		return false
	}
	t.s.agenda.mu.Lock()
	defer t.s.agenda.mu.Unlock()
	w := &th.socket
	ended := w.ended
	w.ended = false
	if !ended || regs.Nr() != w.nr || !interrupted(regs.Result()) {
		return false
	}
	regs.SetResult(w.result)
	_ = regs.Store(th.tid) // it fails only when the thread was killed
	return true
}

// socketOption returns which timeout ends a call on the socket that is its first
// argument.
func socketOption(nr int) (option int, ok bool) {
	switch nr {
	case unix.SYS_READ, unix.SYS_READV, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG, unix.SYS_ACCEPT, unix.SYS_ACCEPT4:
		return unix.SO_RCVTIMEO, true
	case unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG, unix.SYS_SENDFILE, unix.SYS_CONNECT:
		return unix.SO_SNDTIMEO, true
	}
	return 0, false
}

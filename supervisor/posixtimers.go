//go:build linux

package supervisor

import (
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// posixTimers puts the timers of timer_create(2) on the agenda.
//
// Source: they count the host's time. Eliminated under the virtual clock: the
// supervisor keeps them, and sends the signal as the kernel would, with the
// timer's number, its value, and how often it has expired meanwhile. Timers on
// CPU-time clocks follow the CPU time (see meter).
//
// What remains: a signal of a timer that is set anew stays pending; one that is
// taken by sigwaitinfo or signalfd doesn't tell how often the timer has expired
// since it was sent, timer_getoverrun does; timers on the clock of another
// process or thread (clock_getcpuclockid) can't be created (EINVAL).
func posixTimers(s *Sandbox) feature {
	f := feature{name: "timers"}
	if s.cfg.Clock != det.Virtual {
		return f
	}
	f.calls = []call{
		{name: "timer_create", notify: s.timerCreate},
		{name: "timer_settime", notify: s.timerSettime},
		{name: "timer_gettime", notify: s.timerGettime},
		{name: "timer_getoverrun", notify: s.timerGetoverrun},
		{name: "timer_delete", notify: s.timerDelete},
	}
	return f
}

// processTimers are the timers that a process has created. Neither fork nor exec
// keeps them.
type processTimers struct {
	mu   sync.Mutex
	m    map[int32]*posixTimer
	next int32
}

// A posixTimer is a timer of a process.
type posixTimer struct {
	entry
	scale  det.Scale // if it follows no meter
	signal int32     // 0: none
	tid    int       // the thread that gets it, 0: any
	value  uint64
	id     int32

	missed int // how often it has expired since its last signal was sent; the agenda's
}

// What a timer does (sigevent(3)).
const (
	sigevSignal   = 0
	sigevNone     = 1
	sigevThread   = 2
	sigevThreadID = 4
)

func (s *Sandbox) timerCreate(c *Call) Answer {
	t := &posixTimer{}
	t.proc = c.Process
	if errno := t.follow(c, c.Int(0)); errno != 0 {
		return Errno(errno)
	}
	notify, hasEvent := int32(sigevSignal), c.Arg(1) != 0
	t.signal = int32(unix.SIGALRM)
	if hasEvent {
		b := c.scratch(64) // struct sigevent
		if err := c.Read(c.Arg(1), b); err != nil {
			return c.failed(err)
		}
		t.value = binary.NativeEndian.Uint64(b)
		t.signal = int32(binary.NativeEndian.Uint32(b[8:]))
		notify = int32(binary.NativeEndian.Uint32(b[12:]))
		t.tid = int(int32(binary.NativeEndian.Uint32(b[16:])))
	}
	if errno := t.check(s, notify); errno != 0 {
		return Errno(errno)
	}
	ts := &c.Process.posix
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t.id = ts.next
	if !hasEvent {
		t.value = uint64(t.id)
	}
	b := binary.NativeEndian.AppendUint32(c.scratch(4)[:0], uint32(t.id))
	if _, err := c.Write(c.Arg(2), b); err != nil {
		return c.failed(err)
	}
	ts.next++
	if ts.m == nil {
		ts.m = map[int32]*posixTimer{}
	}
	ts.m[t.id] = t
	t.happen = t.expire
	c.Process.timers.Store(true)
	return Return(0)
}

// follow makes the timer one on a clock.
func (t *posixTimer) follow(c *Call, clock int32) unix.Errno {
	switch clock {
	case unix.CLOCK_PROCESS_CPUTIME_ID:
		t.meter = &c.Process.meter
		return 0
	case unix.CLOCK_THREAD_CPUTIME_ID:
		t.meter = &c.thread.meter
		return 0
	case unix.CLOCK_REALTIME_COARSE, unix.CLOCK_MONOTONIC_COARSE, unix.CLOCK_MONOTONIC_RAW:
		return unix.EOPNOTSUPP
	case unix.CLOCK_REALTIME_ALARM, unix.CLOCK_BOOTTIME_ALARM:
		return unix.EPERM
	}
	scale, ok := vdso.ScaleOf(clock)
	if !ok {
		return unix.EINVAL
	}
	t.scale = det.Scale(scale)
	return 0
}

// check checks what the timer does (good_sigevent, kernel/time/posix-timers.c).
func (t *posixTimer) check(s *Sandbox, notify int32) unix.Errno {
	const signals = 64
	switch notify {
	case sigevThreadID:
		th := s.threadBy(t.tid)
		if th == nil || th.proc != t.proc {
			return unix.EINVAL
		}
		t.tid = th.tid
	case sigevSignal, sigevThread:
		t.tid = 0
	case sigevNone:
		t.tid, t.signal = 0, 0
		return 0
	default:
		return unix.EINVAL
	}
	if t.signal <= 0 || t.signal > signals {
		return unix.EINVAL
	}
	return 0
}

// expire sends the signal, or counts if the last one is still pending.
func (t *posixTimer) expire(times int) {
	if t.signal == 0 {
		return
	}
	tid, mask := t.proc.TGID, "ShdPnd:"
	if t.tid != 0 {
		tid, mask = t.tid, "SigPnd:"
	}
	if pending, err := statusMask(tid, mask); err != nil || pending&(1<<(t.signal-1)) != 0 {
		t.missed = min(t.missed+times, math.MaxInt32)
		return
	}
	t.missed = times - 1
	info := tracee.Siginfo{Signo: t.signal, Code: tracee.SITimer, PID: t.id, UID: int32(t.missed), Value: t.value}
	// At once, and not afterwards: the next expiration looks whether it is pending.
	_ = tracee.SendInfo(t.proc.TGID, t.tid, &info) // it fails only when the thread is gone
}

// posixTimer returns the timer that argument 0 names.
func (c *Call) posixTimer() *posixTimer {
	ts := &c.Process.posix
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.m[c.Int(0)]
}

func (s *Sandbox) timerSettime(c *Call) Answer {
	if c.Arg(2) == 0 {
		return Errno(unix.EINVAL)
	}
	spec, ok, err := c.readSpec(c.Arg(2), time.Nanosecond)
	if err != nil {
		return c.failed(err)
	}
	t := c.posixTimer()
	if !ok || t == nil {
		return Errno(unix.EINVAL)
	}
	set, at := spec.left > 0, spec.left
	s.agenda.mu.Lock()
	t.missed = 0
	s.agenda.mu.Unlock()
	wall := false
	switch {
	case c.Int(1)&unix.TIMER_ABSTIME == 0:
		at = addTime(s.agenda.instant(&t.entry), spec.left)
	case t.meter == nil:
		at, wall = s.clock.virtual.ElapsedAt(t.scale, int64(spec.left)), t.scale.Settable()
	}
	was := s.agenda.arm(&t.entry, at, spec.every, set, wall)
	if old := c.Arg(3); old != 0 {
		return c.replySpec(old, was, time.Nanosecond)
	}
	return Return(0)
}

func (s *Sandbox) timerGettime(c *Call) Answer {
	t := c.posixTimer()
	if t == nil {
		return Errno(unix.EINVAL)
	}
	return c.replySpec(c.Arg(1), s.agenda.left(&t.entry), time.Nanosecond)
}

func (s *Sandbox) timerGetoverrun(c *Call) Answer {
	t := c.posixTimer()
	if t == nil {
		return Errno(unix.EINVAL)
	}
	s.agenda.mu.Lock()
	defer s.agenda.mu.Unlock()
	return Return(int64(t.missed))
}

func (s *Sandbox) timerDelete(c *Call) Answer {
	ts := &c.Process.posix
	ts.mu.Lock()
	t := ts.m[c.Int(0)]
	delete(ts.m, c.Int(0))
	ts.mu.Unlock()
	if t == nil {
		return Errno(unix.EINVAL)
	}
	s.agenda.remove(&t.entry)
	return Return(0)
}

// dropTimers deletes the timers of a process that executes another program.
func (s *Sandbox) dropTimers(p *Process) {
	p.posix.mu.Lock()
	defer p.posix.mu.Unlock()
	for _, t := range p.posix.m {
		s.agenda.remove(&t.entry)
	}
	clear(p.posix.m)
}

// stamp gives the signal of a timer that is about to be delivered what the
// supervisor couldn't send along.
func (s *Sandbox) stamp(th *thread) {
	if !th.proc.timers.Load() {
		return
	}
	info, err := tracee.GetSiginfo(th.tid)
	if err != nil || info.Code != tracee.SITimer {
		return
	}
	if info.PID == kernelTimer {
		info = tracee.Siginfo{Signo: info.Signo, Code: tracee.SIKernel}
	} else {
		th.proc.posix.mu.Lock()
		t := th.proc.posix.m[info.PID]
		th.proc.posix.mu.Unlock()
		if t == nil {
			return
		}
		s.agenda.mu.Lock()
		info.UID = int32(t.missed)
		s.agenda.mu.Unlock()
	}
	_ = tracee.SetSiginfo(th.tid, info) // it fails only when the thread was killed
}

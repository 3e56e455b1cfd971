//go:build linux

package supervisor

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// intervalTimers puts a process's three interval timers on the agenda.
//
// Source: setitimer and alarm count the host's time. Eliminated under the virtual
// clock: ITIMER_REAL follows the sandbox's clock, ITIMER_VIRTUAL and ITIMER_PROF
// follow its CPU time (see meter). Under the running clock the kernel's own
// timers are right.
//
// What remains: a program that gets the signal by sigwaitinfo or signalfd finds
// the code SI_TIMER instead of SI_KERNEL.
func intervalTimers(s *Sandbox) feature {
	f := feature{name: "itimers"}
	if s.cfg.Clock != det.Virtual {
		return f
	}
	f.calls = []call{
		{name: "setitimer", notify: s.setitimer},
		{name: "getitimer", notify: s.getitimer},
		{name: "alarm", notify: s.alarm},
	}
	return f
}

// itimers are a process's interval timers, by their numbers (setitimer(2)). exec
// keeps them, fork doesn't hand them on.
type itimers [3]entry

var itimerSignal = [len(itimers{})]unix.Signal{
	unix.ITIMER_REAL: unix.SIGALRM, unix.ITIMER_VIRTUAL: unix.SIGVTALRM, unix.ITIMER_PROF: unix.SIGPROF,
}

// itimer returns one of a process's timers, nil for a number that has none.
func (p *Process) itimer(a *agenda, which int32) *entry {
	if which < 0 || int(which) >= len(p.itimers) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &p.itimers[which]
	if e.happen == nil {
		e.proc = p
		if which != unix.ITIMER_REAL {
			e.meter = &p.meter
		}
		info := tracee.Siginfo{Signo: int32(itimerSignal[which]), Code: tracee.SITimer, PID: kernelTimer}
		send := func() {
			_ = tracee.SendInfo(p.TGID, 0, &info) // it fails only when the process is gone
		}
		e.happen = func(int) { a.mu.afterwards(send) }
		p.timers.Store(true)
	}
	return e
}

// kernelTimer is the number under which an interval timer's signal is sent, which
// is then given the kernel's own look.
const kernelTimer = -1

func (s *Sandbox) setitimer(c *Call) Answer {
	e := c.Process.itimer(s.agenda, c.Int(0))
	if e == nil {
		return Errno(unix.EINVAL)
	}
	var spec timerSpec
	if at := c.Arg(1); at != 0 {
		var err error
		var ok bool
		if spec, ok, err = c.readSpec(at, time.Microsecond); err != nil {
			return c.failed(err)
		} else if !ok {
			return Errno(unix.EINVAL)
		}
	}
	was := s.agenda.set(e, spec)
	if at := c.Arg(2); at != 0 {
		return c.replySpec(at, was, time.Microsecond)
	}
	return Return(0)
}

func (s *Sandbox) getitimer(c *Call) Answer {
	e := c.Process.itimer(s.agenda, c.Int(0))
	if e == nil {
		return Errno(unix.EINVAL)
	}
	return c.replySpec(c.Arg(1), s.agenda.left(e), time.Microsecond)
}

// alarm rounds what was left to seconds, but not to none (alarm_setitimer,
// kernel/time/itimer.c).
func (s *Sandbox) alarm(c *Call) Answer {
	span := time.Duration(min(uint32(c.Arg(0)), math.MaxInt32)) * time.Second
	left := s.agenda.set(c.Process.itimer(s.agenda, unix.ITIMER_REAL), timerSpec{left: span}).left
	sec, rest := left/time.Second, left%time.Second
	if sec == 0 && rest > 0 || rest >= time.Second/2 {
		sec++
	}
	return Return(int64(sec))
}

// set sets a timer that is given as a span.
func (a *agenda) set(e *entry, spec timerSpec) timerSpec {
	return a.arm(e, addTime(a.instant(e), spec.left), spec.every, spec.left > 0, false)
}

// readSpec reads a struct itimerval or itimerspec, whose fractions of a second
// count units: the interval, then the time. ok is false for one that is not valid.
func (c *Call) readSpec(at uint64, unit time.Duration) (spec timerSpec, ok bool, err error) {
	b := c.scratch(32)
	if err := c.Read(at, b); err != nil {
		return spec, false, err
	}
	var okEvery, okLeft bool
	spec.every, okEvery = parsePair(b, unit)
	spec.left, okLeft = parsePair(b[16:], unit)
	return spec, okEvery && okLeft, nil
}

// parsePair parses seconds and a fraction that is below a second.
func parsePair(b []byte, unit time.Duration) (time.Duration, bool) {
	sec := int64(binary.NativeEndian.Uint64(b))
	rest := int64(binary.NativeEndian.Uint64(b[8:]))
	switch {
	case sec < 0 || rest < 0 || rest >= int64(time.Second/unit):
		return 0, false
	case sec >= maxSeconds:
		return math.MaxInt64, true
	}
	return time.Duration(sec)*time.Second + time.Duration(rest)*unit, true
}

func (c *Call) replySpec(at uint64, spec timerSpec, unit time.Duration) Answer {
	b := c.scratch(32)[:0]
	for _, d := range []time.Duration{spec.every, (spec.left + unit - 1) / unit * unit} {
		b = binary.NativeEndian.AppendUint64(b, uint64(d/time.Second))
		b = binary.NativeEndian.AppendUint64(b, uint64(d%time.Second/unit))
	}
	return c.reply(at, b)
}

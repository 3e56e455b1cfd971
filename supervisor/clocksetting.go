//go:build linux

package supervisor

import (
	"math"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// clockSetting keeps programs from setting the host's clocks, and from reading
// them through the calls that tune them.
//
// Source: clock_settime, settimeofday, adjtimex. Eliminated: they fail with EPERM,
// as they do for who isn't root, or with Config.SetClock set the sandbox's wall
// clock; what waits for an instant of it waits longer or less. adjtimex and
// clock_adjtime tell the sandbox's time and a clock that was never tuned. Under
// the host's clock reading is left alone.
//
// What remains: adjtime(3), which natively moves the clock little by little, sets
// it at once; the clock can't be made faster or slower (EPERM).
func clockSetting(s *Sandbox) feature {
	f := feature{name: "clocksetting", calls: []call{
		{name: "clock_settime", errno: unix.EPERM},
		{name: "settimeofday", errno: unix.EPERM},
	}}
	if s.cfg.SetClock {
		f.calls = []call{
			{name: "clock_settime", notify: s.clockSettime},
			{name: "settimeofday", notify: s.settimeofday},
		}
	}
	if s.cfg.Clock == det.Host {
		f.calls = append(f.calls,
			call{name: "adjtimex", notify: func(c *Call) Answer { return c.hostAdjust(c.Arg(0)) }},
			call{name: "clock_adjtime", notify: func(c *Call) Answer { return c.hostAdjust(c.Arg(1)) }})
		return f
	}
	f.calls = append(f.calls,
		call{name: "adjtimex", notify: func(c *Call) Answer { return s.adjust(c, c.Arg(0)) }},
		call{name: "clock_adjtime", notify: func(c *Call) Answer {
			if c.Int(0) != unix.CLOCK_REALTIME {
				return Errno(unix.EOPNOTSUPP)
			}
			return s.adjust(c, c.Arg(1))
		}})
	return f
}

func (s *Sandbox) clockSettime(c *Call) Answer {
	b := c.scratch(16)
	if err := c.Read(c.Arg(1), b); err != nil {
		return c.failed(err)
	}
	at, ok := parsePair(b, time.Nanosecond)
	if !ok || c.Int(0) != unix.CLOCK_REALTIME {
		return Errno(unix.EINVAL)
	}
	return s.setClock(int64(at))
}

func (s *Sandbox) settimeofday(c *Call) Answer {
	if c.Arg(0) == 0 {
		return Return(0) // it is the time zone that is set, of which nobody hears
	}
	b := c.scratch(16)
	if err := c.Read(c.Arg(0), b); err != nil {
		return c.failed(err)
	}
	at, ok := parsePair(b, time.Microsecond)
	if !ok {
		return Errno(unix.EINVAL)
	}
	return s.setClock(int64(at))
}

func (s *Sandbox) setClock(ns int64) Answer {
	if ns == math.MaxInt64 {
		return Errno(unix.EINVAL) // beyond 2262
	}
	forward, ok := s.clock.virtual.Set(ns)
	if !ok {
		return Errno(unix.EINVAL)
	}
	s.agenda.stepped(forward)
	return Return(0)
}

// What adjtimex can be asked for (linux/timex.h), and what a clock has that
// nobody tunes (kernel/time/ntp.c).
const (
	adjSetOffset  = 0x0100
	adjNano       = 0x2000
	adjSingleShot = 0x8001 // what adjtime(3) asks for
	adjReadShot   = 0xa001

	timeError  = 5 // not synchronised
	staUnsync  = 0x40
	worstError = 16_000_000
	tickUsec   = 10_000
	tolerance  = 500 << 16
)

func (s *Sandbox) adjust(c *Call, at uint64) Answer {
	var tx unix.Timex
	if err := c.Read(at, timexBytes(&tx)); err != nil {
		return c.failed(err)
	}
	now, err := s.clock.read(det.Realtime)
	if err != nil {
		return Fatal(err)
	}
	switch offset, ok := step(&tx); {
	case tx.Modes == 0 || tx.Modes == adjReadShot:
	case !s.cfg.SetClock || !ok:
		return Errno(unix.EPERM)
	default:
		if a := s.setClock(now + int64(offset)); a.kind != answerReturn {
			return a
		}
		now += int64(offset)
	}
	sec := floorDiv(now, 1e9)
	tx = unix.Timex{
		Modes: tx.Modes, Maxerror: worstError, Esterror: worstError, Status: staUnsync, Constant: 2, Precision: 1,
		Tolerance: tolerance, Tick: tickUsec, Time: unix.Timeval{Sec: sec, Usec: (now - sec*1e9) / 1e3},
	}
	if a := c.reply(at, timexBytes(&tx)); a.kind != answerReturn {
		return a
	}
	return Return(timeError)
}

// step is by how much adjtimex is to set the clock forward at once.
func step(tx *unix.Timex) (offset time.Duration, ok bool) {
	unit := time.Microsecond
	if tx.Modes&adjNano != 0 {
		unit = time.Nanosecond
	}
	switch tx.Modes {
	case adjSetOffset, adjSetOffset | adjNano:
		sec := tx.Time.Sec
		return time.Duration(sec)*time.Second + time.Duration(tx.Time.Usec)*unit, tx.Time.Usec >= 0 && -maxSeconds < sec && sec < maxSeconds
	case adjSingleShot:
		return time.Duration(tx.Offset) * time.Microsecond, true
	}
	return 0, false
}

// hostAdjust lets a program read how the host's clock is tuned.
func (c *Call) hostAdjust(at uint64) Answer {
	var tx unix.Timex
	if err := c.Read(at, timexBytes(&tx)); err != nil {
		return c.failed(err)
	}
	if tx.Modes != 0 && tx.Modes != adjReadShot {
		return Errno(unix.EPERM)
	}
	// Called here, because what it points to may change before the kernel reads it.
	state, err := unix.Adjtimex(&tx)
	if err != nil {
		return c.refusedWith(err)
	}
	if a := c.reply(at, timexBytes(&tx)); a.kind != answerReturn {
		return a
	}
	return Return(int64(state))
}

//go:build linux

package supervisor

import (
	"encoding/binary"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// cpuTime answers getrusage and times.
//
// Source: the CPU time, memory peak, faults and switches that the kernel counts.
// Normalised: CPU time is what busy waits have moved the virtual clock by, as for
// the CPU-time clocks, or under the running clock the time since the process or
// thread began, all of it in user mode; children
// and the other figures read 0. What wait4 reports of a child is the host's.
func cpuTime(s *Sandbox) feature {
	f := feature{name: "cputime"}
	if s.cfg.Clock == det.Host {
		return f
	}
	f.calls = []call{
		{name: "getrusage", notify: s.getrusage},
		{name: "times", notify: s.times},
	}
	return f
}

func (s *Sandbox) getrusage(c *Call) Answer {
	var used time.Duration
	switch c.Int(0) {
	case unix.RUSAGE_SELF:
		used = s.used(c.Process, nil)
	case unix.RUSAGE_THREAD:
		used = s.used(c.Process, c.thread)
	case unix.RUSAGE_CHILDREN:
	default:
		return Errno(unix.EINVAL)
	}
	const size = 144 // struct rusage
	b := c.scratch(size)
	clear(b)
	binary.NativeEndian.PutUint64(b, uint64(used/time.Second))
	binary.NativeEndian.PutUint64(b[8:], uint64(used%time.Second/time.Microsecond))
	return c.reply(c.Arg(1), b)
}

func (s *Sandbox) times(c *Call) Answer {
	c.countRead(false)
	now := s.clock.elapsed()
	if at := c.Arg(0); at != 0 {
		b := c.scratch(32) // struct tms
		clear(b)
		binary.NativeEndian.PutUint64(b, uint64(det.Ticks(s.used(c.Process, nil))))
		if a := c.reply(at, b); a.kind != answerReturn {
			return a
		}
	}
	return Return(det.Ticks(det.Uptime + now))
}

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
// Normalised: CPU time is what the sandbox's clock has moved since the process
// or thread began, as for the CPU-time clocks, all of it in user mode; children
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
		used = s.clock.elapsed() - c.Process.born
	case unix.RUSAGE_THREAD:
		used = s.clock.elapsed() - c.thread.born
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
	now := s.clock.elapsed()
	if at := c.Arg(0); at != 0 {
		b := c.scratch(32) // struct tms
		clear(b)
		binary.NativeEndian.PutUint64(b, uint64(det.Ticks(now-c.Process.born)))
		if a := c.reply(at, b); a.kind != answerReturn {
			return a
		}
	}
	return Return(det.Ticks(det.Uptime + now))
}

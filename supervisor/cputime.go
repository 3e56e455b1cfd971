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

// cpuTime answers getrusage and times.
//
// Source: the CPU time, memory peak, faults and switches that the kernel counts.
// Normalised: CPU time is what busy waits have moved the virtual clock by, as for
// the CPU-time clocks, or under the running clock the time since the process or
// thread began, all of it in user mode; children, for who waits for them as well, and the
// other figures read 0.
func cpuTime(s *Sandbox) feature {
	f := feature{name: "cputime"}
	if s.cfg.Clock == det.Host {
		return f
	}
	f.calls = []call{
		{name: "getrusage", notify: s.getrusage},
		{name: "times", notify: s.times},
		{name: "wait4", conds: []seccomp.Cond{pointer(3)}, stop: func(st *Stop) { st.hideUsage(3) }},
		{name: "waitid", conds: []seccomp.Cond{pointer(4)}, stop: func(st *Stop) { st.hideUsage(4) }},
	}
	return f
}

const rusageSize = 144 // struct rusage

// hideUsage lets a call that waits for a child tell nothing of what that has used, which it
// would write to where an argument points: the kernel isn't asked for it.
func (st *Stop) hideUsage(argument int) {
	at := st.Arg(argument)
	st.regs.SetArg(argument, 0)
	_ = st.regs.Store(st.th.tid) // it fails only when the thread was killed
	st.OnExit(func(st *Stop) {
		st.regs.SetArg(argument, at)
		if told := st.Result(); told > 0 || argument == 4 && told == 0 { // unless there was nobody
			if _, err := tracee.WriteMem(st.th.tid, at, make([]byte, rusageSize)); err != nil {
				st.regs.SetResult(-int64(unix.EFAULT))
			}
		}
		_ = st.regs.Store(st.th.tid)
	})
}

func (s *Sandbox) getrusage(c *Call) Answer {
	c.countRead(false)
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
	b := c.scratch(rusageSize)
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

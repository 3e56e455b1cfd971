//go:build linux

package supervisor

import (
	"errors"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/supervisor/internal/tsc"
	"golang.org/x/sys/unix"
)

// timeStamps answers the instructions that read the CPU's time-stamp counter.
//
// Source: rdtsc and rdtscp tell of the host's time and CPU without asking the
// kernel. Eliminated under the virtual clock: they are forbidden (prctl(2),
// PR_SET_TSC, which children and new programs inherit) and answered where they
// fault, from the monotonic clock at 1 GHz; a read counts as one by a system call,
// see busy.go. Each read of a thread is later than the one before, if by a tick, as on a
// machine: programs divide by the difference. Under the running clock the vDSO's own functions need them, and
// they tell of the host.
//
// Where the machine is a guest on an AMD processor, a switch between a thread that may
// read the counter and one that may not leaves the guest, and a trapped call took 20 us
// instead of 10. So the threads of the supervisor that take turns with programs are kept
// from it, too (internal/tsc). Between programs and the rest of the machine it stays as it
// is; Config.HostTSC gives it up.
//
// What remains: on a machine whose hypervisor doesn't let such instructions fault they tell of
// the host, and State.Stats says so; a program that forbids them to itself has forbidden them to the
// calling thread alone, not to what that creates.
func timeStamps(s *Sandbox) feature {
	f := feature{name: "tsc"}
	if !s.ownTSC() {
		return f
	}
	is := func(op uint64) []seccomp.Cond { return []seccomp.Cond{{Arg: 0, Mask: 1<<32 - 1, Value: op}} }
	f.calls = []call{{name: "prctl", anyOf: [][]seccomp.Cond{is(unix.PR_SET_TSC), is(unix.PR_GET_TSC)}, notify: prctlTSC}}
	return f
}

// ownTSC reports whether programs are kept from the host's counter.
func (s *Sandbox) ownTSC() bool { return s.wantsTSC() && tsc.Obeyed() }

func (s *Sandbox) wantsTSC() bool { return s.cfg.Clock == det.Virtual && !s.cfg.HostTSC }

// errTSC is why programs aren't kept from it although they are to be.
var errTSC = errors.New("prctl(PR_SET_TSC) is without effect on this machine, whose hypervisor doesn't let rdtsc fault")

// forbidTSC makes the command forbid itself the instructions.
func (s *Sandbox) forbidTSC(calls *tracee.List) {
	if s.ownTSC() {
		calls.Add("prctl(PR_SET_TSC)", unix.SYS_PRCTL, unix.PR_SET_TSC, unix.PR_TSC_SIGSEGV)
	}
}

func prctlTSC(c *Call) Answer {
	switch c.Int(0) {
	case unix.PR_SET_TSC:
		return setTSC(c)
	case unix.PR_GET_TSC:
		return getTSC(c)
	}
	return goOn
}

// setTSC does what a program wants on its own account. The process that asks for
// the fault gets it only here.
func setTSC(c *Call) Answer {
	switch c.Arg(1) {
	case unix.PR_TSC_ENABLE:
		c.thread.noTSC.Store(false)
	case unix.PR_TSC_SIGSEGV:
		c.thread.noTSC.Store(true)
	default:
		return Errno(unix.EINVAL)
	}
	return Return(0)
}

func getTSC(c *Call) Answer {
	b := []byte{unix.PR_TSC_ENABLE, 0, 0, 0}
	if c.thread.noTSC.Load() {
		b[0] = unix.PR_TSC_SIGSEGV
	}
	return c.reply(c.Arg(1), b)
}

// readTSC answers the instruction at which a SIGSEGV has stopped a thread. It
// reports false if that is none that reads the counter.
func (t *tracer) readTSC(th *thread, regs *tracee.Regs) bool {
	if !t.s.ownTSC() || th.noTSC.Load() {
		return false
	}
	var insn [3]byte
	if tracee.ReadMem(th.tid, regs.PC(), insn[:2]) != nil {
		return false
	}
	_ = tracee.ReadMem(th.tid, regs.PC()+2, insn[2:]) // the shorter one may end a page
	now := max(uint64(t.s.clock.virtual.Read(det.Monotonic)), th.lastTSC+1)
	if !regs.AnswerTSC(insn[:], now) {
		return false
	}
	th.lastTSC = now
	_ = regs.Store(th.tid) // it fails only when the thread was killed
	t.s.agenda.countRead(th, false)
	return true
}

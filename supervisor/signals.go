//go:build linux

package supervisor

import (
	"sync/atomic"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// A handled signal that arrives while a thread waits for the supervisor to
// receive its call would make the call fail with EINTR, which natively it never
// does. (After that, WAIT_KILLABLE_RECV keeps signals out.) The thread shows this
// at the stop that announces the signal: it stands in a notified call with the
// result ERESTARTSYS. Then the signal is held back and all others are blocked, so
// that the restarted call gets through however many come; the receiver that gets
// it pokes the thread before it answers. So the call ends first, the poke stops
// the thread right behind it, and there the held signal takes the poke's place
// and the program's mask is put back, as if the signal had come a moment later.
//
// A call that was answered with Continue and then blocks in the kernel can be
// interrupted natively (open of a FIFO). It looks the same, is restarted once and
// notified again, gets the signal while it runs, and is interrupted: a signal is
// held back at most once.
//
// What remains: a SIGSTKFLT of the program's own may merge with a poke.

// What a call returns inside the kernel when a signal has interrupted it, and it
// is to be gone on with unless a handler runs (linux/errno.h).
const (
	erestartsys    = 512
	erestartnointr = 513
	erestartnohand = 514
	erestartblock  = 516
)

// poke is the signal that stops a thread for the tracer. No kernel and no
// program sends it, and as a standard signal it needs no room in a queue.
const poke = unix.SIGSTKFLT

// A shield keeps signals from a thread until its call was received.
type shield struct {
	state atomic.Int32 // receivers move it from shielded to poked, the tracer all else
	held  tracee.Siginfo
	mask  uint64 // the program's own
	again bool   // the program was sent the signal that is our poke
}

const (
	unshielded int32 = iota
	shielded
	poked
)

// received pokes a shielded thread. It waits for an answer, so nothing is
// delivered before the call has ended.
func (th *thread) received() {
	if th.shield.state.Load() == shielded && th.shield.state.CompareAndSwap(shielded, poked) {
		_ = unix.Tgkill(th.proc.TGID, th.tid, poke) // it fails only when the thread is gone
	}
}

// signal handles a signal-delivery stop.
func (t *tracer) signal(th *thread, sig unix.Signal) {
	if th.shield.state.Load() != unshielded {
		if sig == unix.SIGSTOP && th.wasPoked() {
			t.lendShielded(th)
			t.resume(th, 0)
			return
		}
		if sig = th.unshield(sig); th.shield.state.Load() == unshielded {
			th.interruptAgain()
		}
		t.resume(th, sig)
		return
	}
	regs, err := tracee.GetRegs(th.tid)
	if err != nil {
		return // killed meanwhile
	}
	if th.wait.detour.has(regs.PC()) {
		t.leaveDetour(th, &regs)
	}
	if sig != unix.SIGSTOP {
		t.s.stamp(th)
	}
	switch {
	case sig == unix.SIGSEGV && t.readTSC(th, &regs):
		sig = 0
	case (sig == unix.SIGSEGV || sig == unix.SIGBUS) && t.asksInstead(th, &regs):
		sig = 0
	case sig == unix.SIGSTOP && th.wasPoked():
		sig = 0
		t.giveAgain(th, &regs)
		if !t.endSocketWait(th, &regs) && !t.handOver(th, &regs) {
			t.undisturbed(th, &regs)
		}
	case (th.isToGoAgain(&regs) || t.holdsFor(th, &regs)) && t.delays(th, sig):
		// Should signals come faster than a call is made anew, it never would be. And
		// a handler's calls would end before it, and be taken for it.
		if err := th.hold(); err != nil {
			return
		}
		t.giveAgain(th, &regs)
		t.s.counts.signals.Add(1)
		sig = 0
	case regs.Result() == -erestartsys && t.s.table.of(regs.Nr()).notify != nil && t.delays(th, sig):
		if err := th.hold(); err != nil {
			return
		}
		t.s.counts.signals.Add(1)
		sig = 0
	case sig == unix.SIGCONT && th.proc.stopped && interruptedForGood(&regs):
		th.goneOn = nil // the stop has ended the call
	case interruptedForGood(&regs) && t.disposition(th, sig) == ignored:
		t.undisturbed(th, &regs)
	case th.goneOn != nil && t.disposition(th, sig) == caught:
		th.goneOn = nil
	}
	if sig == unix.SIGCONT {
		th.proc.stopped = false
	}
	if sig != 0 {
		t.lendsAnew(th, &regs)
	}
	t.resume(th, sig)
}

// hold takes the signal of a stop away and blocks all others.
func (th *thread) hold() (err error) {
	sh := &th.shield
	if sh.held, err = tracee.GetSiginfo(th.tid); err != nil {
		return err
	}
	if sh.mask, err = tracee.Sigmask(th.tid); err != nil {
		return err
	}
	sh.again = false
	sh.state.Store(shielded)
	return tracee.SetSigmask(th.tid, ^uint64(1<<(poke-1)))
}

// unshield returns what to deliver to a shielded thread that a signal has
// stopped: SIGSTOP, the poke, or one like it.
func (th *thread) unshield(sig unix.Signal) unix.Signal {
	sh := &th.shield
	if sig != poke {
		return sig
	}
	info, err := tracee.GetSiginfo(th.tid)
	if err != nil {
		return 0
	}
	if !info.SentBy(th.proc.supervisor) {
		sh.again = true
	}
	if sh.state.Load() == shielded {
		return 0
	}
	if tracee.SetSigmask(th.tid, sh.mask) != nil || tracee.SetSiginfo(th.tid, sh.held) != nil {
		return 0
	}
	sh.state.Store(unshielded)
	if sh.again {
		_ = unix.Tgkill(th.proc.TGID, th.tid, poke)
	}
	return unix.Signal(sh.held.Signo)
}

// interruptedForGood reports whether a signal has ended a call that the kernel
// never restarts.
func interruptedForGood(regs *tracee.Regs) bool {
	return regs.Result() == -int64(unix.EINTR) && regs.Nr() >= 0 && regs.Nr() != unix.SYS_CLOSE
}

// undisturbed lets such a call go on after a signal that would not have woken the
// thread if it weren't a tracee.
func (t *tracer) undisturbed(th *thread, regs *tracee.Regs) {
	if interruptedForGood(regs) {
		regs.SetResult(-erestartnohand)
		_ = regs.Store(th.tid) // it fails only when the thread was killed
	}
}

// delays reports whether a signal may be held back. What stops or continues the
// process acts at once, but where a handler takes it.
func (t *tracer) delays(th *thread, sig unix.Signal) bool {
	switch sig {
	case unix.SIGSTOP:
		return false
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT:
		return t.disposition(th, sig) == caught
	}
	return true
}

// A disposition is what becomes of a signal (signal(7)).
type disposition int

const (
	fatal disposition = iota // or stopping
	ignored
	caught
)

func (t *tracer) disposition(th *thread, sig unix.Signal) disposition {
	has := func(mask string) bool {
		bits, err := statusMask(th.tid, mask)
		return err == nil && bits&(1<<(sig-1)) != 0
	}
	switch {
	case has("SigCgt:"):
		return caught
	case has("SigIgn:"):
		return ignored
	}
	switch sig {
	case unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH:
		return ignored
	}
	return fatal
}

//go:build linux

package supervisor

import (
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// A handled signal that arrives while a thread waits for the supervisor to
// receive its call would make the call fail with EINTR, which natively it never
// does. (After that, WAIT_KILLABLE_RECV keeps signals out.) The thread shows this
// at the stop that announces the signal: it stands in a notified call with the
// result ERESTARTSYS. Then the signal is held back, the kernel restarts the call,
// and the receiver that gets it sends the signal again before it answers. So
// the call ends first and the signal is delivered right after, as if it had come
// a moment later.
//
// A call that was answered with Continue and then blocks in the kernel can be
// interrupted natively (open of a FIFO). It looks the same, is restarted once and
// notified again, gets the signal while it runs, and is interrupted: a signal is
// held back at most once.

const erestartsys = 512

// realTime is the first signal of which more than one can be pending
// (signal(7)).
const realTime = 32

// signal handles a signal-delivery stop.
func (t *tracer) signal(th *thread, sig unix.Signal) {
	if th.nheld.Load() > 0 && th.deliverHeld(sig) {
		t.resume(th, sig)
		return
	}
	switch sig {
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT:
		// No handler can interrupt the call by these but SIGTSTP and SIGCONT, whose
		// effect on the whole process must not wait.
		t.resume(th, sig)
		return
	}
	regs, err := tracee.GetRegs(th.tid)
	if err == nil && regs.Result() == -erestartsys && t.s.table.notify[regs.Nr()] != nil {
		info, err := tracee.GetSiginfo(th.tid)
		if err == nil {
			t.s.counts.signals.Add(1)
			th.hold(info)
			sig = 0
		}
	}
	t.resume(th, sig)
}

func (th *thread) hold(info tracee.Siginfo) {
	th.heldMu.Lock()
	defer th.heldMu.Unlock()
	if info.Signo < realTime {
		// One of each is pending at most, here as in the kernel: a second one sent
		// would merge with the first, and its entry would stay for ever.
		for _, h := range th.held {
			if h.info.Signo == info.Signo {
				return
			}
		}
	}
	th.held = append(th.held, heldSignal{info: info})
	th.nheld.Add(1)
}

// redeliver sends what is held to the thread again. The thread waits for an
// answer, so nothing is delivered before the call has ended.
func (th *thread) redeliver() {
	if th.nheld.Load() == 0 {
		return
	}
	th.heldMu.Lock()
	defer th.heldMu.Unlock()
	for i := range th.held {
		if h := &th.held[i]; !h.sent {
			h.sent = true
			// It fails only when the thread is gone.
			_ = tracee.Queue(th.proc.TGID, th.tid, h.info.Signo)
		}
	}
}

// deliverHeld reports whether a signal is one that was held back, and gives it
// the information it came with.
func (th *thread) deliverHeld(sig unix.Signal) bool {
	th.heldMu.Lock()
	defer th.heldMu.Unlock()
	for i, h := range th.held {
		if h.sent && h.info.Signo == int32(sig) {
			th.held = append(th.held[:i], th.held[i+1:]...)
			th.nheld.Add(-1)
			return tracee.SetSiginfo(th.tid, h.info) == nil
		}
	}
	return false
}

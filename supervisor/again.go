//go:build linux

package supervisor

import (
	"fmt"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// Some files the program has to open itself: one that it is to wait for (a FIFO),
// one that is different for each who opens it (/dev/tty), and descriptors that are
// only a path's (O_PATH), which can't be handed over. The call is notified, and a
// notification can't change registers. So it is answered with the error upon which
// the kernel starts a call anew, and the thread is poked: at the stop the tracer
// gives it the path of the host's file instead, in memory that no program can write, and
// when the call is notified once more, it may go on.

// An again is a path or an address with which a thread is to make its call once more.
type again struct {
	argument int // its number
	bytes    []byte
	sized    bool   // the argument after it is its size
	at       uint64 // where it lies, once it does
}

// again lets the caller make its call anew, with a path of the host's.
func (c *Call) again(argument int, host string) Answer {
	return c.makeAnew(&again{argument: argument, bytes: append([]byte(host), 0)})
}

// againTo lets the caller make its call anew, with a socket's address.
func (c *Call) againTo(argument int, addr []byte) Answer {
	return c.makeAnew(&again{argument: argument, bytes: addr, sized: true})
}

func (c *Call) makeAnew(a *again) Answer {
	c.thread.again.Store(a)
	c.thread.poke()
	return Errno(erestartnointr)
}

// madeAnew reports whether this is the call that again has asked for.
func (c *Call) madeAnew(argument int) bool {
	a := c.thread.again.Load()
	if a == nil {
		return false
	}
	c.thread.again.Store(nil)
	return a.at != 0 && a.argument == argument && a.at == c.Arg(argument)
}

// interruptAgain lets a signal that was held back interrupt a call that is to be
// made anew, as it would natively while the call waits.
func (th *thread) interruptAgain() {
	a := th.again.Load()
	if a == nil || a.at != 0 {
		return
	}
	th.again.Store(nil)
	if regs, err := tracee.GetRegs(th.tid); err == nil && regs.Result() == -erestartnointr {
		regs.SetResult(-erestartsys)
		_ = regs.Store(th.tid) // it fails only when the thread was killed
	}
}

// isToGoAgain reports whether a thread stands at the end of a call that is to be made
// anew.
func (th *thread) isToGoAgain(regs *tracee.Regs) bool {
	a := th.again.Load()
	return a != nil && a.at == 0 && regs.Result() == -erestartnointr && regs.Nr() >= 0
}

// giveAgain gives a thread that was poked the path, if it stands at the end of the
// call. Should a signal have led it elsewhere, the call starts from the beginning.
func (t *tracer) giveAgain(th *thread, regs *tracee.Regs) {
	a := th.again.Load()
	if a == nil || a.at != 0 {
		return
	}
	if !th.isToGoAgain(regs) {
		th.again.Store(nil)
		return
	}
	at, mem, err := t.take(th, pathPlace)
	if err == nil && len(a.bytes) > len(mem) {
		err = unix.ENAMETOOLONG
	}
	if err != nil {
		th.again.Store(nil)
		t.s.fail(fmt.Errorf("supervisor: give process %s what its call is to be made with: %w", th.proc.Lineage, err))
		return
	}
	copy(mem, a.bytes)
	given := *regs
	regs.SetArg(a.argument, at)
	if a.sized {
		regs.SetArg(a.argument+1, uint64(len(a.bytes)))
	}
	if regs.Store(th.tid) != nil {
		return // killed
	}
	th.again.Store(&again{a.argument, a.bytes, a.sized, at})
	var ended func(*Stop)
	ended = func(st *Stop) {
		if st.Result() == -int64(unix.ENOSYS) { // its entry
			st.OnExit(ended)
			return
		}
		st.t.giveBack(st.th, pathPlace)
		for i := range 6 {
			st.regs.SetArg(i, given.Arg(i))
		}
		_ = st.regs.Store(st.th.tid) // it fails only when the thread was killed
	}
	th.onExit = ended
}

//go:build linux

package supervisor

import (
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
)

// A Stop is a thread standing at the entry of a call that a feature traps with
// stop, or at the exit of one for which the feature asked. Handlers run on the
// tracer and must not block.
type Stop struct {
	t    *tracer
	th   *thread
	regs tracee.Regs
}

// Nr is the number of the call.
func (st *Stop) Nr() int { return st.regs.Nr() }

// Arg returns argument i as the register holds it.
func (st *Stop) Arg(i int) uint64 { return st.regs.Arg(i) }

// Result is what the call returned, at its exit.
func (st *Stop) Result() int64 { return st.regs.Result() }

// Read fills buf from the thread's memory.
func (st *Stop) Read(addr uint64, buf []byte) error {
	return tracee.ReadMem(st.th.tid, addr, buf)
}

// OnExit asks for fn to be called when the call has ended, before any signal is
// delivered, and after what other handlers of the call have asked for.
func (st *Stop) OnExit(fn func(*Stop)) {
	if before := st.th.onExit; before != nil {
		st.th.onExit = func(st *Stop) { before(st); fn(st) }
		return
	}
	st.th.onExit = fn
}

// filterStop handles a stop that the filter asked for.
func (t *tracer) filterStop(th *thread) {
	regs, err := tracee.GetRegs(th.tid)
	if err != nil {
		return // killed meanwhile
	}
	st := &Stop{t: t, th: th, regs: regs}
	t.s.counts.stop(st.Nr())
	args, claims := regs.Args(), t.s.table.stop[st.Nr()]
	for i := range claims {
		if claims[i].wants(&args) {
			claims[i].handle(st)
		}
	}
	t.resume(th, 0)
}

// syscallStop handles the exit of a call that a handler follows with OnExit.
func (t *tracer) syscallStop(th *thread) {
	regs, err := tracee.GetRegs(th.tid)
	if err != nil {
		return
	}
	if fn := th.onExit; fn != nil {
		th.onExit = nil
		fn(&Stop{t: t, th: th, regs: regs})
	}
	t.resume(th, 0)
}

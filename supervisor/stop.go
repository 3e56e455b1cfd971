//go:build linux

package supervisor

import (
	"fmt"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
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

// fd returns a descriptor of the supervisor's for one of the thread's that the call names.
func (st *Stop) fd(fd int32) (own int, err error) { return st.th.proc.fd(st.th.tid, fd) }

// Read fills buf from the thread's memory.
func (st *Stop) Read(addr uint64, buf []byte) error {
	if st.th.judged.Load().read(addr, buf) {
		return nil
	}
	return tracee.ReadMem(st.th.tid, addr, buf)
}

// String reads a path.
func (st *Stop) String(addr uint64) (string, error) {
	if s, ok := st.th.judged.Load().string(addr); ok {
		return string(s), nil
	}
	b, err := tracee.ReadString(st.th.tid, addr, make([]byte, unix.PathMax))
	return string(b), err
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
	if th.lending.Load() != nil || t.lendsAtEntry(th, &regs) {
		t.resume(th, 0)
		return
	}
	st := &Stop{t: t, th: th, regs: regs}
	t.s.counts.stop(st.Nr())
	if t.s.tracing == nil || th.arming.Load() {
		st.ask()
	} else {
		e := st.event()
		rec := t.s.tracing.begin(&e)
		th.traced = rec
		rec.by(st.ask())
		st.OnExit(func(st *Stop) {
			st.th.traced = nil
			rec.returned(st.Result())
		})
	}
	st.lentUntilNow()
	t.resume(th, 0)
}

// ask asks the features about the call, and returns the first of those that want it.
func (st *Stop) ask() (by string) {
	nr, args := st.Nr(), st.regs.Args()
	by = kernel
	if watches := st.t.s.table.of(nr).watch; watches != nil && !st.th.arming.Load() {
		e := st.event()
		for i := range watches {
			if watches[i].wants(&args) && st.settled(watches[i].handle(&e)) {
				return watches[i].feature
			}
		}
	}
	claims := st.t.s.table.of(nr).stop
	for i := range claims {
		if claims[i].wants(&args) {
			claims[i].handle(st)
			if by == kernel {
				by = claims[i].feature
			}
		}
	}
	st.th.judged.Store(nil)
	return by
}

// settled carries out what a watch has answered, and reports whether it has.
func (st *Stop) settled(a Answer) bool {
	switch a.kind {
	case answerGoOn:
		return false
	case answerErrno:
		st.skip(unix.Errno(a.value))
	case answerReturn:
		st.skip(0)
		st.regs.SetResult(a.value)
		_ = st.regs.Store(st.th.tid) // it fails only when the thread was killed
	case answerFatal:
		st.t.s.fail(fmt.Errorf("supervisor: %w", a.err))
		st.skip(unix.EIO)
	default:
		st.t.s.fail(fmt.Errorf("supervisor: %s: a stop can't be answered so", seccomp.Name(uint32(st.Nr()))))
		st.skip(unix.EIO)
	}
	return true
}

// syscallStop handles the exit of a call that a handler follows with OnExit.
func (t *tracer) syscallStop(th *thread) {
	regs, err := tracee.GetRegs(th.tid)
	if err != nil {
		return
	}
	if fn := th.onExit; fn != nil {
		th.onExit = nil
		st := &Stop{t: t, th: th, regs: regs}
		fn(st)
		st.lentUntilNow()
	}
	t.resume(th, 0)
}

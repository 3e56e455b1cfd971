//go:build linux

package supervisor

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
)

// A timed wait has other arguments than the program gave, and must return with the
// program's. A stop at its exit is where the tracer can see to that, and as dear as the
// one at its entry. Most waits are over before their time, and nothing but those
// registers is to be put back. So such a wait returns by a detour: the address behind the
// call becomes that of a piece of code in memory that no program can write, which loads
// the program's registers from there and goes on where the call was made (vdso.Detour).
//
// Nobody hears of the end of a wait with a detour. Its entry stays on the agenda until it
// would be the next to happen, or the thread waits again; then it is looked up where the
// thread waits (proc_pid_syscall(5)). A signal finds the tracer at its delivery, which
// brings the thread back to where the program knows itself to be, before a handler looks
// around there or waits by the same detour.

// detour is the part of a waiting that takes one.
type detour struct {
	back uint64 // where the call returns to, 0 if the tracer is told of its end
	path string // of what the kernel tells of the thread's call
}

// has reports whether the program counter is in the detour, or before its call.
func (d *detour) has(pc uint64) bool {
	return d.back != 0 && pc >= d.back-tracee.CallSize && pc < d.back-tracee.CallSize+vdso.DetourSize
}

// mayDetour reports whether nobody else wants to hear of the end of the call.
func (st *Stop) mayDetour() bool {
	return st.t.s.tracing == nil && st.t.s.table.of(st.Nr()).watch == nil && st.th.onExit == nil
}

// takeDetour lets the call at whose entry the thread stands return by the thread's detour.
// It reports false if there is none to be had.
func (me *waiting) takeDetour(st *Stop) bool {
	th := st.th
	data, mem, err := st.t.take(th, detourPlace)
	if err != nil {
		return false
	}
	piece := st.t.s.page.mem[vdso.DetourOffset+(th.places[detourPlace]-1)*vdso.DetourSize:][:vdso.DetourSize]
	if piece[0] == 0 { // nobody has had it yet
		copy(piece, vdso.Detour())
	}
	for i, v := range me.given.Args() {
		binary.NativeEndian.PutUint64(mem[8*i:], v)
	}
	const behindArgs = 8 * 6
	binary.NativeEndian.PutUint64(mem[behindArgs:], me.given.PC())
	me.detour.back = data - vdso.DetourData + vdso.DetourOffset + vdso.DetourResume
	me.detour.path = th.taskDir() + "/syscall"
	st.regs.SetPC(me.detour.back)
	return true
}

// isOver reports whether the thread has gone on from its wait, as far as is known. The
// agenda asks.
func (me *waiting) isOver() bool {
	if me.detour.back == 0 {
		return false
	}
	text, err := readKernelFile(me.detour.path)
	if err != nil {
		return os.IsNotExist(err) // it has ended
	}
	if bytes.HasPrefix(text, []byte("running")) {
		return false // maybe it is on its way there
	}
	pc, err := strconv.ParseUint(string(bytes.TrimSpace(text[bytes.LastIndexByte(text, ' ')+1:])), 0, 64)
	return err == nil && !me.detour.has(pc)
}

// forget takes the last wait of the thread off the agenda, should it still be there.
func (me *waiting) forget(a *agenda) {
	if me.detour.back != 0 {
		a.remove(&me.entry)
		me.detour.back = 0
	}
}

// leaveDetour brings a thread that a signal has stopped on its detour back to where the
// program knows itself to be.
func (t *tracer) leaveDetour(th *thread, regs *tracee.Regs) {
	me := &th.wait
	switch back := me.detour.back; {
	case regs.PC() == back && regs.Nr() >= 0: // the call is just returning
		st := &Stop{t: t, th: th, regs: *regs}
		me.exit(st)
		*regs = st.regs
		return
	case regs.PC() == back-tracee.CallSize: // it is about to be made once more
		th.goneOn = &goneOn{me.given.Nr(), me.given.SP(), me.until}
		regs.SetResult(int64(me.given.Nr()))
		regs.SetPC(me.given.PC() - tracee.CallSize)
	default:
		regs.ReturnTo(me.given.PC())
	}
	me.giveBack(regs)
	me.forget(t.s.agenda)
	_ = regs.Store(th.tid) // it fails only when the thread was killed
}

// giveBack puts back the arguments that the program gave.
func (me *waiting) giveBack(regs *tracee.Regs) {
	for i, v := range me.given.Args() {
		regs.SetArg(i, v)
	}
}

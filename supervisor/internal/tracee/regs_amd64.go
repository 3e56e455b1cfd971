//go:build linux

package tracee

import "golang.org/x/sys/unix"

// Regs are a thread's registers at a stop, seen as a system call.
type Regs struct{ raw unix.PtraceRegs }

// GetRegs reads the registers of a stopped thread.
func GetRegs(tid int) (r Regs, err error) {
	err = unix.PtraceGetRegs(tid, &r.raw)
	return r, err
}

// Store writes the registers back.
func (r *Regs) Store(tid int) error { return unix.PtraceSetRegs(tid, &r.raw) }

// Nr is the number of the system call that the thread is in, or negative.
func (r *Regs) Nr() int { return int(int64(r.raw.Orig_rax)) }

// SetNr changes the call about to run at a filter stop; -1 skips it.
func (r *Regs) SetNr(nr int) { r.raw.Orig_rax = uint64(nr) }

// Result is what the call returns: a negative errno from -4095 on.
func (r *Regs) Result() int64 { return int64(r.raw.Rax) }

// SetResult changes what the call returns.
func (r *Regs) SetResult(v int64) { r.raw.Rax = uint64(v) }

// PC and SP are the instruction and stack pointers.
func (r *Regs) PC() uint64 { return r.raw.Rip }

// SP is the stack pointer.
func (r *Regs) SP() uint64 { return r.raw.Rsp }

// Compat reports whether the thread runs 32-bit code.
func (r *Regs) Compat() bool { return r.raw.Cs == 0x23 }

// Arg returns argument i of the call, 0 to 5.
func (r *Regs) Arg(i int) uint64 { return *r.arg(i) }

// SetArg changes argument i.
func (r *Regs) SetArg(i int, v uint64) { *r.arg(i) = v }

func (r *Regs) arg(i int) *uint64 {
	return [...]*uint64{&r.raw.Rdi, &r.raw.Rsi, &r.raw.Rdx, &r.raw.R10, &r.raw.R8, &r.raw.R9}[i]
}

// prepare makes the thread execute the system-call instruction at insn next.
func (r *Regs) prepare(insn uint64, nr uintptr, args []uint64) {
	r.raw.Rip = insn
	r.raw.Rax = uint64(nr)
	r.raw.Orig_rax = ^uint64(0) // no restart of the call that was interrupted
	for i, a := range args {
		r.SetArg(i, a)
	}
}

// syscallInsn is written where a process has no such instruction to borrow.
var syscallInsn = []byte{0x0f, 0x05}

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

// SetPC changes where the thread goes on.
func (r *Regs) SetPC(at uint64) { r.raw.Rip = at }

// ReturnTo lets the thread go on behind a system call, as if that had been made there.
func (r *Regs) ReturnTo(at uint64) { r.raw.Rip, r.raw.Rcx = at, at }

// CallSize is how long the instruction is that makes a system call: its address is so much
// before the PC behind it.
const CallSize = 2

// CallCode is that instruction.
var CallCode = []byte{0x0f, 0x05} // syscall

// CallAgain lets a thread that stands at the exit of a call make another, with the
// registers' arguments.
func (r *Regs) CallAgain(nr int) {
	r.raw.Rip -= CallSize
	r.raw.Rax, r.raw.Orig_rax = uint64(nr), ^uint64(0)
}

// SP is the stack pointer.
func (r *Regs) SP() uint64 { return r.raw.Rsp }

// Compat reports whether the thread runs 32-bit code. The kernel fills in the
// registers of such a thread in their own, shorter layout.
func (r *Regs) Compat() bool {
	const userCS = 0x33
	return r.raw.Cs != userCS
}

// Return takes so many bytes from the stack, and lets the thread go on where rcx points.
func (r *Regs) Return(bytes uint64) {
	r.raw.Rsp += bytes
	r.raw.Rip = r.raw.Rcx
}

// Arg returns argument i of the call, 0 to 5.
func (r *Regs) Arg(i int) uint64 { return *r.arg(i) }

// Args returns the six arguments.
func (r *Regs) Args() (args [6]uint64) {
	for i := range args {
		args[i] = r.Arg(i)
	}
	return args
}

// SetArg changes argument i.
func (r *Regs) SetArg(i int, v uint64) { *r.arg(i) = v }

func (r *Regs) arg(i int) *uint64 {
	return [...]*uint64{&r.raw.Rdi, &r.raw.Rsi, &r.raw.Rdx, &r.raw.R10, &r.raw.R8, &r.raw.R9}[i]
}

// AnswerTSC completes rdtsc or rdtscp, whichever begins at the thread's
// instruction: v is the counter, and the CPU that rdtscp tells is 0 on node 0. It
// reports false for any other instruction.
func (r *Regs) AnswerTSC(insn []byte, v uint64) bool {
	switch {
	case insn[0] == 0x0f && insn[1] == 0x31:
		r.raw.Rip += 2
	case insn[0] == 0x0f && insn[1] == 0x01 && insn[2] == 0xf9:
		r.raw.Rip += 3
		r.raw.Rcx = 0
	default:
		return false
	}
	r.raw.Rax, r.raw.Rdx = v&(1<<32-1), v>>32
	return true
}

// jump makes the thread run code, which finds its list at the given address.
func (r *Regs) jump(code, list uint64) {
	r.raw.Rip = code
	r.raw.Rbx = list
	r.raw.Orig_rax = ^uint64(0) // no restart of the call that was interrupted
}

// runList executes the list at rbx, see List.encode.
var runList = []byte{
	0x48, 0x8b, 0x03, // next: mov rax, [rbx]
	0x48, 0x85, 0xc0, // test rax, rax
	0x78, 64, // js done
	0x48, 0x8b, 0x7b, 0x08, // mov rdi, [rbx+8]
	0x48, 0x8b, 0x73, 0x10, // mov rsi, [rbx+16]
	0x48, 0x8b, 0x53, 0x18, // mov rdx, [rbx+24]
	0x4c, 0x8b, 0x53, 0x20, // mov r10, [rbx+32]
	0x4c, 0x8b, 0x43, 0x28, // mov r8, [rbx+40]
	0x4c, 0x8b, 0x4b, 0x30, // mov r9, [rbx+48]
	0x0f, 0x05, // syscall
	0x48, 0x89, 0x43, 0x38, // mov [rbx+56], rax
	0x48, 0x8b, 0x4b, 0x40, // mov rcx, [rbx+64]
	0x48, 0x89, 0x01, // mov [rcx], rax
	0x48, 0x8b, 0x4b, 0x48, // mov rcx, [rbx+72]
	0x48, 0x89, 0x01, // mov [rcx], rax
	0x48, 0x8b, 0x4b, 0x50, // mov rcx, [rbx+80]
	0x48, 0x89, 0x01, // mov [rcx], rax
	0x48, 0x8b, 0x4b, 0x58, // mov rcx, [rbx+88]
	0x48, 0x89, 0x01, // mov [rcx], rax
	0x48, 0x83, 0xc3, 0x60, // add rbx, 96
	0xeb, 0xb8, // jmp next
	0xcc, // done: int3
}

// TextSize is how much executable memory a Remote overwrites.
const TextSize = 73

// Package seccomp assembles a system-call filter and speaks the kernel's
// notification protocol (seccomp(2), seccomp_unotify(2), kernel/seccomp.c). It
// knows no policy: what is trapped and what is answered comes from above.
//
// Filter assembly is pure code and tested on every platform with the BPF
// machine of golang.org/x/net/bpf; the listener is Linux only.
package seccomp

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
)

// An Action is what the kernel does with a call: the SECCOMP_RET_* values of
// linux/seccomp.h.
type Action uint32

// The actions a filter is made of.
const (
	Allow  Action = 0x7fff0000 // run the call
	Notify Action = 0x7fc00000 // ask the listener
	Trace  Action = 0x7ff00000 // stop for the tracer
	errno  Action = 0x00050000
	kill   Action = 0x80000000
)

// Errno returns the action that fails a call with the given error number, 1 to
// 4095.
func Errno(e uint16) Action { return errno | Action(e) }

// A Cond compares one argument of a call: it holds when the bits of Mask in
// argument Arg (0 to 5) equal Value, or with Not when they differ.
type Cond struct {
	Arg         int
	Mask, Value uint64
	Not         bool
}

// Holds reports whether a call with these arguments fulfils the condition.
func (c Cond) Holds(args *[6]uint64) bool { return (args[c.Arg]&c.Mask == c.Value) != c.Not }

// A Rule is an action for one system call, taken when all its conditions hold.
type Rule struct {
	Nr     uint32
	Conds  []Cond
	Action Action
}

// An Arch is the part of a filter that depends on the processor.
type Arch struct {
	Audit   uint32 // AUDIT_ARCH_* of the native calls, linux/audit.h
	Foreign uint32 // a bit in the call number that marks another ABI (x32), or 0
	Last    uint32 // the last call that is known; a later one without a rule fails with ENOSYS
}

// lastKnown is mseal (Linux 6.10), the last call of which somebody has looked at what it
// does. Numbers from 424 on are the same on all machines.
const lastKnown = 462

// AMD64 and ARM64 are the architectures a filter can be made for. Calls of any
// other ABI the kernel offers (i386, x32, 32-bit arm) fail with ENOSYS.
var (
	AMD64 = Arch{Audit: 0xc000003e, Foreign: 0x40000000, Last: lastKnown}
	ARM64 = Arch{Audit: 0xc00000b7, Last: lastKnown}
)

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

const enosys = 38

// Assemble translates rules into a filter program. For one call the first rule
// whose conditions hold decides; a call without such a rule is allowed, unless it is one
// that came to the kernel after this package was written. The
// program finds a call by binary search, so a filter of a hundred calls costs
// seven comparisons (and nothing at all for calls without rules, which the
// kernel remembers in a bitmap since 5.11).
func Assemble(arch Arch, rules []Rule) ([]bpf.RawInstruction, error) {
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Nr, b.Nr) })
	prog := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: arch.Audit, SkipTrue: 1},
		ret(Errno(enosys)),
		bpf.LoadAbsolute{Off: offNr, Size: 4},
	}
	if arch.Foreign != 0 {
		prog = append(prog,
			bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: arch.Foreign, SkipTrue: 1},
			ret(Errno(enosys)))
	}
	runs := group(rules)
	known := 0
	for known < len(runs) && runs[known][0].Nr <= arch.Last {
		known++
	}
	body, err := search(runs[:known], Allow)
	if err != nil {
		return nil, err
	}
	later, err := search(runs[known:], Errno(enosys))
	if err != nil {
		return nil, err
	}
	prog = append(prog,
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: arch.Last, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(body))})
	return bpf.Assemble(append(append(prog, body...), later...))
}

func ret(a Action) bpf.Instruction { return bpf.RetConstant{Val: uint32(a)} }

// group splits sorted rules into one run per call.
func group(rules []Rule) [][]Rule {
	var runs [][]Rule
	for len(rules) > 0 {
		n := 1
		for n < len(rules) && rules[n].Nr == rules[0].Nr {
			n++
		}
		runs = append(runs, rules[:n])
		rules = rules[n:]
	}
	return runs
}

// search emits a binary search over the calls, the number being in A; otherwise is
// what becomes of one that isn't among them.
func search(runs [][]Rule, otherwise Action) ([]bpf.Instruction, error) {
	switch len(runs) {
	case 0:
		return []bpf.Instruction{ret(otherwise)}, nil
	case 1:
		leaf, err := call(runs[0], otherwise)
		if err != nil {
			return nil, err
		}
		return append([]bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: runs[0][0].Nr, SkipTrue: 1},
			ret(otherwise),
		}, leaf...), nil
	}
	mid := len(runs) / 2
	below, err := search(runs[:mid], otherwise)
	if err != nil {
		return nil, err
	}
	above, err := search(runs[mid:], otherwise)
	if err != nil {
		return nil, err
	}
	// A conditional jump reaches 255 instructions, an unconditional one any
	// distance.
	prog := []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: runs[mid][0].Nr, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(below))},
	}
	return append(append(prog, below...), above...), nil
}

// call emits the rules of one call; otherwise is for what none of them wants.
func call(rules []Rule, otherwise Action) ([]bpf.Instruction, error) {
	var prog []bpf.Instruction
	for _, r := range rules {
		body := []bpf.Instruction{ret(r.Action)}
		for _, c := range slices.Backward(r.Conds) {
			if c.Arg < 0 || c.Arg > 5 {
				return nil, fmt.Errorf("seccomp: condition on argument %d of call %d", c.Arg, r.Nr)
			}
			test := condition(c, uint32(len(body)))
			body = append(test, body...)
		}
		prog = append(prog, body...)
	}
	return append(prog, ret(otherwise)), nil
}

// condition emits a test that falls through when c holds and skips the given
// number of instructions otherwise.
func condition(c Cond, skip uint32) []bpf.Instruction {
	lo, hi := uint32(offArgs+8*c.Arg), uint32(offArgs+8*c.Arg+4) // both machines are little-endian
	half := func(off, mask, value uint32) []bpf.Instruction {
		return []bpf.Instruction{
			bpf.LoadAbsolute{Off: off, Size: 4},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: value & mask},
		}
	}
	high := half(hi, uint32(c.Mask>>32), uint32(c.Value>>32))
	low := half(lo, uint32(c.Mask), uint32(c.Value))
	// Every test is a jump over one unconditional jump, so distance never matters.
	if c.Not {
		// high differs -> holds; low differs -> holds; else skip.
		high[2] = bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(c.Value>>32) & uint32(c.Mask>>32), SkipTrue: 4}
		low[2] = bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(c.Value) & uint32(c.Mask), SkipTrue: 1}
		return append(append(high, low...), bpf.Jump{Skip: skip})
	}
	high[2] = bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.Value>>32) & uint32(c.Mask>>32), SkipTrue: 1}
	high = append(high, bpf.Jump{Skip: skip + 4})
	low[2] = bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.Value) & uint32(c.Mask), SkipTrue: 1}
	return append(append(high, low...), bpf.Jump{Skip: skip})
}

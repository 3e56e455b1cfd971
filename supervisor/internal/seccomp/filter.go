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
// program finds a call by binary search over ranges of calls that have the same fate, so
// a filter of two hundred calls costs some seven comparisons (and nothing at all for calls
// without rules, which the kernel remembers in a bitmap since 5.11). It is kept short,
// because the kernel translates it anew for each sandbox.
func Assemble(arch Arch, rules []Rule) ([]bpf.RawInstruction, error) {
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Nr, b.Nr) })
	ranges, err := arch.ranges(group(rules))
	if err != nil {
		return nil, err
	}
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
	return bpf.Assemble(append(prog, search(ranges)...))
}

// A span is a range of calls that have the same fate, up to the next one.
type span struct {
	first uint32
	fate  []bpf.Instruction
}

// ranges divides all numbers by what becomes of the calls.
func (arch Arch) ranges(calls [][]Rule) (list []span, err error) {
	add := func(first uint32, fate ...bpf.Instruction) {
		if len(list) == 0 || !slices.Equal(list[len(list)-1].fate, fate) {
			list = append(list, span{first, fate})
		}
	}
	unknown := func(nr uint32) Action {
		if nr > arch.Last {
			return Errno(enosys)
		}
		return Allow
	}
	next := uint32(0)
	gap := func(until uint32) {
		if next <= arch.Last && next < until {
			add(next, ret(Allow))
		}
		if until > arch.Last+1 {
			add(max(next, arch.Last+1), ret(Errno(enosys)))
		}
	}
	for _, rules := range calls {
		nr := rules[0].Nr
		if nr > next {
			gap(nr)
		}
		fate, err := call(rules, unknown(nr))
		if err != nil {
			return nil, err
		}
		add(nr, fate...)
		next = nr + 1
	}
	gap(1<<32 - 1)
	return list, nil
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

// search emits a binary search over ranges, the number being in A.
func search(ranges []span) []bpf.Instruction {
	if len(ranges) == 1 {
		return ranges[0].fate
	}
	mid := len(ranges) / 2
	below, above := search(ranges[:mid]), search(ranges[mid:])
	first := bpf.JumpIf{Cond: bpf.JumpLessThan, Val: ranges[mid].first}
	return append(append(branch(first, len(below)), below...), above...)
}

// branch emits a test that falls through when it holds, and skips so many instructions
// otherwise. A conditional jump reaches 255 instructions, an unconditional one any
// distance.
func branch(test bpf.JumpIf, skip int) []bpf.Instruction {
	if skip <= 255 {
		test.SkipFalse = uint8(skip)
		return []bpf.Instruction{test}
	}
	test.SkipTrue = 1
	return []bpf.Instruction{test, bpf.Jump{Skip: uint32(skip)}}
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
			body = append(condition(c, len(body)), body...)
		}
		prog = append(prog, body...)
		if len(r.Conds) == 0 {
			return prog, nil
		}
	}
	return append(prog, ret(otherwise)), nil
}

// condition emits a test that falls through when c holds and skips the given
// number of instructions otherwise.
func condition(c Cond, skip int) []bpf.Instruction {
	lo, hi := uint32(offArgs+8*c.Arg), uint32(offArgs+8*c.Arg+4) // both machines are little-endian
	high := half(hi, uint32(c.Mask>>32), uint32(c.Value>>32))
	low := half(lo, uint32(c.Mask), uint32(c.Value))
	if c.Not {
		return different(high, low, skip)
	}
	var prog []bpf.Instruction
	for _, h := range [][]bpf.Instruction{low, high} { // from the end
		if len(h) > 0 {
			last := len(h) - 1
			prog = append(append(slices.Clone(h[:last]), branch(h[last].(bpf.JumpIf), skip+len(prog))...), prog...)
		}
	}
	return prog
}

// half emits a test whether a half of an argument has a value where the mask is set. There
// is none where every value does.
func half(off, mask, value uint32) []bpf.Instruction {
	value &= mask
	load := bpf.LoadAbsolute{Off: off, Size: 4}
	switch {
	case mask == 0:
		return nil
	case mask == 1<<32-1:
		return []bpf.Instruction{load, bpf.JumpIf{Cond: bpf.JumpEqual, Val: value}}
	case value == mask && mask&(mask-1) == 0: // a single bit
		return []bpf.Instruction{load, bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: mask}}
	}
	return []bpf.Instruction{load, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: value}}
}

// different emits a test that falls through when one of two halves differs.
func different(high, low []bpf.Instruction, skip int) []bpf.Instruction {
	// What follows the last half of which each value would do is never reached.
	prog := []bpf.Instruction{bpf.Jump{Skip: uint32(skip)}}
	for _, h := range [][]bpf.Instruction{low, high} {
		if len(h) > 0 {
			last := len(h) - 1
			test := h[last].(bpf.JumpIf)
			test.SkipFalse = uint8(len(prog)) // it holds: one differs
			prog = append(append(slices.Clone(h[:last]), test), prog...)
		}
	}
	return prog
}

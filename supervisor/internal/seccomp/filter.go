// Package seccomp assembles a system-call filter and speaks the kernel's
// notification protocol (seccomp(2), seccomp_unotify(2), kernel/seccomp.c). It
// knows no policy: what is trapped and what is answered comes from above.
//
// Filter assembly is pure code and tested on every platform with the BPF
// machine of golang.org/x/net/bpf; the listener is Linux only.
package seccomp

import (
	"cmp"
	"encoding/binary"
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
// because the kernel translates it anew for each sandbox, which takes 0.1 us an
// instruction: a fate stands there once, however many calls have it.
func Assemble(arch Arch, rules []Rule) ([]bpf.RawInstruction, error) {
	for _, r := range rules {
		for _, c := range r.Conds {
			if c.Arg < 0 || c.Arg > 5 {
				return nil, fmt.Errorf("seccomp: condition on argument %d of call %d", c.Arg, r.Nr)
			}
		}
	}
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Nr, b.Nr) })

	e := newEmitter()
	known := e.search(arch.ranges(group(rules)))
	if arch.Foreign != 0 {
		known = e.jump(bpf.JumpBitsSet, arch.Foreign, e.ret(Errno(enosys)), known)
	}
	known = e.add(bpf.LoadAbsolute{Off: offNr, Size: 4}, known)
	known = e.jump(bpf.JumpEqual, arch.Audit, known, e.ret(Errno(enosys)))
	e.add(bpf.LoadAbsolute{Off: offArch, Size: 4}, known)
	return bpf.Assemble(e.program())
}

// A fate is what becomes of a call: the action of the first rule whose conditions hold.
type fate struct {
	rules     []Rule // each has conditions
	otherwise Action
	key       string // two fates are the same if their keys are
}

func newFate(rules []Rule, otherwise Action) fate {
	if i := slices.IndexFunc(rules, func(r Rule) bool { return len(r.Conds) == 0 }); i >= 0 {
		rules, otherwise = rules[:i], rules[i].Action
	}
	for len(rules) > 0 && rules[len(rules)-1].Action == otherwise {
		rules = rules[:len(rules)-1]
	}
	key := binary.LittleEndian.AppendUint32(nil, uint32(otherwise))
	for _, r := range rules {
		key = binary.LittleEndian.AppendUint32(key, uint32(r.Action))
		key = append(key, byte(len(r.Conds)))
		for _, c := range r.Conds {
			not := byte(0)
			if c.Not {
				not = 1
			}
			key = append(key, byte(c.Arg), not)
			key = binary.LittleEndian.AppendUint64(key, c.Mask)
			key = binary.LittleEndian.AppendUint64(key, c.Value)
		}
	}
	return fate{rules, otherwise, string(key)}
}

// A span is a range of calls that have the same fate, up to the next one.
type span struct {
	first uint32
	fate  fate
}

// ranges divides all numbers by what becomes of the calls.
func (arch Arch) ranges(calls [][]Rule) (list []span) {
	add := func(first uint32, f fate) {
		if len(list) == 0 || list[len(list)-1].fate.key != f.key {
			list = append(list, span{first, f})
		}
	}
	allowed, unknown := newFate(nil, Allow), newFate(nil, Errno(enosys))
	next := uint32(0)
	gap := func(until uint32) {
		if next <= arch.Last && next < until {
			add(next, allowed)
		}
		if until > arch.Last+1 {
			add(max(next, arch.Last+1), unknown)
		}
	}
	for _, rules := range calls {
		nr := rules[0].Nr
		if nr > next {
			gap(nr)
		}
		otherwise := Allow
		if nr > arch.Last {
			otherwise = Errno(enosys)
		}
		add(nr, newFate(rules, otherwise))
		next = nr + 1
	}
	gap(1<<32 - 1)
	return list
}

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

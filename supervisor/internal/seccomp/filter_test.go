package seccomp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
)

// data builds a struct seccomp_data. The BPF machine of x/net loads words in
// network order, the kernel in its own, so words are stored big-endian here and
// the halves of an argument are placed as on a little-endian machine.
func data(nr, arch uint32, args ...uint64) []byte {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[offNr:], nr)
	binary.BigEndian.PutUint32(b[offArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(b[offArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(b[offArgs+8*i+4:], uint32(a>>32))
	}
	return b
}

func machine(t *testing.T, arch Arch, rules []Rule) func([]byte) Action {
	t.Helper()
	raw, err := Assemble(arch, rules)
	if err != nil {
		t.Fatal(err)
	}
	prog, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program doesn't disassemble")
	}
	vm, err := bpf.NewVM(prog)
	if err != nil {
		t.Fatal(err)
	}
	return func(d []byte) Action {
		n, err := vm.Run(d)
		if err != nil {
			t.Fatal(err)
		}
		return Action(uint32(n))
	}
}

func TestFilter(t *testing.T) {
	const untraced = 0x00800000
	rules := []Rule{
		{Nr: 318, Action: Notify},
		{Nr: 56, Conds: []Cond{{Arg: 0, Mask: untraced, Value: untraced}}, Action: Errno(1)},
		{Nr: 202, Conds: []Cond{{Arg: 3, Mask: ^uint64(0), Not: true}, {Arg: 1, Mask: 0x7f, Value: 9}}, Action: Trace},
		{Nr: 202, Conds: []Cond{{Arg: 3, Mask: ^uint64(0), Value: 1 << 40}}, Action: Errno(14)},
		{Nr: 425, Action: Errno(enosys)},
		{Nr: 466, Action: Notify},
		{Nr: 0x3fff5a01, Conds: []Cond{{Arg: 0, Mask: ^uint64(0), Value: 1}}, Action: Notify},
	}
	run := machine(t, AMD64, rules)
	for _, tc := range []struct {
		name string
		data []byte
		want Action
	}{
		{"call without rule", data(0, AMD64.Audit), Allow},
		{"call between rules", data(300, AMD64.Audit), Allow},
		{"last call that is known", data(462, AMD64.Audit), Allow},
		{"call that came later", data(463, AMD64.Audit), Errno(38)},
		{"call of which nobody has heard", data(0x3fff0000, AMD64.Audit), Errno(38)},
		{"call that came later, with a rule", data(466, AMD64.Audit), Notify},
		{"number of the supervisor's own", data(0x3fff5a01, AMD64.Audit, 1), Notify},
		{"the same, not wanted", data(0x3fff5a01, AMD64.Audit, 2), Errno(38)},
		{"plain rule", data(318, AMD64.Audit), Notify},
		{"errno", data(425, AMD64.Audit), Errno(38)},
		{"i386", data(318, 0x40000003), Errno(38)},
		{"x32", data(318|0x40000000, AMD64.Audit), Errno(38)},
		{"flag set among others", data(56, AMD64.Audit, untraced|0x11), Errno(1)},
		{"flag not set", data(56, AMD64.Audit, 0x11), Allow},
		{"two conditions hold", data(202, AMD64.Audit, 0, 0x189, 0, 0x7fff0000), Trace},
		{"differs only in the high half", data(202, AMD64.Audit, 0, 9, 0, 1<<32), Trace},
		{"first holds, second doesn't", data(202, AMD64.Audit, 0, 1, 0, 0x7fff0000), Allow},
		{"not: equal", data(202, AMD64.Audit, 0, 9, 0, 0), Allow},
		{"second rule of a call", data(202, AMD64.Audit, 0, 1, 0, 1<<40), Errno(14)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := run(tc.data); got != tc.want {
				t.Errorf("got %#x, want %#x", got, tc.want)
			}
		})
	}
}

// A filter over hundreds of calls needs jumps that a conditional jump can't
// reach.
func TestFilterLarge(t *testing.T) {
	var rules []Rule
	for nr := uint32(0); nr < 600; nr += 2 {
		rules = append(rules, Rule{Nr: nr, Action: Errno(uint16(nr + 1))})
	}
	run := machine(t, ARM64, rules)
	for nr := range uint32(601) {
		want := Allow
		if nr > ARM64.Last {
			want = Errno(enosys)
		}
		if nr < 600 && nr%2 == 0 {
			want = Errno(uint16(nr + 1))
		}
		if got := run(data(nr, ARM64.Audit)); got != want {
			t.Fatalf("call %d: got %#x, want %#x", nr, got, want)
		}
	}
}

func TestFilterBadArgument(t *testing.T) {
	if _, err := Assemble(AMD64, []Rule{{Nr: 1, Conds: []Cond{{Arg: 6}}}}); err == nil {
		t.Error("no error for a condition on argument 6")
	}
}

func ExampleAssemble() {
	prog, err := Assemble(AMD64, []Rule{{Nr: 318, Action: Notify}})
	fmt.Println(len(prog), err)
	// Output: 9 <nil>
}

// judge is what becomes of a call, straight from the rules.
func judge(arch Arch, rules []Rule, nr uint32, args [6]uint64) Action {
	for _, r := range rules {
		if r.Nr == nr && !slices.ContainsFunc(r.Conds, func(c Cond) bool { return !c.Holds(&args) }) {
			return r.Action
		}
	}
	if nr > arch.Last {
		return Errno(enosys)
	}
	return Allow
}

// Whatever the rules are, the program does what they say.
func TestFilterOfAnyRules(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	actions := []Action{Notify, Trace, Allow, Errno(1), Errno(38)}
	masks := []uint64{0, 1, 2, 3, 1 << 31, 1 << 40, 5 << 33, 1<<32 - 1, ^uint64(1<<32 - 1), ^uint64(0), 1<<40 | 1}
	for range 300 {
		var rules []Rule
		for range rnd.IntN(60) {
			r := Rule{Nr: []uint32{rnd.Uint32N(8), rnd.Uint32N(500), 1<<32 - 2}[rnd.IntN(3)] &^ AMD64.Foreign, Action: actions[rnd.IntN(len(actions))]}
			for range rnd.IntN(4) {
				mask := masks[rnd.IntN(len(masks))]
				r.Conds = append(r.Conds, Cond{Arg: rnd.IntN(6), Mask: mask, Value: masks[rnd.IntN(len(masks))] & mask, Not: rnd.IntN(2) == 0})
			}
			rules = append(rules, r)
		}
		run := machine(t, AMD64, rules)
		for range 300 {
			nr := []uint32{rnd.Uint32N(8), rnd.Uint32N(500), rnd.Uint32()}[rnd.IntN(3)] &^ AMD64.Foreign
			if len(rules) > 0 && rnd.IntN(2) == 0 {
				nr = rules[rnd.IntN(len(rules))].Nr
			}
			var args [6]uint64
			for i := range args {
				args[i] = masks[rnd.IntN(len(masks))]
			}
			if got, want := run(data(nr, AMD64.Audit, args[:]...)), judge(AMD64, rules, nr, args); got != want {
				t.Fatalf("call %d%v: %#x, want %#x; the rules are %+v", nr, args, got, want, rules)
			}
		}
	}
}

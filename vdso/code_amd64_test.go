package vdso_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/arch/x86/x86asm"

	"github.com/sandtest/go-sandtest/vdso"
)

var kinds = map[string]vdso.Kind{"frozen": vdso.Frozen, "shifted": vdso.Shifted, "untouched": vdso.Untouched}

func TestCodeEntries(t *testing.T) {
	always := []string{"getcpu", "getrandom"}
	clock := append([]string{"clock_getres", "clock_gettime"}, append(always, "gettimeofday", "time")...)
	for name, want := range map[string][]string{"frozen": clock, "shifted": clock, "untouched": always} {
		t.Run(name, func(t *testing.T) {
			code, entries, err := vdso.Code(kinds[name])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, slices.Sorted(maps.Keys(entries))); diff != "" {
				t.Errorf("functions (-want +got):\n%s", diff)
			}
			if len(code) > vdso.PageSize {
				t.Errorf("%d bytes of code, a page has %d", len(code), vdso.PageSize)
			}
			for fn, at := range entries {
				if at < vdso.CodeOffset || at >= vdso.CodeOffset+len(code) || at%64 != 0 {
					t.Errorf("%s begins at %#x: want a cache line of the code page", fn, at)
				}
			}
		})
	}
	if got, want := vdso.SlotFunctions(vdso.Shifted), []string{"clock_gettime"}; !slices.Equal(got, want) {
		t.Errorf("SlotFunctions(Shifted) = %q, want %q", got, want)
	}
}

// A function is one replacement function in decoded form.
type function struct {
	name       string
	start, end int // in the region
	insts      map[int]x86asm.Inst
	last       x86asm.Inst
}

// disassemble decodes every byte of a code page. Offsets are those in the
// region, so that distances between pages need no second thought.
func disassemble(t *testing.T, code []byte, entries map[string]int) []function {
	t.Helper()
	var list []function
	for name, at := range entries {
		list = append(list, function{name: name, start: at, insts: map[int]x86asm.Inst{}})
	}
	slices.SortFunc(list, func(a, b function) int { return a.start - b.start })
	if len(list) == 0 || list[0].start != vdso.CodeOffset {
		t.Fatal("there is code before the first function")
	}
	for i := range list {
		f := &list[i]
		f.end = vdso.CodeOffset + len(code)
		if i+1 < len(list) {
			f.end = list[i+1].start
			// The traps that fill up the cache line belong to nobody.
			for f.end > f.start && code[f.end-1-vdso.CodeOffset] == 0xcc {
				f.end--
			}
		}
		for at := f.start; at < f.end; {
			inst, err := x86asm.Decode(code[at-vdso.CodeOffset:f.end-vdso.CodeOffset], 64)
			if err != nil {
				t.Fatalf("%s+%#x: % x: %v", f.name, at-f.start, code[at-vdso.CodeOffset:f.end-vdso.CodeOffset], err)
			}
			f.insts[at], f.last = inst, inst
			at += inst.Len
		}
	}
	return list
}

// preserved tells the registers that a function must leave as they were.
func preserved(r x86asm.Reg) bool {
	switch s := r.String(); s {
	case "BL", "BH", "BX", "EBX", "RBX", "BPB", "BP", "EBP", "RBP":
		return true
	default:
		return strings.HasPrefix(s, "R12") || strings.HasPrefix(s, "R13") || strings.HasPrefix(s, "R14") || strings.HasPrefix(s, "R15")
	}
}

// writes reports whether an instruction changes its first operand.
func writes(op x86asm.Op) bool {
	switch op {
	case x86asm.CMP, x86asm.TEST, x86asm.CALL, x86asm.PUSH:
		return false
	}
	return true
}

func TestCodeInstructions(t *testing.T) {
	for kindName, kind := range kinds {
		t.Run(kindName, func(t *testing.T) {
			code, entries, err := vdso.Code(kind)
			if err != nil {
				t.Fatal(err)
			}
			isEntry := map[int]bool{}
			for _, at := range entries {
				isEntry[at] = true
			}
			for _, f := range disassemble(t, code, entries) {
				t.Run(f.name, func(t *testing.T) {
					if f.last.Op != x86asm.RET && f.last.Op != x86asm.JMP {
						t.Errorf("runs on behind its last instruction, %v", f.last)
					}
					returns := false
					for at, inst := range f.insts {
						returns = returns || inst.Op == x86asm.RET
						if err := checkInst(kind, f, at, inst, isEntry, entries["clock_gettime"]); err != nil {
							t.Errorf("+%#x: %v: %v", at-f.start, inst, err)
						}
					}
					if !returns {
						t.Error("never returns")
					}
				})
			}
		})
	}
}

// checkInst says what is wrong with the instruction at an offset of the region.
func checkInst(kind vdso.Kind, f function, at int, inst x86asm.Inst, isEntry map[int]bool, clockGettime int) error {
	next := at + inst.Len
	for i, arg := range inst.Args {
		switch arg := arg.(type) {
		case x86asm.Reg:
			if preserved(arg) {
				return fmt.Errorf("mentions %v, which is the caller's", arg)
			}
		case x86asm.Mem:
			if preserved(arg.Base) || preserved(arg.Index) || arg.Segment != 0 {
				return fmt.Errorf("operand %v", arg)
			}
			if arg.Base == x86asm.RIP {
				// Of the region only the data page and the slots are ever read.
				to := next + int(int32(arg.Disp)) // x86asm doesn't extend the sign
				data, slot := to >= 0 && to < vdso.CodeOffset, to == vdso.SlotOffset
				counter := kind == vdso.Frozen && to >= vdso.SlotOffset && to < vdso.SlotOffset+8
				if inst.Op == x86asm.CALL && !slot || inst.Op != x86asm.CALL && !data && !counter {
					return fmt.Errorf("leads to %#x of the region", to)
				}
				if counter {
					continue
				}
			}
			// Results go where the caller's first two arguments point.
			if i == 0 && writes(inst.Op) && (arg.Base != x86asm.RDI && arg.Base != x86asm.RSI || arg.Index != 0) {
				return fmt.Errorf("writes to %v", arg)
			}
		case x86asm.Rel:
			to := next + int(arg)
			if inst.Op == x86asm.CALL {
				if to != clockGettime {
					return fmt.Errorf("calls %#x, not clock_gettime at %#x", to, clockGettime)
				}
			} else if _, ok := f.insts[to]; !ok && !isEntry[to] {
				return fmt.Errorf("jumps to %#x, no instruction of the function", to)
			}
		}
	}
	if inst.Op == x86asm.CALL || inst.Op == x86asm.JMP {
		switch arg := inst.Args[0].(type) {
		case x86asm.Rel:
		case x86asm.Mem:
			if arg.Base != x86asm.RIP {
				return errors.New("leads to an address in memory that isn't a slot")
			}
		default:
			return errors.New("leads to an address in a register")
		}
	}
	return nil
}

// A detour makes a call, loads the registers from its data, and goes on at the last.
func TestDetour(t *testing.T) {
	code := vdso.Detour()
	if len(code) > vdso.DetourSize {
		t.Errorf("it has %d bytes, more than there is room for", len(code))
	}
	var got []string
	for at := 0; at < len(code); {
		inst, err := x86asm.Decode(code[at:], 64)
		if err != nil {
			t.Fatalf("%#x: % x: %v", at, code[at:], err)
		}
		if at == 0 && inst.Len != vdso.DetourResume {
			t.Errorf("the call ends at %d, not at DetourResume", inst.Len)
		}
		at += inst.Len
		text := inst.String()
		if mem, ok := inst.Args[1].(x86asm.Mem); ok && mem.Base == x86asm.RIP {
			text = fmt.Sprintf("%s %s, data+%d", inst.Op, inst.Args[0], vdso.DetourOffset+at+int(int32(mem.Disp))-vdso.DetourData)
		}
		got = append(got, text)
	}
	want := []string{
		"SYSCALL", "MOV RDI, data+0", "MOV RSI, data+8", "MOV RDX, data+16", "MOV R10, data+24", "MOV R8, data+32", "MOV R9, data+40",
		"MOV RCX, data+48", "JMP RCX",
	}
	if !slices.Equal(got, want) {
		t.Errorf("it is %q, want %q", got, want)
	}
}

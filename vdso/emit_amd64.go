package vdso

import (
	"encoding/binary"
	"fmt"
)

// An emitter appends machine code to a page. Instructions are given as bytes
// with their mnemonic beside them; what it adds is distance: labels for jumps
// and displacements into the region.
type emitter struct {
	code   []byte
	labels map[string]int
	short  []fixup // one-byte jumps
	near   []fixup // four-byte calls
}

type fixup struct {
	at    int // where the distance stands
	label string
}

func (e *emitter) op(b ...byte) { e.code = append(e.code, b...) }

func (e *emitter) imm32(v uint32) { e.code = binary.LittleEndian.AppendUint32(e.code, v) }

func (e *emitter) label(name string) { e.labels[name] = len(e.code) }

// jump emits a short jump: the opcode, then the distance to a label.
func (e *emitter) jump(opcode byte, label string) {
	e.short = append(e.short, fixup{len(e.code) + 1, label})
	e.op(opcode, 0)
}

// call emits a call of a label.
func (e *emitter) call(label string) {
	e.near = append(e.near, fixup{len(e.code) + 1, label})
	e.op(0xe8, 0, 0, 0, 0)
}

// region emits the last four bytes of an instruction: the displacement from the
// instruction's end to an offset in the region.
func (e *emitter) region(offset int) {
	end := CodeOffset + len(e.code) + 4
	e.imm32(uint32(int32(offset - end)))
}

// align fills up with traps so that the next function begins on a cache line.
func (e *emitter) align() {
	for len(e.code)%64 != 0 {
		e.op(0xcc) // int3
	}
}

func (e *emitter) link() error {
	for _, f := range e.short {
		to, ok := e.labels[f.label]
		d := to - (f.at + 1)
		if !ok || d < -128 || d > 127 {
			return fmt.Errorf("vdso: short jump to %q spans %d bytes", f.label, d)
		}
		e.code[f.at] = byte(d)
	}
	for _, f := range e.near {
		to, ok := e.labels[f.label]
		if !ok {
			return fmt.Errorf("vdso: call of unknown %q", f.label)
		}
		binary.LittleEndian.PutUint32(e.code[f.at:], uint32(int32(to-(f.at+4))))
	}
	return nil
}

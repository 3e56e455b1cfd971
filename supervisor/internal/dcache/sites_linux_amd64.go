package dcache

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
)

// A site is a place at which a program makes system calls, and the piece of code that stands
// in for them: it loads what the code wants to know, and behind that lie the ways back, to the
// system call and behind it, answered bytes from each other.
type site struct {
	at uint64 // of the system call: from the table, or its address if nr is 0
	nr uint32 // 0 if the program's register has it
}

// sites are the pieces that there are.
type sites struct{ known map[site]int }

const (
	syscallSize = 2
	jumpSize    = 5
)

var (
	syscallText = []byte{0x0f, 0x05}
	// goMoves is what Go's own calls begin with, Syscall6 of internal/runtime/syscall: from the
	// registers of a Go function to those of a call.
	goMoves = []byte{
		0x49, 0x89, 0xf2, // mov r10, rsi
		0x48, 0x89, 0xfa, // mov rdx, rdi
		0x48, 0x89, 0xce, // mov rsi, rcx
		0x48, 0x89, 0xdf, // mov rdi, rbx
	}
)

// Site makes a piece of code for the system call nr that was made at an address, given by its
// distance from the table. text are the SiteText bytes before it. ok is false if it isn't one
// that is known, or there is no room.
func (t *Table) Site(at uint64, nr int, text []byte) (p Patch, ok bool) {
	if !CanPatch(nr, text) {
		return Patch{}, false
	}
	moves, _ := afterNumber(text, nr)
	piece, ok := t.piece(site{at, uint32(nr)}, func(e *emitter) {
		e.op(movEAX)
		e.imm32(uint32(nr))
		e.op(moves...)
		e.enter()
		e.jump(at)
		e.pad()
		e.jump(at + syscallSize)
	})
	if !ok {
		return Patch{}, false
	}
	before := moveSize + len(moves)
	jump, ok := jumpTo(at-uint64(before), piece)
	return Patch{before, jump}, ok
}

// afterNumber returns what follows the instruction that sets the number of a call, up to the
// call: nothing but moves between registers, and of constants to them. ok is false if there is
// no such instruction.
func afterNumber(text []byte, nr int) (moves []byte, ok bool) {
	number := binary.LittleEndian.AppendUint32([]byte{movEAX}, uint32(nr))
	for at := len(text) - moveSize; at > 0 && !ok; at-- {
		prefixed := text[at-1]&0xf0 == 0x40 // it may be of another register, or longer
		moves = text[at+moveSize:][:max(len(text)-at-moveSize, 0)]
		ok = bytes.Equal(text[at:at+moveSize], number) && !prefixed && areMoves(moves)
	}
	return moves, ok
}

// FindCalls returns the calls in a program's text that can be patched, in their order.
func FindCalls(text []byte) (list []FoundCall) {
	for at := SiteText; ; at += syscallSize {
		n := bytes.Index(text[min(at, len(text)):], syscallText)
		if n < 0 {
			return list
		}
		at += n
		for _, nr := range Calls {
			if _, ok := afterNumber(text[at-SiteText:at], nr); ok {
				list = append(list, FoundCall{at, nr})
			}
		}
	}
}

// areMoves reports whether code is such moves, none of them to EAX.
func areMoves(text []byte) bool {
	const rexMask, rex = 0xf0, 0x40
	for len(text) > 0 {
		extended := byte(0) // R and B of the prefix: one of r8 to r15
		if text[0]&rexMask == rex {
			extended, text = text[0], text[1:]
		}
		size := 0
		switch {
		case len(text) >= 2 && text[0] == 0x89 && text[1] >= 0xc0 && (text[1]&7 != 0 || extended&1 != 0): // mov r, r
			size = 2
		case len(text) >= moveSize && text[0] > movEAX && text[0] <= movEAX+7 && extended&8 == 0: // mov r, imm32
			size = moveSize
		default:
			return false
		}
		text = text[size:]
	}
	return true
}

const movEAX = 0xb8 // mov eax, imm32

func answers(nr int) bool { return nr == Executer || slices.Contains(Calls, nr) }

// CanPatch reports whether the place of a call can be, after such a text.
func CanPatch(nr int, text []byte) bool {
	_, ok := afterNumber(text, nr)
	return ok && answers(nr)
}

// jumpTo is a jump from one address to another, if they are near enough.
func jumpTo(from, to uint64) (text []byte, ok bool) {
	d := int64(to - (from + jumpSize))
	return binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(d)), d >= math.MinInt32 && d <= math.MaxInt32
}

// GoSite makes one for the calls of a program of Go's, which makes them all by the system call
// at one address. The table lies at base. Jump is what the GoMoves bytes before it begin with
// from then on; it leads to hop, where hopText is to be.
func (t *Table) GoSite(base, at, hop uint64) (jump, hopText []byte, ok bool) {
	piece, ok := t.piece(site{at: at}, func(e *emitter) {
		e.op(goMoves...)
		e.enter()
		e.far(at)
		e.pad()
		e.far(at + syscallSize)
	})
	if !ok {
		return nil, nil, false
	}
	e := emitter{}
	e.far(base + piece)
	jump, ok = jumpTo(at-uint64(len(goMoves)), hop)
	return jump, e.text, ok
}

// FindGoCalls returns the offset of the system call that a Go program's text makes all its
// calls by, and that of GoHop bytes which nothing executes. It reports false if they aren't
// found.
func FindGoCalls(text []byte) (call, hop int, ok bool) {
	at := bytes.Index(text, goCalls)
	hop = bytes.Index(text, bytes.Repeat(filler, GoHop+1))
	return at + len(goMoves), hop + 1, at >= 0 && hop >= 0
}

var (
	goCalls = slices.Concat(goMoves, syscallText)
	filler  = []byte{0xcc} // between functions
)

// AreGoCalls reports whether text is the end of how Go makes calls, and room what nothing
// executes.
func AreGoCalls(text, room []byte) bool {
	return bytes.Equal(text, goCalls) && bytes.Equal(room, bytes.Repeat(filler, GoHop))
}

// piece returns where the piece for a site lies, which emit writes if there is none yet.
func (t *Table) piece(s site, emit func(*emitter)) (at uint64, ok bool) {
	n, ok := t.sites.known[s]
	if !ok {
		if n = len(t.sites.known); n == mostSites {
			return 0, false
		}
		e := emitter{at: sitesOffset + uint64(n)*siteSize}
		emit(&e)
		if e.far32 || len(e.text) > siteSize {
			return 0, false
		}
		copy(t.mem[e.at:], e.text)
		if t.sites.known == nil {
			t.sites.known = map[site]int{}
		}
		t.sites.known[s] = n
	}
	return sitesOffset + uint64(n)*siteSize, true
}

// An emitter writes a piece of code.
type emitter struct {
	at    uint64 // where it will lie
	text  []byte
	back  int  // where the ways back begin
	far32 bool // a jump leads too far
}

func (e *emitter) op(b ...byte)   { e.text = append(e.text, b...) }
func (e *emitter) imm32(v uint32) { e.text = binary.LittleEndian.AppendUint32(e.text, v) }

// enter enters the code. What follows are the ways back.
func (e *emitter) enter() {
	const lea = 7
	e.back = len(e.text) + 2*lea + jumpSize
	e.op(0x48, 0x8d, 0x0d) // lea rcx, [back]
	e.imm32(uint32(e.back - (len(e.text) + 4)))
	e.op(0x4c, 0x8d, 0x1d) // lea r11, [table]
	e.imm32(uint32(-int64(e.at) - int64(len(e.text)+4)))
	e.jump(codeOffset)
}

// jump jumps to an address, by its distance from the table.
func (e *emitter) jump(to uint64) {
	text, ok := jumpTo(e.at+uint64(len(e.text)), to)
	e.far32 = e.far32 || !ok
	e.op(text...)
}

// far jumps to an absolute address.
func (e *emitter) far(to uint64) {
	e.op(0x49, 0xbb) // mov r11, to
	e.text = binary.LittleEndian.AppendUint64(e.text, to)
	e.op(0x41, 0xff, 0xe3) // jmp r11
}

// pad fills up to the second way back.
func (e *emitter) pad() {
	for len(e.text) < e.back+answered {
		e.op(0xcc)
	}
}

package seccomp

import (
	"slices"

	"golang.org/x/net/bpf"
)

// An emitter writes a program from its end: whatever an instruction leads to is there
// already. BPF jumps lead forwards only, and a conditional one over 255 instructions at
// most, so this is how one ending can serve all that lead to it.
type emitter struct {
	back  []bpf.Instruction // the last one first
	rets  map[Action]int    // where the nearest return of an action is
	fates map[string]place
}

func newEmitter() *emitter { return &emitter{rets: map[Action]int{}, fates: map[string]place{}} }

// program returns the instructions in the order in which they are executed.
func (e *emitter) program() []bpf.Instruction {
	slices.Reverse(e.back)
	return e.back
}

// A place can be led to. Places are counted from the program's end.
type place struct {
	at   int
	test word // what is loaded there, if the instruction at past
	past int  // can be entered instead by who has it loaded already
}

// A word is what a test is about: 32 bits of struct seccomp_data, some of them cleared.
// The zero word is none: that of the call's number, which is loaded throughout the search.
type word struct{ off, mask uint32 }

// reach is how far a conditional jump leads.
const reach = 255

// distance is how many instructions lie between the next one and a place.
func (e *emitter) distance(at int) int { return len(e.back) - at - 1 }

func (e *emitter) push(in bpf.Instruction) int {
	e.back = append(e.back, in)
	return len(e.back) - 1
}

// add emits an instruction that is followed by what is at a place.
func (e *emitter) add(in bpf.Instruction, next int) int {
	if e.distance(next) > 0 {
		e.push(bpf.Jump{Skip: uint32(e.distance(next))})
	}
	return e.push(in)
}

// ret returns where a return is that a conditional jump reaches, even over a few more
// instructions.
func (e *emitter) ret(a Action) int {
	const spare = 4
	at, ok := e.rets[a]
	if !ok || e.distance(at) > reach-spare {
		at = e.push(bpf.RetConstant{Val: uint32(a)})
		e.rets[a] = at
	}
	return at
}

// jump emits a test of what is loaded.
func (e *emitter) jump(cond bpf.JumpTest, val uint32, yes, no int) int {
	for _, to := range []*int{&yes, &no, &yes} { // each step takes the others farther away
		if e.distance(*to) > reach-1 {
			*to = e.push(bpf.Jump{Skip: uint32(e.distance(*to))})
		}
	}
	return e.push(bpf.JumpIf{Cond: cond, Val: val, SkipTrue: uint8(e.distance(yes)), SkipFalse: uint8(e.distance(no))})
}

// load emits a test of a word with what loads it.
func (e *emitter) load(w word, cond bpf.JumpTest, val uint32, yes, no place) place {
	p := place{test: w, past: e.jump(cond, val, yes.enter(w), no.enter(w))}
	p.at = p.past
	if w.mask != all {
		p.at = e.push(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: w.mask})
	}
	p.at = e.push(bpf.LoadAbsolute{Off: w.off, Size: 4})
	return p
}

// enter returns where to lead when a word is loaded.
func (p place) enter(w word) int {
	if w == p.test {
		return p.past
	}
	return p.at
}

// fate emits what becomes of a call, unless it is there.
func (e *emitter) fate(f fate) int {
	if len(f.rules) == 0 {
		return e.ret(f.otherwise)
	}
	p, ok := e.fates[f.key]
	if !ok {
		p = place{at: e.ret(f.otherwise)}
		for _, r := range slices.Backward(f.rules) {
			next := p
			p = place{at: e.ret(r.Action)}
			for _, c := range slices.Backward(r.Conds) {
				p = e.condition(c, p, next)
			}
		}
		e.fates[f.key] = p
	}
	return p.at
}

// condition emits the test of one.
func (e *emitter) condition(c Cond, yes, no place) place {
	if c.Not {
		yes, no = no, yes
	}
	at := uint32(offArgs + 8*c.Arg) // both machines are little-endian
	p := e.half(at, uint32(c.Mask), uint32(c.Value), yes, no)
	return e.half(at+4, uint32(c.Mask>>32), uint32(c.Value>>32), p, no)
}

const all = 1<<32 - 1

// half emits a test whether a half of an argument has a value where the mask is set. There
// is none where every value does.
func (e *emitter) half(off, mask, value uint32, yes, no place) place {
	value &= mask
	switch {
	case mask == 0:
		return yes
	case value == 0 && mask != all: // which saves the masking
		return e.load(word{off, all}, bpf.JumpBitsSet, mask, no, yes)
	case value == mask && mask&(mask-1) == 0:
		return e.load(word{off, all}, bpf.JumpBitsSet, mask, yes, no)
	}
	return e.load(word{off, mask}, bpf.JumpEqual, value, yes, no)
}

// A cluster is spans of one fate with single calls in between that have another.
type cluster struct {
	spans  []span
	common fate
}

// mostExceptions is how many such calls are tested one after another.
const mostExceptions = 3

// search emits a binary search over ranges, the number being loaded.
func (e *emitter) search(ranges []span) int {
	var list []cluster
	for len(ranges) > 0 {
		c := longestCluster(ranges)
		list = append(list, c)
		ranges = ranges[len(c.spans):]
	}
	return e.among(list)
}

func (e *emitter) among(list []cluster) int {
	if len(list) == 1 {
		return e.cluster(list[0])
	}
	mid := len(list) / 2
	above := e.among(list[mid:])
	below := e.among(list[:mid])
	return e.jump(bpf.JumpGreaterOrEqual, list[mid].spans[0].first, above, below)
}

// longestCluster returns the most spans from the first on that can be one.
func longestCluster(ranges []span) (c cluster) {
	for _, s := range ranges[:min(2, len(ranges))] {
		if n := clusterLength(ranges, s.fate); n > len(c.spans) {
			c = cluster{ranges[:n], s.fate}
		}
	}
	return c
}

func clusterLength(ranges []span, common fate) int {
	exceptions := 0
	for n, s := range ranges {
		if s.fate.key == common.key {
			continue
		}
		exceptions++
		if exceptions > mostExceptions || n+1 == len(ranges) || ranges[n+1].first != s.first+1 {
			return n
		}
	}
	return len(ranges)
}

func (e *emitter) cluster(c cluster) int {
	p := e.fate(c.common)
	for _, s := range c.spans {
		if s.fate.key != c.common.key {
			p = e.jump(bpf.JumpEqual, s.first, e.fate(s.fate), p)
		}
	}
	return p
}

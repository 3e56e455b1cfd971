//go:build linux

package supervisor

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/sandtest/go-sandtest/supervisor/internal/dcache"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
)

// A linker is what is known of a dynamic linker (ld.so(8)): nearly all programs begin with the
// same one, each with its own copy of what is changed in it. Places are given from its
// beginning.
type linker struct {
	reads []uint64     // where it reads the time-stamp counter
	calls []linkerCall // where it asks about files, in their order
}

// A linkerCall is a system call, and what is before it.
type linkerCall struct {
	at   uint64
	nr   int
	text [dcache.SiteText]byte
}

// linkerHead is so much of a linker that its build ID is among it.
const linkerHead = 1024

// knownLinkers remembers those seen, by their heads: there is one on most machines.
var knownLinkers struct {
	sync.Mutex
	m map[[linkerHead]byte]*linker
}

const mostLinkers = 16

// linker returns what is known of a program's linker, and where it lies: nothing unless it is
// the C library's.
func (im *image) linker() (base uint64, is *linker) {
	base, _ = im.auxv.Get(tracee.ATBase)
	var head [linkerHead]byte
	if base == 0 || tracee.ReadMem(im.th.tid, base, head[:]) != nil {
		return base, &linker{}
	}
	knownLinkers.Lock()
	defer knownLinkers.Unlock()
	is = knownLinkers.m[head]
	if is == nil {
		is = lookThrough(head[:], func(at uint64, buf []byte) error { return tracee.ReadMem(im.th.tid, base+at, buf) })
		if knownLinkers.m == nil || len(knownLinkers.m) == mostLinkers {
			knownLinkers.m = map[[linkerHead]byte]*linker{}
		}
		knownLinkers.m[head] = is
	}
	return base, is
}

// lookThrough looks through a program in memory, by addresses from its beginning.
func lookThrough(head []byte, read func(at uint64, buf []byte) error) *linker {
	segments, err := loadedSegments(head)
	if err != nil {
		return &linker{}
	}
	is, known := &linker{}, false
	for _, seg := range segments {
		text := make([]byte, seg.Filesz)
		if read(seg.Vaddr, text) != nil {
			return &linker{}
		}
		known = known || bytes.Contains(text, statistics)
		if elf.ProgFlag(seg.Flags)&elf.PF_X == 0 {
			continue
		}
		for _, at := range counterReads(text) {
			is.reads = append(is.reads, seg.Vaddr+uint64(at))
		}
		for _, found := range dcache.FindCalls(text) {
			call := linkerCall{at: seg.Vaddr + uint64(found.At), nr: found.Nr}
			copy(call.text[:], text[found.At-dcache.SiteText:])
			is.calls = append(is.calls, call)
		}
	}
	if !known {
		return &linker{}
	}
	return is
}

// statistics is what only the C library's linker says.
var statistics = []byte("total startup time in dynamic loader")

// loadedSegments returns the read-only segments that a program header table names.
func loadedSegments(head []byte) (list []elf.Prog64, err error) {
	const most = 4 << 20 // bytes of one: the C library's linker has some hundred thousand
	var h elf.Header64
	if _, err := binary.Decode(head, binary.LittleEndian, &h); err != nil {
		return nil, err
	}
	size := binary.Size(elf.Prog64{})
	if h.Machine != uint16(elf.EM_X86_64) || int(h.Phentsize) != size || h.Phoff > math.MaxInt32 || int(h.Phoff)+int(h.Phnum)*size > len(head) {
		return nil, fmt.Errorf("its program headers: %w", io.ErrUnexpectedEOF)
	}
	for i := range int(h.Phnum) {
		var p elf.Prog64
		if _, err := binary.Decode(head[int(h.Phoff)+i*size:], binary.LittleEndian, &p); err != nil {
			return nil, err
		}
		if elf.ProgType(p.Type) == elf.PT_LOAD && elf.ProgFlag(p.Flags)&elf.PF_W == 0 && p.Filesz <= most {
			list = append(list, p)
		}
	}
	return list, nil
}

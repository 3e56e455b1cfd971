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

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
)

// linkerTime keeps the C library's dynamic linker from reading the time-stamp counter.
//
// It takes the time of its own steps at each start of a program, for LD_DEBUG=statistics
// (ld.so(8)), eight times with nobody to see it; each is a fault and two switches to the
// tracer (tsc.go). Unless that variable is set, the instructions are replaced in the
// program's own copy by others of the same length that leave something else in the
// registers. A linker that isn't known by its text is left alone.
func linkerTime(s *Sandbox) feature {
	f := feature{name: "linker"}
	if s.ownTSC() {
		f.load = skipLinkerTime
	}
	return f
}

var (
	readCounter = []byte{0x0f, 0x31}             // rdtsc
	extendSign  = []byte{0x99, 0x90}             // cdq; nop: sets edx alone, and no flag
	joinHalves  = []byte{0x48, 0xc1, 0xe2, 0x20} // shl rdx, 32: what follows where all 64 bits are wanted
	statistics  = []byte("total startup time in dynamic loader")
)

func skipLinkerTime(im *image) error {
	base, _ := im.auxv.Get(tracee.ATBase)
	if base == 0 {
		return nil
	}
	sites := linkerSites(im.th.tid, base)
	if len(sites) == 0 || im.asksLinker() {
		return nil
	}
	for len(sites) > 0 {
		n := oneRun(sites)
		if err := im.skipSites(base, sites[:n]); err != nil {
			return err
		}
		sites = sites[n:]
	}
	return nil
}

// oneRun returns how many of the sites, from the first on, lie so close together that what is
// between them is no other page.
func oneRun(sites []uint64) int {
	const page = 4096
	n := 1
	for n < len(sites) && sites[n]-sites[n-1] < page {
		n++
	}
	return n
}

// skipSites replaces the instructions there, in one piece.
func (im *image) skipSites(base uint64, sites []uint64) error {
	first := sites[0]
	text := make([]byte, sites[len(sites)-1]+uint64(len(readCounter))-first)
	if tracee.ReadMem(im.th.tid, base+first, text) != nil {
		return nil
	}
	for _, site := range sites {
		if at := text[site-first:]; bytes.HasPrefix(at, readCounter) { // the linker was known by its beginning alone
			copy(at, extendSign)
		}
	}
	return im.sys.Poke(base+first, text)
}

// asksLinker reports whether the dynamic linker is to say something, or may be.
func (im *image) asksLinker() bool {
	const most = 128 << 10 // bytes of variables that are looked through
	args, size, err := tracee.Arguments(im.th.tid, im.sys.SP())
	end, _ := im.auxv.Get(tracee.ATExecFn) // behind the environment
	if at := args + size; err != nil || size == 0 || end < at || end-at > most {
		return true
	}
	environ := make([]byte, 1+end-args-size) // the first byte ends what is before
	name := []byte("\x00LD_DEBUG=")
	return tracee.ReadMem(im.th.tid, args+size, environ[1:]) != nil || bytes.Contains(environ, name)
}

// linkerHead is so much of a linker that its build ID is among it.
const linkerHead = 1024

// knownLinkers remembers where those seen read the counter, by their heads: there is one
// on most machines.
var knownLinkers struct {
	sync.Mutex
	sites map[[linkerHead]byte][]uint64
}

const mostLinkers = 16

// linkerSites returns where the program interpreter at base reads the counter, none if it
// isn't the C library's.
func linkerSites(tid int, base uint64) []uint64 {
	var head [linkerHead]byte
	if tracee.ReadMem(tid, base, head[:]) != nil {
		return nil
	}
	knownLinkers.Lock()
	defer knownLinkers.Unlock()
	sites, ok := knownLinkers.sites[head]
	if !ok {
		sites = findLinkerSites(head[:], func(at uint64, buf []byte) error { return tracee.ReadMem(tid, base+at, buf) })
		if knownLinkers.sites == nil || len(knownLinkers.sites) == mostLinkers {
			knownLinkers.sites = map[[linkerHead]byte][]uint64{}
		}
		knownLinkers.sites[head] = sites
	}
	return sites
}

// findLinkerSites looks through a program in memory, by addresses from its beginning.
func findLinkerSites(head []byte, read func(at uint64, buf []byte) error) (sites []uint64) {
	segments, err := loadedSegments(head)
	if err != nil {
		return nil
	}
	isLinker := false
	for _, seg := range segments {
		text := make([]byte, seg.Filesz)
		if read(seg.Vaddr, text) != nil {
			return nil
		}
		isLinker = isLinker || bytes.Contains(text, statistics)
		if elf.ProgFlag(seg.Flags)&elf.PF_X != 0 {
			for _, at := range counterReads(text) {
				sites = append(sites, seg.Vaddr+uint64(at))
			}
		}
	}
	if !isLinker {
		return nil
	}
	return sites
}

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

// counterReads returns the offsets of reads of the counter whose halves are joined soon.
func counterReads(text []byte) (at []int) {
	const soon = 32 // bytes
	for i := 0; ; {
		n := bytes.Index(text[i:], readCounter)
		if n < 0 {
			return at
		}
		i += n + len(readCounter)
		if bytes.Contains(text[i:min(i+soon, len(text))], joinHalves) {
			at = append(at, i-len(readCounter))
		}
	}
}

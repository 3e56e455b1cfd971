//go:build linux

package supervisor

import (
	"bytes"

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
)

func skipLinkerTime(im *image) error {
	base, linker := im.linker()
	sites := linker.reads
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

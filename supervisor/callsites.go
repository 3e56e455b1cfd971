//go:build linux

package supervisor

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"github.com/sandtest/go-sandtest/supervisor/internal/dcache"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
)

// A program makes system calls at few places: most in the C library, one function for each
// call, in which an instruction sets its number and the next one makes it. The first of them
// becomes a jump to code that knows answers (internal/dcache), which executes what lies
// between the two as well; the second stays where it is, and is where that code goes on
// without one. Only a process that runs alone in its memory is changed, while it waits for an
// answer to a call made there. Children inherit it, and programs that are executed begin anew:
// but where the first of a library's calls is changed, so are all of it that any other program
// has made, and in the dynamic linker all are before it runs (directLinker).
//
// A program that doesn't lie within 2 GiB of that code, which static ones of C don't, is left
// alone. Programs of Go have threads from the beginning, and make all calls at one place, which is
// changed before their first instruction (directGo).

// direct lets the caller look for answers itself before it makes the call that it is in. It
// reports whether it does so at any place.
func (d *dcaching) direct(c *Call) bool {
	p := c.Process
	at := c.n.IP - tracee.CallSize
	p.asks.mu.Lock()
	defer p.asks.mu.Unlock()
	region := p.region.Load()
	if slices.Contains(p.asks.sites, at) || len(p.asks.sites) >= mostSitesOfOne {
		if p.asks.some && p.isAlone() && !p.asks.off.Load() {
			d.patchOthers(c, region-vdso.NamesSize)
		}
		return p.asks.some
	}
	if !p.asks.mapped.Load() || !p.isAlone() || p.asks.off.Load() || d.begin(c.thread) == nil {
		return p.asks.some
	}
	p.asks.sites = append(p.asks.sites, at)
	if d.patchLike(c, at, region-vdso.NamesSize) {
		p.asks.some = true
	}
	return p.asks.some
}

// isAlone reports whether nobody runs in the memory of a process while its thread waits for an
// answer.
func (p *Process) isAlone() bool {
	return !p.asks.threads.Load() || !p.asks.beside.Load() && p.alive.Load() == 1
}

// A callSite is a place in a file's text at which programs ask.
type callSite struct {
	offset uint64 // in the file
	nr     int
	text   [dcache.SiteText]byte // before it
}

// patchLike changes the place at which the caller makes its call, and those in the same file's
// text at which others have made theirs. What it can't change stays as it is, and asks. The lock
// of the process's asks is held.
func (d *dcaching) patchLike(c *Call, at, base uint64) bool {
	a := &c.Process.asks
	if !a.text.holds(at) && !a.findText(c, at) {
		return false
	}
	text := a.text
	site := callSite{offset: at - text.start + text.offset, nr: int(c.n.Nr)}
	if tracee.ReadMem(int(c.n.PID), at-dcache.SiteText, site.text[:]) != nil || !d.patch(c, at, base, &site) {
		return false
	}
	d.learn(&text, &site)
	d.patchOthers(c, base)
	return true
}

// patchOthers changes those places that have become known since the caller was last changed. What
// has come to be mapped there instead of the text since that was found doesn't look like it.
func (d *dcaching) patchOthers(c *Call, base uint64) {
	a := &c.Process.asks
	text := &a.text
	d.mu.Lock()
	others := d.known[text.file()]
	d.mu.Unlock()
	for i := a.upTo; i < len(others); i++ {
		o := &others[i]
		at := text.start + o.offset - text.offset
		isNew := !slices.Contains(a.sites, at) && len(a.sites) < mostSitesOfOne
		if isNew && text.holds(at) && text.holds(at-dcache.SiteText) && d.patchAgain(c, at, base, o) {
			a.sites = append(a.sites, at)
		}
	}
	a.upTo = len(others)
}

// learn remembers a place in a file's text.
func (d *dcaching) learn(text *textRange, site *callSite) {
	d.mu.Lock()
	defer d.mu.Unlock()
	file := text.file()
	known := d.known[file]
	if slices.Contains(known, *site) || len(known) == mostSitesOfOne {
		return
	}
	if d.known == nil {
		d.known = map[fileKey][]callSite{}
	}
	d.known[file] = append(known, *site)
}

// tellsMissing returns the flag of a walk for a program to be executed, if the process is told
// that it isn't there.
func (d *dcaching) tellsMissing(p *Process) walkFlags {
	if d == nil || !d.execs || p.asks.off.Load() {
		return 0
	}
	p.asks.mu.Lock()
	defer p.asks.mu.Unlock()
	if !p.asks.some {
		return 0
	}
	return tellsMissing
}

// learnExec remembers from where there was nothing to be executed. Those that have the same file
// are changed there when they next ask.
func (d *dcaching) learnExec(st *Stop) {
	if d == nil || !d.execs || st.Nr() != dcache.Executer {
		return
	}
	a, at := &st.th.proc.asks, st.regs.PC()-tracee.CallSize
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.some || !a.text.holds(at) || !a.text.holds(at-dcache.SiteText) {
		return
	}
	site := callSite{offset: at - a.text.start + a.text.offset, nr: st.Nr()}
	if tracee.ReadMem(st.th.tid, at-dcache.SiteText, site.text[:]) == nil && dcache.CanPatch(site.nr, site.text[:]) {
		d.learn(&a.text, &site)
	}
}

// patchAgain changes a place that looks as it did in another process.
func (d *dcaching) patchAgain(c *Call, at, base uint64, site *callSite) bool {
	return looksLike(int(c.n.PID), at, &site.text) && d.patch(c, at, base, site)
}

// looksLike reports whether a call is made at an address of a process, after a text.
func looksLike(pid int, at uint64, text *[dcache.SiteText]byte) bool {
	var is [dcache.SiteText + tracee.CallSize]byte
	return tracee.ReadMem(pid, at-dcache.SiteText, is[:]) == nil && bytes.Equal(is[:], append(text[:len(text):len(text)], tracee.CallCode...))
}

// patch changes one place of the caller's.
func (d *dcaching) patch(c *Call, at, base uint64, site *callSite) bool {
	patch, ok := d.site(at-base, site.nr, site.text[:])
	return ok && c.stillThere() == nil && tracee.Overwrite(int(c.n.PID), at-uint64(patch.Before), patch.Text) == nil
}

// findText looks for the text that holds an address: of a program or a library, which is a
// file's, mapped for the process alone and not to be written to. It is nowhere else that the
// program itself doesn't deal with it. a.mu is held.
func (a *asks) findText(c *Call, at uint64) bool {
	maps, err := readKernelFile(c.thread.taskDir() + "/maps")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(maps)) {
		m, ok := parseMapping(line)
		if !ok || at < m.start || at >= m.end {
			continue
		}
		if m.perms != "r-xp" || m.ino == 0 {
			return false
		}
		a.text, a.upTo = textRange{m.start, m.end, m.offset, m.dev, m.ino}, 0
		return true
	}
	return false
}

// A textRange is where a file's text is mapped.
type textRange struct{ start, end, offset, dev, ino uint64 }

func (t *textRange) file() fileKey { return fileKey{t.dev, t.ino} }

func (t *textRange) holds(at uint64) bool { return at >= t.start && at < t.end }

type fileKey struct{ dev, ino uint64 }

// fewPrograms is how many programs a sandbox executes before what is asked is worth preparing
// for; fewAsks is how often the later ones ask before they are told.
const (
	fewPrograms = 2
	fewAsks     = 1
)

// directLinker changes the dynamic linker of a program, before it runs.
func (s *Sandbox) directLinker(im *image) error {
	d, p := s.dcache, im.th.proc
	if d == nil || !p.asks.mapped.Load() || d.programs.Add(1) <= fewPrograms || d.begin(im.th) == nil {
		return nil
	}
	p.asks.mu.Lock()
	defer p.asks.mu.Unlock()
	p.asks.n.Store(askPatience - fewAsks)
	table := p.region.Load() - vdso.NamesSize
	base, linker := im.linker()
	for i := range linker.calls {
		call := &linker.calls[i]
		at := base + call.at
		if !looksLike(im.th.tid, at, &call.text) {
			continue // it was known by its beginning alone
		}
		patch, ok := d.site(at-table, call.nr, call.text[:])
		if !ok {
			continue
		}
		if err := im.sys.Poke(at-uint64(patch.Before), patch.Text); err != nil {
			return err
		}
		p.asks.sites, p.asks.some = append(p.asks.sites, at), true
	}
	return nil
}

// A goText is where a Go program makes its calls, and where there is room near them, from the
// beginning of its code. Both are 0 if that isn't known.
type goText struct{ call, hop uint64 }

// knownGoTexts holds those of the programs seen so far, by the beginning of their code. Of
// most a number made of all of it is there (cmd/internal/buildid); what isn't where it is
// expected is looked for again.
var knownGoTexts struct {
	sync.Mutex
	m map[[goHead]byte]goText
}

const (
	goHead      = 4096
	mostGoTexts = 64
	goFirst     = 1 << 16 // bytes of code: the calls are made by one of the first packages
	goSearched  = 1 << 20
)

// directGo changes a program of Go, before it runs.
func (s *Sandbox) directGo(im *image) error {
	d, p := s.dcache, im.th.proc
	region := p.region.Load()
	if d == nil || !p.asks.mapped.Load() || !p.naps || d.begin(im.th) == nil {
		return nil
	}
	start := im.codeStart()
	if start == 0 {
		return nil
	}
	text, ok := findGoText(im.th.tid, start)
	if !ok {
		return nil
	}
	d.mu.Lock()
	jump, hop, ok := d.table.GoSite(region-vdso.NamesSize, start+text.call, start+text.hop)
	d.mu.Unlock()
	if !ok {
		return nil
	}
	if err := im.sys.Poke(start+text.hop, hop); err != nil {
		return err
	}
	if err := im.sys.Poke(start+text.call-dcache.GoMoves, jump); err != nil {
		return err
	}
	p.asks.mu.Lock()
	defer p.asks.mu.Unlock()
	p.asks.sites, p.asks.some = append(p.asks.sites, start+text.call), true
	p.asks.n.Store(askPatience)
	return nil
}

// findGoText finds where a program makes its calls that lies in memory.
func findGoText(tid int, start uint64) (goText, bool) {
	var head [goHead]byte
	if tracee.ReadMem(tid, start, head[:]) != nil {
		return goText{}, false
	}
	knownGoTexts.Lock()
	defer knownGoTexts.Unlock()
	text, known := knownGoTexts.m[head]
	if !known || text.call != 0 && !text.isIn(tid, start) {
		text = searchGoText(tid, start)
		if knownGoTexts.m == nil || len(knownGoTexts.m) == mostGoTexts {
			knownGoTexts.m = map[[goHead]byte]goText{}
		}
		knownGoTexts.m[head] = text
	}
	return text, text.call != 0
}

// searchGoText reads no more of the program than it has to: each page of it is a fault.
func searchGoText(tid int, start uint64) goText {
	var code []byte
	for size := goFirst; size <= goSearched; size *= 2 {
		from := len(code)
		code = slices.Grow(code, size-from)[:size]
		n := tracee.ReadSome(tid, start+uint64(from), code[from:])
		if call, hop, ok := dcache.FindGoCalls(code[:from+n]); ok {
			return goText{uint64(call), uint64(hop)}
		}
		if n < size-from {
			break
		}
	}
	return goText{}
}

// isIn reports whether the calls and the room are there in a program.
func (g *goText) isIn(tid int, start uint64) bool {
	var calls [dcache.GoMoves + tracee.CallSize]byte
	var room [dcache.GoHop]byte
	return tracee.ReadMem(tid, start+g.call-dcache.GoMoves, calls[:]) == nil && tracee.ReadMem(tid, start+g.hop, room[:]) == nil && dcache.AreGoCalls(calls[:], room[:])
}

// asksInstead lets a thread make the call whose answer it was looking for when it came upon
// memory that it can't read or write. The kernel answers with EFAULT, or looks at less of it.
func (t *tracer) asksInstead(th *thread, regs *tracee.Regs) bool {
	table := th.proc.region.Load() - vdso.NamesSize
	if !th.proc.asks.mapped.Load() || regs.PC() < table {
		return false
	}
	way, ok := dcache.Ask(regs.PC() - table)
	if !ok {
		return false
	}
	if si, err := tracee.GetSiginfo(th.tid); err != nil || si.Code <= 0 {
		return false // somebody has sent it
	}
	if way.PC == 0 {
		regs.Return(way.Stack)
	} else {
		regs.SetPC(table + way.PC)
	}
	_ = regs.Store(th.tid) // it fails only when the thread was killed
	return true
}

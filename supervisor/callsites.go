//go:build linux

package supervisor

import (
	"slices"
	"sync"

	"github.com/sandtest/go-sandtest/supervisor/internal/dcache"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
)

// A program makes system calls at few places: most in the C library, one function for each
// call, in which an instruction sets its number and the next one makes it. The first of them
// becomes a jump to code that knows answers (internal/dcache); the second stays where it is,
// and is where that code goes on without one. Only a process that runs alone in its memory is
// changed, while it waits for an answer to a call made there. Children inherit it, and
// programs that are executed begin anew.
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
	if slices.Contains(p.asks.sites, at) || len(p.asks.sites) == mostSitesOfOne {
		return p.asks.some
	}
	region := p.region.Load()
	if region == 0 || p.asks.threads.Load() || p.asks.off.Load() || d.begin(c.thread) == nil {
		return p.asks.some
	}
	p.asks.sites = append(p.asks.sites, at)
	if d.patch(c, at, region+vdso.NamesOffset) {
		p.asks.some = true
	}
	return p.asks.some
}

// patch changes the place at which the caller makes its call. What it can't change stays as it
// is, and asks.
func (d *dcaching) patch(c *Call, at, base uint64) bool {
	var text [dcache.SiteText]byte
	pid := int(c.n.PID)
	if tracee.ReadMem(pid, at-dcache.SiteText, text[:]) != nil {
		return false
	}
	var patch dcache.Patch
	ok := false
	d.site(func(t *dcache.Table) { patch, ok = t.Site(at-base, int(c.n.Nr), text[:]) })
	if !ok || c.stillThere() != nil {
		return false
	}
	return tracee.Overwrite(pid, at-uint64(patch.Before), patch.Text) == nil
}

// A goText is where a Go program makes its calls, and where there is room near them, from the
// beginning of its code. Both are 0 if that isn't known.
type goText struct{ call, hop uint64 }

// knownGoTexts holds those of the programs seen so far, by the beginning of their code, in
// which there is a number made of all of it (cmd/internal/buildid).
var knownGoTexts struct {
	sync.Mutex
	m map[[goHead]byte]goText
}

const (
	goHead      = 4096
	mostGoTexts = 64
	goSearched  = 1 << 20 // the calls are made by one of the first packages
)

// directGo changes a program of Go, before it runs.
func (s *Sandbox) directGo(im *image) error {
	d, p := s.dcache, im.th.proc
	region := p.region.Load()
	if d == nil || region == 0 || !p.naps || p.asks.off.Load() || d.begin(im.th) == nil {
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
	var jump, hop []byte
	d.site(func(t *dcache.Table) {
		jump, hop, ok = t.GoSite(region+vdso.NamesOffset, start+text.call, start+text.hop)
	})
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
	if !known {
		code := make([]byte, goSearched)
		n := tracee.ReadSome(tid, start, code)
		if call, hop, ok := dcache.FindGoCalls(code[:n]); ok {
			text = goText{uint64(call), uint64(hop)}
		}
		if knownGoTexts.m == nil || len(knownGoTexts.m) == mostGoTexts {
			knownGoTexts.m = map[[goHead]byte]goText{}
		}
		knownGoTexts.m[head] = text
	}
	return text, text.call != 0
}

// asksInstead lets a thread make the call whose answer it was looking for when it came upon
// memory that it can't read or write. The kernel answers with EFAULT, or looks at less of it.
func (t *tracer) asksInstead(th *thread, regs *tracee.Regs) bool {
	region := th.proc.region.Load()
	if region == 0 || regs.PC() < region+vdso.NamesOffset {
		return false
	}
	way, ok := dcache.Ask(regs.PC() - (region + vdso.NamesOffset))
	if !ok {
		return false
	}
	if si, err := tracee.GetSiginfo(th.tid); err != nil || si.Code <= 0 {
		return false // somebody has sent it
	}
	if way.PC == 0 {
		regs.Return(way.Stack)
	} else {
		regs.SetPC(region + vdso.NamesOffset + way.PC)
	}
	_ = regs.Store(th.tid) // it fails only when the thread was killed
	return true
}

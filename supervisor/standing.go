//go:build linux

package supervisor

import (
	"github.com/sandtest/go-sandtest/supervisor/internal/dcache"
	"github.com/sandtest/go-sandtest/vdso"
)

// What a relative path means to a program that is told about files says a word in its memory:
// the number of its working directory in the table, or 0 where it has to ask. It is set when
// the program has asked about such a path, and cleared before chdir(2) is answered. As the
// directory belongs to threads and the word to memory, neither of which need be a process's
// own (clone(2)), it stays 0 where several see the one and not the other.

// tellCwd lets the caller know its working directory.
func (d *dcaching) tellCwd(c *Call) {
	a := &c.Process.asks
	d.cwds.Lock()
	defer d.cwds.Unlock()
	fs := c.thread.fs.Load()
	if a.borrowed.Load() || a.split.Load() || fs.shared.Load() {
		return
	}
	at := fs.at()
	if at.dir == nil {
		return
	}
	if number := d.s.view.tree.Told(at.dir); number != 0 && number != a.cwd.Load() {
		d.setCwd(c.Process, number)
	}
}

// setCwd stores the number of a process's working directory in its memory, 0 for one that
// isn't known. d.cwds is held.
func (d *dcaching) setCwd(p *Process, number uint32) {
	p.asks.cwd.Store(number)
	d.setWord(p, vdso.NamesSlot, number)
}

// moved has those ask that have another working directory now.
func (d *dcaching) moved(fs *fsState) {
	if d == nil {
		return
	}
	d.cwds.Lock()
	defer d.cwds.Unlock()
	for _, th := range d.s.threads.appendAll(nil) {
		if th.fs.Load() == fs {
			d.forgetCwd(th.proc)
		}
	}
}

// forgetCwd has a process ask about what is relative to its working directory, and those in
// whose memory it runs. d.cwds is held.
func (d *dcaching) forgetCwd(p *Process) {
	d.setCwd(p, 0)
	for ; p.asks.borrowed.Load() && p.parent != nil; p = p.parent {
		p.parent.asks.cwd.Store(0)
	}
}

// splits is for a process of which a thread gets a working directory of its own, or in whose
// memory somebody else begins to run who has one.
func (d *dcaching) splits(p *Process) {
	if d == nil {
		return
	}
	d.cwds.Lock()
	defer d.cwds.Unlock()
	d.forgetCwd(p)
	for p.asks.split.Store(true); p.asks.borrowed.Load() && p.parent != nil; p.asks.split.Store(true) {
		p = p.parent
	}
}

// created is for a new thread, or the first of a new process, that doesn't run yet.
func (d *dcaching) created(th, by *thread, shares sharing) {
	if d == nil {
		return
	}
	a, from := &th.proc.asks, &by.proc.asks
	switch {
	case shares.process:
		a.threads.Store(true)
		if !shares.fs {
			d.splits(th.proc)
		}
		return
	case shares.memory:
		a.borrowed.Store(true)
		if !shares.waits { // it runs beside
			for p := by.proc; p != nil; p = p.parent {
				p.asks.threads.Store(true)
				p.asks.beside.Store(true)
				if !p.asks.borrowed.Load() {
					break
				}
			}
		}
		a.threads.Store(from.threads.Load())
		a.beside.Store(from.threads.Load())
		if from.threads.Load() {
			d.splits(by.proc)
		}
		a.split.Store(from.split.Load())
	}
	fs := by.fs.Load()
	if shares.fs {
		fs.shared.Store(true)
	}
	if !shares.memory && (from.threads.Load() || from.lost.Load()) { // others may have been opening something
		d.setWord(th.proc, vdso.NamesSlot+dcache.OpeningOffset-dcache.CwdOffset, 0)
		d.setWord(th.proc, vdso.NamesSlot+dcache.IdentifyingOffset-dcache.CwdOffset, 0)
	}
	if !shares.memory && (from.threads.Load() || fs.shared.Load()) {
		// Somebody else may have changed the directory before it was copied, but not yet the
		// word in memory, or the other way round.
		d.cwds.Lock()
		defer d.cwds.Unlock()
		d.forgetCwd(th.proc)
	}
}

//go:build linux

package supervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor/internal/dcache"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// ownAnswers lets programs that ask about many files know the answers themselves.
//
// Most files that a program asks about are the host's, and nobody changes them. Being asked
// costs two switches to the supervisor and back, several times what the kernel takes to
// answer. So what names mean lies in memory that all programs of the sandbox map and none can
// write (internal/dcache), filled with what they ask about ([cow.Tree.Tell]), and a program
// that has asked some times looks there first, and the third of a sandbox and those after it
// do from the beginning: the places from where they make such calls become jumps to code that
// does (callsites.go). That takes less than a system call takes natively. What the table
// doesn't know, or doesn't know any more, is asked as ever. It also tells who executes a program
// that isn't there, as execvp(3) does in the directories of PATH before the one that has it.
//
// There is none where somebody wants to hear of each such call: under a policy, a trace,
// faults or handlers for one of them. A process with a filter of its own (seccomp(2)), or a
// limit to its address space, asks about everything.
//
// What remains: what the host changes in a directory, or of a file there, while the sandbox
// runs isn't seen once its names were asked about; nor is what the command itself changes by a
// descriptor that somebody outside sends it (unix(7), SCM_RIGHTS). State.Stats doesn't count
// what isn't asked. A directory that was opened by a program that asks often stands at another
// position than 0 (lseek(2)), which its path says; listing it goes on and begins again as
// ever. A program that has SIGSEGV blocked or ignored, and gives a call a pointer to nothing,
// finds it unblocked and at its default afterwards. Who becomes another user can still read,
// in the table, names that it was told before.
func ownAnswers(s *Sandbox) feature {
	f := feature{name: "dcache"}
	f.checks = append(f.checks, func(t *table) error {
		if s.tracing == nil && s.policy == nil && onlyAskedByUs(t) {
			s.dcache = &dcaching{s: s, execs: t.onlyExecutes()}
		}
		return nil
	})
	f.load = func(im *image) error { return errors.Join(s.directLinker(im), s.directGo(im)) }
	is := func(op uint64) []seccomp.Cond { return []seccomp.Cond{{Arg: 0, Mask: 1<<32 - 1, Value: op}} }
	f.calls = []call{
		{name: "seccomp", notify: filtersItself, anyOf: [][]seccomp.Cond{is(unix.SECCOMP_SET_MODE_STRICT), is(unix.SECCOMP_SET_MODE_FILTER)}},
		{name: "prctl", notify: filtersItself, conds: is(unix.PR_SET_SECCOMP)},
		// With these a program has other rights than the one that executes it.
		{name: "prctl", notify: s.losesRights, anyOf: [][]seccomp.Cond{is(unix.PR_CAPBSET_DROP), is(unix.PR_SET_SECUREBITS)}},
	}
	return f
}

func (s *Sandbox) losesRights(*Call) Answer {
	s.dcache.differs()
	return Continue()
}

// wanted reports whether a process is to have the table.
func (d *dcaching) wanted(p *Process) bool {
	return d != nil && !p.asks.off.Load() && hasRoomForAll(p)
}

// hasRoomForAll reports whether a process may map as much as there is: nothing counts.
func hasRoomForAll(p *Process) bool {
	var limit unix.Rlimit
	err := unix.Prlimit(p.TGID, unix.RLIMIT_AS, nil, &limit)
	return err == nil && limit.Cur == unix.RLIM_INFINITY
}

// filtersItself has a process ask about everything that gets a filter of its own, which is to
// see its calls (seccomp(2)).
func filtersItself(c *Call) Answer {
	if c.s.dcache != nil && !c.thread.arming.Load() {
		c.Process.asks.off.Store(true)
		c.s.dcache.setWord(c.Process, vdso.NamesSlot+dcache.OffOffset-dcache.CwdOffset, 1)
	}
	return Continue()
}

// What all files have in common the table has from the tree.
var (
	_ [dcache.Device - cow.Dev]struct{}
	_ [cow.Dev - dcache.Device]struct{}
	_ [dcache.BlockSize - cow.BlockSize]struct{}
	_ [cow.BlockSize - dcache.BlockSize]struct{}
)

// answering are the features that answer the calls that the table may answer.
var answering = []string{"open", "stat", "dirorder"}

// onlyAskedByUs reports whether nobody but the features that answer them wants the calls that
// the table may answer.
func onlyAskedByUs(t *table) bool {
	for _, nr := range dcache.Calls {
		is := t.of(nr)
		for _, claim := range is.notify {
			if !slices.Contains(answering, claim.feature) {
				return false
			}
		}
		if is.stop != nil || is.watch != nil || is.always != seccomp.Notify {
			return false
		}
	}
	is := t.of(dcache.Makes)
	return len(dcache.Calls) > 0 && is.notify == nil && is.stop == nil && is.watch == nil && is.always == 0
}

// onlyExecutes reports whether nobody but the feature that executes programs wants to hear of
// those that aren't there.
func (t *table) onlyExecutes() bool {
	is := t.of(dcache.Executer)
	return len(is.stop) == 1 && is.stop[0].feature == "exec" && is.notify == nil && is.watch == nil && is.always == seccomp.Trace
}

// A dcaching is what a sandbox has of this.
type dcaching struct {
	s     *Sandbox
	cwds  sync.Mutex // held by who changes what processes know of their working directories
	opens bool       // programs may open files themselves, see opens.go
	execs bool       // and find out that there is nothing to execute

	programs atomic.Int32 // that were executed

	mu     sync.Mutex
	begun  bool
	table  *dcache.Table // nil where it can't be had; its entries are guarded by the tree's lock
	differ bool          // not everybody has the rights that the command has
	known  map[fileKey][]callSite

	marking sync.Mutex // the last that is held
	marks   map[int64]*markedDir
}

// begin makes the table, and has the tree fill it. It returns nil where that can't be.
func (d *dcaching) begin(th *thread) *dcache.Table {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.begun {
		d.begun = true
		table, err := dcache.New(d.s.page.names)
		if err == nil { // otherwise everything is asked
			d.table = table
			d.table.Opens(d.opens)
			if d.execs {
				d.table.Executes()
			}
			d.s.view.tree.Tell(d.teller(), d.everybody(th))
		}
	}
	return d.table
}

// everybody returns the rights that all threads have, nil if they differ.
func (d *dcaching) everybody(th *thread) *cow.Cred {
	if d.differ {
		return nil
	}
	own, err := d.s.view.creds(th)
	if err != nil || own.real != own.fs {
		return nil
	}
	return own.fs
}

// differs notes that a thread is about to have other rights. From then on the table holds what
// is so for anybody.
func (d *dcaching) differs() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.table != nil && !d.differ {
		d.s.view.tree.Tell(d.teller(), nil)
	}
	d.differ = true
}

// site returns what the place of a call becomes, by its distance from the table.
func (d *dcaching) site(at uint64, nr int, text []byte) (dcache.Patch, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.Site(at, nr, text)
}

// A dcacheTable translates what the tree tells.
type dcacheTable struct {
	*dcache.Table
	d *dcaching
}

func (d *dcaching) teller() dcacheTable { return dcacheTable{d.table, d} }

func (n dcacheTable) Root(dir *cow.Inode, a *cow.Attr, may uint32, host string) uint32 {
	host, mark := n.d.opening(dir, host)
	return n.Table.Root(toldAttr(a, may), host, mark)
}
func (n dcacheTable) Dir(parent uint32, name string, dir *cow.Inode, a *cow.Attr, may uint32, host string) uint32 {
	host, mark := n.d.opening(dir, host)
	return n.Table.Dir(parent, name, toldAttr(a, may), host, mark)
}
func (n dcacheTable) File(parent uint32, name string, a *cow.Attr, may uint32, target, host string, dev, ino uint64) uint32 {
	return n.Table.File(parent, name, toldAttr(a, may), target, host, dcache.Identity{Dev: dev, Ino: ino})
}
func (n dcacheTable) Shut() { n.Table.Opens(false) }

func toldAttr(a *cow.Attr, may uint32) *dcache.Attr {
	if a == nil {
		return nil
	}
	return &dcache.Attr{Ino: a.Ino, Mode: a.Mode, UID: a.UID, GID: a.GID, Links: a.Nlink, Size: a.Size, Mtime: dcache.Time(a.Mtime), Ctime: dcache.Time(a.Ctime), May: may}
}

// asks is what a process has asked, and what it has of the answers.
type asks struct {
	n        atomic.Int32 // so far
	mapped   atomic.Bool  // it has the table
	threads  atomic.Bool  // others run, or have run, in its memory
	beside   atomic.Bool  // those others aren't its own
	borrowed atomic.Bool  // it runs in the memory of its parent, which may wait for it (vfork)
	split    atomic.Bool  // who runs in its memory hasn't always the same working directory
	off      atomic.Bool  // it asks about everything, and so do the programs that it executes
	guarded  atomic.Bool  // it can't open files itself, and neither can those
	lost     atomic.Bool  // it counts a thread that isn't opening anything any more

	mu    sync.Mutex
	sites []uint64  // from where it has asked, as far as it is to be looked at no more
	some  bool      // some of them are patched
	text  textRange // where there was a program's text that it asked from at last
	upTo  int       // so many of the places known there were looked at

	cwd atomic.Uint32 // what it knows of its working directory; dcaching.cwds is held to change it
}

// askPatience is how often a process asks before it is told. Most ask seldom.
const askPatience = 16

// mostSitesOfOne is how many places are looked at for a process.
const mostSitesOfOne = 64

// begin is for a process that executes a program.
func (a *asks) begin() {
	a.n.Store(0)
	a.mapped.Store(false)
	a.threads.Store(false)
	a.beside.Store(false)
	a.lost.Store(false)
	a.borrowed.Store(false)
	a.split.Store(false)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sites, a.some, a.text, a.upTo = nil, false, textRange{}, 0
	a.cwd.Store(0)
}

// inherit is for a process that has a copy of another's memory, or runs in that.
func (a *asks) inherit(from *asks) {
	from.mu.Lock()
	defer from.mu.Unlock()
	a.n.Store(from.n.Load())
	a.off.Store(from.off.Load())
	a.guarded.Store(from.guarded.Load())
	a.mapped.Store(from.mapped.Load())
	a.sites, a.some, a.text, a.upTo = slices.Clone(from.sites), from.some, from.text, from.upTo
	a.cwd.Store(from.cwd.Load())
}

// setWord stores a word in what a process has of its own, so far from its region. One that
// isn't there can't be read by the code either; one that can't be changed would go on saying
// what isn't so.
func (d *dcaching) setWord(p *Process, offset uint64, v uint32) {
	region := p.region.Load()
	if region == 0 {
		return
	}
	word := binary.NativeEndian.AppendUint32(nil, v)
	_, err := tracee.WriteMem(p.TGID, region+offset, word)
	if err != nil && err != unix.ESRCH {
		err = tracee.Overwrite(p.TGID, region+offset, word) // should it have been made read-only
	}
	switch err {
	case nil, unix.ESRCH, unix.ENOENT, unix.EIO, unix.EFAULT:
	default:
		d.s.fail(fmt.Errorf("supervisor: tell process %s what it knows of files no more: %w", p.Lineage, err))
	}
}

// tellsAbout returns the flag of a walk of which the caller is told what it comes to, if it is.
func (c *Call) tellsAbout(dirfd int32) walkFlags {
	d := c.s.dcache
	if d == nil {
		return 0
	}
	a := &c.Process.asks
	if a.off.Load() || a.n.Load() < askPatience && a.n.Add(1) < askPatience || !d.direct(c) {
		return 0
	}
	if dirfd == unix.AT_FDCWD {
		d.tellCwd(c)
	}
	return tells
}

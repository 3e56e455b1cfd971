//go:build linux

package supervisor

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sandtest/go-sandtest/supervisor/internal/dcache"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// ownOpens lets programs that know what names mean open files themselves.
//
// What most programs open is the host's, unchanged, and only read. Where the table of names
// (dcache.go) tells a program that a file is such a one, it opens it by the path of the host
// that lies there too, and has the descriptor that the supervisor would have given it, at what
// an open takes natively.
//
// The filter lets openat2(2) through for that: for a path, and a way of opening, that begin in
// a slot of the table's, at an address that is the same in all programs. That memory the
// supervisor alone writes. Each program maps it before its first instruction, and seals it, so
// that nothing else can be put there (mseal(2), Linux 6.10); one that can't, because something
// of its own is there or its address space has a limit, gets another filter instead, which
// refuses the call to it and its children. What a program is made to call, a filter of its own
// (seccomp(2)) may answer in the kernel's place. So where it, or one that has executed it, has
// one, the kernel is asked what the program has mapped; a program that hasn't the paths is
// killed then. Nor may others write to its memory meanwhile (/proc/PID/mem).
//
// That memory begins where the program has the kernel tell open files apart: an fstat(2) that
// the filter lets through has room for a device and a number there, and fails at what follows,
// which can't be written to.
//
// A file's path is taken back before the file changes, and whoever gives its new bytes to those
// who read it (catchup.go) waits for those who are just opening something.
//
// What remains: a program that doesn't look the name up, but makes the call by itself with a
// path that it has found there, may open what it could open before a directory above was moved
// or got other permissions. A file that the host shows at two places, by a bind mount, has the
// inode number of that which was told of first. A program that makes an fstat like that by
// itself learns the device and number that what it has open has on the host.
func ownOpens(s *Sandbox) feature {
	f := feature{name: "opens"}
	f.checks = append(f.checks, func(t *table) error {
		if s.dcache == nil || !sealWorks() || !t.onlyOpens(dcache.Opener) {
			return nil
		}
		s.dcache.opens = true
		t.passes(seccomp.Rule{Nr: dcache.Opener, Conds: knownPath, Action: seccomp.Allow})
		t.passes(seccomp.Rule{Nr: dcache.Identifier, Conds: knownPlace, Action: seccomp.Allow})
		return nil
	})
	f.calls = []call{
		{name: "madvise", conds: is(2, unix.MADV_DONTFORK), notify: s.keepsPaths},
	}
	return f
}

// knownPath selects opens of a path that lies in a table, by a way that lies there.
var knownPath = []seccomp.Cond{
	{Arg: 1, Mask: ^uint64(dcache.PathsSize-1) | dcache.PathSlot - 1, Value: dcache.PathsAt},
	{Arg: 2, Mask: ^uint64((dcache.HowSlots - 1) * dcache.PathSlot), Value: dcache.PathsAt},
	{Arg: 3, Mask: ^uint64(0), Value: dcache.HowSize},
}

// knownPlace selects what tells an open file apart.
var knownPlace = []seccomp.Cond{{Arg: 1, Mask: ^uint64(0), Value: dcache.IdentityAt}}

// onlyOpens reports whether a call is wanted by the opening of files, and nobody else.
func (t *table) onlyOpens(nr int) bool {
	is := t.of(nr)
	return len(is.notify) == 1 && is.notify[0].feature == "open" && is.stop == nil && is.watch == nil && is.always == seccomp.Notify
}

// passes adds a rule that goes before all others on its call.
func (t *table) passes(r seccomp.Rule) {
	at := slices.IndexFunc(t.rules, func(other seccomp.Rule) bool { return other.Nr == r.Nr })
	t.rules = slices.Insert(t.rules, max(at, 0), r)
}

// keepsPaths has the children of a process have the paths, too: where they weren't, something
// else could be.
func (s *Sandbox) keepsPaths(c *Call) Answer {
	const end = dcache.PathsAt + dcache.PathsSize
	const untagged = 1<<57 - 1 // the kernel may ignore what is above (LAM)
	from, size := c.Arg(0)&untagged, c.Arg(1)
	if s.dcache != nil && s.dcache.opens && from < end && (from+size > dcache.OwnAt || from+size < from) {
		return Errno(unix.EINVAL) // as of memory of a device
	}
	return Continue()
}

// openPatience is how long one waits for a thread that is opening a file. A path that was taken
// back leads nowhere: who takes longer has left the code in a handler of a signal.
const openPatience = 100 * time.Millisecond

// awaitOpens waits until those threads of a process are done that may be opening something by
// a path that has just been taken back.
func (d *dcaching) awaitOpens(p *Process) {
	if d == nil || !d.opens || !p.asks.mapped.Load() {
		return
	}
	at := p.region.Load() + vdso.NamesSlot + dcache.OpeningOffset - dcache.CwdOffset
	var word [4]byte
	for until := time.Now().Add(openPatience); ; time.Sleep(openPatience / 1000) {
		if tracee.ReadMem(p.TGID, at, word[:]) != nil || binary.NativeEndian.Uint32(word[:]) == 0 {
			p.asks.lost.Store(false)
			return
		}
		if p.asks.lost.Load() || time.Now().After(until) {
			p.asks.lost.Store(true)
			return
		}
	}
}

// mayOpen reports whether a program is to have the paths.
func (d *dcaching) mayOpen(p *Process) bool {
	return d != nil && d.opens && !p.asks.guarded.Load() && (p.asks.off.Load() || hasRoomForAll(p))
}

// mapPaths makes a program map the paths, of which fd is the file, and a page of its own before
// them, where the kernel is told to tell open files apart.
func (im *image) mapPaths(calls *tracee.List, fd *tracee.Pending) (mapped, sealed *tracee.Pending) {
	const own = dcache.PathsAt - dcache.OwnAt
	mapped = calls.Add("map the paths", unix.SYS_MMAP, dcache.OwnAt, own+dcache.PathsSize, unix.PROT_READ,
		unix.MAP_SHARED|unix.MAP_FIXED_NOREPLACE, 0, dcache.PathsOffset-own)
	mapped.MayFail() // something of the program's may lie there
	fd.Feed(mapped, 4)
	page := calls.Add("map the page before the paths", unix.SYS_MMAP, 0, own, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED, noFD, 0)
	page.MayFail() // where it can't be written to nothing is told
	mapped.Feed(page, 0)
	sealed = calls.Add("seal the paths", sysMseal, 0, own+dcache.PathsSize, 0, 0, 0, callMark)
	sealed.MayFail()
	mapped.Feed(sealed, 0)
	return mapped, sealed
}

// noFD is the descriptor of memory that has no file (mmap(2)).
const noFD = ^uint64(0)

// havePaths sees to it that a program has the paths, if it is to have them, or can't open them.
// mapped and sealed are nil if it has not tried.
func (im *image) havePaths(mapped, sealed *tracee.Pending) error {
	d, p := im.t.s.dcache, im.th.proc
	switch {
	case d == nil || !d.opens || p.asks.guarded.Load():
		return nil
	case p.asks.off.Load():
		has, err := im.hasPaths()
		if err == nil && !has {
			_ = unix.Kill(p.TGID, unix.SIGKILL) // as the kernel ends what it can't load
			err = tracee.ErrGone
		}
		return err
	case mapped != nil && !mapped.Failed() && !sealed.Failed():
		return nil
	}
	return im.guardPaths()
}

// hasPaths asks the kernel whether a program has the paths, and nothing can be put in their
// place (proc_pid_smaps(5)).
func (im *image) hasPaths() (bool, error) {
	maps, err := readKernelFile(im.th.taskDir() + "/smaps")
	if err != nil {
		return false, err
	}
	page, err := im.t.s.page.id()
	if err != nil {
		return false, err
	}
	there := false
	for line := range strings.Lines(string(maps)) {
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			if there {
				return slices.Contains(strings.Fields(flags), "sl"), nil
			}
		} else if m, ok := parseMapping(line); ok {
			there = m.start == dcache.PathsAt && m.end == dcache.PathsAt+dcache.PathsSize && m.perms == "r--s" &&
				m.offset == dcache.PathsOffset && m.dev == page.dev && m.ino == page.ino
		}
	}
	return false, nil
}

// withoutLimit lets a program of which the kernel is asked map the paths although its address
// space has a limit. The function that it returns sets that again.
func (im *image) withoutLimit() (restore func()) {
	d, p := im.t.s.dcache, im.th.proc
	var limit unix.Rlimit
	if d == nil || !d.opens || !p.asks.off.Load() || unix.Prlimit(p.TGID, unix.RLIMIT_AS, nil, &limit) != nil || limit.Cur == unix.RLIM_INFINITY {
		return func() {}
	}
	for _, most := range []unix.Rlimit{{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, {Cur: limit.Max, Max: limit.Max}} {
		if unix.Prlimit(p.TGID, unix.RLIMIT_AS, &most, nil) == nil {
			break // otherwise there may be no room
		}
	}
	return func() { _ = unix.Prlimit(p.TGID, unix.RLIMIT_AS, &limit, nil) }
}

// guardPaths takes from a program that hasn't the paths, and its children, what they would be
// opened with.
func (im *image) guardPaths() error {
	calls := im.sys.List()
	data, err := newScratch(im.sys)
	if err != nil {
		return err
	}
	prog, err := filterProgram(im.t.s.dcache.guard())
	if err != nil {
		return err
	}
	at := data.addFilter(prog)
	if err := data.place(); err != nil {
		return err
	}
	calls.Add("seccomp(SECCOMP_SET_MODE_FILTER) without paths", unix.SYS_SECCOMP, seccomp.SetModeFilter, 0, at)
	err = calls.Run()
	im.th.proc.asks.guarded.Store(err == nil)
	return errors.Join(err, data.clear())
}

// guard are the rules of a filter that refuses what the first one lets through, and nothing
// else.
func (d *dcaching) guard() []seccomp.Rule {
	refused := seccomp.Errno(uint16(unix.EACCES))
	rules := []seccomp.Rule{
		{Nr: dcache.Opener, Conds: knownPath, Action: refused},
		{Nr: dcache.Identifier, Conds: knownPlace, Action: refused},
	}
	for _, r := range d.s.table.rules {
		if r.Nr > seccomp.Native.Last { // which would be unknown
			rules = append(rules, seccomp.Rule{Nr: r.Nr, Action: seccomp.Allow})
		}
	}
	return rules
}

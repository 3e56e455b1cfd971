//go:build linux

package supervisor

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// policies asks Config.OnSyscall about calls before they are made.
//
// What was judged is what is used: strings, addresses and headers are read once, and
// whoever answers the call gets the same bytes; a path has to lead to the same file when
// it is followed again, or the call is judged anew; a program that has been executed
// with other arguments is ended before its first instruction.
//
// What remains: the environment of a program, and what is sent, aren't judged. Calls
// that come as stops (execve, sends, new processes) are judged on the tracer, where
// others wait for them.
func policies(s *Sandbox) feature {
	f := feature{name: "policy"}
	if s.cfg.OnSyscall == nil {
		return f
	}
	p := &policy{s: s, ask: s.cfg.OnSyscall, readOnly: s.hasReadOnly()}
	s.policy = p
	for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(policyEvents, s.cfg.Events)))) {
		f.calls = append(f.calls, call{name: name, watch: p.judge})
	}
	f.load, f.close = p.verify, p.close
	return f
}

// checkEvents explains names that can't be meant.
func checkEvents(cfg *Config) error {
	if len(cfg.Events) > 0 && cfg.OnSyscall == nil {
		return errors.New("supervisor: Events without OnSyscall: nobody would be asked")
	}
	for _, name := range cfg.Events {
		if _, ok := seccomp.Number(name); !ok {
			return fmt.Errorf("supervisor: Events: there is no system call %q", name)
		}
	}
	return nil
}

// A policy is a callback and what it has said.
type policy struct {
	s     *Sandbox
	ask   func(*Event) Verdict
	rules Rules

	readOnly bool // something is mounted so

	reports sync.WaitGroup // callbacks that nobody waits for

	mu    sync.Mutex
	audit []audited
}

type audited struct {
	by    *Process
	entry AuditEntry
}

// A judgement is what was judged of the call that a thread is in.
type judgement struct {
	spans []span
	paths []judgedPath
}

// A span is memory of the program as it was judged.
type span struct {
	at    uint64
	bytes []byte
}

// A judgedPath is a path as the program gave it, and where it led.
type judgedPath struct {
	dirfd int32
	name  string
	at    string
}

// read fills buf from what was judged, and reports false if that wasn't.
func (j *judgement) read(at uint64, buf []byte) bool {
	if j == nil {
		return false
	}
	for i := range j.spans {
		if s := &j.spans[i]; s.at == at && len(buf) <= len(s.bytes) {
			copy(buf, s.bytes)
			return true
		}
	}
	return false
}

// string returns the string at an address that was judged.
func (j *judgement) string(at uint64) ([]byte, bool) {
	if j == nil {
		return nil, false
	}
	for i := range j.spans {
		if s := &j.spans[i]; s.at == at && len(s.bytes) > 0 && s.bytes[len(s.bytes)-1] == 0 {
			return s.bytes[:len(s.bytes)-1], true
		}
	}
	return nil, false
}

// errMoved is the error of a path that leads elsewhere than when it was judged.
var errMoved = errors.New("the path leads elsewhere than when it was judged")

// check is asked by the tree where a path has led.
func (p *policy) check(th *thread, dirfd int32, name string) func(at string) error {
	if p == nil {
		return nil
	}
	return func(at string) error {
		if j := th.judged.Load(); j != nil {
			known, same := false, false
			for i := range j.paths {
				if q := &j.paths[i]; q.dirfd == dirfd && q.name == name {
					known, same = true, same || q.at == at
				}
			}
			if known && !same {
				return errMoved
			}
		}
		if err := p.rules.path(at); err != nil {
			return unix.EACCES
		}
		return nil
	}
}

// judge asks about a call.
func (p *policy) judge(e *event) Answer {
	th := e.th
	if th.isMadeAnew() {
		return goOn
	}
	th.judged.Store(nil)
	exits := e.sig.name == "exit" || e.sig.name == "exit_group"
	switch failed := e.s.hasFailed(); {
	case failed && exits:
		return goOn
	case failed: // nobody is asked any more
		return Errno(unix.EIO)
	}
	j := new(judgement)
	ev := Event{
		Name: e.sig.name, Category: e.sig.category, PID: e.s.innerOf(th.proc), Lineage: th.proc.Lineage, Thread: th.index,
		Size: e.size(), Denied: e.s.table.refuses(e.nr, &e.args), Rules: &p.rules,
	}
	if parent := th.proc.parent; parent != nil {
		ev.Parent = e.s.innerOf(parent)
	}
	if program := th.proc.program.Load(); program != nil {
		ev.Program = *program
	}
	err := p.findPaths(e, j, &ev)
	a, err2 := p.findAddress(e, j, &ev)
	for _, errno := range []unix.Errno{unix.EFAULT, unix.ENAMETOOLONG} {
		if err == errno || err2 == errno {
			return Errno(errno) // it might be readable when it is used
		}
	}
	if i := slices.Index(e.sig.kinds, argArgv); i >= 0 {
		const most, longest = 1 << 17, 1 << 17 // MAX_ARG_STRLEN, linux/binfmts.h
		argv, more, err := e.strings(e.args[i], most, longest)
		switch {
		case err != nil:
			return Errno(unix.EFAULT) // which another thread may make good, for the kernel
		case more:
			return Errno(unix.E2BIG) // nobody could judge all of them
		}
		ev.Argv = argv
		th.argv = &judgedArgv{slices.Clone(argv)}
	}
	var refusal error
	if a.IsValid() {
		refusal = p.rules.network(e.s.lineOf(th.proc), a, e.sig.name == "bind")
	}
	ev.Denied = ev.Denied || refusal != nil || a.IsValid() && e.leadsOutside(a) ||
		p.readOnly && (e.changesReadOnly(ev.Path) || e.changesReadOnly(ev.To))
	if refused := e.s.table.refuses(e.nr, &e.args); refused || exits {
		p.report(e.th, ev)
		return goOn
	}
	v, err := p.verdict(e, ev)
	switch {
	case err != nil:
		return Fatal(err)
	case v.errno != 0:
		return Errno(v.errno)
	case v.audit:
		p.list(th, ev)
	}
	if a.IsValid() { // the callback may have changed the rules
		refusal = p.rules.network(e.s.lineOf(th.proc), a, e.sig.name == "bind")
	}
	if errno, ok := refusal.(unix.Errno); ok {
		return Errno(errno)
	}
	th.judged.Store(j)
	return goOn
}

// lineOf returns the ids of a process and its parents.
func (s *Sandbox) lineOf(p *Process) (pids []int) {
	for ; p != nil; p = p.parent {
		pids = append(pids, s.innerOf(p))
	}
	return pids
}

// size returns how many bytes a call is about.
func (e *event) size() uint64 {
	if e.sig.name == "mmap" {
		return e.args[1]
	}
	if i := e.sig.length(); i >= 0 {
		return e.args[i]
	}
	return 0
}

// findPaths finds what the call is about, and keeps the paths as they were read. The error
// is that of a path that can't be read.
func (p *policy) findPaths(e *event, j *judgement, ev *Event) error {
	dirfd := int32(unix.AT_FDCWD)
	var found []string
	for i, kind := range e.sig.kinds {
		switch kind {
		case argDirFD:
			dirfd = e.int(i)
			continue
		case argPath, argName:
			if e.args[i] == 0 { // which some calls allow
				found, _, _ = e.aboutFD(dirfd, found)
				dirfd = unix.AT_FDCWD
				continue
			}
			name, err := e.string(e.args[i])
			if err != nil {
				return err
			}
			j.spans = append(j.spans, span{e.args[i], append([]byte(name), 0)})
			if name != "" {
				found = append(found, p.findPath(e, j, ev, dirfd, name, e.follows(i)))
			} else {
				found, _, _ = e.aboutFD(dirfd, found)
			}
			dirfd = unix.AT_FDCWD
		case argFD:
			if len(found) == 0 {
				found, _, _ = e.aboutFD(e.int(i), found)
			}
		}
	}
	if len(found) > 0 {
		ev.Path = found[0]
	}
	if len(found) > 1 {
		ev.To = found[1]
	}
	return nil
}

func (p *policy) findPath(e *event, j *judgement, ev *Event, dirfd int32, name string, follow bool) string {
	at, err := e.where(dirfd, name, follow)
	if err != nil {
		ev.Denied = ev.Denied || err == unix.EACCES
		return e.lexical(dirfd, name)
	}
	j.paths = append(j.paths, judgedPath{dirfd, name, at})
	return at
}

// findAddress finds where a call connects, binds or sends to, and keeps what was read. It
// is invalid for a call without an address of the Internet. The error is that of one that
// can't be read.
func (p *policy) findAddress(e *event, j *judgement, ev *Event) (a netip.AddrPort, err error) {
	if e.sig.name == "sendmmsg" && uint32(e.args[2]) == 0 {
		return a, nil // nothing is sent
	}
	if e.sig.name == "sendmsg" || e.sig.name == "sendmmsg" {
		hdr := make([]byte, msghdrSize)
		if err := e.read(e.args[1], hdr); err != nil {
			return a, err
		}
		j.spans = append(j.spans, span{e.args[1], hdr})
	}
	at, b, err := e.socketAddress(j)
	if b == nil {
		return a, err
	}
	j.spans = append(j.spans, span{at, b})
	switch name, kind := unixName(b); kind {
	case unixFile:
		ev.Path = p.findPath(e, j, ev, unix.AT_FDCWD, name, e.sig.name != "bind")
	case unixAbstract:
		ev.Path = name
	}
	if a, err := parseAddress(e.ofFamily(b)); err == nil {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		ev.Host, ev.Port = a.Addr().String(), a.Port()
		return a, nil
	}
	return a, nil
}

// ofFamily returns an address with the family of the call's socket where it has none:
// who binds or sends may leave it out.
func (e *event) ofFamily(b []byte) []byte {
	if familyOf(b) != unix.AF_UNSPEC || e.sig.name == "connect" { // which disconnects
		return b
	}
	k, ok, err := socketOf(e.th.proc.fd(e.th.tid, e.int(0)))
	if err != nil || !ok {
		return b
	}
	defer k.close()
	return append(binary.NativeEndian.AppendUint16(nil, uint16(k.domain)), b[2:]...)
}

// report tells the callback of a call without waiting for what it says: it fails anyhow,
// or can't fail.
func (p *policy) report(th *thread, ev Event) {
	p.reports.Go(func() {
		returned := false
		defer func() {
			if !returned {
				p.s.fail(fmt.Errorf("supervisor: %w", unwound(ev.Name, th)))
			}
		}()
		v := p.ask(&ev)
		returned = true
		if v.audit {
			p.list(th, ev)
		}
	})
}

// close waits for what was reported.
func (p *policy) close() error {
	told := make(chan struct{})
	go func() {
		p.reports.Wait()
		close(told)
	}()
	select {
	case <-told:
		return nil
	case <-time.After(judging):
		return fmt.Errorf("OnSyscall hadn't returned after %v from what it was told at last", judging)
	}
}

// list notes an event for State.Audit.
func (p *policy) list(th *thread, ev Event) {
	ev.Rules = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	p.audit = append(p.audit, audited{th.proc, AuditEntry{th.proc.Lineage, th.index, ev}})
}

// audits returns what was listed, by lineage and thread.
func (p *policy) audits() []AuditEntry {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.SortStableFunc(p.audit, func(a, b audited) int {
		return cmp.Or(slices.Compare(a.by.order, b.by.order), cmp.Compare(a.entry.Thread, b.entry.Thread))
	})
	list := make([]AuditEntry, len(p.audit))
	for i := range p.audit {
		list[i] = p.audit[i].entry
	}
	return list
}

const (
	// patience is how long other calls wait for a callback before they are served beside
	// it, judging is how long it may take.
	patience = 200 * time.Microsecond
	judging  = 5 * time.Second
)

func (p *policy) verdict(e *event, ev Event) (Verdict, error) {
	if e.call == nil {
		return p.onTracer(e, ev)
	}
	w := &watchdog{e: e}
	w.start(patience)
	defer w.unwound()
	p.s.placement.allowTSC()
	v := p.ask(&ev)
	p.s.placement.forbidTSC()
	w.returned = true
	if w.stop() {
		// The run has failed, and nobody waits for this receiver any more.
		runtime.Goexit()
	}
	return v, nil
}

// A watchdog watches over a callback that runs on a receiver.
type watchdog struct {
	e         *event
	mu        sync.Mutex
	timer     *time.Timer
	waited    bool
	done      bool
	abandoned bool
	returned  bool // belongs to the receiver
}

// unwound fails the run where a callback has ended its goroutine, as t.Fatal does: nobody
// answers the call then.
func (w *watchdog) unwound() {
	if w.returned {
		return
	}
	if r := recover(); r != nil {
		panic(r)
	}
	if c := w.e.call; !w.stop() {
		c.s.fail(fmt.Errorf("supervisor: %w", unwound(w.e.String(), w.e.th)))
		if !c.yielded {
			c.Yield()
		}
		c.rs.wg.Done()
	}
}

func (w *watchdog) start(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(d, w.late)
}

// late lets others be served beside the callback, and in the end gives it up.
func (w *watchdog) late() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch c := w.e.call; {
	case w.done:
	case !w.waited:
		w.waited = true
		c.Yield()
		w.timer = time.AfterFunc(judging-patience, w.late)
	default:
		w.abandoned = true
		c.s.fail(fmt.Errorf("supervisor: %w", tooLate(w.e)))
		c.rs.wg.Done()
	}
}

// stop notes that the callback has returned, and reports whether it was given up.
func (w *watchdog) stop() (abandoned bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.timer.Stop()
	return w.abandoned
}

func tooLate(e *event) error {
	return fmt.Errorf("OnSyscall hadn't answered after %v: %s of process %s", judging, e, e.th.proc.Lineage)
}

// unwound is the error of a callback that has ended its goroutine at a call.
func unwound(call string, th *thread) error {
	return fmt.Errorf("OnSyscall has ended its goroutine (t.Fatal?) at %s of process %s", call, th.proc.Lineage)
}

// onTracer runs the callback on a goroutine of its own: one that never returns must not
// hold up the tracer.
func (p *policy) onTracer(e *event, ev Event) (Verdict, error) {
	said := make(chan Verdict, 1)
	go func() {
		defer close(said) // also where it doesn't return
		said <- p.ask(&ev)
	}()
	timer := time.NewTimer(judging)
	defer timer.Stop()
	select {
	case v, ok := <-said:
		if !ok {
			return Verdict{}, unwound(e.String(), e.th)
		}
		return v, nil
	case <-e.s.failed: // elsewhere
		return DenyWith(unix.EIO), nil
	case <-timer.C:
		return Verdict{}, tooLate(e)
	}
}

// A judgedArgv are the arguments with which a program was judged.
type judgedArgv struct{ list []string }

// verify makes sure that a program was executed with the arguments that were judged; a
// script's interpreter has its own before them.
func (p *policy) verify(im *image) error {
	th := im.th
	judged := th.argv
	th.argv = nil
	if judged == nil {
		return nil
	}
	want := judged.list
	switch {
	case th.script != nil && len(want) > 0:
		want = slices.Concat(th.script, want[1:])
	case th.script != nil:
		want = th.script
	case len(want) == 0:
		want = []string{""} // the kernel's (bprm_execve, fs/exec.c)
	}
	if got := commandLine(th.proc.TGID); !slices.Equal(got, want) {
		return fmt.Errorf("it was executed with the arguments %q, and judged with %q", got, want)
	}
	return nil
}

// where returns the path of what a path leads to, also where that is to be made.
func (e *event) where(dirfd int32, name string, follow bool) (at string, err error) {
	v := e.s.view
	err = v.atRestricted(e.th, dirfd, name, unless(follow), e.resolve(), func(w *cow.Walk, path string) (err error) {
		at, err = v.tree.Where(w, path)
		return err
	})
	if o := isOutside(err); o != nil {
		unix.Close(o.fd)
		if o.path == "" {
			return "", unix.ENOENT
		}
		return e.s.stablePath(o.path), nil
	}
	return at, err
}

// lexical returns a path from the root without looking at what is there.
func (e *event) lexical(dirfd int32, name string) string {
	if !path.IsAbs(name) {
		if at, err := e.where(dirfd, ".", true); err == nil {
			return path.Join(at, name)
		}
	}
	return path.Clean(name)
}

// how returns the flags and restrictions of openat2.
func (e *event) how() (flags, resolve uint64) {
	var b [24]byte
	if e.read(e.args[2], b[:]) != nil {
		return 0, 0
	}
	return binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[16:])
}

// resolve returns how openat2 restricts the walk.
func (e *event) resolve() uint64 {
	if e.sig.name != "openat2" {
		return 0
	}
	_, resolve := e.how()
	return resolve
}

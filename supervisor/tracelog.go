//go:build linux

package supervisor

import (
	"cmp"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// A traceLog collects what a sandbox handles. The methods of a nil log and of a nil
// entry do nothing, so that who has something to tell needn't ask.
type traceLog struct {
	s     *Sandbox
	clock *clock
	mu    sync.Mutex
	list  []*traced
	names map[int]string // of processes, also when they have ended
}

// A traced is one entry of the log.
type traced struct {
	log     *traceLog
	s       *Sandbox // of a call
	th      *thread
	entry   TraceEntry
	arrived int
	dropped bool
}

func (l *traceLog) add(th *thread, e TraceEntry) *traced {
	e.Began = l.clock.elapsed()
	e.Ended = e.Began
	e.Process, e.Thread = th.proc.Lineage, th.index
	if p := th.proc.program.Load(); p != nil {
		e.Program = *p
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &traced{log: l, th: th, entry: e, arrived: len(l.list)}
	l.list = append(l.list, t)
	return t
}

// returnsProcess are calls that return the number of a process, a thread or a group.
var returnsProcess = map[string]bool{
	"fork": true, "vfork": true, "clone": true, "clone3": true, "wait4": true, "getpid": true, "getppid": true, "gettid": true,
	"setsid": true, "getsid": true, "getpgid": true, "getpgrp": true, "set_tid_address": true,
}

// begin notes a call at its entry. One that goes on after a signal is one call.
func (l *traceLog) begin(e *event) *traced {
	l.mu.Lock()
	before := e.th.interrupted
	e.th.interrupted = nil
	if before != nil && e.th.isMadeAnew() {
		l.mu.Unlock()
		return before // with what the supervisor has put in the place of the program's words
	}
	if before != nil && before.entry.Name == e.sig.name {
		before.dropped = true
	}
	l.mu.Unlock()
	t := l.add(e.th, TraceEntry{Name: e.sig.name, Category: e.sig.category, Text: e.String(), Result: "?"})
	t.s = e.s
	return t
}

// note notes what has happened to a process.
func (l *traceLog) note(th *thread, what string) {
	if l == nil {
		return
	}
	l.add(th, TraceEntry{Text: what})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = map[int]string{}
	}
	l.names[l.s.inner(th)] = th.name()
}

// past returns the name of a process that has ended, empty if there was none.
func (l *traceLog) past(pid int) string {
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.names[pid]
}

// by notes who has answered.
func (t *traced) by(feature string) {
	if t == nil {
		return
	}
	t.log.mu.Lock()
	defer t.log.mu.Unlock()
	t.entry.By = feature
}

func (t *traced) end(result string) {
	t.log.mu.Lock()
	defer t.log.mu.Unlock()
	t.entry.Result = result
	t.entry.Ended = t.log.clock.elapsed()
}

// answered notes the answer to a notification. The kernel never tells what came of a
// call that goes on.
func (t *traced) answered(a Answer) {
	switch {
	case t == nil:
	case a.kind == answerErrno:
		t.returned(-a.value)
	case a.kind == answerReturn:
		t.returned(a.value)
	}
}

// returned notes what a call has returned. One that a signal has interrupted may be made
// anew, and is noted then.
func (t *traced) returned(result int64) {
	switch {
	case t == nil:
	case result > 0 && returnsProcess[t.entry.Name]:
		t.end(t.s.nameOfPID(int(result)))
	case result >= 0 || result < -maxErrno:
		t.end(strconv.FormatInt(result, 10))
	case restarts(result):
		t.end("?")
		t.log.mu.Lock()
		t.th.interrupted = t
		t.log.mu.Unlock()
	default:
		t.end("-1 " + errnoText(unix.Errno(-result)))
	}
}

// goneOn notes what a call has returned that was gone on with in another way.
func (l *traceLog) goneOn(th *thread, result int64) {
	if l == nil {
		return
	}
	l.mu.Lock()
	before := th.interrupted
	th.interrupted = nil
	l.mu.Unlock()
	before.returned(result)
}

func (t *traced) drop() {
	if t == nil {
		return
	}
	t.log.mu.Lock()
	defer t.log.mu.Unlock()
	t.dropped = true
}

// maxErrno is the largest error number (linux/err.h).
const maxErrno = 4095

// restarts reports whether the kernel starts a call anew that has ended so.
func restarts(result int64) bool {
	switch result {
	case -erestartsys, -erestartnointr, -erestartnohand, -erestartblock:
		return true
	}
	return false
}

func errnoText(e unix.Errno) string {
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return strconv.Itoa(int(e))
}

// entries returns the whole trace, sorted.
func (l *traceLog) entries() Trace {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(l.list, func(t *traced) bool { return t.dropped })
	slices.SortFunc(l.list, func(a, b *traced) int {
		return cmp.Or(cmp.Compare(a.entry.Began, b.entry.Began), slices.Compare(a.th.proc.order, b.th.proc.order),
			cmp.Compare(a.entry.Thread, b.entry.Thread), cmp.Compare(a.arrived, b.arrived))
	})
	list := make(Trace, len(l.list))
	for i, t := range l.list {
		list[i] = t.entry
	}
	return list
}

//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Freezing stops every thread of a sandbox where it can't do anything: it is stopped for
// the tracer, by job control, or in a call that is held back. What waits in the kernel is
// poked out of it as for the end of a wait, and goes on waiting afterwards. Calls that
// are being answered are answered first, new processes stop at their beginning. The tracer
// then waits to be told to go on, and the clock stands still, since nothing waits for it.

// A freezing is one freeze, from when it is asked for until it is over.
type freezing struct {
	stopped  chan struct{} // closed by the tracer when nothing runs any more
	thaw     chan struct{} // closed when all is to go on
	over     chan struct{} // closed when all does
	idle     atomic.Bool   // everything was stopped already
	thawOnce sync.Once
}

func (f *freezing) end() { f.thawOnce.Do(func() { close(f.thaw) }) }

// A heldThread is a thread that the tracer doesn't let go on, and the signal with which
// it will.
type heldThread struct {
	th  *thread
	sig unix.Signal
}

// Freeze stops everything in the sandbox at once, until Thaw: nothing changes meanwhile,
// neither files nor what a program has in memory, and the virtual clock stands still. The
// other clocks go on. It returns when everything has stopped; [Sandbox.Layer] may be
// asked for a snapshot or the changes then. The error is [os.ErrProcessDone] when the
// command has ended; to freeze what is frozen is one, too. Killing thaws.
func (s *Sandbox) Freeze() error {
	select {
	case <-s.empty:
		return os.ErrProcessDone
	default:
	}
	if !s.frozenByUser.CompareAndSwap(false, true) {
		return errors.New("supervisor: it is frozen already")
	}
	s.freezeMu.Lock()
	err := s.freeze()
	if err != nil {
		s.freezeMu.Unlock()
		s.frozenByUser.Store(false)
	}
	return err
}

// Thaw lets everything go on as if nothing had been; a write of which a part was done
// returns that part, as after SIGSTOP and SIGCONT. Without Freeze it does nothing.
func (s *Sandbox) Thaw() {
	if s.frozenByUser.Load() {
		s.thaw()
		s.freezeMu.Unlock()
		s.frozenByUser.Store(false)
	}
}

// Snapshot writes what was written so far to a directory ([cow.Tree.Snapshot]). While
// anything runs that tells no state that there ever was, and is an error: it must be
// frozen, or have ended.
func (s *Sandbox) Snapshot(dir string) error {
	if !s.standsStill() {
		return fmt.Errorf("supervisor: write a snapshot to %s: the sandbox is running, so that it might change meanwhile: Freeze it before, or wait for its end", dir)
	}
	return s.Layer().Snapshot(dir)
}

// standsStill reports whether nothing changes until Thaw, or any more.
func (s *Sandbox) standsStill() bool {
	select {
	case <-s.done:
		return true
	default:
	}
	f := s.freezing.Load()
	if f == nil || !s.frozenByUser.Load() {
		return false
	}
	select {
	case <-f.thaw: // which killing does, too
		return false
	default:
	}
	select {
	case <-f.stopped:
		return true
	default:
		return f.idle.Load()
	}
}

// freeze stops everything. Its caller holds freezeMu until it has thawed it.
func (s *Sandbox) freeze() error {
	f := &freezing{stopped: make(chan struct{}), thaw: make(chan struct{}), over: make(chan struct{})}
	for !s.freezing.CompareAndSwap(nil, f) {
		before := s.freezing.Load()
		if before == nil {
			continue
		}
		if before.idle.Load() { // the tracer may never hear of it
			if s.freezing.CompareAndSwap(before, f) {
				close(before.over)
				break
			}
			continue
		}
		select { // it is about to be over
		case <-before.over:
		case <-s.empty:
			return os.ErrProcessDone
		}
	}
	for _, th := range s.threads.appendAll(nil) {
		if !th.listening.Load() { // which stays stopped
			th.poke()
		}
	}
	const look = 5 * time.Millisecond
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-f.stopped:
			return nil
		case <-s.empty:
			s.freezing.CompareAndSwap(f, nil)
			return os.ErrProcessDone
		case <-ticker.C:
			// Where job control has stopped everything, nothing comes to the tracer.
			if !slices.ContainsFunc(s.threads.appendAll(nil), func(th *thread) bool { return !th.listening.Load() && !th.delayed.Load() }) {
				f.idle.Store(true)
				return nil
			}
		}
	}
}

// thaw lets everything go on.
func (s *Sandbox) thaw() {
	if f := s.freezing.Load(); f != nil {
		f.end()
	}
}

// holds reports whether a stopped thread isn't to go on, and notes it.
func (t *tracer) holds(th *thread, sig unix.Signal) bool {
	if t.s.freezing.Load() == nil || t.ended {
		return false
	}
	t.held = append(t.held, heldThread{th, sig})
	return true
}

// frozen waits while everything is frozen, and then lets it go on, if it isn't to be
// frozen anew.
func (t *tracer) frozen() {
	for {
		f := t.s.freezing.Load()
		if f == nil || !t.ended && !t.allHeld() {
			return
		}
		if !t.ended {
			close(f.stopped)
			t.untilThawed(f)
		}
		if t.s.freezing.CompareAndSwap(f, nil) { // and hasn't been replaced by the next
			close(f.over)
			t.letGo()
		}
	}
}

// letGo lets all go on that are held.
func (t *tracer) letGo() {
	held := t.held
	t.held = nil
	slices.SortStableFunc(held, func(a, b heldThread) int { return slices.Compare(a.th.proc.order, b.th.proc.order) })
	for _, h := range held {
		if t.s.threads.get(h.th.tid) == h.th {
			t.resume(h.th, h.sig)
		}
	}
}

// untilThawed waits, also for the end of the command by somebody else's hand.
func (t *tracer) untilThawed(f *freezing) {
	const look = 20 * time.Millisecond
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-f.thaw:
			return
		case <-ticker.C:
			if t.root.hasEnded() || t.s.spaces.killed() {
				return
			}
		}
	}
}

// hasEnded reports whether no thread of a process is left.
func (p *Process) hasEnded() bool {
	list, err := os.ReadDir("/proc/" + strconv.Itoa(p.TGID) + "/task")
	if err != nil {
		return true
	}
	return !slices.ContainsFunc(list, func(e os.DirEntry) bool {
		tid, err := strconv.Atoi(e.Name())
		return err == nil && !isZombie(tid)
	})
}

// allHeld reports whether no thread can do anything.
func (t *tracer) allHeld() bool {
	if len(t.early) > 0 {
		return false // whose creation is about to be told
	}
	held := make(map[*thread]bool, len(t.held))
	for _, h := range t.held {
		held[h.th] = true
	}
	for _, th := range t.s.threads.appendAll(nil) {
		if held[th] || th.delayed.Load() || th.listening.Load() {
			continue
		}
		if child := th.vfork.Load(); child != nil && !child.released.Load() {
			continue
		}
		if th.tid == th.proc.TGID && isZombie(th.tid) {
			continue // its other threads go on
		}
		return false
	}
	return true
}

//go:build linux

package supervisor

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/sandtest/go-sandtest/det"
)

// An agenda holds everything that is to happen at an instant of a sandbox's
// virtual clock. What happens next is decided by names alone: the earliest
// deadline, then the lineage, then the thread, then the order in which the thread
// asked. One thing happens at a time, and the next when everything waits again.
//
// The tracer and receivers add and remove; the detector takes what is next.
type agenda struct {
	clock *det.Clock
	limit time.Duration // what lies beyond never happens

	mu      wakingMutex
	entries []*entry
	arrived uint64
	moves   uint64        // how often the clock was moved by anything but a nap or a tick
	ticked  time.Duration // by busy waits since then
	watched bool          // was found empty when it was last asked
	bell    bell          // rings when there is something new
	ring    func()        // is bell's
}

func newAgenda(clock *det.Clock, limit time.Duration) *agenda {
	a := &agenda{clock: clock, limit: limit}
	a.ring = a.bell.ring
	return a
}

// An entry is one thing to happen, once or again and again.
type entry struct {
	at     time.Duration // by the clock since its start
	every  time.Duration // between this time and the next; 0: once
	proc   *Process
	thread int     // its index in the process, 0 for what belongs to the process as a whole
	wakes  *thread // which goes on then, if that is known
	nap    *naps   // if it is a yield: whose account it goes on
	meter  *meter  // if it follows CPU time instead of the clock
	aside  bool    // it happens once the clock has come there, but never moves it
	wall   bool    // its instant is one of the wall clock, which may be set

	// happen is called with the agenda locked, with the clock at the entry's
	// instant; it must not block, and whom it wakes it wakes afterwards, if it can. times is
	// 1, or more if that many instants have passed at once.
	happen func(times int)
	// dropped, if not nil, reports that there is nobody left for whom to happen. It
	// is asked before the clock moves.
	dropped func() bool

	arrival uint64
	listed  bool
}

// add puts e on the agenda, anew if it was on it. A nap is in no hurry: it is noticed
// when everything waits, and most end by themselves.
func (a *agenda) add(e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.insert(e)
	if e.nap == nil || a.watched {
		a.mu.afterwards(a.ring)
	}
}

func (a *agenda) insert(e *entry) {
	a.arrived++
	e.arrival = a.arrived
	if !e.listed {
		e.listed = true
		list := a.listOf(e)
		*list = append(*list, e)
	}
}

// listOf returns the list that e belongs to.
func (a *agenda) listOf(e *entry) *[]*entry {
	if e.meter != nil {
		return &e.meter.entries
	}
	return &a.entries
}

// now returns where the clock that e follows stands.
func (a *agenda) now(e *entry) time.Duration {
	if e.meter != nil {
		return e.meter.used
	}
	return a.clock.Elapsed()
}

// stepped notes that the wall clock was set forward by d.
func (a *agenda) stepped(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.entries {
		if e.wall {
			e.at -= d
		}
	}
	a.mu.afterwards(a.ring)
}

// remove takes e off the agenda. It reports false if e has happened or was
// never on it.
func (a *agenda) remove(e *entry) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.delete(e)
}

func (a *agenda) delete(e *entry) bool {
	if !e.listed {
		return false
	}
	e.listed = false
	list := a.listOf(e)
	i := slices.Index(*list, e)
	last := len(*list) - 1
	(*list)[i] = (*list)[last]
	(*list)[last] = nil
	*list = (*list)[:last]
	return true
}

// removeAll takes off what belongs to a process that is no more.
func (a *agenda) removeAll(p *Process) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = slices.DeleteFunc(a.entries, func(e *entry) bool {
		gone := e.proc == p && e.dropped == nil
		if gone {
			e.listed = false
		}
		return gone
	})
}

// pending reports whether anything will ever happen.
func (a *agenda) pending() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Elapsed()
	a.watched = !slices.ContainsFunc(a.entries, func(e *entry) bool { return e.at <= now || e.at <= a.limit && !e.aside })
	return !a.watched
}

// next lets the next thing happen, once nothing in the sandbox runs. It reports
// false if there is nothing, and otherwise which thread goes on, if that is known.
func (a *agenda) next() (wakes *thread, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := a.first()
	if first == nil {
		return nil, false
	}
	now := a.clock.Elapsed()
	if first.nap != nil && first.nap.yields(a, first.at-now) {
		a.delete(first)
		first.happen(1)
		return first.wakes, true
	}
	if first.nap == nil && first.at > now {
		a.moved()
	}
	a.clock.AdvanceTo(first.at)
	a.happen(first, 1)
	return first.wakes, true
}

// first returns what is to happen next, nil if nothing ever is.
func (a *agenda) first() *entry {
	for {
		var first *entry
		now := a.clock.Elapsed()
		for _, e := range a.entries {
			if (!e.aside || e.at <= now) && (first == nil || a.before(e, first, now)) {
				first = e
			}
		}
		switch {
		case first == nil || first.at > a.limit:
			return nil
		case first.dropped == nil || !first.dropped():
			return first
		}
		a.delete(first)
	}
}

// happen lets e happen, and puts it on the agenda again if it recurs.
func (a *agenda) happen(e *entry, times int) {
	a.delete(e)
	if e.every > 0 {
		e.at = addTime(e.at, time.Duration(times)*e.every)
		a.insert(e)
	}
	e.happen(times)
}

// A timerSpec is what a timer is set to: how long until it expires and how long
// between further expirations; zero for never.
type timerSpec struct{ left, every time.Duration }

// arm sets a timer to expire at an instant of the clock it follows and then at
// intervals, or with ok false to never expire, and returns what it was set to.
// What lies in the past happens at once. wall says that the instant is one of the
// wall clock.
func (a *agenda) arm(e *entry, at time.Duration, every time.Duration, ok, wall bool) (was timerSpec) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was = a.spec(e)
	a.delete(e)
	e.at, e.every, e.wall = at, every, wall
	if !ok {
		e.every = 0
		return was
	}
	a.insert(e)
	a.mu.afterwards(a.ring)
	if now := a.now(e); at <= now {
		times := 1
		if every > 0 {
			times += int((now - at) / every)
		}
		a.happen(e, times)
	}
	return was
}

// instant returns where the clock that e follows stands.
func (a *agenda) instant(e *entry) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now(e)
}

// left returns what a timer is set to.
func (a *agenda) left(e *entry) timerSpec {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.spec(e)
}

func (a *agenda) spec(e *entry) timerSpec {
	spec := timerSpec{every: e.every}
	if e.listed {
		spec.left = max(e.at-a.now(e), 1)
	}
	return spec
}

// addTime adds a span that is not negative to an instant, at most up to the end
// of time.
func addTime(at, span time.Duration) time.Duration {
	if span > math.MaxInt64-at {
		return math.MaxInt64
	}
	return at + span
}

// before orders two entries: what is due, then what yields, then what comes
// first.
func (a *agenda) before(e, f *entry, now time.Duration) bool {
	rank := func(e *entry) int {
		switch {
		case e.at <= now:
			return 0
		case e.nap != nil && e.nap.mayYield(a, e.at-now):
			return 1
		}
		return 2
	}
	x, y := rank(e), rank(f)
	if x != y {
		return x < y
	}
	if x == 2 && e.at != f.at {
		return e.at < f.at
	}
	return cmp.Or(slices.Compare(e.proc.order, f.proc.order), cmp.Compare(e.thread, f.thread), cmp.Compare(e.arrival, f.arrival)) < 0
}

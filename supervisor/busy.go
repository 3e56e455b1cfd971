//go:build linux

package supervisor

import (
	"sync/atomic"
	"time"

	"github.com/sandtest/go-sandtest/vdso"
)

// A program that waits by reading the clock again and again would do so for ever,
// because the clock stands still while it runs. So the clock ticks when a process
// has read it vdso.Reads times at one instant. The vDSO's functions count that in
// the process's own memory, and enter the kernel when it is reached; a read by a
// system call counts as many. A tick is a millisecond at first, then a quarter of
// what ticks alone have moved the clock, so that a wait for hours ends too; it
// stops at whatever else is to happen, which then happens although the sandbox
// isn't idle. The process and the thread have used so much CPU time.
//
// It is deterministic as far as the number of reads is: in a process one thread of
// which reads the clock.

const (
	shortestTick = time.Millisecond
	// callReads is how many reads of the vDSO's a system call counts as: it takes
	// that much longer.
	callReads = 256
)

// reads counts the clock reads of a process by system calls.
type reads struct {
	instant atomic.Int64 // where the clock stood
	n       atomic.Int64
}

// countRead counts a read by a system call. full says that the vDSO's code has
// made it because its own count is full.
func (c *Call) countRead(full bool) {
	if a := c.s.agenda; a != nil {
		a.countRead(c.thread, full)
	}
}

func (a *agenda) countRead(th *thread, full bool) {
	r := &th.proc.reads
	if now := int64(a.clock.Elapsed()); r.instant.Load() != now {
		r.instant.Store(now)
		r.n.Store(0)
	}
	if full || r.n.Add(1)%(vdso.Reads/callReads) == 0 {
		a.tick(th)
	}
}

// fromRegion reports whether the call comes from the code that stands in for the
// vDSO's.
func (c *Call) fromRegion() bool {
	region := c.Process.region.Load()
	return region != 0 && c.n.IP >= region+vdso.CodeOffset && c.n.IP < region+vdso.MessageOffset
}

// tick moves the clock on for a thread that waits for it busily.
func (a *agenda) tick(th *thread) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.afterwards(a.ring)
	d := max(shortestTick, a.ticked/4)
	meters := [...]*meter{&th.proc.meter, &th.meter}
	for _, m := range meters {
		d = m.until(d)
	}
	now := a.clock.Elapsed()
	first := a.first()
	if first != nil && first.nap == nil {
		d = min(d, max(first.at-now, 0))
	}
	a.ticked += d
	a.clock.AdvanceTo(min(addTime(now, d), a.limit))
	for _, m := range meters {
		a.run(m, d)
	}
	for now += d; ; first = a.first() {
		if first == nil || first.nap != nil || first.at > now {
			return
		}
		a.happen(first, 1)
	}
}

// moved notes that the clock is moved by something that was waited for.
func (a *agenda) moved() {
	a.moves++
	a.ticked = 0
}

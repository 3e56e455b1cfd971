//go:build linux

package supervisor

import (
	"time"

	"github.com/sandtest/go-sandtest/det"
)

// A meter is the CPU time of a process or a thread. Under the virtual clock a
// program computes in no time at all; CPU time passes only when a busy wait makes
// the clock tick, see busy.go. It belongs to the agenda.
type meter struct {
	used    time.Duration
	entries []*entry
}

// used returns the CPU time of a process, or of one of its threads. Under a
// running clock it is the time since it began, whatever it did.
func (s *Sandbox) used(p *Process, th *thread) time.Duration {
	m, born := &p.meter, p.born
	if th != nil {
		m, born = &th.meter, th.born
	}
	if s.clock.mode != det.Virtual {
		return s.clock.elapsed() - born
	}
	s.agenda.mu.Lock()
	defer s.agenda.mu.Unlock()
	return m.used
}

// run adds to the meter what an amount of computing takes, and lets happen what
// follows it.
func (a *agenda) run(m *meter, d time.Duration) {
	m.used += d
	for {
		var first *entry
		for _, e := range m.entries {
			if e.at <= m.used && (first == nil || e.at < first.at) {
				first = e
			}
		}
		if first == nil {
			return
		}
		a.happen(first, 1)
	}
}

// until returns at most d, less if something follows the meter before.
func (m *meter) until(d time.Duration) time.Duration {
	for _, e := range m.entries {
		d = min(d, max(e.at-m.used, 0))
	}
	return d
}

//go:build linux

package supervisor

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// cpuShare keeps the processes of a sandbox to a share of a CPU's time, together.
//
// The supervisor adds up what they have used, and freezes all of them until they have no
// more than their share. Over a tenth of a second they may use what they have left before.
// The virtual clock, which stands still meanwhile, doesn't notice.
func cpuShare(s *Sandbox) feature {
	f := feature{name: "cpushare"}
	if s.cfg.Limits.CPU == 0 {
		return f
	}
	w := &shareWatch{s: s, stop: make(chan struct{}), done: make(chan struct{})}
	f.load = func(im *image) error {
		if im.th.proc == im.t.root && im.th.proc.execs == 1 {
			w.started = true
			go w.run()
		}
		return nil
	}
	f.close = func() error {
		if w.started {
			close(w.stop)
			<-w.done
		}
		return nil
	}
	return f
}

// A shareWatch watches over a sandbox's share.
type shareWatch struct {
	s          *Sandbox
	started    bool
	stop, done chan struct{}
}

const (
	shareLook  = 10 * time.Millisecond  // how often what was used is added up
	shareSaved = 100 * time.Millisecond // for how long what wasn't used is saved
)

func (w *shareWatch) run() {
	defer close(w.done)
	share := float64(w.s.cfg.Limits.CPU) / 100
	ticker := time.NewTicker(shareLook)
	defer ticker.Stop()
	last, before, left := time.Now(), w.s.cpuUsed(), time.Duration(0)
	for {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
		now, used := time.Now(), w.s.cpuUsed()
		left += time.Duration(share*float64(now.Sub(last))) - (used - before)
		left = min(left, time.Duration(share*float64(shareSaved)))
		last, before = now, used
		if left < 0 {
			w.pause(time.Duration(float64(-left) / share))
		}
	}
}

// pause freezes the sandbox for so long, unless somebody else has frozen it.
func (w *shareWatch) pause(d time.Duration) {
	if !w.s.freezeMu.TryLock() {
		return
	}
	defer w.s.freezeMu.Unlock()
	if w.s.freeze() != nil {
		return // it has ended
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.s.empty:
	}
	w.s.thaw()
}

// cpuUsed returns what the sandbox's processes have used so far: those that there are by
// their clocks (clock_getcpuclockid(3)), the others as the tracer was told.
func (s *Sandbox) cpuUsed() time.Duration {
	sum := time.Duration(s.usedByDead.Load())
	for _, pid := range s.threads.processes() {
		const scheduler = 2 // CPUCLOCK_SCHED, linux/posix-timers_types.h
		var ts unix.Timespec
		if unix.ClockGettime(int32(^pid<<3|scheduler), &ts) == nil {
			sum += time.Duration(ts.Nano())
		}
	}
	return sum
}

// A cpuAccount is what processes that have ended have used.
type cpuAccount struct{ atomic.Int64 }

// bury notes what a process has used. What its children have used was noted when they
// ended.
func (p *Process) bury(used *unix.Rusage, total *cpuAccount) {
	all := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	total.Add(int64(max(all-p.usedByChildren, 0)))
	if p.parent != nil {
		p.parent.usedByChildren += all
	}
}

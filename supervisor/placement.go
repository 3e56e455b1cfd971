//go:build linux

package supervisor

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandtest/go-sandtest/supervisor/internal/tsc"
	"golang.org/x/sys/unix"
)

// Each stop of a tracee is two wake-ups: of the tracer, and of the tracee again.
// On one CPU that is a switch of context; across two it is many times slower,
// because the other one sleeps meanwhile, and a program under a storm of signals
// doesn't get on at all. So a sandbox that shows one CPU runs on one, tracer
// included, and moves when others keep it from running while another CPU idles.
// The threads that answer its calls are kept there, too. One that shows more runs
// wherever the kernel puts it; there a tracee is on the tracer's CPU while it is made to
// execute calls.
//
// This is a matter of speed alone: where it can't be set, everything works all
// the same.
type placement struct {
	allowed unix.CPUSet // where the supervisor may run
	one     bool        // the sandbox stays on one CPU
	noTSC   bool        // its programs are kept from the time-stamp counter

	mu    sync.Mutex // guards what follows: the check runs on a goroutine of its own
	more  []int      // the tids of other threads of the supervisor that stay with it
	here  unix.CPUSet
	tid   int // the tracer's
	check *time.Timer
	calm  time.Duration // until the next check
	ended bool
	seen  map[int]schedstat
	idle  []uint64 // ticks by CPU
	at    time.Time
}

// place keeps the calling thread, the tracer, and what it starts on the CPU it
// is on.
func (t *tracer) place() {
	p := &t.s.placement
	if unix.SchedGetaffinity(0, &p.allowed) != nil || p.allowed.Count() < 2 || !t.pin() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.one = t.s.cfg.onOneCPU(); p.one {
		p.tid = unix.Gettid()
		p.calm = balanceEvery
		p.check = time.AfterFunc(p.calm, t.balance)
	}
}

func (cfg *Config) onOneCPU() bool {
	return cfg.Spread == SpreadOne || cfg.Spread == SpreadAsShown && cfg.Identity.CPUs == 1
}

// placed ends the pinning at the start of the command pid.
func (t *tracer) placed(pid int) {
	if !t.s.placement.one {
		t.release(pid)
		t.unpin()
	}
}

// leave gives the tracer's thread back as it was.
func (t *tracer) leave() {
	p := &t.s.placement
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.one {
		p.check.Stop()
	}
	if p.here.Count() != 0 {
		t.unpin()
	}
}

// makeNice adds to the priority value of the command pid.
func (t *tracer) makeNice(pid int) error {
	if t.s.cfg.Nice == 0 {
		return nil
	}
	const highest, zero = 19, 20 // what the call returns for 0
	was, err := unix.Getpriority(unix.PRIO_PROCESS, pid)
	if err == nil {
		err = unix.Setpriority(unix.PRIO_PROCESS, pid, min(zero-was+t.s.cfg.Nice, highest))
	}
	if err != nil {
		return fmt.Errorf("set its priority: %w", err)
	}
	return nil
}

// near runs f with the tracee tid on the tracer's CPU.
func (t *tracer) near(tid int, f func() error) error {
	if t.s.placement.one || t.s.placement.allowed.Count() < 2 || !t.pin() {
		return f()
	}
	defer t.unpin()
	_ = unix.SchedSetaffinity(tid, &t.s.placement.here)
	defer t.release(tid)
	return f()
}

// pin keeps the tracer on the CPU it is on.
func (t *tracer) pin() bool {
	cpu, err := currentCPU()
	if err != nil {
		return false
	}
	p := &t.s.placement
	p.here.Zero()
	p.here.Set(cpu)
	return unix.SchedSetaffinity(0, &p.here) == nil
}

func (t *tracer) unpin() { _ = unix.SchedSetaffinity(0, &t.s.placement.allowed) }

// release lets a tracee run wherever the supervisor may. What the program itself
// asks for never reaches the kernel, see processors.go.
func (t *tracer) release(tid int) { _ = unix.SchedSetaffinity(tid, &t.s.placement.allowed) }

// How often a sandbox on one CPU looks whether it gets on: twice as seldom each time that it
// does, within bounds.
const (
	balanceEvery  = 100 * time.Millisecond
	balanceSeldom = 8 * balanceEvery
)

// A schedstat is what a thread got and what it waited for, in nanoseconds
// (Documentation/scheduler/sched-stats.rst).
type schedstat struct{ ran, waited uint64 }

// balance moves the sandbox to the CPU that idles most if others keep it from
// running.
func (t *tracer) balance() {
	p := &t.s.placement
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	defer func() { p.check.Reset(p.calm) }()
	elapsed := uint64(time.Since(p.at))
	p.at = time.Now()
	got := p.sample(t.s.threads.appendAll(nil))
	idle := idleTicks()
	before := p.idle
	p.idle = idle
	if before == nil || len(before) != len(idle) || got.ran > elapsed*7/10 || got.waited < elapsed*3/10 {
		p.calm = min(2*p.calm, balanceSeldom)
		return
	}
	p.calm = balanceEvery
	const tick = uint64(10 * time.Millisecond) // USER_HZ is 100 everywhere
	best, most := -1, elapsed/2/tick
	for cpu, now := range idle {
		if spare := now - before[cpu]; p.allowed.IsSet(cpu) && !p.here.IsSet(cpu) && spare > most {
			best, most = cpu, spare
		}
	}
	if best < 0 {
		return
	}
	p.here.Zero()
	p.here.Set(best)
	for _, tid := range append(p.more, p.tid) {
		_ = unix.SchedSetaffinity(tid, &p.here)
	}
	for moved := -1; moved != 0; { // again for what was created meanwhile
		moved = 0
		for _, th := range t.s.threads.appendAll(nil) {
			var set unix.CPUSet
			if unix.SchedGetaffinity(th.tid, &set) == nil && set != p.here && unix.SchedSetaffinity(th.tid, &p.here) == nil {
				moved++
			}
		}
	}
}

// single reports whether the sandbox stays on one CPU.
func (p *placement) single() bool { return p.one || p.allowed.Count() == 1 }

// join keeps the calling thread of the supervisor where the sandbox is.
func (p *placement) join() { p.add(unix.Gettid()) }

// part ends that.
func (p *placement) part() { p.remove(unix.Gettid()) }

// stay keeps the calling goroutine where the sandbox is until the function that it
// returns is called: the kernel would rather balance what takes turns over two CPUs, and
// each turn is several times dearer then.
func (p *placement) stay() (end func()) {
	if !p.one && !p.noTSC {
		return func() {}
	}
	runtime.LockOSThread()
	p.join()
	p.forbidTSC()
	return func() {
		p.allowTSC()
		p.part()
		if !p.one || unix.SchedSetaffinity(0, &p.allowed) == nil {
			runtime.UnlockOSThread() // otherwise the thread ends with the goroutine
		}
	}
}

// forbidTSC keeps the calling thread of the supervisor from the time-stamp counter as the
// programs are that it takes turns with: each turn is dearer, on some machines, if one may
// read it and the other not.
func (p *placement) forbidTSC() {
	if p.noTSC {
		tsc.Forbid()
	}
}

// allowTSC ends that. What somebody else wrote may start processes, which inherit it.
func (p *placement) allowTSC() {
	if p.noTSC {
		tsc.Allow()
	}
}

// add keeps a thread of the supervisor where the sandbox is.
func (p *placement) add(tid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.one {
		p.more = append(p.more, tid)
		_ = unix.SchedSetaffinity(tid, &p.here)
	}
}

// remove forgets such a thread, which is about to end.
func (p *placement) remove(tid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.more = slices.DeleteFunc(p.more, func(one int) bool { return one == tid })
}

// sample returns what the threads got since the last time.
func (p *placement) sample(list []*thread) (sum schedstat) {
	now := make(map[int]schedstat, len(list))
	for _, th := range list {
		tid := th.tid
		text, err := readKernelFile("/proc/" + strconv.Itoa(tid) + "/schedstat")
		f := strings.Fields(string(text))
		if err != nil || len(f) < 2 {
			continue
		}
		ran, _ := strconv.ParseUint(f[0], 10, 64)
		waited, _ := strconv.ParseUint(f[1], 10, 64)
		now[tid] = schedstat{ran, waited}
		sum.ran += ran - p.seen[tid].ran
		sum.waited += waited - p.seen[tid].waited
	}
	p.seen = now
	return sum
}

// idleTicks returns the idle time of each CPU of the host (proc_stat(5)).
func idleTicks() []uint64 {
	text, err := readKernelFile("/proc/stat")
	if err != nil {
		return nil
	}
	var idle []uint64
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		n, ok := strings.CutPrefix(f[0], "cpu")
		cpu, err := strconv.Atoi(n)
		if !ok || err != nil || len(f) < 5 {
			continue
		}
		for len(idle) <= cpu {
			idle = append(idle, 0)
		}
		idle[cpu], _ = strconv.ParseUint(f[4], 10, 64)
	}
	return idle
}

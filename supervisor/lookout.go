//go:build linux

package supervisor

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A lookout is a thread that gets a CPU when nobody else wants it (SCHED_IDLE,
// sched(7)). On the one CPU of a sandbox it is how the detector learns that everything
// may be waiting: it need not look again and again beside a program that computes, each
// time in that program's way, and hears of the end of it at once.
//
// It says no more than that the CPU was free. Whether everything waits is for the
// detector to find out. It takes no lock that anybody else takes: it might be kept from
// giving it back.
//
// A little of the CPU is given to it beside a program that computes, too: nobody's share
// is nothing. So it doesn't tell while the thread that was last found running still is.
type lookout struct {
	tid     int
	asked   atomic.Uint32 // 1: to tell once
	ended   atomic.Bool
	bell    *bell        // is woken
	busy    atomic.Int32 // the file that tells of that thread (proc_pid_stat(5)), or -1
	scratch [512]byte
}

// post puts a lookout on the sandbox's CPU. It returns nil if the sandbox has several,
// or the kernel refuses the priority.
func (p *placement) post(b *bell) *lookout {
	if !p.single() {
		return nil
	}
	l := &lookout{bell: b}
	l.busy.Store(-1)
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its settings
		p.forbidTSC()
		defer p.allowTSC()
		l.run(ready)
	}()
	if <-ready != nil {
		return nil
	}
	p.add(l.tid)
	return l
}

func (l *lookout) run(ready chan<- error) {
	l.tid = unix.Gettid()
	err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0)
	if ready <- err; err != nil {
		return
	}
	for !l.ended.Load() {
		if l.asked.Load() == 0 {
			futexWait(&l.asked, 0, 0)
			continue
		}
		if l.isBusy() {
			l.spend()
			continue
		}
		l.asked.Store(0)
		l.bell.wake()
	}
}

// isBusy reports whether the thread that was last found running still is. If its file has
// been closed meanwhile, nothing depends on the answer: the detector looks itself when it
// has heard nothing for long.
func (l *lookout) isBusy() bool {
	fd := l.busy.Load()
	return fd >= 0 && taskState(int(fd), l.scratch[:]) == 'R'
}

// spend uses up what was given to this thread of the CPU, so that it is long until there is
// some again: each time it is given a little, the program is interrupted twice.
func (l *lookout) spend() {
	const share = 100 * time.Microsecond
	for began := kernelClock(); l.isBusy() && kernelClock()-began < share; {
	}
}

// kernelClock is the monotonic clock by a system call, for threads that may be kept from the
// counter that a faster one needs.
func kernelClock() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

// end lets the thread end, which it does when it gets a CPU.
func (p *placement) end(l *lookout) {
	if l != nil {
		l.ended.Store(true)
		l.ask()
		p.remove(l.tid)
	}
}

// ask has it tell when the CPU is free.
func (l *lookout) ask() {
	if l.asked.Swap(1) == 0 {
		futexWake(&l.asked)
	}
}

// wait returns when the CPU may be free, and at the latest after patience: beside programs
// outside of the sandbox it may never be. It reports whether it was told so.
func (l *lookout) wait(heard uint32, patience time.Duration) bool {
	l.ask()
	futexWait(&l.bell.rung, heard, patience)
	return l.asked.Load() == 0
}

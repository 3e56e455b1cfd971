//go:build linux

package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A detector finds out when everything in a sandbox waits, and then lets the
// next thing on the agenda happen. It has a thread of its own.
//
// Everything waits at an instant at which every thread is blocked in the kernel
// (state S), has been stopped by job control, or stands in vfork until its child
// executes; no notification is pending or being answered; and no stop waits for
// the tracer (state t). A thread in disk sleep (D) isn't idle.
//
// States are read one after another. That is a picture of one instant if no thread has
// run in between, which the kernel counts (/proc/PID/schedstat). It isn't enough that the
// detector has had the sandbox's CPU to itself: a process that is made while the sandbox
// moves to another one may be left behind.
//
// A thread's state alone doesn't tell that it is blocked: on its way into a wait it
// takes on the state first and looks once more whether there is something to wait
// for, and the detector, which runs on its CPU, may have interrupted it there. So each
// thread that has run since is looked at through /proc/PID/syscall, where the kernel
// waits until it has left its CPU (wait_task_inactive, kernel/sched/core.c).
type detector struct {
	s      *Sandbox
	agenda *agenda
	tasks  map[int]*task
	self   *task

	receiver *task // of the thread tid, which waits for the next call
	tid      int32
	order    []*thread // scratch
	busy     *thread   // was last found running
	pause    time.Duration
	lookout  *lookout
	alone    bool          // there can't be a lookout
	told     bool          // by the lookout that the CPU is free
	untold   int           // how often it hasn't told in time since it last has
	jumps    int           // so far
	since    time.Duration // when the last one was, or there was nothing to jump to
	deadlock []BlockedThread
	ended    atomic.Bool
	done     chan struct{}
}

// Pauses between two looks at a sandbox that isn't idle.
const (
	shortestPause = 15 * time.Microsecond
	longestPause  = 400 * time.Microsecond
	lookoutPause  = 100 * time.Microsecond // longer ones are worth a lookout
	lookoutJumps  = 3                      // and so are more jumps
	longestBusy   = 100 * time.Millisecond
	looksAtBusy   = 32 // without a lookout, while it is busy for as long again as it was, up to longestBusy
)

func (s *Sandbox) detect() *detector {
	d := &detector{s: s, agenda: s.agenda, tasks: map[int]*task{}, done: make(chan struct{})}
	go d.run()
	return d
}

// punctual has the calling goroutine woken in time until the function that it returns is called.
func punctual() (end func()) {
	const least, usual = 1, 0 // nanoseconds; PR_SET_TIMERSLACK(2const)
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, least, 0, 0, 0)
	return func() {
		if unix.Prctl(unix.PR_SET_TIMERSLACK, usual, 0, 0, 0) == nil {
			runtime.UnlockOSThread() // otherwise the thread ends with the goroutine
		}
	}
}

func (d *detector) end() {
	d.ended.Store(true)
	d.agenda.bell.wake()
	<-d.done
}

func (d *detector) run() {
	defer close(d.done)
	growStack()
	defer punctual()()
	defer d.s.placement.stay()()
	defer func() {
		for _, t := range d.tasks {
			t.close()
		}
		d.self.close()
		d.receiver.close()
	}()
	if d.self = openTask(d.s, "/proc/thread-self"); d.s.hasFailed() {
		return
	}
	if d.self.runs() == 0 {
		d.s.fail(errors.New("supervisor: /proc/PID/schedstat doesn't tell how often a thread has run, so nobody can know when everything waits: " +
			"the virtual clock needs a kernel with CONFIG_SCHEDSTATS; without it, use the running clock"))
		return
	}
	defer func() { d.s.placement.end(d.lookout) }()
	d.pause, d.since = shortestPause, kernelClock()
	for {
		// First the bell, then what it may have rung for: the other way round, the end
		// could come in between and never be heard of.
		heard := d.agenda.bell.heard()
		switch {
		case d.ended.Load():
			return
		case !d.agenda.pending():
			d.watch(heard)
			d.pause, d.since, d.told = shortestPause, kernelClock(), false
			continue
		case d.idle() && d.enlist() && d.goOn():
			d.pause, d.told = shortestPause, false
		}
		d.rest(heard)
	}
}

// goOn lets the next thing happen. Who is woken by it is looked at first.
func (d *detector) goOn() bool {
	wakes, ok := d.agenda.next()
	if wakes != nil {
		d.busy = wakes
	}
	d.jumps++
	d.since = kernelClock()
	return ok
}

// rest waits until everything may be waiting. What has just been woken mostly waits
// again soon, and so does, after a long pause, what is new on the agenda. A sandbox that
// has been found busy for longer, or often, gets a lookout, if it can have one: then it is
// enough to look again when the CPU is free, and now and then beside programs outside of
// the sandbox that want it too. What waits for something else than the CPU, a disk say,
// leaves it free and isn't idle; there, and without a lookout, looks are the further apart
// the more there have been, and without one also the longer nothing has happened: a program that
// has computed for long waits a thirtieth of that longer for its first sleep to end.
func (d *detector) rest(heard uint32) {
	if d.lookout == nil && !d.alone && (d.pause > lookoutPause || d.jumps > lookoutJumps) {
		d.lookout = d.s.placement.post(&d.agenda.bell)
		d.alone = d.lookout == nil
	}
	if d.lookout == nil || d.told {
		if d.agenda.bell.wait(heard, d.pause) && d.pause > briefly {
			d.pause = shortestPause
		} else {
			d.pause = min(2*d.pause, max(longestPause, min(kernelClock()-d.since, longestBusy)/looksAtBusy))
		}
	}
	if d.lookout != nil {
		d.lookout.busy.Store(d.busyFile())
		if d.told = d.lookout.wait(heard, d.patience()); d.told {
			d.untold = 0
		} else {
			d.untold++
		}
		d.pause = min(2*d.pause, longestPause)
	}
}

// patience is how long the lookout may take. Beside a program that computes it is the
// longer, the longer that goes on.
func (d *detector) patience() time.Duration {
	const longest, least = 20 * time.Millisecond, 5
	return min(least*d.pause<<min(d.untold, 10), longest)
}

// busyFile returns what tells of the thread that was last found running, -1 if nothing
// does.
func (d *detector) busyFile() int32 {
	if th := d.busy; th != nil && d.s.threads.get(th.tid) == th {
		if t := d.task(th); t != nil {
			return int32(t.stat)
		}
	}
	return -1
}

// Pauses between two looks for a deadlock.
const (
	shortestWatch = 5 * time.Millisecond
	longestWatch  = 160 * time.Millisecond
)

// watch waits until there is something on the agenda, and ends the sandbox if it
// is deadlocked.
func (d *detector) watch(heard uint32) {
	pause := shortestWatch
	if d.s.socketTimeouts.Load() {
		pause = shortestPause
	}
	for ; !d.agenda.bell.wait(heard, pause); pause = min(2*pause, longestWatch) {
		if d.deadlock != nil || !d.s.waited.Load() && !d.s.socketTimeouts.Load() || !d.idle() || !d.enlist() {
			continue
		}
		if !d.s.waited.Load() {
			continue
		}
		// The last look is at the agenda: something may have been put on it after the
		// bell was listened for, and while everything waits nothing is.
		if list := d.deadlocked(); list != nil && d.idle() && !d.agenda.pending() {
			d.deadlock = list
			d.s.Kill()
			return
		}
	}
}

// idle reports whether everything in the sandbox waits.
func (d *detector) idle() bool {
	received, quiet := d.quiet()
	if !quiet || !d.still() {
		return false
	}
	again, quiet := d.quiet()
	return quiet && again == received
}

// quiet reports whether no call is being received or answered, and how many have
// been received. One that the kernel is just handing over shows in the inbox or,
// for a moment before that, in the state of the receiver's thread. A call moves on while
// this looks, so it is looked for in the order in which it does.
func (d *detector) quiet() (received uint64, ok bool) {
	rs := d.s.receivers
	received = rs.received.Load()
	if rs.listener.Pending() || d.s.netlinks.working() || d.s.feeds.working() {
		return received, false
	}
	if tid := rs.tid.Load(); d.receiver == nil || d.tid != tid {
		d.receiver.close()
		d.receiver, d.tid = openTask(d.s, "/proc/self/task/"+strconv.Itoa(int(tid))), tid
	}
	if c := rs.inbox.Load(); c == nil || d.receiver == nil || d.receiver.state() != 'S' || c.filled() {
		return received, false
	}
	return received, rs.open.Load() == 0 && rs.received.Load() == received
}

// still reports whether there was an instant at which every thread was blocked, and had
// left its CPU. That was when the first was found blocked after all had been seen off
// their CPUs, if none has run since, and none was made in the meantime.
func (d *detector) still() bool {
	added := d.s.threads.added.Load()
	d.order = d.s.threads.appendAll(d.order[:0])
	return d.allStill() && added == d.s.threads.added.Load()
}

func (d *detector) allStill() bool {
	if th := d.busy; th != nil && d.s.threads.get(th.tid) == th && !d.settle(th) {
		return false
	}
	return d.all(d.settle) && d.all(d.waits) && d.all(d.settled)
}

// all reports whether something is true of each thread. It remembers of which it isn't.
func (d *detector) all(is func(*thread) bool) bool {
	for _, th := range d.order {
		if !is(th) {
			d.busy = th
			return false
		}
	}
	return true
}

// settled reports whether a thread hasn't run since it was last seen blocked and off its
// CPU.
func (d *detector) settled(th *thread) bool {
	t := d.task(th)
	return t != nil && t.settled != 0 && t.runs() == t.settled
}

// settle reports whether a thread has been seen blocked and off its CPU, and hasn't run
// since.
func (d *detector) settle(th *thread) bool {
	t := d.task(th)
	runs := t.runs()
	if runs == 0 {
		return false
	}
	if runs == t.settled {
		return true
	}
	if !d.waits(th) || !t.off() || t.runs() != runs {
		return false
	}
	t.settled = runs
	return true
}

func (d *detector) waits(th *thread) bool {
	t := d.task(th)
	if t == nil {
		return false // it has ended, and the tracer will hear of it
	}
	switch t.state() {
	case 'S':
		return true
	case 't', 'T':
		return th.listening.Load()
	case 'D':
		if th.delayed.Load() {
			return true
		}
		child := th.vfork.Load()
		return child != nil && !child.released.Load()
	case 'Z':
		return th.tid == th.proc.TGID && d.goesOn(th.proc, th)
	}
	return false
}

// goesOn reports whether a process has a thread other than one.
func (d *detector) goesOn(p *Process, one *thread) bool {
	for _, th := range d.order {
		if th.proc == p && th != one {
			return true
		}
	}
	return false
}

// task returns the files of a thread, nil if it is gone.
func (d *detector) task(th *thread) *task {
	t := d.tasks[th.tid]
	if t != nil && t.of == th {
		return t
	}
	if t != nil {
		t.close() // of a thread that had the number before
		delete(d.tasks, th.tid)
	}
	const gone = 4 // about how many may be remembered
	if len(d.tasks) > len(d.order)+gone {
		d.forget()
	}
	if t = openTask(d.s, th.taskDir()); t != nil {
		t.of = th
		d.tasks[th.tid] = t
	}
	return t
}

// forget closes the files of threads that are gone.
func (d *detector) forget() {
	for tid, t := range d.tasks {
		if d.s.threads.get(tid) != t.of {
			t.close()
			delete(d.tasks, tid)
		}
	}
}

// A task reads what the kernel tells of a thread (proc_pid_stat(5)).
type task struct {
	s           *Sandbox
	of          *thread
	stat, sched int
	call        int // -1 until it is needed
	enlisted    uint64
	settled     uint64 // how often it had run when it was last seen off its CPU
	dir         string
	buf         [512]byte
}

// openTask opens what the kernel tells of a thread in a directory. It returns nil if the thread is
// gone, or s fails, if it isn't nil, as there is no descriptor left: who can't look at a thread
// would never know that it waits.
func openTask(s *Sandbox, dir string) *task {
	t := &task{s: s, stat: -1, sched: -1, call: -1, dir: dir}
	if !t.open(&t.stat, "/stat") || !t.open(&t.sched, "/schedstat") {
		t.close()
		return nil
	}
	return t
}

func (t *task) open(fd *int, name string) bool {
	var err error
	if *fd, err = unix.Open(t.dir+name, unix.O_RDONLY|unix.O_CLOEXEC, 0); t.s != nil && isShortage(err) {
		t.s.fail(fmt.Errorf("supervisor: see whether a thread waits: open %s%s: %w", t.dir, name, err))
	}
	return err == nil
}

func (t *task) close() {
	if t == nil {
		return
	}
	for _, fd := range []int{t.stat, t.sched, t.call} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// off reports whether the thread is in a call, or stopped, and doesn't have a CPU. It
// waits for a thread that is about to leave its own.
func (t *task) off() bool {
	if t.call < 0 && !t.open(&t.call, "/syscall") {
		return false
	}
	n, err := unix.Pread(t.call, t.buf[:], 0)
	if err == unix.EPERM || err == unix.EACCES {
		return true // a program that lets nobody look into it: nothing better is known
	}
	return err == nil && n > 0 && !bytes.HasPrefix(t.buf[:n], []byte("running"))
}

// state returns the letter of the thread's state, 0 if it is gone.
func (t *task) state() byte { return taskState(t.stat, t.buf[:]) }

func taskState(fd int, buf []byte) byte {
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return 0
	}
	// After the name in parentheses, which may contain any byte.
	i := bytes.LastIndexByte(buf[:max(n, 0)], ')') + 2
	if i < 2 || i >= n {
		return 0
	}
	return buf[i]
}

// runs returns how often the thread has been given a CPU, 0 if that isn't known.
func (t *task) runs() (runs uint64) {
	if t == nil {
		return 0
	}
	n, err := unix.Pread(t.sched, t.buf[:], 0)
	if err != nil {
		return 0
	}
	// It is the third and last number of the line.
	line := bytes.TrimSuffix(t.buf[:max(n, 0)], []byte("\n"))
	for _, c := range line[bytes.LastIndexByte(line, ' ')+1:] {
		runs = 10*runs + uint64(c-'0')
	}
	return runs
}

// taskDir is where the kernel tells of the thread alone: that is several times
// faster than what /proc/TID says, which sums up the whole process.
func (th *thread) taskDir() string {
	return "/proc/" + strconv.Itoa(th.proc.TGID) + "/task/" + strconv.Itoa(th.tid)
}

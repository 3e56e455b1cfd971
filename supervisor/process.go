//go:build linux

package supervisor

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// A Process is one process (thread group) of a sandbox. The tracer creates and
// ends it; what receivers use of it is guarded by mu or belongs to a feature's
// own lock.
type Process struct {
	TGID    int // by the host's number
	Lineage det.Lineage

	supervisor int         // whom it sees as the sender of the supervisor's signals: 0 from outside of its namespace
	fail       func(error) // ends the sandbox

	parent *Process      // nil for the command
	inner  atomic.Int32  // its number in the sandbox, 0 until it is needed; see Sandbox.innerOf
	born   time.Duration // where the clock stood
	vdso   atomic.Uint64 // where the vDSO lies, 0 if hidden
	callAt atomic.Uint64 // see callSite

	order    []int32       // Lineage as numbers
	released atomic.Bool   // it has executed a program or ended: a vfork goes on
	region   atomic.Uint64 // where the clock page lies, 0 if it isn't mapped

	// The tracer's own.
	children int // processes created so far
	// usedByChildren is the CPU time of those that have ended.
	usedByChildren time.Duration
	started        int          // threads created so far
	alive          atomic.Int32 // of them
	execs          uint64       // programs executed so far
	naps           bool         // its program's runtime naps, see naps.go
	stopped        bool         // by job control, until SIGCONT was delivered
	handover       atomic.Pointer[handover]
	program        atomic.Pointer[string] // the path that it was executed by
	rooms          *rooms                 // in its memory

	mu    sync.Mutex
	pidfd int // 0 until somebody needs it
	gone  bool
	lent  map[int]*lent // by its threads

	ephemerals uint32 // how many ports it was given; guarded by loopbacks.mu, or netspace.mu

	loader atomic.Uint64 // where the dynamic linker lies, 0 if there is none

	looked atomic.Uint64 // at how many files without a name it was the first to look

	hidden atomic.Bool // it has asked that nobody looks into it
	open   atomic.Bool // it has asked that others may, since it has executed its program

	asks asks

	random processRandom
	faults faultCounts
	dirs   processDirs

	timers  atomic.Bool // it has or had timers
	itimers itimers
	posix   processTimers
	meter   meter // the agenda's
	reads   reads
}

func newProcess(tgid int, parent *Process, born time.Duration) *Process {
	p := &Process{TGID: tgid, Lineage: det.Root, parent: parent, born: born, rooms: new(rooms)}
	if parent != nil {
		parent.children++
		p.Lineage = parent.Lineage.Child(parent.children)
		p.order = append(slices.Clone(parent.order), int32(parent.children))
		p.supervisor, p.fail = parent.supervisor, parent.fail
		p.naps = parent.naps
		p.program.Store(parent.program.Load())
		p.rooms = parent.rooms // it may share the memory
		p.region.Store(parent.region.Load())
		p.vdso.Store(parent.vdso.Load())
		p.callAt.Store(parent.callAt.Load())
		p.hidden.Store(parent.hidden.Load())
		p.open.Store(parent.open.Load())
		p.loader.Store(parent.loader.Load())
		p.asks.inherit(&parent.asks)
	}
	return p
}

// fd returns a descriptor of the supervisor for the same open file as descriptor
// fd of the process's thread tid (pidfd_getfd(2), Linux 5.6). EBADF is the
// process's own mistake.
func (p *Process) fd(tid int, fd int32) (int, error) {
	own, err := p.fdIfLent(tid, fd)
	if err == errNotLent {
		p.fail(fmt.Errorf("supervisor: look at descriptor %d of process %s: %w", fd, p.Lineage, err))
	}
	return own, err
}

// fdIfLent is fd for those that can do without: the error is errNotLent where the process would
// have to lend it, and hasn't (lending.go).
func (p *Process) fdIfLent(tid int, fd int32) (int, error) {
	if mustLend() {
		return p.lentFD(tid, fd)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return -1, unix.ESRCH
	}
	if fd < 0 {
		return -1, unix.EBADF
	}
	pidfd, err := p.pidfdLocked()
	if err != nil {
		return -1, err
	}
	got, err := unix.PidfdGetfd(pidfd, int(fd), 0)
	if err != unix.ESRCH || tid == p.TGID {
		return got, err
	}
	// The leader has ended and has no files any more, the thread goes on.
	const pidfdThread = unix.O_EXCL // PIDFD_THREAD, Linux 6.9
	pidfd, err = unix.PidfdOpen(tid, pidfdThread)
	if err != nil {
		return -1, fmt.Errorf("pidfd_open(%d, PIDFD_THREAD): %w", tid, err)
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, int(fd), 0)
}

// look tells of an open file of the process's as fstat(2) does, and F_GETFL unless flags is
// nil. Nobody whom this process starts gets the file open meanwhile: it would keep it locked, or from being
// executed.
func (p *Process) look(tid int, fd int32, flags *int) (st unix.Stat_t, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	own, err := p.fd(tid, fd)
	if err != nil {
		return st, err
	}
	defer unix.Close(own)
	if flags != nil {
		if *flags, err = unix.FcntlInt(uintptr(own), unix.F_GETFL, 0); err != nil {
			return st, err
		}
	}
	return st, unix.Fstat(own, &st)
}

// pidfdLocked returns a descriptor of the process (pidfd_open(2), Linux 5.3); p.mu is held.
func (p *Process) pidfdLocked() (int, error) {
	if p.pidfd != 0 {
		return p.pidfd, nil
	}
	pidfd, err := unix.PidfdOpen(p.TGID, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_open(%d): %w", p.TGID, err)
	}
	p.pidfd = pidfd
	return pidfd, nil
}

// pin makes sure that signals reach the process, and no later one of the same number.
func (p *Process) pin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.pidfdLocked()
	return err
}

// signal sends the process a signal.
func (p *Process) signal(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return os.ErrProcessDone
	}
	pidfd, err := p.pidfdLocked()
	if err != nil {
		return err
	}
	return unix.PidfdSendSignal(pidfd, sig, nil, 0)
}

// ended reports whether the process is no more.
func (p *Process) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// end releases what is held for a process that is no more.
func (p *Process) end() {
	p.dirs.drop()
	p.released.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	if p.pidfd != 0 {
		unix.Close(p.pidfd)
		p.pidfd = 0
	}
	for _, l := range p.lent {
		l.close()
	}
	p.lent = nil
}

// A thread is one thread of a process. Its fields belong to the tracer unless
// they say otherwise.
type thread struct {
	tid   int          // by the host's number
	inner atomic.Int32 // the one in the sandbox, 0 until it is needed; see Sandbox.inner
	proc  *Process
	index int // among the process's threads, in the order of creation from 1
	born  time.Duration

	listening atomic.Bool             // it is stopped by job control
	noTSC     atomic.Bool             // it has forbidden itself rdtsc
	lastTSC   uint64                  // what it has read last
	sleeps    atomic.Pointer[wait]    // the sleep it is in, which the kernel knows as another call
	vfork     atomic.Pointer[Process] // the last child for which it stood in vfork

	delayed    atomic.Bool  // its call is held back until the clock has moved
	delay      entry        // that
	arming     atomic.Bool  // it executes calls for the tracer
	onExit     func(*Stop)  // what waits for the end of the call it is in
	goneOn     *goneOn      // a wait that no handler has ended, see waits.go
	wait       waiting      // the wait it is in
	waited     func(*Stop)  // ends that
	socket     socketWait   // the wait with a socket's timeout that it is in
	room       int          // its room in the program's memory, counted from 1
	naps       naps         // the agenda's
	retryCount int          // see retried
	monitor    bool         // it is the monitor of Go's runtime
	meter      meter        // the agenda's
	pokes      atomic.Int32 // SIGSTOPs on their way that are the supervisor's

	affinity threadAffinity
	batch    atomic.Bool                 // it has asked for SCHED_BATCH
	fs       atomic.Pointer[fsState]     // its working directory and umask
	creds    atomic.Pointer[credentials] // nil when they are to be read anew
	slot     int                         // where it has the arguments of execve, counted from 1
	slotIn   *rooms
	forks    bool                  // it makes a thread or process, with a limit to them
	places   [placeKinds]int       // which places it has, counted from 1
	again    atomic.Pointer[again] // a call that it is to make anew
	takes    atomic.Pointer[handover]
	lending  atomic.Pointer[lendingCall] // it makes calls to lend descriptors
	execName string                      // what it has asked execve for, if the kernel was told something else
	execPath string                      // what that is, from the root
	traced   *traced                     // the call that it is in, where the trace is to be told of its end

	executes executed                  // the program that it is to execute
	judged   atomic.Pointer[judgement] // of the call that it is in
	argv     *judgedArgv               // of the program that it executes, nil if nobody has judged them
	script   []string                  // if that is a script, the arguments before its own

	interrupted *traced // the call that a signal has interrupted; belongs to the trace

	shield shield // against signals while a call waits for its receiver
}

// newThread names the next thread of a process.
func (p *Process) newThread(tid int, born time.Duration) *thread {
	p.started++
	return &thread{tid: tid, proc: p, index: p.started, born: born}
}

// threads finds the threads of a sandbox by tid. The tracer writes, receivers
// read.
type threads struct {
	mu    sync.RWMutex
	m     map[int]*thread
	added atomic.Uint64 // so far
}

func (ts *threads) get(tid int) *thread {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	return ts.m[tid]
}

// appendAll appends all threads to list.
func (ts *threads) appendAll(list []*thread) []*thread {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	for _, th := range ts.m {
		list = append(list, th)
	}
	return list
}

func (ts *threads) count() int {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	return len(ts.m)
}

// processes returns the pids of all processes.
func (ts *threads) processes() (list []int) {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	for tid, th := range ts.m {
		if tid == th.proc.TGID {
			list = append(list, tid)
		}
	}
	return list
}

func (ts *threads) add(th *thread) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.m[th.tid] = th
	ts.added.Add(1)
	th.proc.alive.Add(1)
}

func (ts *threads) remove(tid int) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if th := ts.m[tid]; th != nil {
		th.proc.alive.Add(-1)
		delete(ts.m, tid)
	}
}

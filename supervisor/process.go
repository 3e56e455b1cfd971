//go:build linux

package supervisor

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// A Process is one process (thread group) of a sandbox. The tracer creates and
// ends it; what receivers use of it is guarded by mu or belongs to a feature's
// own lock.
type Process struct {
	TGID    int
	Lineage det.Lineage

	parent *Process      // nil for the command
	born   time.Duration // where the clock stood
	vdso   atomic.Uint64 // where the vDSO lies, 0 if hidden

	rootChanged atomic.Bool // it may have called chroot

	// The tracer's own.
	children int    // processes created so far
	execs    uint64 // programs executed so far
	napped   int    // short sleeps since the clock has moved, see waits.go
	napsAt   time.Duration

	mu    sync.Mutex
	pidfd int // 0 until somebody needs it
	gone  bool

	random processRandom
	dirs   processDirs
}

func newProcess(tgid int, parent *Process, born time.Duration) *Process {
	p := &Process{TGID: tgid, Lineage: det.Root, parent: parent, born: born}
	if parent != nil {
		parent.children++
		p.Lineage = parent.Lineage.Child(parent.children)
		p.vdso.Store(parent.vdso.Load())
		p.rootChanged.Store(parent.rootChanged.Load())
	}
	return p
}

// fd returns a descriptor of the supervisor for the same open file as descriptor
// fd of the process's thread tid (pidfd_getfd(2), Linux 5.6). EBADF is the
// process's own mistake.
func (p *Process) fd(tid int, fd int32) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return -1, unix.ESRCH
	}
	if fd < 0 {
		return -1, unix.EBADF
	}
	if p.pidfd == 0 {
		pidfd, err := unix.PidfdOpen(p.TGID, 0)
		if err != nil {
			return -1, fmt.Errorf("pidfd_open(%d): %w", p.TGID, err)
		}
		p.pidfd = pidfd
	}
	got, err := unix.PidfdGetfd(p.pidfd, int(fd), 0)
	if err != unix.ESRCH || tid == p.TGID {
		return got, err
	}
	// The leader has ended and has no files any more, the thread goes on.
	const pidfdThread = unix.O_EXCL // PIDFD_THREAD, Linux 6.9
	pidfd, err := unix.PidfdOpen(tid, pidfdThread)
	if err != nil {
		return -1, fmt.Errorf("pidfd_open(%d, PIDFD_THREAD): %w", tid, err)
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, int(fd), 0)
}

// end releases what is held for a process that is no more.
func (p *Process) end() {
	p.dirs.drop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	if p.pidfd != 0 {
		unix.Close(p.pidfd)
		p.pidfd = 0
	}
}

// A thread is one thread of a process. Its fields belong to the tracer unless
// they say otherwise.
type thread struct {
	tid  int
	proc *Process
	born time.Duration

	arming atomic.Bool // it executes calls for the tracer
	onExit func(*Stop) // what waits for the end of the call it is in
	inside bool        // onExit is set and the thread is inside the call
	goneOn *goneOn     // a wait that no handler has ended, see waits.go

	affinity threadAffinity

	shield shield // against signals while a call waits for its receiver
}

// threads finds the threads of a sandbox by tid. The tracer writes, receivers
// read.
type threads struct {
	mu sync.RWMutex
	m  map[int]*thread
}

func (ts *threads) get(tid int) *thread {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	return ts.m[tid]
}

// all returns the tids.
func (ts *threads) all() []int {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	return slices.Collect(maps.Keys(ts.m))
}

func (ts *threads) add(th *thread) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.m[th.tid] = th
}

func (ts *threads) remove(tid int) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.m, tid)
}

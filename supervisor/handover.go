//go:build linux

package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// A descriptor is put into a process in the place of another by the answer to a call of
// its own. One that makes no call is poked, and at the stop it is let make one that is
// nobody's business, flock of nothing, before it goes on with what it was at.

// A handover is an open file that a process is to have in the place of another.
type handover struct {
	of   *Process // one that has the other,
	fd   int32    // where,
	st   *unix.Stat_t
	own  int // the supervisor's
	done chan error
}

// handovers are those of a sandbox. One call at a time replaces descriptors; others that
// want to wait here, and take what is handed over by the call that they are in.
type handovers struct {
	busy sync.Mutex

	mu      sync.Mutex
	waiting []*Call
}

// of returns a call in which a process waits here, nil if there is none.
func (hs *handovers) of(p *Process) *Call {
	if i := slices.IndexFunc(hs.waiting, func(c *Call) bool { return c.Process == p }); i >= 0 {
		return hs.waiting[i]
	}
	return nil
}

// enter waits until nobody else replaces descriptors.
func (hs *handovers) enter(c *Call) (leave func()) {
	c.Yield()
	hs.mu.Lock()
	hs.waiting = append(hs.waiting, c)
	hs.mu.Unlock()
	hs.busy.Lock()
	return func() {
		hs.mu.Lock()
		hs.waiting = slices.DeleteFunc(hs.waiting, func(other *Call) bool { return other == c })
		hs.mu.Unlock()
		hs.busy.Unlock()
	}
}

// take puts the file into the process that waits in a call, wherever that has the other.
func (h *handover) take(c *Call) error {
	same, err := c.Process.descriptorsOf(h.of, h.fd, h.st)
	if err != nil {
		return err
	}
	for n, cloexec := range same {
		add := seccomp.AddFD{ID: c.n.ID, SrcFD: uint32(h.own), Flags: seccomp.AddFDSetFD, NewFD: uint32(n)}
		if cloexec {
			add.NewFDFlags = unix.O_CLOEXEC
		}
		if _, err := c.rs.listener.AddFD(&add); err != nil {
			return err
		}
	}
	return nil
}

// handOver hands a file over to another process than the caller's. The error is ENOLCK
// where that doesn't come to a point where it could take them.
func (c *Call) handOver(to *Process, over handover) error {
	h := &over
	h.done = make(chan error, 1)
	hs := &c.s.handovers
	const most = 5 * time.Second // a process that waits for a lock of the host's, say
	late := time.NewTimer(most)
	defer late.Stop()
	to.handover.Store(h) // one at a time replaces descriptors
	for {
		if to.ended() {
			return unix.ESRCH
		}
		hs.mu.Lock()
		if waits := hs.of(to); waits != nil && to.handover.CompareAndSwap(h, nil) {
			err := h.take(waits) // it isn't answered as long as this goes on
			hs.mu.Unlock()
			return err
		}
		hs.mu.Unlock()
		if th := c.s.threads.get(to.TGID); th != nil && !th.listening.Load() && th.pokes.Load() == 0 && to.handover.Load() == h {
			th.poke()
		}
		const again = time.Millisecond
		select {
		case err := <-h.done:
			return err
		case <-c.s.empty:
			return unix.EINTR
		case <-late.C:
			if to.handover.CompareAndSwap(h, nil) {
				return unix.ENOLCK
			} // otherwise it is being taken
		case <-time.After(again):
		}
	}
}

// handOver lets a thread that was poked take what is handed over to its process, before it
// goes on. It reports false if it can't, where it stands.
func (t *tracer) handOver(th *thread, regs *tracee.Regs) bool {
	h := th.proc.handover.Load()
	if h == nil || th.onExit != nil || th.again.Load() != nil || !th.proc.handover.CompareAndSwap(h, nil) {
		return false
	}
	given, own := *regs, *regs
	at, err := callIn(th.tid)
	mask := uint64(0)
	if err == nil {
		mask, err = tracee.Sigmask(th.tid)
	}
	if err == nil {
		err = tracee.SetSigmask(th.tid, ^uint64(0))
	}
	if err != nil {
		h.done <- err
		return false
	}
	th.takes.Store(h)
	own.SetPC(at + tracee.CallSize)
	own.SetArg(0, ^uint64(0))
	own.SetArg(1, unix.LOCK_SH)
	own.CallAgain(unix.SYS_FLOCK)
	_ = own.Store(th.tid) // it fails only when the thread was killed
	var ended func(*Stop)
	ended = func(st *Stop) {
		if st.Result() == -int64(unix.ENOSYS) || interrupted(st.Result()) && th.takes.Load() != nil { // its entry, or it is made anew
			st.OnExit(ended)
			return
		}
		th.takesNothing()                   // unless somebody has received it
		_ = tracee.SetSigmask(th.tid, mask) // it fails only when the thread was killed, too
		back := given
		switch r := given.Result(); {
		case given.Nr() < 0 || given.Nr() == unix.SYS_CLOSE || !interrupted(r):
		case r == -erestartblock:
			back.CallAgain(unix.SYS_RESTART_SYSCALL)
		default:
			back.CallAgain(given.Nr())
		}
		_ = back.Store(th.tid)
	}
	th.onExit = ended
	return true
}

// takesNothing gives up what the thread was to take.
func (th *thread) takesNothing() {
	if h := th.takes.Swap(nil); h != nil {
		h.done <- unix.ENOLCK
	}
}

// callIn returns where a process has an instruction that makes a system call, in the vDSO.
func callIn(tid int) (uint64, error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", tid))
	if err != nil {
		return 0, err
	}
	defer maps.Close()
	start, end, err := vdso.FindRange(maps)
	if err != nil {
		return 0, err
	}
	code := make([]byte, end-start)
	if err := tracee.ReadMem(tid, start, code); err != nil {
		return 0, err
	}
	at := bytes.Index(code, tracee.CallCode)
	if at < 0 {
		return 0, unix.ENOLCK
	}
	return start + uint64(at), nil
}

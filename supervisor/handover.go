//go:build linux

package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
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

// A handover is an open file that a process is to have in the place of another, both to
// read. The descriptors are the supervisor's.
type handover struct {
	old  int
	st   *unix.Stat_t // of old
	own  int
	late bool // own is set to where old stands when it is taken
	done chan error
}

// newHandover begins the replacement of what a descriptor of the supervisor's is of, which it
// takes, with what open returns for its flags. It returns nil where there is nothing to
// replace: what isn't only read is the layer's already, or the host's on purpose.
func newHandover(old int, open func(st *unix.Stat_t, flags int) (own int, err error)) (*handover, error) {
	h := &handover{old: old, own: -1, st: new(unix.Stat_t)}
	flags, err := unix.FcntlInt(uintptr(old), unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(old, h.st)
	}
	if err == nil && mayBeDetached(h.st, flags) {
		h.own, err = open(h.st, flags)
	}
	if err != nil || h.own < 0 {
		h.close()
		return nil, err
	}
	return h, nil
}

// mayBeDetached reports whether an open file may be one of the host's.
func mayBeDetached(st *unix.Stat_t, flags int) bool {
	return flags&unix.O_PATH == 0 && flags&unix.O_ACCMODE == unix.O_RDONLY && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// position sets the one open file to where the other stands.
func (h *handover) position() error {
	at, err := unix.Seek(h.old, 0, unix.SEEK_CUR)
	if err == nil {
		_, err = unix.Seek(h.own, at, unix.SEEK_SET)
	}
	return err
}

func (h *handover) close() {
	unix.Close(h.old)
	if h.own >= 0 {
		unix.Close(h.own)
	}
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
	same, err := c.Process.descriptorsOf(h)
	if err != nil || len(same) == 0 {
		return err
	}
	if h.late {
		if err := h.position(); err != nil {
			return err
		}
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
func (c *Call) handOver(to *Process, over handover, until time.Time) error {
	h := &over
	h.done = make(chan error, 1)
	hs := &c.s.handovers
	late := time.NewTimer(time.Until(until))
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
		th := c.s.threads.get(to.TGID)
		stuck := c.standsInVfork(to) || th != nil && th.listening.Load()
		if stuck && to.handover.CompareAndSwap(h, nil) {
			return unix.ENOLCK
		}
		if th != nil && th.pokes.Load() == 0 && to.handover.Load() == h {
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
	at, err := th.proc.callSite(th.tid)
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

// standsInVfork reports whether a process waits for the caller, which runs in its memory, and
// so does nothing else.
func (c *Call) standsInVfork(p *Process) bool {
	th := c.s.threads.get(p.TGID)
	return th != nil && th.vfork.Load() == c.Process && !c.Process.released.Load()
}

// replace puts another open file into the place of one, wherever the sandbox has it. ENOLCK
// means that some process can't be given it.
func (c *Call) replace(h handover) error {
	const most = 5 * time.Second // a process that waits for a lock of the host's, say
	late := time.Now().Add(most)
	own := os.Getpid()
	if !sameFile(own, h.old, h.old) {
		return unix.ENOLCK // the kernel has no kcmp
	}
	for again := true; again; { // for who was created meanwhile by one that hadn't been given it yet
		again = false
		for _, pid := range c.s.threads.processes() {
			th := c.s.threads.get(pid)
			if th == nil || th.proc == c.Process {
				continue
			}
			same, err := th.proc.descriptorsOf(&h)
			if err == nil && len(same) > 0 {
				err = c.handOver(th.proc, h, late)
				again = true
			}
			if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) && !th.proc.ended() {
				return unix.ENOLCK
			}
		}
	}
	return h.take(c)
}

// descriptorsOf returns which descriptors of p are the open file that is to be replaced, and
// whether each is closed on exec.
func (p *Process) descriptorsOf(h *handover) (same map[int32]bool, err error) {
	all, err := p.descriptorsTo(h.st.Dev, h.st.Ino)
	for n, cloexec := range all {
		if !sameFile(p.TGID, int(n), h.old) {
			continue
		}
		if same == nil {
			same = map[int32]bool{}
		}
		same[n] = cloexec
	}
	return same, err
}

// descriptorsTo returns which descriptors of p are of a file of the host's, and whether each
// is closed on exec.
func (p *Process) descriptorsTo(dev, ino uint64) (same map[int32]bool, err error) {
	dir := fmt.Sprintf("/proc/%d/fd", p.TGID)
	list, err := os.ReadDir(dir)
	if errors.Is(err, unix.EACCES) && p.isExiting() {
		return nil, unix.ESRCH
	}
	for _, e := range list {
		n, _ := strconv.Atoi(e.Name())
		var there unix.Stat_t
		if unix.Stat(dir+"/"+e.Name(), &there) != nil || there.Dev != dev || there.Ino != ino {
			continue
		}
		info, err := readKernelFile(fmt.Sprintf("/proc/%d/fdinfo/%d", p.TGID, n))
		if os.IsNotExist(err) {
			continue // it was closed
		}
		if err != nil {
			return nil, err
		}
		_, text, _ := strings.Cut(string(info), "flags:\t")
		text, _, _ = strings.Cut(text, "\n")
		flags, err := strconv.ParseUint(text, 8, 32)
		if err != nil {
			return nil, fmt.Errorf("flags of descriptor %d: %w", n, err)
		}
		if same == nil {
			same = map[int32]bool{}
		}
		same[int32(n)] = flags&unix.O_CLOEXEC != 0
	}
	return same, err
}

// isExiting reports whether a process has ended its last program already, though nobody may
// have heard of it yet. Then nobody but root may look into it.
func (p *Process) isExiting() bool {
	text, err := readKernelFile(fmt.Sprintf("/proc/%d/status", p.TGID))
	return err != nil || !bytes.Contains(text, []byte("\nVmSize:"))
}

// takesNothing gives up what the thread was to take.
func (th *thread) takesNothing() {
	if h := th.takes.Swap(nil); h != nil {
		h.done <- unix.ENOLCK
	}
}

// callSite returns where a process has an instruction that makes a system call, in the vDSO. Where
// that is for its program is looked for once.
func (p *Process) callSite(tid int) (uint64, error) {
	code := make([]byte, tracee.CallSize)
	if at := p.callAt.Load(); at != 0 && tracee.ReadMem(tid, at, code) == nil && bytes.Equal(code, tracee.CallCode) {
		return at, nil
	}
	at, err := callIn(tid)
	p.callAt.Store(at)
	return at, err
}

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

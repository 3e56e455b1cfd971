//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// A Call is a system call that waits for an answer. It is valid until its
// handler returns, unless Hold is used.
type Call struct {
	Process *Process
	thread  *thread
	s       *Sandbox
	n       seccomp.Notif
	rs      *receivers
	yielded bool
	buf     []byte // scratch of the receiver, see scratch
	recent  recent
	user    bool // a handler of the user's reads
	st      unix.Stat_t
	traced  *traced // nil unless the sandbox is traced
}

// statBuf returns a struct that is the receiver's own.
func (c *Call) statBuf() *unix.Stat_t { return &c.st }

// fd returns a descriptor of the supervisor's for one of the caller's.
func (c *Call) fd(fd int32) (own int, err error) { return c.Process.fd(int(c.n.PID), fd) }

// Name is the call's name.
func (c *Call) Name() string { return seccomp.Name(uint32(c.n.Nr)) }

// Arg returns argument i as the register holds it.
func (c *Call) Arg(i int) uint64 { return c.n.Args[i] }

// Int returns argument i as the kernel reads an int: the lower half.
func (c *Call) Int(i int) int32 { return int32(c.n.Args[i]) }

// Read fills buf from the caller's memory. Its errors are for [Call.failed]. What is small
// and has just been read is the same again: features that ask one after the other see the
// same. Each read of a [Handler] is made anew.
func (c *Call) Read(addr uint64, buf []byte) error {
	if c.thread.judged.Load().read(addr, buf) || !c.user && c.recent.read(addr, buf) {
		return nil
	}
	if err := tracee.ReadMem(int(c.n.PID), addr, buf); err != nil {
		return err
	}
	if err := c.stillThere(); err != nil {
		return err
	}
	c.recent.keep(addr, buf)
	return nil
}

// A recent is what was last read of a call's memory.
type recent struct {
	at   uint64
	size int // 0 for nothing
	data [mostOfAnAddress]byte
}

func (r *recent) keep(at uint64, b []byte) {
	if r.at, r.size = at, 0; len(b) <= len(r.data) {
		r.size = copy(r.data[:], b)
	}
}

func (r *recent) read(at uint64, b []byte) bool {
	if at != r.at || len(b) > r.size {
		return false
	}
	copy(b, r.data[:])
	return true
}

// String reads a path or another string of at most 4,095 bytes. The result is
// scratch memory.
func (c *Call) String(addr uint64) ([]byte, error) {
	if s, ok := c.thread.judged.Load().string(addr); ok {
		return s, nil
	}
	b, err := tracee.ReadString(int(c.n.PID), addr, c.scratch(unix.PathMax))
	if err != nil {
		return nil, err
	}
	return b, c.stillThere()
}

// Write stores buf in the caller's memory and returns how much of it fitted.
func (c *Call) Write(addr uint64, buf []byte) (int, error) {
	c.recent.size = 0
	if err := c.stillThere(); err != nil {
		return 0, err
	}
	return tracee.WriteMem(int(c.n.PID), addr, buf)
}

// stillThere makes sure that the memory was the caller's, not that of a process
// which took over its pid.
func (c *Call) stillThere() error {
	if !c.rs.listener.Valid(c.n.ID) {
		return unix.ESRCH
	}
	return nil
}

// scratch returns n bytes of the receiver's own memory.
func (c *Call) scratch(n int) []byte {
	if cap(c.buf) < n {
		c.buf = make([]byte, n)
	}
	return c.buf[:n]
}

// failed turns an error of Read, String or Write into an answer: a bad pointer
// is the program's own mistake, a process that is gone needs none, anything else
// ends the run.
func (c *Call) failed(err error) Answer {
	var errno unix.Errno
	if errors.As(err, &errno) {
		switch errno {
		case unix.EFAULT, unix.ENAMETOOLONG:
			return Errno(errno)
		case unix.ESRCH:
			return Errno(unix.EINTR) // nobody is there to see it
		}
	}
	return Fatal(fmt.Errorf("%s of process %s: %w", c.Name(), c.Process.Lineage, err))
}

// refusedWith makes an answer of the kernel's word about a call that was made on
// the program's behalf.
func (c *Call) refusedWith(err error) Answer {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return Errno(errno)
	}
	return c.failed(err)
}

// reply writes a structure and returns 0, as most calls that fill one do.
func (c *Call) reply(addr uint64, buf []byte) Answer {
	if _, err := c.Write(addr, buf); err != nil {
		return c.failed(err)
	}
	return Return(0)
}

// Yield lets another receiver take the next call while this one goes on. A
// handler calls it before anything that may take long.
func (c *Call) Yield() {
	if c.yielded {
		return
	}
	c.yielded = true
	c.rs.pass()
}

// A Held call has been put aside by its handler.
type Held struct{ call Call }

// Hold returns the call, to be answered later, and the answer that says so.
func (c *Call) Hold() (*Held, Answer) {
	h := &Held{*c}
	h.call.buf = nil
	h.call.yielded = true // it is nobody's who has the baton
	return h, Answer{kind: answerHold}
}

// Answer answers a held call. It must be called exactly once.
func (h *Held) Answer(a Answer) {
	h.call.lentBack()
	h.call.rs.answer(&h.call, a)
}

// receivers serve the notifications of one sandbox. One of them at a time waits
// for the next call; it holds the baton. The kernel would wake every waiting
// receiver for each call, and for a quick answer no second thread should wake.
type receivers struct {
	s        *Sandbox
	listener *seccomp.Listener
	baton    sync.Mutex
	idle     atomic.Int32 // receivers waiting for the baton
	wg       sync.WaitGroup
	loop     func(*receivers)
	lull     lull // of who has the baton

	injecting sync.RWMutex // held to read by those that put descriptors into processes

	// For the detector, see quiet.
	inbox    atomic.Pointer[Call] // of the receiver that waits for the next call
	tid      atomic.Int32         // its thread
	received atomic.Uint64        // calls so far
	open     atomic.Int64         // of those, not answered yet
}

func (rs *receivers) start() { rs.run(func() { rs.loop(rs) }) }

// run runs a receiver. One whose callback never returns is given up by its watchdog,
// which then has told wg.
func (rs *receivers) run(serve func()) {
	rs.wg.Add(1)
	go func() {
		growStack()
		defer rs.s.placement.stay()()
		serve()
		rs.wg.Done()
	}()
}

// pass hands the baton on, to a new receiver if none waits for it.
func (rs *receivers) pass() {
	if rs.idle.Load() == 0 {
		rs.start()
	}
	rs.baton.Unlock()
}

// maxIdle is how many receivers without work are kept.
const maxIdle = 4

// serveCalls receives and answers calls until the last process has ended.
func (rs *receivers) serveCalls() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid := int32(unix.Gettid())
	c := &Call{s: rs.s, rs: rs}
	rs.baton.Lock()
	for {
		rs.inbox.Store(c)
		rs.tid.Store(tid)
		rs.lull.wait()
		if err := rs.listener.Recv(&c.n); err != nil {
			if (err == unix.ENOENT || err == unix.EINTR) && rs.listener.Alive() {
				continue
			}
			rs.baton.Unlock()
			if err != unix.ENOENT {
				rs.s.fail(fmt.Errorf("supervisor: receive a notification: %w", err))
			}
			return
		}
		rs.open.Add(1)
		rs.received.Add(1)
		c.yielded = false
		rs.serve(c)
		if !c.yielded {
			continue
		}
		if rs.idle.Add(1) > maxIdle {
			rs.idle.Add(-1)
			return
		}
		rs.baton.Lock()
		rs.idle.Add(-1)
	}
}

// filled reports whether the kernel has put a call into c since it was last given
// to it.
//
//go:norace
func (c *Call) filled() bool { return c.n.ID != 0 }

func (rs *receivers) serve(c *Call) {
	c.traced = nil
	th := rs.s.threads.get(int(c.n.PID))
	if th == nil {
		// The thread died after its call was received. Should it be alive after all,
		// the call must not run.
		rs.answer(c, Errno(unix.EINTR))
		return
	}
	if rs.lendsFirst(c, th) {
		return
	}
	c.thread, c.Process, c.recent.size = th, th.proc, 0
	th.received()
	if h := th.takes.Swap(nil); h != nil {
		h.done <- h.take(c)
		rs.answer(c, Return(0))
		return
	}
	rs.s.counts.notify(int(c.n.Nr))
	if log := rs.s.tracing; log != nil && !th.arming.Load() {
		e := c.event()
		c.traced = log.begin(&e)
	}
	rs.serveFrom(c, 0)
}

// serveFrom asks the features about a call, but for the first watches.
func (rs *receivers) serveFrom(c *Call, watch int) {
	a, by := rs.ask(c, watch)
	for n := 0; a.kind == answerJudge; n++ {
		const most = 1000 // somebody moves it to and fro
		if n == most {
			a = Fatal(fmt.Errorf("%s of process %s: %w, %d times", c.Name(), c.Process.Lineage, errMoved, most))
			break
		}
		a, by = rs.ask(c, 0)
	}
	c.traced.by(by)
	if a.kind != answerHold {
		c.thread.judged.Store(nil)
		c.lentBack()
		rs.answer(c, a)
	}
}

// ask asks the features about a call, and returns the first answer and whose it is.
func (rs *receivers) ask(c *Call, watch int) (Answer, string) {
	nr := int(c.n.Nr)
	if watches := rs.s.table.of(nr).watch; watch < len(watches) && !c.thread.arming.Load() {
		e := c.event()
		for i := watch; i < len(watches); i++ {
			if !watches[i].wants(&c.n.Args) {
				continue
			}
			e.next = i + 1
			if a := watches[i].handle(&e); a.kind != answerGoOn {
				return a, watches[i].feature
			}
		}
	}
	claims := rs.s.table.of(nr).notify
	for i := range claims {
		if !claims[i].wants(&c.n.Args) {
			continue
		}
		if a := claims[i].handle(c); a.kind != answerGoOn {
			return a, claims[i].feature
		}
	}
	return Continue(), kernel
}

func (rs *receivers) answer(c *Call, a Answer) {
	defer rs.open.Add(-1)
	if a.kind != answerInject {
		c.traced.answered(a)
	}
	resp := seccomp.Resp{ID: c.n.ID}
	switch a.kind {
	case answerGoOn, answerContinue:
		resp.Flags = seccomp.FlagContinue
	case answerErrno:
		resp.Error = -int32(a.value)
	case answerReturn:
		resp.Val = a.value
	case answerInject, answerInjectAt:
		fd, done, err := rs.inject(c, a)
		if err != nil {
			if err == unix.ENOENT || err == unix.ESRCH {
				return
			}
			// EMFILE is what the process would have got for its own descriptor.
			if errno, ok := err.(unix.Errno); ok && errno == unix.EMFILE {
				resp.Error = -int32(errno)
				break
			}
			a = Fatal(fmt.Errorf("supervisor: put a descriptor into process %s: %w", c.Process.Lineage, err))
			resp.Error = -int32(unix.EIO)
			rs.s.fail(a.err)
			break
		}
		if done {
			return
		}
		if a.kind == answerInject {
			resp.Val = int64(fd)
		} else {
			resp.Flags = seccomp.FlagContinue
		}
	case answerKill:
		resp.Error = -int32(unix.EINTR)
		rs.s.killWith(unix.Signal(a.value))
	case answerFatal:
		resp.Error = -int32(unix.EIO)
		rs.s.fail(fmt.Errorf("supervisor: %w", a.err))
	}
	if err := rs.listener.Send(&resp); err != nil && err != unix.ENOENT {
		rs.s.fail(fmt.Errorf("supervisor: answer %s: %w", c.Name(), err))
	}
}

// closed waits until the supervisor has closed its descriptors for what it has put into
// processes so far: a program that has written a file and closed it goes on before that.
// Nobody can execute a file that somebody has open to write (ETXTBSY), and a lock lasts
// until nobody has the file open, nor is a watch told before that it was closed.
func (rs *receivers) closed() {
	rs.injecting.Lock()
	defer rs.injecting.Unlock()
}

// inject puts a descriptor into the caller; done means that this has answered
// the call. It isn't where the program's is to be the last that is closed, and where files
// are watched: that the program closes one is told once nobody has it any more.
func (rs *receivers) inject(c *Call, a Answer) (fd int, done bool, err error) {
	rs.injecting.RLock()
	defer rs.injecting.RUnlock()
	if a.file.forkless {
		defer syscall.ForkLock.RUnlock()
	}
	defer unix.Close(a.file.fd)
	add := seccomp.AddFD{ID: c.n.ID, SrcFD: uint32(a.file.fd)}
	if a.file.cloexec {
		add.NewFDFlags = unix.O_CLOEXEC
	}
	if a.kind == answerInjectAt {
		add.Flags, add.NewFD = seccomp.AddFDSetFD, uint32(a.value)
	} else if !a.file.last && !rs.s.watching.Load() {
		add.Flags = seccomp.AddFDSend
	}
	fd, err = rs.listener.AddFD(&add)
	if a.kind != answerInject {
		return 0, false, err
	}
	if err != nil {
		c.traced.drop() // the thread is gone
	}
	c.traced.answered(Return(int64(fd)))
	return fd, add.Flags == seccomp.AddFDSend, err
}

package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrGone is the error of a thread that died while something was done to it.
var ErrGone = errors.New("the process died")

// A Remote makes a stopped thread execute system calls. It runs a few
// instructions that work off a list of calls, so that a list costs one stop
// however long it is. Begin saves the thread's registers and the memory it needs
// and blocks the thread's signals, End puts everything back; the thread must
// stand at the edge of user mode (a signal-delivery stop or the exit of a call), or at
// PTRACE_EVENT_EXEC, from where only the result of the call is still to be written.
type Remote struct {
	tid      int
	mem      int // /proc/TID/mem
	saved    Regs
	mask     uint64
	text     uint64
	original []byte // what stands at text
	deferred []int32
	created  int     // the process that a call has made last
	family   *Family // nil for one of many tracees, that are waited for one by one
}

// Begin prepares a thread. text is the address of executable memory that may be
// overwritten until End, TextSize bytes of it; 0 means its instruction pointer.
func Begin(tid int, text uint64) (r *Remote, err error) { return begin(&Remote{tid: tid, text: text}) }

// BeginIn prepares a thread of a family, which may create others. Without a family it is
// Begin.
func BeginIn(f *Family, tid int, text uint64) (r *Remote, err error) {
	return begin(&Remote{tid: tid, text: text, family: f})
}

func begin(r *Remote) (_ *Remote, err error) {
	tid := r.tid
	r.original = make([]byte, TextSize)
	if r.saved, err = GetRegs(tid); err != nil {
		return nil, fmt.Errorf("read registers: %w", gone(err))
	}
	if r.text == 0 {
		r.text = r.saved.PC()
	}
	if r.mask, err = Sigmask(tid); err != nil {
		return nil, fmt.Errorf("read signal mask: %w", gone(err))
	}
	// The trap that ends a list must get through: the kernel would reset its
	// disposition if it were blocked (force_sig_info_to_task, kernel/signal.c).
	if err := SetSigmask(tid, ^uint64(1<<(unix.SIGTRAP-1))); err != nil {
		return nil, fmt.Errorf("block signals: %w", gone(err))
	}
	if r.mem, err = unix.Open("/proc/"+strconv.Itoa(tid)+"/mem", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open memory: %w", err)
	}
	if err = ReadMem(tid, r.text, r.original); err == nil {
		err = r.Poke(r.text, runList)
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("read and place instructions (process_vm_readv, /proc/PID/mem): %w", gone(err))
	}
	return r, nil
}

// SP returns the thread's stack pointer.
func (r *Remote) SP() uint64 { return r.saved.SP() }

// Returns has a program that was executed find what execve(2) returns. The kernel writes that
// once its thread goes on, which it does to make calls.
func (r *Remote) Returns(result int64) { r.saved.SetResult(result) }

// Poke writes into the thread's memory whatever its protection is; read-only
// private pages are copied for it alone (proc_pid_mem(5)).
func (r *Remote) Poke(addr uint64, buf []byte) error {
	for len(buf) > 0 {
		n, err := unix.Pwrite(r.mem, buf, int64(addr))
		if err != nil {
			return fmt.Errorf("write %d bytes at %#x: %w", len(buf), addr, err)
		}
		if n == 0 {
			return ErrGone // the memory of a process that was killed is as long as none
		}
		buf, addr = buf[n:], addr+uint64(n)
	}
	return nil
}

// A Scratch is memory of a thread for a while.
type Scratch struct {
	At    uint64
	r     *Remote
	size  uint64
	used  int    // bytes
	saved []byte // what lies there, nil if that is zero
}

// Scratch finds size bytes of memory, skip bytes from the stack pointer or more. They lie below
// it, where the stack of a new program is zero. The kernel makes that reach so far, unless
// the program has a great many arguments; then they lie above, where these are.
func (r *Remote) Scratch(skip, size uint64) (*Scratch, error) {
	s := r.below(skip, size)
	_, err := WriteMem(r.tid, s.At, []byte{0})
	switch err {
	case nil:
		return s, nil
	case unix.EFAULT:
		return r.above(skip, size)
	}
	return nil, fmt.Errorf("write to the stack (process_vm_writev): %w", gone(err))
}

func (r *Remote) below(skip, size uint64) *Scratch {
	return &Scratch{At: (r.SP() - redZone - skip - size) &^ 15, r: r, size: size}
}

func (r *Remote) above(skip, size uint64) (*Scratch, error) {
	s := &Scratch{At: (r.SP() + skip + 15) &^ 15, r: r, size: size, saved: make([]byte, size)}
	if err := ReadMem(r.tid, s.At, s.saved); err != nil {
		return nil, fmt.Errorf("read the stack (process_vm_readv): %w", gone(err))
	}
	return s, nil
}

// Write stores what is to lie there.
func (s *Scratch) Write(b []byte) error {
	if uint64(len(b)) > s.size {
		return fmt.Errorf("%d bytes are too much for the program's stack", len(b))
	}
	if _, err := WriteMem(s.r.tid, s.At, b); err != nil {
		return fmt.Errorf("write to the stack (process_vm_writev): %w", gone(err))
	}
	s.used = max(s.used, len(b))
	return nil
}

// GiveBack leaves the memory as it was.
func (s *Scratch) GiveBack() error {
	if s.saved == nil {
		return s.Write(make([]byte, s.used))
	}
	return s.Write(s.saved[:s.used])
}

// A List is system calls to be executed one after another. A call that fails
// doesn't keep the next ones from being executed.
type List struct {
	r     *Remote
	calls []*Pending
	room  *Scratch // where it lies
}

// A Pending is one call of a list.
type Pending struct {
	what   string
	nr     uintptr
	args   [6]uint64
	feeds  []feed
	result int64
	may    bool // fail
}

// A feed says that the result of a call is an argument of a later one.
type feed struct {
	call *Pending
	arg  int
}

// maxFeeds is how many arguments one result can become.
const maxFeeds = 4

// List returns an empty list.
func (r *Remote) List() *List { return &List{r: r} }

// Add appends a call; what describes it in errors.
func (l *List) Add(what string, nr uintptr, args ...uint64) *Pending {
	p := &Pending{what: what, nr: nr}
	copy(p.args[:], args)
	l.calls = append(l.calls, p)
	return p
}

// Feed makes the result of p argument i of a later call, of four at most.
func (p *Pending) Feed(to *Pending, i int) {
	if len(p.feeds) == maxFeeds {
		panic("tracee: a result is fed to more than four calls")
	}
	p.feeds = append(p.feeds, feed{to, i})
}

// MayFail has Run not fail because of p.
func (p *Pending) MayFail() { p.may = true }

// Failed reports, after Run, whether the call has failed.
func (p *Pending) Failed() bool { return p.result < 0 && p.result >= -4095 }

// Result is what the call returned, after Run.
func (p *Pending) Result() uint64 { return uint64(p.result) }

// The list in memory: entries of words, ended by a negative number.
const (
	entryWords  = 12 // number, six arguments, result, four more places for it
	entrySize   = 8 * entryWords
	entryArgs   = 8
	entryResult = 56
	redZone     = 256 // kept free below the stack pointer, 128 by the ABI
)

// Run executes the list. The error is that of the first call that failed, an
// errno, or something worse.
func (l *List) Run() error {
	r := l.r
	if err := l.jump(); err != nil {
		return err
	}
	if err := r.untilTrap(); err != nil {
		return err
	}
	buf := make([]byte, l.size())
	if err := ReadMem(r.tid, l.room.At, buf); err != nil {
		return fmt.Errorf("read results: %w", gone(err))
	}
	var failed error
	for i, p := range l.calls {
		p.result = int64(binary.NativeEndian.Uint64(buf[i*entrySize+entryResult:]))
		if p.Failed() && !p.may && failed == nil {
			failed = fmt.Errorf("%s: %w", p.what, unix.Errno(-p.result))
		}
	}
	if err := l.room.GiveBack(); err != nil {
		return err
	}
	return failed
}

func (l *List) size() uint64 { return uint64(len(l.calls))*entrySize + 8 }

// jump places the list, and lets the thread execute it when it goes on.
func (l *List) jump() (err error) {
	l.room = l.r.below(0, l.size())
	err = l.room.Write(l.encode(l.room.At))
	if errors.Is(err, unix.EFAULT) {
		if l.room, err = l.r.above(0, l.size()); err == nil {
			err = l.room.Write(l.encode(l.room.At))
		}
	}
	if err != nil {
		return err
	}
	regs := l.r.saved
	regs.jump(l.r.text, l.room.At)
	return gone(regs.Store(l.r.tid))
}

func (l *List) encode(at uint64) []byte {
	index := map[*Pending]int{}
	for i, p := range l.calls {
		index[p] = i
	}
	var buf []byte
	for i, p := range l.calls {
		buf = binary.NativeEndian.AppendUint64(buf, uint64(p.nr))
		for _, a := range p.args {
			buf = binary.NativeEndian.AppendUint64(buf, a)
		}
		buf = binary.NativeEndian.AppendUint64(buf, 0)
		for n := range maxFeeds {
			to := at + uint64(i)*entrySize + entryResult
			if n < len(p.feeds) {
				to = at + uint64(index[p.feeds[n].call])*entrySize + entryArgs + 8*uint64(p.feeds[n].arg)
			}
			buf = binary.NativeEndian.AppendUint64(buf, to)
		}
	}
	return binary.NativeEndian.AppendUint64(buf, ^uint64(0))
}

// untilTrap lets the thread run to the trap at the end of the list. All other
// signals are blocked, so what can come between is a SIGSTOP, which is kept for
// End, and the stops of a group that is stopped.
func (r *Remote) untilTrap() error {
	for {
		if err := Cont(r.tid, 0); err != nil {
			return gone(err)
		}
		ws, err := r.wait()
		switch {
		case err != nil:
			return gone(err)
		case !ws.Stopped():
			return ErrGone
		case ws.StopSignal() == unix.SIGTRAP && Event(ws) == 0:
			return nil
		case Event(ws) == unix.PTRACE_EVENT_FORK || Event(ws) == unix.PTRACE_EVENT_CLONE:
			if r.created, err = EventMsg(r.tid); err != nil {
				return gone(err)
			}
		case Event(ws) != 0:
			// It is reported again once the thread goes on.
		default:
			r.deferred = append(r.deferred, int32(ws.StopSignal()))
		}
	}
}

func (r *Remote) wait() (unix.WaitStatus, error) {
	if r.family != nil {
		return r.family.Wait(r.tid)
	}
	_, ws, err := WaitFor(r.tid)
	return ws, err
}

// Clone makes a thread of a family create a process (clone(2)), with flags besides SIGCHLD,
// and returns a Remote of that one, which stands where the thread does. The error is an
// errno where the call failed; there is no process then.
func (r *Remote) Clone(flags uint64) (*Remote, error) {
	l := r.List()
	l.Add("clone", unix.SYS_CLONE, flags|uint64(unix.SIGCHLD))
	r.created = 0
	if err := l.Run(); err != nil {
		r.family.Kill(r.created)
		return nil, err
	}
	child := &Remote{tid: r.created, mem: -1, saved: r.saved, mask: r.mask, text: r.text, original: r.original, family: r.family}
	if err := child.comeOut(l); err != nil {
		child.Close()
		r.family.Kill(child.tid)
		return nil, err
	}
	return child, nil
}

// comeOut lets a new process run from where it has come out of the call to the end of the
// list, as the thread did that has made it.
func (r *Remote) comeOut(l *List) (err error) {
	switch ws, err := r.wait(); {
	case err != nil:
		return gone(err)
	case !ws.Stopped():
		return ErrGone
	}
	if err := r.untilTrap(); err != nil {
		return err
	}
	if r.mem, err = unix.Open("/proc/"+strconv.Itoa(r.tid)+"/mem", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open memory: %w", err)
	}
	room := *l.room // it has a copy of that
	room.r = r
	return room.GiveBack()
}

// TID is the thread's number.
func (r *Remote) TID() int { return r.tid }

// Park lets the thread execute the list, what becomes of which nobody hears, and then wait
// for ever with no signals blocked but those of mask, and closes its Remote. Signals stop
// it; one that isn't delivered lets it wait on. Those that came meanwhile are Deferred.
func (l *List) Park(mask uint64) error {
	r := l.r
	defer r.Close()
	l.Add("ppoll", unix.SYS_PPOLL)
	if err := l.jump(); err != nil {
		return err
	}
	if err := SetSigmask(r.tid, mask); err != nil {
		return gone(err)
	}
	return gone(Cont(r.tid, 0))
}

// Deferred are the signals that have come since Begin.
func (r *Remote) Deferred() []int32 { return r.deferred }

// Close releases what is held for the thread, and leaves it as it is. A second
// Close does nothing.
func (r *Remote) Close() {
	if r.mem >= 0 {
		unix.Close(r.mem)
		r.mem = -1
	}
}

// End puts the thread back where it stood, and closes r. Signals that came
// meanwhile are returned; they are to be sent again.
func (r *Remote) End() (deferred []int32, err error) {
	defer r.Close()
	if err := r.Poke(r.text, r.original); err != nil {
		return nil, gone(err)
	}
	if err := SetSigmask(r.tid, r.mask); err != nil {
		return nil, gone(err)
	}
	if err := r.saved.Store(r.tid); err != nil {
		return nil, gone(err)
	}
	return r.deferred, nil
}

func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

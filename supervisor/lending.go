//go:build linux

package supervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// Calls are answered with the caller's descriptors in hand, which pidfd_getfd(2) takes. Where a
// policy around this process refuses that, as the one of docker run does, only a process itself
// can give its descriptors away (unix(7), SCM_RIGHTS). So there it lends them: a call that names
// some and is to be answered is first made anew (again.go), and at the stop between, the tracer
// has the thread send what the call names through a socket that its calls find at a high
// number, and which is closed again. A sandbox's listener comes the same way, from a process
// that shares the command's descriptors and isn't filtered yet. That takes 0.2 ms for each such
// call where an answer takes 0.02, and nothing where the kernel permits the other way.
//
// What remains: what is asked about descriptors while a process is at something else isn't
// lent. So a file that is read already isn't replaced when another writes to it (catchup.go),
// and two ends of a pair of sockets aren't found to wait for each other (deadlock.go). Another
// thread of the process may see the socket while a call is made. A process can't lend, which ends
// the run, that has too little address space for the sandbox's memory, or has all descriptors
// open that it may have. A command that is to have a namespace of processes by Cloneflags can't
// be started.

// A lending is how a sandbox's processes lend their descriptors.
type lending struct {
	own   int      // the end that receives
	other *os.File // the end that they send to
	given int      // by which number the command has that at its start

	mu       sync.Mutex
	timeouts map[socketOptionOf]unix.Timeval // that were set
}

// A socketOptionOf is an option of a socket, by the socket's inode number.
type socketOptionOf struct {
	ino    uint64
	option int
}

// keepTimeout notes a timeout of a socket, for when a thread waits that has it.
func (l *lending) keepTimeout(fd, option int, tv unix.Timeval) error {
	switch option {
	case unix.SO_RCVTIMEO_NEW:
		option = unix.SO_RCVTIMEO
	case unix.SO_SNDTIMEO_NEW:
		option = unix.SO_SNDTIMEO
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat a socket: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timeouts == nil {
		l.timeouts = map[socketOptionOf]unix.Timeval{}
	}
	l.timeouts[socketOptionOf{st.Ino, option}] = tv
	return nil
}

// keepTimeouts does so for a socket that has been accepted, which has those of the one that
// listens.
func (l *lending) keepTimeouts(fd int) {
	if l == nil {
		return
	}
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if tv, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, option); err == nil && tv.Sec > timeoutBase {
			_ = l.keepTimeout(fd, option, *tv) // it fails for what is no descriptor
		}
	}
}

// keptTimeout returns what was noted of a thread's descriptor.
func (l *lending) keptTimeout(th *thread, fd int32, option int) (tv unix.Timeval, ours bool) {
	var st unix.Stat_t
	if unix.Stat(fmt.Sprintf("%s/fd/%d", th.taskDir(), fd), &st) != nil {
		return tv, false // then the call has failed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.timeouts[socketOptionOf{st.Ino, option}]
	return timeoutOf(&kept)
}

// mustLend reports whether a policy keeps this process from taking descriptors.
var mustLend = sync.OnceValue(func() bool { return getfdRefused() != nil })

// getfdRefused takes a descriptor of this process's own.
func getfdRefused() error {
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	got, err := unix.PidfdGetfd(pidfd, pidfd, 0)
	if err == nil {
		unix.Close(got)
	}
	return err
}

// errNotLent is the error about a descriptor that isn't to be had.
var errNotLent = errors.New("a seccomp policy around this process refuses pidfd_getfd (Docker's allows it with --cap-add SYS_PTRACE)")

// errLendsInNamespaces is why there are no namespaces where descriptors are lent: the process
// that sends the listener would have the number of the command's first child.
var errLendsInNamespaces = &namespaceError{"take the listener from there", errNotLent}

// beginLending gives the command that is about to start the end of a socket, if that is
// needed. restore leaves the command as it was given.
func (s *Sandbox) beginLending(cmd *exec.Cmd) (restore func(), err error) {
	if !mustLend() {
		return func() {}, nil
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("supervisor: socket to lend descriptors: %w", err)
	}
	const first = 3 // after the standard ones (os/exec)
	s.lending = &lending{own: ends[0], other: os.NewFile(uintptr(ends[1]), "lending"), given: first + len(cmd.ExtraFiles)}
	files := cmd.ExtraFiles
	cmd.ExtraFiles = append(slices.Clip(files), s.lending.other)
	return func() { cmd.ExtraFiles = files }, nil
}

func (l *lending) close() {
	if l != nil {
		unix.Close(l.own)
		_ = l.other.Close() // it is a socket
	}
}

// lendListener runs install, which makes the command put itself under the filter, and has a
// process that shares its descriptors, and isn't under the filter, send the listener that
// install returns the number of.
func (t *tracer) lendListener(im *image, install func() (fd int, err error)) (listener, fd int, err error) {
	l := t.s.lending
	helper, err := im.sys.Clone(unix.CLONE_FILES | unix.CLONE_PARENT)
	if err != nil {
		return -1, -1, fmt.Errorf("clone(CLONE_FILES): %w", err)
	}
	defer t.family.Kill(helper.TID())
	defer helper.Close()
	if fd, err = install(); err != nil {
		return -1, -1, err
	}
	data, err := newScratch(helper)
	if err != nil {
		return -1, -1, err
	}
	data.data = make([]byte, rightsSize)
	putRights(data.data, data.room.At, int32(fd))
	if err := data.place(); err != nil {
		return -1, -1, err
	}
	calls := helper.List()
	calls.Add("sendmsg(SCM_RIGHTS)", unix.SYS_SENDMSG, uint64(l.given), data.room.At, unix.MSG_NOSIGNAL)
	calls.Add("close", unix.SYS_CLOSE, uint64(l.given))
	if err := calls.Run(); err != nil {
		return -1, -1, err
	}
	listener, err = l.receive()
	return listener, fd, err
}

// A struct msghdr for one descriptor, and what belongs to it (sendmsg(2), cmsg(3)).
const (
	rightsVector  = 56 // a struct iovec
	rightsByte    = 72
	rightsControl = 80 // a struct cmsghdr, and the descriptor
	rightsSize    = rightsControl + 24
)

// putRights writes what sendmsg(2) is given to send a descriptor into b, which lies at an
// address.
func putRights(b []byte, at uint64, fd int32) {
	clear(b[:rightsSize])
	put := binary.NativeEndian
	put.PutUint64(b[16:], at+rightsVector)
	put.PutUint64(b[24:], 1)
	put.PutUint64(b[32:], at+rightsControl)
	put.PutUint64(b[40:], rightsSize-rightsControl)
	put.PutUint64(b[rightsVector:], at+rightsByte)
	put.PutUint64(b[rightsVector+8:], 1)
	put.PutUint64(b[rightsControl:], 16+4)
	put.PutUint32(b[rightsControl+8:], unix.SOL_SOCKET)
	put.PutUint32(b[rightsControl+12:], unix.SCM_RIGHTS)
	put.PutUint32(b[rightsControl+16:], uint32(fd))
}

// receive returns the descriptor that was just sent.
func (l *lending) receive() (int, error) {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(l.own, b[:], oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return -1, fmt.Errorf("receive a descriptor: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("receive a descriptor: %d messages, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("receive a descriptor: %d of them, %w", len(fds), err)
	}
	return fds[0], nil
}

// A lent is what a thread has lent for a call: the supervisor's descriptors by the thread's, or
// the negative errno with which the kernel refused one.
type lent struct {
	nr  int
	own map[int32]int
	at  [6]uint64 // the call's arguments
}

func (l *lent) close() {
	for _, own := range l.own {
		if own >= 0 {
			unix.Close(own)
		}
	}
}

// lentFD returns a descriptor that a thread has lent, as fd does.
func (p *Process) lentFD(tid int, fd int32) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.lent[tid]; l != nil {
		if own, ok := l.own[fd]; ok {
			if own < 0 {
				return -1, unix.Errno(-own)
			}
			return unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0)
		}
	}
	switch {
	case p.gone:
		return -1, unix.ESRCH
	case fd < 0:
		return -1, unix.EBADF
	}
	return -1, errNotLent
}

// lends notes what a thread has lent, nil for nothing any more.
func (p *Process) lends(tid int, l *lent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if was := p.lent[tid]; was != nil {
		was.close()
	}
	switch {
	case l != nil && p.gone:
		l.close()
	case l != nil:
		if p.lent == nil {
			p.lent = map[int]*lent{}
		}
		p.lent[tid] = l
	default:
		delete(p.lent, tid)
	}
}

// hasLent reports whether a thread has lent what a call names.
func (p *Process) hasLent(tid, nr int, args *[6]uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lent[tid]
	return l != nil && l.nr == nr && l.at == *args
}

// toLend returns the descriptors that a call names and the thread hasn't lent yet.
func (s *Sandbox) toLend(th *thread, nr int, args *[6]uint64) (fds []int32) {
	if s.lending == nil || th.arming.Load() || th.proc.hasLent(th.tid, nr, args) {
		return nil
	}
	th.proc.lends(th.tid, nil) // for another call
	for i, kind := range signatureOf(nr).kinds {
		fd := int32(args[i])
		if (kind == argFD || kind == argDirFD) && fd >= 0 && !slices.Contains(fds, fd) {
			fds = append(fds, fd)
		}
	}
	return fds
}

// lendsFirst has a call made anew that names descriptors, once they are lent, or answers one
// that the thread makes to lend them. It reports whether it has.
func (rs *receivers) lendsFirst(c *Call, th *thread) bool {
	if rs.s.lending == nil {
		return false
	}
	c.thread, c.Process = th, th.proc
	if l := th.lending.Load(); l != nil {
		rs.answer(c, l.answer(c))
		return true
	}
	if th.isMadeAnew() {
		return false
	}
	fds := rs.s.toLend(th, int(c.n.Nr), &c.n.Args)
	if len(fds) > 0 {
		th.received()
		rs.answer(c, c.makeAnew(&again{lends: fds}))
	}
	return len(fds) > 0
}

// lentBack closes what was lent for the call, unless that is to be made anew.
func (c *Call) lentBack() {
	if c.s.lending == nil {
		return
	}
	if a := c.thread.again.Load(); a == nil || a.connects != nil {
		c.Process.lends(int(c.n.PID), nil)
	}
}

// A lendingCall is what a thread is at that makes calls to lend descriptors.
type lendingCall struct {
	of     *lending
	number int // by which it finds the socket
}

// answer answers a call of the thread's: the one that is nobody's business puts the socket into
// the process.
func (l *lendingCall) answer(c *Call) Answer {
	if c.n.Nr != unix.SYS_FLOCK {
		return Continue()
	}
	add := seccomp.AddFD{ID: c.n.ID, SrcFD: uint32(l.of.other.Fd()), Flags: seccomp.AddFDSetFD, NewFD: uint32(l.number), NewFDFlags: unix.O_CLOEXEC}
	if _, err := c.rs.listener.AddFD(&add); err != nil {
		return c.refusedWith(err)
	}
	return Return(0)
}

// borrow has a stopped thread lend descriptors. It leaves the thread as it was, but for a call
// that it was about to make.
func (t *tracer) borrow(th *thread, fds []int32) (own map[int32]int, err error) {
	at, err := th.proc.callSite(th.tid)
	if err != nil {
		return nil, err
	}
	number, restore, err := highNumber(th.proc.TGID, th.tid)
	if err != nil {
		return nil, err
	}
	defer restore()
	data, mem, err := t.take(th, messagePlace)
	if err != nil {
		return nil, err
	}
	defer t.giveBack(th, messagePlace)
	c, err := tracee.BeginCalls(th.tid, at)
	if err != nil {
		return nil, err
	}
	th.lending.Store(&lendingCall{t.s.lending, number})
	own, err = t.s.lending.borrow(c, uint64(number), fds, data, mem)
	th.lending.Store(nil)
	deferred, ended := c.End()
	for _, sig := range deferred {
		_ = tracee.Queue(th.proc.TGID, th.tid, sig) // it fails only when the thread was killed
	}
	return own, errors.Join(err, ended)
}

// borrow has the thread find the socket at a number, send descriptors to it, and close it. mem
// is what the thread has at address data.
func (l *lending) borrow(c *tracee.Caller, number uint64, fds []int32, data uint64, mem []byte) (map[int32]int, error) {
	const none = ^uint64(0)
	if r, err := c.Call(unix.SYS_FLOCK, none, unix.LOCK_SH); err != nil || r != 0 {
		return nil, cmpErr(err, "put a socket into the process", r)
	}
	own := map[int32]int{}
	for _, fd := range fds {
		putRights(mem, data, fd)
		r, err := c.Call(unix.SYS_SENDMSG, number, data, unix.MSG_NOSIGNAL)
		switch {
		case err != nil:
			return own, err
		case r == -int64(unix.EBADF):
			own[fd] = int(r)
			continue
		case r != 1:
			return own, cmpErr(nil, "sendmsg(SCM_RIGHTS)", r)
		}
		if own[fd], err = l.receive(); err != nil {
			return own, err
		}
	}
	r, err := c.Call(unix.SYS_CLOSE, number)
	if err != nil || r != 0 {
		err = cmpErr(err, "close a socket", r)
	}
	return own, err
}

// cmpErr returns err, or else what the result of a call says.
func cmpErr(err error, what string, result int64) error {
	if err == nil {
		err = fmt.Errorf("%s: %w", what, unix.Errno(-result))
	}
	return err
}

// highNumber returns a number that no descriptor of a thread has, and that the next ones
// don't get, and a function to be called when it isn't used any more.
func highNumber(pid, tid int) (number int, restore func(), err error) {
	limit, err := mostDescriptors(pid)
	if err != nil {
		return -1, nil, err
	}
	const most = 1024 // the kernel's table is no larger for it than it often is
	for n := int(min(limit, most)) - 1; n >= 0; n-- {
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/task/%d/fd/%d", pid, tid, n)); errors.Is(err, os.ErrNotExist) {
			return n, func() {}, nil
		} else if err != nil {
			return -1, nil, err
		}
	}
	// Meanwhile it may have one more.
	var was unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		return -1, nil, err
	}
	higher := unix.Rlimit{Cur: limit + 1, Max: max(was.Max, limit+1)}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &higher, nil); err != nil {
		return -1, nil, fmt.Errorf("all its %d descriptors are in use, and it may have no more (prlimit): %w", limit, unix.EMFILE)
	}
	return int(limit), func() { _ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &was, nil) }, nil // it fails only when the process was killed
}

// lend has a thread that stands before a call, or after one that is made anew, lend what that
// names, and lets it make it again.
func (t *tracer) lend(th *thread, regs *tracee.Regs, fds []int32) {
	nr, args := regs.Nr(), regs.Args()
	own, err := t.borrow(th, fds)
	l := &lent{nr: nr, own: own, at: args}
	switch {
	case errors.Is(err, tracee.ErrGone):
		l.close()
		return
	case err != nil:
		l.close()
		t.s.fail(fmt.Errorf("supervisor: have process %s lend what %s names: %w", th.proc.Lineage, seccomp.Name(uint32(nr)), err))
		return
	}
	th.proc.lends(th.tid, l)
	regs.CallAgain(nr)
	_ = regs.Store(th.tid) // it fails only when the thread was killed
}

// lendsAtEntry lets a thread that stands before a call lend what that names, and reports
// whether it is to make it again.
func (t *tracer) lendsAtEntry(th *thread, regs *tracee.Regs) bool {
	is := t.s.table.of(regs.Nr())
	if is.watch == nil && !slices.ContainsFunc(is.stop, func(c claim[func(*Stop)]) bool { return c.feature != "waits" }) {
		return false // nobody looks at what it waits for
	}
	args := regs.Args()
	fds := t.s.toLend(th, regs.Nr(), &args)
	if len(fds) == 0 {
		return false
	}
	t.lend(th, regs, fds)
	return true
}

// fd returns a descriptor of the supervisor's for one of the thread's, at the exit of a call.
func (st *Stop) fd(fd int32) (int, error) {
	if st.t.s.lending == nil {
		return st.th.proc.fd(st.th.tid, fd)
	}
	own, err := st.t.borrow(st.th, []int32{fd})
	if err != nil {
		return -1, err
	}
	if own[fd] < 0 {
		return -1, unix.Errno(-own[fd])
	}
	return own[fd], nil
}

//go:build linux

package supervisor

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// Calls are answered with the caller's descriptors in hand, which pidfd_getfd(2) takes. Where a
// policy around this process refuses that, as the one of docker run does, only a process itself
// can give its descriptors away (unix(7), SCM_RIGHTS). So there it lends them: a call that names
// some and is to be answered is first made anew (again.go), and before that the thread makes
// calls of the tracer's, with no signal between: it is given a socket, sends what the call names
// through it, and closes it. A sandbox's listener comes the same way, from a process that shares
// the command's descriptors and isn't filtered yet. That takes 0.2 ms for each such call where an
// answer takes 0.02, and nothing where the kernel permits the other way.
//
// What remains: what is asked about descriptors while a process is at something else isn't
// lent. So a file that is read already isn't replaced when another writes to it (catchup.go),
// and two ends of a pair of sockets aren't found to wait for each other (deadlock.go). While a
// call is made the socket has a number, which another thread may see, a descriptor that it opens
// doesn't get, and a child that it makes keeps until it executes a program. A process can't lend,
// which ends the run, that has too little address space for the sandbox's memory, or has as many
// descriptors open, or on their way, as it may. A command that is to have a namespace of
// processes by Cloneflags can't be started.

// A lending is how a sandbox's processes lend their descriptors.
type lending struct {
	*lendingSocket     // of the command at its start
	given          int // by which number that has the other end

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

// A lendingSocket is what descriptors go through.
type lendingSocket struct {
	own   int        // the end that receives
	other *os.File   // the end that they are sent to
	using sync.Mutex // that by who puts it into a process, which may be killed meanwhile
}

func newLendingSocket() (*lendingSocket, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("supervisor: socket to lend descriptors: %w", err)
	}
	return &lendingSocket{own: ends[0], other: os.NewFile(uintptr(ends[1]), "lending")}, nil
}

func (l *lendingSocket) close() {
	l.using.Lock()
	defer l.using.Unlock()
	unix.Close(l.own)
	_ = l.other.Close() // it is a socket
}

// mustLend reports whether a policy keeps this process from taking descriptors.
var mustLend = sync.OnceValue(func() bool {
	err := getfdRefused()
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS)
})

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
	socket, err := newLendingSocket()
	if err != nil {
		return nil, err
	}
	const first = 3 // after the standard ones (os/exec)
	s.lending = &lending{lendingSocket: socket, given: first + len(cmd.ExtraFiles)}
	files := cmd.ExtraFiles
	cmd.ExtraFiles = append(slices.Clip(files), s.lending.other)
	return func() { cmd.ExtraFiles = files }, nil
}

func (l *lending) close() {
	if l != nil {
		l.lendingSocket.close()
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
func (l *lendingSocket) receive() (int, error) {
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
	nr   int
	args [6]uint64
	at   uint64 // where the call is made
	own  map[int32]int
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
	return l != nil && l.nr == nr && l.args == *args
}

// toCall returns the call for which a thread has lent something, if it is just about to make it.
func (p *Process) toCall(tid int, regs *tracee.Regs) (nr int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lent[tid]
	if l == nil || regs.Nr() >= 0 || regs.PC() != l.at || regs.Result() != int64(l.nr) {
		return 0, false
	}
	return l.nr, true
}

// holdsFor reports whether a thread that a signal has stopped is about to make a call that it has
// lent something for, and that will be received: until then signals can wait.
func (t *tracer) holdsFor(th *thread, regs *tracee.Regs) bool {
	if t.s.lending == nil {
		return false
	}
	nr, ok := th.proc.toCall(th.tid, regs)
	return ok && t.s.table.of(nr).notify != nil
}

// lendsAnew has a thread that is about to make such a call lend anew, as a handler comes before.
func (t *tracer) lendsAnew(th *thread, regs *tracee.Regs) {
	if t.s.lending == nil {
		return
	}
	if _, ok := th.proc.toCall(th.tid, regs); ok {
		th.proc.lends(th.tid, nil)
	}
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
		rs.answer(c, c.makeAnew(&again{lends: fds}))
	}
	return len(fds) > 0
}

// lentBack closes what was lent for the call, unless that is to be made anew.
func (c *Call) lentBack() {
	if c.s.lending == nil {
		return
	}
	if c.thread.again.Load() == nil {
		c.Process.lends(int(c.n.PID), nil)
	}
}

// A lendingCall is a thread that makes calls to lend descriptors, one after another.
type lendingCall struct {
	*lendingSocket
	given  tracee.Regs // with which it goes on
	mask   uint64      // of its signals, which wait meanwhile
	before func(*Stop) // what waited for the end of the call that it was in

	at   uint64 // where it makes the calls
	data uint64 // where it has what mem is of the supervisor's
	mem  []byte

	fds    []int32
	own    map[int32]int // what it has lent so far
	next   int           // of fds; len(fds) while it closes the socket, -1 before it has that
	nr     int           // the call that it is in
	number atomic.Int32  // of the socket
	retry  int
	err    error

	then func(st *Stop, own map[int32]int, err error)
}

// answer answers a call of the thread's: the one that is nobody's business puts the socket into
// the process.
func (l *lendingCall) answer(c *Call) Answer {
	if c.n.Nr != unix.SYS_FLOCK {
		return Continue()
	}
	l.using.Lock()
	defer l.using.Unlock()
	if c.thread.lending.Load() != l {
		return Errno(unix.EINTR) // nobody is there to see it
	}
	add := seccomp.AddFD{ID: c.n.ID, SrcFD: uint32(l.other.Fd()), NewFDFlags: unix.O_CLOEXEC}
	number, err := c.rs.listener.AddFD(&add)
	if err != nil {
		return c.refusedWith(err)
	}
	l.number.Store(int32(number))
	return Return(0)
}

// borrow has a stopped thread lend descriptors once it goes on, and calls then with those of the
// supervisor's, the thread standing as before, but for a call that it was about to make.
func (t *tracer) borrow(th *thread, regs *tracee.Regs, fds []int32, then func(st *Stop, own map[int32]int, err error)) error {
	l := &lendingCall{given: *regs, before: th.onExit, fds: fds, own: map[int32]int{}, next: -1, then: then}
	var err error
	if l.at, err = th.proc.callSite(th.tid); err == nil {
		l.data, l.mem, err = t.take(th, messagePlace)
	}
	if err == nil {
		l.lendingSocket, err = newLendingSocket()
	}
	if err == nil {
		if l.mask, err = tracee.Sigmask(th.tid); err == nil {
			err = tracee.SetSigmask(th.tid, ^uint64(0))
		}
		if err != nil {
			l.close()
		}
	}
	if err != nil {
		t.giveBack(th, messagePlace)
		return err
	}
	th.lending.Store(l)
	l.call(t, th, unix.SYS_FLOCK, ^uint64(0), unix.LOCK_SH)
	return nil
}

// call has the thread make a call once it goes on.
func (l *lendingCall) call(t *tracer, th *thread, nr int, args ...uint64) {
	regs := l.given
	for i := range 6 {
		regs.SetArg(i, 0)
	}
	for i, arg := range args {
		regs.SetArg(i, arg)
	}
	regs.SetPC(l.at + tracee.CallSize)
	regs.CallAgain(nr)
	l.nr, th.onExit = nr, l.ended
	_ = regs.Store(th.tid) // it fails only when the thread was killed
}

// ended looks at the end of a call, and makes the next.
func (l *lendingCall) ended(st *Stop) {
	r := st.Result()
	if st.Nr() != l.nr || r == -int64(unix.ENOSYS) || interrupted(r) { // its entry, or it is made anew
		st.th.onExit = l.ended
		return
	}
	switch {
	case l.next < 0:
		l.begun(r)
	case l.next < len(l.fds):
		l.sent(st.th, r)
	case r != 0 && r != -int64(unix.EBADF): // another thread may have closed it
		l.err = cmp.Or(l.err, fmt.Errorf("close a socket: %w", unix.Errno(-r)))
	}
	switch {
	case l.next < 0 && l.err == nil:
		l.call(st.t, st.th, unix.SYS_FLOCK, ^uint64(0), unix.LOCK_SH)
	case l.next >= 0 && l.next < len(l.fds) && l.err == nil:
		putRights(l.mem, l.data, l.fds[l.next])
		l.call(st.t, st.th, unix.SYS_SENDMSG, uint64(l.number.Load()), l.data, unix.MSG_NOSIGNAL)
	case l.nr != unix.SYS_CLOSE && l.next >= 0:
		l.next = len(l.fds)
		l.call(st.t, st.th, unix.SYS_CLOSE, uint64(l.number.Load()))
	default:
		l.done(st)
	}
}

// begun is for when the thread was to be given the socket.
func (l *lendingCall) begun(result int64) {
	if result != 0 {
		l.err = fmt.Errorf("put a socket into the process: %w", unix.Errno(-result))
		return
	}
	l.next = 0
	if fd := l.number.Load(); slices.Contains(l.fds, fd) { // then it wasn't open
		l.own[fd] = -int(unix.EBADF)
		l.fds = slices.DeleteFunc(slices.Clone(l.fds), func(n int32) bool { return n == fd })
	}
}

// sent is for when the thread was to send a descriptor.
func (l *lendingCall) sent(th *thread, result int64) {
	fd := l.fds[l.next]
	switch {
	case result == 1:
		l.own[fd], l.err = l.receive()
		l.next++
	case result == -int64(unix.EBADF) && !th.has(fd):
		l.own[fd] = int(result)
		l.next++
	case (result == -int64(unix.EBADF) || result == -int64(unix.ENOTSOCK)) && l.retry < mostRetries:
		l.retry++ // another thread has closed the socket, as closefrom(3) does
		l.next = -1
	default:
		l.err = fmt.Errorf("sendmsg(SCM_RIGHTS): %w", unix.Errno(-result))
	}
}

// mostRetries is how often another thread may close the socket of one call.
const mostRetries = 1000

// has reports whether a descriptor of the thread's is open.
func (th *thread) has(fd int32) bool {
	_, err := os.Lstat(fmt.Sprintf("%s/fd/%d", th.taskDir(), fd))
	return err == nil
}

// done lets the thread go on.
func (l *lendingCall) done(st *Stop) {
	th := st.th
	st.t.lendsNoMore(th)
	th.onExit = l.before
	_ = tracee.SetSigmask(th.tid, l.mask) // it fails only when the thread was killed, too
	st.regs = l.given
	_ = st.regs.Store(th.tid)
	own, err := l.own, l.err
	if err != nil {
		(&lent{own: own}).close()
		own = nil
	}
	l.own = nil
	l.then(st, own, err)
}

// lendsNoMore is for a thread that has lent what it was to, or is no more.
func (t *tracer) lendsNoMore(th *thread) {
	l := th.lending.Swap(nil)
	if l == nil {
		return
	}
	l.close()
	t.giveBack(th, messagePlace)
}

// forgetLent is for a thread that is no more, or executes another program.
func (t *tracer) forgetLent(th *thread) {
	if t.s.lending == nil {
		return
	}
	if l := th.lending.Load(); l != nil {
		(&lent{own: l.own}).close()
		t.lendsNoMore(th)
	}
	th.proc.lends(th.tid, nil)
}

// lend has a thread that stands before a call, or after one that is made anew, lend what that
// names, and then make it again.
func (t *tracer) lend(th *thread, regs *tracee.Regs, fds []int32) {
	nr, args := regs.Nr(), regs.Args()
	lend := func(st *Stop, own map[int32]int, err error) {
		if err != nil {
			t.cannotLend(th, nr, err)
			return
		}
		st.regs.CallAgain(nr)
		_ = st.regs.Store(th.tid) // it fails only when the thread was killed
		th.proc.lends(th.tid, &lent{nr: nr, args: args, at: st.regs.PC(), own: own})
	}
	if err := t.borrow(th, regs, fds, lend); err != nil {
		t.cannotLend(th, nr, err)
	}
}

// lendShielded is lend for a thread whose signals are held back until its call is received.
func (t *tracer) lendShielded(th *thread) {
	a := th.again.Load()
	if a == nil || a.lends == nil {
		return
	}
	if regs, err := tracee.GetRegs(th.tid); err == nil {
		t.giveAgain(th, &regs)
	}
}

// cannotLend ends the run, unless the thread is no more.
func (t *tracer) cannotLend(th *thread, nr int, err error) {
	if _, gone := tracee.GetRegs(th.tid); gone == nil {
		t.s.fail(fmt.Errorf("supervisor: have process %s lend what %s names: %w", th.proc.Lineage, seccomp.Name(uint32(nr)), err))
	}
}

// lendsAtEntry lets a thread that stands before a call lend what that names, and reports
// whether it is to make it again.
func (t *tracer) lendsAtEntry(th *thread, regs *tracee.Regs) bool {
	if t.s.lending == nil || th.isMadeAnew() {
		return false
	}
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

// lentUntilNow closes what was lent for a call that a stop is of, unless its end is awaited.
func (st *Stop) lentUntilNow() {
	if st.t.s.lending == nil || st.th.onExit != nil || st.th.again.Load() != nil {
		return
	}
	if _, ok := st.th.proc.toCall(st.th.tid, &st.regs); !ok {
		st.th.proc.lends(st.th.tid, nil)
	}
}

// withFD calls do with a descriptor of the supervisor's for one that the call has made, at its
// exit; later, if that is to be lent.
func (st *Stop) withFD(fd int32, do func(st *Stop, own int, err error)) {
	if st.t.s.lending == nil {
		own, err := st.fd(fd)
		do(st, own, err)
		return
	}
	nr := st.Nr()
	err := st.t.borrow(st.th, &st.regs, []int32{fd}, func(st *Stop, own map[int32]int, err error) {
		switch {
		case err != nil:
			st.t.cannotLend(st.th, nr, err)
		case own[fd] < 0:
			do(st, -1, unix.Errno(-own[fd]))
		default:
			do(st, own[fd], nil)
		}
	})
	if err != nil {
		st.t.cannotLend(st.th, nr, err)
	}
}

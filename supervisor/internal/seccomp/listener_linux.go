package seccomp

import (
	"runtime"

	"github.com/sandtest/go-sandtest/supervisor/internal/tsc"
	"golang.org/x/sys/unix"
)

// Notif is the kernel's struct seccomp_notif: a call that waits for an answer.
type Notif struct {
	ID    uint64
	PID   uint32 // the thread, as the listener's pid namespace numbers it
	Flags uint32
	Nr    int32
	Arch  uint32
	IP    uint64 // the instruction after the call
	Args  [6]uint64
}

// Resp is struct seccomp_notif_resp.
type Resp struct {
	ID    uint64
	Val   int64
	Error int32 // a negative errno, or 0
	Flags uint32
}

// FlagContinue in Resp.Flags lets the kernel run the call
// (SECCOMP_USER_NOTIF_FLAG_CONTINUE, Linux 5.5).
const FlagContinue = 1

// AddFD is struct seccomp_notif_addfd.
type AddFD struct {
	ID         uint64
	Flags      uint32
	SrcFD      uint32
	NewFD      uint32
	NewFDFlags uint32 // O_CLOEXEC or 0
}

// Flags of AddFD.
const (
	AddFDSetFD = 1 // use NewFD, replacing what is there (Linux 5.9)
	AddFDSend  = 2 // answer the call with the new descriptor, atomically (Linux 5.14)
)

// Flags for installing a filter (seccomp(2)).
const (
	SetModeFilter    = 1
	FlagNewListener  = 1 << 3 // Linux 5.0
	FlagWaitKillable = 1 << 5 // Linux 5.19
)

const (
	ioctlRecv     = 0xc0502100
	ioctlSend     = 0xc0182101
	ioctlValid    = 0x40082102
	ioctlAddFD    = 0x40182103
	ioctlSetFlags = 0x40082104
	syncWakeUp    = 1
)

// A Listener receives the notifications of one filter. Its methods may be called
// from many goroutines at once.
type Listener struct {
	fd       int
	pollRecv bool
}

// NewListener takes ownership of a listener descriptor. pollRecv makes Recv wait
// in poll(2) first, which is slower but sees the end of the last process on
// kernels before 6.11, where the RECV ioctl itself doesn't.
func NewListener(fd int, pollRecv bool) *Listener { return &Listener{fd: fd, pollRecv: pollRecv} }

// Close closes the descriptor. Calls that wait for an answer fail with ENOSYS.
func (l *Listener) Close() error { return unix.Close(l.fd) }

// Dup returns another descriptor of the listener, which the caller closes.
func (l *Listener) Dup() (int, error) { return unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 0) }

// SyncWakeUp asks the kernel to wake the receiver on the CPU of the caller, which
// makes a round trip several times faster (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP,
// Linux 6.6; EINVAL before).
func (l *Listener) SyncWakeUp() error { return ioctlValue(l.fd, ioctlSetFlags, syncWakeUp) }

// Recv waits for a call. It returns ENOENT when no process has the filter any
// more, and also when the caller died or was interrupted in the meantime; Alive
// tells the two apart.
func (l *Listener) Recv(n *Notif) error {
	*n = Notif{}
	if l.pollRecv {
		if err := l.poll(-1); err != nil {
			return err
		}
	}
	return ioctl(l.fd, ioctlRecv, n)
}

// Alive reports whether any process still has the filter.
func (l *Listener) Alive() bool {
	events, err := l.events()
	return err == nil && events&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) == 0
}

// events returns what poll(2) tells of the listener, without waiting.
func (l *Listener) events() (int16, error) {
	fds := [1]unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds[:], 0)
		if err != unix.EINTR {
			return fds[0].Revents, err
		}
	}
}

func (l *Listener) poll(timeout int) error {
	fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, timeout)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case fds[0].Revents&unix.POLLIN != 0:
			return nil
		default:
			return unix.ENOENT
		}
	}
}

// Send answers a call. ENOENT means that the caller is gone.
func (l *Listener) Send(r *Resp) error { return ioctl(l.fd, ioctlSend, r) }

// Valid reports whether the caller still waits: what was read from its memory
// before a true answer was its memory and not that of a process that took over
// its pid.
func (l *Listener) Valid(id uint64) bool { return ioctl(l.fd, ioctlValid, &id) == nil }

// AddFD puts a descriptor into the caller and returns its number there.
//
// The ioctl waits for the caller to take the descriptor. A signal to this thread
// at that moment would restart it, and with AddFDSend the first try has ended the
// call already, without a result (seccomp_notify_addfd in kernel/seccomp.c): the
// program would take 0 for its descriptor. So signals stay blocked meanwhile; Go
// sends itself some for preemption.
func (l *Listener) AddFD(a *AddFD) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old unix.Sigset_t
	if err := tsc.BlockSignals(&old); err != nil {
		return -1, err
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	return ioctlResult(l.fd, ioctlAddFD, a)
}

// Pending reports whether a call waits to be received.
func (l *Listener) Pending() bool {
	events, err := l.events()
	return err != nil || events&unix.POLLIN != 0
}

// Ready reports whether Recv would return at once: there is a call, or nobody who could make
// one.
func (l *Listener) Ready() bool {
	events, err := l.events()
	return err != nil || events != 0
}

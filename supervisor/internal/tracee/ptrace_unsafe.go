//go:build linux

package tracee

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func ptrace(req, tid int, addr, data uintptr) error {
	if _, _, e := unix.Syscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, data, 0, 0); e != 0 {
		return e
	}
	return nil
}

// A Siginfo is the kernel's siginfo_t, parsed as far as the signals of kill(2),
// tgkill(2) and timers need it.
type Siginfo struct {
	Signo int32
	_     int32 // errno
	Code  int32
	_     int32
	PID   int32  // of the sender; the number of a timer
	UID   int32  // of the sender; how often a timer has expired meanwhile
	Value uint64 // what a timer or sigqueue(3) gives along
	_     [96]byte
}

// Codes that say where a signal comes from (asm-generic/siginfo.h).
const (
	SIUser   = 0
	SITimer  = -2
	SITkill  = -6
	SIKernel = 0x80
)

// SentBy reports whether the signal is one that pid sent to a single thread.
// What the kernel had no room to note, or whose sender is in another pid
// namespace, counts as sent by pid.
func (si *Siginfo) SentBy(pid int) bool {
	return si.Code == SITkill && (si.PID == int32(pid) || si.PID == 0) || si.Code == SIUser && si.PID == 0
}

// GetSiginfo returns what belongs to the signal of a signal-delivery stop. EINVAL
// means that the stop is another kind.
func GetSiginfo(tid int) (si Siginfo, err error) {
	err = ptrace(unix.PTRACE_GETSIGINFO, tid, 0, uintptr(unsafe.Pointer(&si)))
	return si, err
}

// SetSiginfo replaces what belongs to the signal of a signal-delivery stop.
func SetSiginfo(tid int, si Siginfo) error {
	return ptrace(unix.PTRACE_SETSIGINFO, tid, 0, uintptr(unsafe.Pointer(&si)))
}

// SendInfo sends the process tgid, or with tid not 0 only that thread, a signal
// with what belongs to it. The kernel lets only negative codes other than
// SITkill be sent to others (rt_sigqueueinfo(2)).
func SendInfo(tgid, tid int, si *Siginfo) error {
	var e unix.Errno
	if tid == 0 {
		_, _, e = unix.Syscall(unix.SYS_RT_SIGQUEUEINFO, uintptr(tgid), uintptr(si.Signo), uintptr(unsafe.Pointer(si)))
	} else {
		_, _, e = unix.Syscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(tgid), uintptr(tid), uintptr(si.Signo), uintptr(unsafe.Pointer(si)), 0, 0)
	}
	if e != 0 {
		return e
	}
	return nil
}

const sigsetSize = 8

// Sigmask returns the signals that a stopped thread blocks, bit n-1 for signal n
// (PTRACE_GETSIGMASK, Linux 3.11).
func Sigmask(tid int) (mask uint64, err error) {
	err = ptrace(unix.PTRACE_GETSIGMASK, tid, sigsetSize, uintptr(unsafe.Pointer(&mask)))
	return mask, err
}

// SetSigmask replaces the signals that a stopped thread blocks. SIGKILL and
// SIGSTOP can't be blocked.
func SetSigmask(tid int, mask uint64) error {
	return ptrace(unix.PTRACE_SETSIGMASK, tid, sigsetSize, uintptr(unsafe.Pointer(&mask)))
}

// Queue sends a signal to one thread. The kernel lets a sender forge only codes
// of its own kind, so the information is lost; see SetSiginfo.
func Queue(tgid, tid int, sig int32) error { return unix.Tgkill(tgid, tid, unix.Signal(sig)) }

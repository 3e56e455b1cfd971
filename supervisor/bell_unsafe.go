//go:build linux

package supervisor

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	futexWaitPrivate = 128
	futexWakePrivate = 129
)

// futexWait waits while *at is old, for d or without end if that is 0.
func futexWait(at *atomic.Uint32, old uint32, d time.Duration) {
	var ts *unix.Timespec
	if d > 0 {
		t := unix.NsecToTimespec(int64(d))
		ts = &t
	}
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(at)), futexWaitPrivate, uintptr(old), uintptr(unsafe.Pointer(ts)), 0, 0)
}

// futexWake wakes who waits.
func futexWake(at *atomic.Uint32) {
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(at)), futexWakePrivate, 1, 0, 0, 0)
}

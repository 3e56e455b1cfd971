package tsc

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A sigaction is the kernel's (include/linux/signal_types.h).
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// former is the handler that segv hands other faults to.
//
//lint:ignore U1000 segv uses it
var former uintptr

// reads counts the instructions that segv has carried out.
var reads uint64

// Reads tells how often a thread that is kept from the counter has read it so far.
func Reads() uint64 { return atomic.LoadUint64(&reads) }

// handler returns the address of segv.
func handler() uintptr

// install makes segv the process's handler of SIGSEGV, with the stack, the mask and the
// flags of the one before.
var install = sync.OnceValue(func() error {
	var act sigaction
	if err := rtSigaction(nil, &act); err != nil {
		return err
	}
	const none = 1 // SIG_IGN, and below it SIG_DFL
	if act.handler <= none {
		return unix.ENOTSUP
	}
	former = act.handler
	act.handler = handler()
	return rtSigaction(&act, nil)
})

// installed reports whether segv is the handler, and makes it so the first time.
func installed() bool {
	if install() != nil {
		return false
	}
	var act sigaction
	return rtSigaction(nil, &act) == nil && act.handler == handler()
}

// rtSigaction is rt_sigaction(2).
func rtSigaction(set, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGSEGV),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), unsafe.Sizeof(set.mask), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

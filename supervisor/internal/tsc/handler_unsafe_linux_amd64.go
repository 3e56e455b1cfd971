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

// readSoFar tells how often a thread that is kept from the counter has read it so far.
func readSoFar() uint64 { return atomic.LoadUint64(&reads) }

// handler returns the address of segv.
func handler() uintptr

// segvBit is SIGSEGV in a mask.
const segvBit = 1 << (unix.SIGSEGV - 1)

// lastSignal is _NSIG of the kernel, noDefer SA_NODEFER.
const (
	lastSignal = 64
	noDefer    = 0x40000000
)

// install makes segv the process's handler of SIGSEGV, with the stack and the mask of the
// one before, and lets it be called within all handlers, its own included: Go's profiler
// reads the clock in that of SIGPROF, and so does what prints the goroutines' stacks in
// those of signals that end the process.
var install = sync.OnceValue(func() error {
	const none = 1 // SIG_IGN, and below it SIG_DFL
	var act sigaction
	if err := rtSigaction(unix.SIGSEGV, nil, &act); err != nil {
		return err
	}
	if act.handler <= none {
		return unix.ENOTSUP
	}
	former = act.handler
	act.handler = handler()
	act.flags |= noDefer
	act.mask &^= segvBit
	if err := rtSigaction(unix.SIGSEGV, &act, nil); err != nil {
		return err
	}
	for sig := unix.Signal(1); sig <= lastSignal; sig++ {
		var other sigaction
		if rtSigaction(sig, nil, &other) != nil || other.handler <= none || other.mask&segvBit == 0 {
			continue
		}
		other.mask &^= segvBit
		if err := rtSigaction(sig, &other, nil); err != nil {
			return err
		}
	}
	return nil
})

// installed reports whether segv is the handler and will be called, and makes it so the
// first time.
func installed() bool {
	if install() != nil {
		return false
	}
	var act, prof sigaction
	return rtSigaction(unix.SIGSEGV, nil, &act) == nil && act.handler == handler() &&
		rtSigaction(unix.SIGPROF, nil, &prof) == nil && prof.mask&segvBit == 0
}

// readCounter executes rdtsc.
func readCounter()

// faults reports whether a thread that is kept from the counter faults upon a read of it. For
// that moment segv is the handler.
func faults() bool {
	const none = 1 // SIG_IGN, and below it SIG_DFL
	var act sigaction
	if rtSigaction(unix.SIGSEGV, nil, &act) != nil || act.handler <= none {
		return true // nobody can tell
	}
	if act.handler != handler() {
		former = act.handler
		own := act
		own.handler = handler()
		own.flags |= noDefer
		own.mask &^= segvBit
		if rtSigaction(unix.SIGSEGV, &own, nil) != nil {
			return true
		}
		defer func() { _ = rtSigaction(unix.SIGSEGV, &act, nil) }()
	}
	before := readSoFar()
	if !set(unix.PR_TSC_SIGSEGV) {
		return true // the command's own call will say why
	}
	readCounter()
	set(unix.PR_TSC_ENABLE)
	return readSoFar() != before
}

// rtSigaction is rt_sigaction(2).
func rtSigaction(sig unix.Signal, set, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), unsafe.Sizeof(set.mask), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

package tsc

import (
	"runtime"
	"runtime/trace"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// worthwhile is what one change of the bit has to cost for threads to be kept from the
// counter. Outside of a guest, or where the hypervisor leaves the bit to the guest, it is a
// tenth of that.
const worthwhile = time.Microsecond

// Dear reports whether changes of the bit are that dear on this machine. Elsewhere Forbid and
// Allow do nothing.
var Dear = sync.OnceValue(func() bool {
	if !Obeyed() {
		return false
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	least := time.Hour
	for range 4 {
		began := time.Now()
		if !toggle() {
			return false
		}
		least = min(least, time.Since(began))
	}
	return least/2 > worthwhile
})

// Obeyed reports whether a thread that is kept from the counter faults when it reads it. On a
// machine that a hypervisor makes without the processor's help the bit of CR4 may be the
// guest's alone.
var Obeyed = sync.OnceValue(func() bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return faults()
})

// toggle forbids and allows the counter, with no signal in between: there may be no
// handler yet.
func toggle() (ok bool) {
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old) != nil {
		return false
	}
	ok = set(unix.PR_TSC_SIGSEGV) && set(unix.PR_TSC_ENABLE)
	return unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) == nil && ok
}

// set has no clock read in it, unlike unix.Prctl, after which Go's scheduler may run.
//
//go:nosplit
func set(to uintptr) bool {
	_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_TSC, to, 0)
	return errno == 0
}

// Forbid keeps the calling thread from the counter, where that is worth it, until Allow.
// The goroutine must be locked to the thread. Nothing of Go notices. What it must not do
// meanwhile:
//   - start a process that isn't forbidden the counter too, which is inherited,
//   - block SIGSEGV and run Go code that may read the clock,
//   - end: a thread that ends with its goroutine does so with all signals blocked.
//
// It leaves the thread as it is where the process is traced (runtime/trace reads the clock
// all the time), and where the handler of SIGSEGV is no longer this package's.
func Forbid() {
	if Dear() && !trace.IsEnabled() && installed() {
		set(unix.PR_TSC_SIGSEGV)
	}
}

// Allow gives the calling thread the counter back.
func Allow() {
	if Dear() {
		set(unix.PR_TSC_ENABLE)
	}
}

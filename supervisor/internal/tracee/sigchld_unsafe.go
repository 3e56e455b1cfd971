//go:build linux

package tracee

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A sigaction is the kernel's struct sigaction, the same on amd64 and arm64.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

const noChildStop = 1 // SA_NOCLDSTOP, asm-generic/signal-defs.h

// QuietStops keeps the kernel from sending this process a SIGCHLD for each stop of a
// tracee (SA_NOCLDSTOP, sigaction(2)): a tracer waits anyway, and Go's runtime takes a few
// microseconds to find that nobody wants the signal. The end of a child is told as ever. A
// program that asks for the signal itself (os/signal) has it for stops again, and is slower.
var QuietStops = sync.OnceFunc(func() {
	var act sigaction
	if sigactionCall(nil, &act) != 0 || act.flags&noChildStop != 0 {
		return
	}
	act.flags |= noChildStop
	_ = sigactionCall(&act, nil) // a matter of speed alone
})

func sigactionCall(set, get *sigaction) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(get)), unsafe.Sizeof(get.mask), 0, 0)
	return e
}

package tsc

import "golang.org/x/sys/unix"

// BlockSignals keeps signals from the calling thread, and says which it had blocked before
// (unix.PthreadSigmask with SIG_SETMASK brings that back). The goroutine must be locked to the
// thread.
//
// SIGSEGV stays: nobody sends it, and a thread that is kept from the counter gets one when it
// reads the clock, as Go's scheduler does wherever a goroutine makes way for others. Were it
// blocked, the kernel would end the process.
func BlockSignals(before *unix.Sigset_t) error {
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	all.Val[0] &^= 1 << (unix.SIGSEGV - 1)
	return unix.PthreadSigmask(unix.SIG_SETMASK, &all, before)
}

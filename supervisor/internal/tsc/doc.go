// Package tsc keeps threads of this process from the CPU's time-stamp counter, as the
// programs that they serve are kept from it, so that switching between the two is cheap.
//
// Whether a thread may read the counter is a bit of the CPU's control register CR4, which
// the kernel writes when it switches from a thread that may to one that may not
// (__switch_to_xtra in arch/x86/kernel/process.c). In a guest on an AMD processor each such
// write leaves the guest, for some 4 microseconds; a call that a supervisor answers takes
// two. Between two threads that both may not, nothing is written.
//
// Go's runtime does read the counter on such a thread now and then, by the vDSO's
// clock_gettime. That raises SIGSEGV; the handler of this package carries the instruction
// out and goes on, which takes some 10 microseconds. All other faults go to the handler
// that was there before, Go's own.
package tsc

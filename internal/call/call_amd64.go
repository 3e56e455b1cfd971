package call

// Call calls the function at address fn with the integer arguments a to e, under
// the System V ABI, and returns what it leaves in rax.
//
// The function gets 16 KiB of stack: a vDSO function needs less than one KiB. It
// can't be preempted, so it must end by itself without waiting for another
// goroutine, and it must not call back into Go. Addresses among the arguments
// must not point into a goroutine's stack, which moves when it grows: pass
// mapped memory.
func Call(fn, a, b, c, d, e uintptr) uintptr

package main

import (
	"math"

	"golang.org/x/sys/unix"
)

// keepDescriptors keeps what the caller has open from the command, but for its input and
// outputs: which that is depends on the shell, and what it is is the host's.
func keepDescriptors() {
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) // Linux 5.11, and a sandbox needs 5.14
}

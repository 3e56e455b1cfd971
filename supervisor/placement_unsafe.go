//go:build linux

package supervisor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// currentCPU returns the CPU that the calling thread runs on (getcpu(2)).
func currentCPU() (int, error) {
	var cpu uint32
	if _, _, e := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); e != 0 {
		return 0, e
	}
	return int(cpu), nil
}

//go:build linux

package supervisor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// disconnect takes a socket's peer away (connect(2), AF_UNSPEC).
func disconnect(fd int) error {
	to := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to)), unsafe.Sizeof(to))
	if errno != 0 {
		return errno
	}
	return nil
}

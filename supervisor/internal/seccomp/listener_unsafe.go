//go:build linux

package seccomp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl passes a pointer to a value of the size that req encodes. RECV, SEND and
// ADDFD may sleep, so the runtime is told about each call.
func ioctl[T Notif | Resp | AddFD | uint64](fd int, req uintptr, arg *T) error {
	_, err := ioctlResult(fd, req, arg)
	return err
}

func ioctlResult[T Notif | Resp | AddFD | uint64](fd int, req uintptr, arg *T) (int, error) {
	r, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(arg)))
	if e != 0 {
		return -1, e
	}
	return int(r), nil
}

func ioctlValue(fd int, req, value uintptr) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, value); e != 0 {
		return e
	}
	return nil
}

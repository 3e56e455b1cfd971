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

// rawBind and rawConnect take an address as the kernel does (bind(2), connect(2)).
func rawBind(fd int, addr []byte) error    { return rawAddress(unix.SYS_BIND, fd, addr) }
func rawConnect(fd int, addr []byte) error { return rawAddress(unix.SYS_CONNECT, fd, addr) }

func rawAddress(nr uintptr, fd int, addr []byte) error {
	if len(addr) == 0 {
		return unix.EINVAL
	}
	if _, _, errno := unix.Syscall(nr, uintptr(fd), uintptr(unsafe.Pointer(&addr[0])), uintptr(len(addr))); errno != 0 {
		return errno
	}
	return nil
}

// rawName returns an end of a socket as the kernel tells it (getsockname(2),
// getpeername(2)).
func rawName(nr uintptr, fd int) ([]byte, error) {
	b := make([]byte, mostOfAnAddress)
	size := uint32(len(b))
	if _, _, errno := unix.RawSyscall(nr, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return nil, errno
	}
	return b[:min(size, uint32(len(b)))], nil
}

// rawOption returns an option of a socket, as much of it as there is room for
// (getsockopt(2)).
func rawOption(fd, level, name, room int) ([]byte, error) {
	b := make([]byte, room)
	size := uint32(room)
	if _, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		return nil, errno
	}
	return b[:min(size, uint32(room))], nil
}

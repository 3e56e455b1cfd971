//go:build linux

package supervisor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// systemVGet makes or finds an object (shmget(2), semget(2), msgget(2)). size is a
// segment's, or the number of semaphores.
func systemVGet(kind systemVKind, key int32, size uint64, flags int32) (int32, error) {
	var id uintptr
	var errno unix.Errno
	switch kind {
	case sharedMemory:
		id, _, errno = unix.Syscall(unix.SYS_SHMGET, uintptr(uint32(key)), uintptr(size), uintptr(uint32(flags)))
	case semaphores:
		id, _, errno = unix.Syscall(unix.SYS_SEMGET, uintptr(uint32(key)), uintptr(size), uintptr(uint32(flags)))
	default:
		id, _, errno = unix.Syscall(unix.SYS_MSGGET, uintptr(uint32(key)), uintptr(uint32(flags)), 0)
	}
	if errno != 0 {
		return 0, errno
	}
	return int32(id), nil
}

// systemVControl deals with an object of the host's. buf is its struct, of systemVStruct
// bytes, where the command has one.
func systemVControl(kind systemVKind, id int32, command int, buf []byte) error {
	var errno unix.Errno
	ptr := unsafe.Pointer(unsafe.SliceData(buf))
	if kind == semaphores {
		_, _, errno = unix.Syscall6(unix.SYS_SEMCTL, uintptr(id), 0, uintptr(command), uintptr(ptr), 0, 0)
	} else {
		_, _, errno = unix.Syscall(systemVCalls[kind].controls, uintptr(id), uintptr(command), uintptr(ptr))
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// shmAttach attaches a segment, to read (shmat(2)).
func shmAttach(id int32) (uintptr, error) {
	at, _, errno := unix.Syscall(unix.SYS_SHMAT, uintptr(id), 0, unix.SHM_RDONLY)
	if errno != 0 {
		return 0, errno
	}
	return at, nil
}

func shmDetach(at uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_SHMDT, at, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

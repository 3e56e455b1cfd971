//go:build linux

package supervisor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setTicks sets how often a timerfd has expired since it was last read
// (linux/timerfd.h).
func setTicks(fd int, ticks uint64) error {
	const setTicks = 0x40085400 // TFD_IOC_SET_TICKS
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), setTicks, uintptr(unsafe.Pointer(&ticks))); e != 0 {
		return e
	}
	return nil
}

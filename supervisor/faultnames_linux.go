package supervisor

import (
	"fmt"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// errnoNamed returns the error of a name such as ENOSPC, or of a number.
func errnoNamed(name string) (syscall.Errno, error) {
	if n, err := strconv.ParseUint(name, 10, 12); err == nil && n > 0 {
		return syscall.Errno(n), nil
	}
	const most = 4095
	for e := syscall.Errno(1); e <= most && name != ""; e++ { // some have no name
		if unix.ErrnoName(e) == name {
			return e, nil
		}
	}
	return 0, fmt.Errorf("there is no error %q: want a name such as ENOSPC", name)
}

// signalNamed returns the signal of a name such as SIGTERM, or of a number.
func signalNamed(name string) (syscall.Signal, error) {
	const most = 64
	if n, err := strconv.ParseUint(name, 10, 7); err == nil && n > 0 && n <= most {
		return syscall.Signal(n), nil
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("there is no signal %q: want a name such as SIGTERM", name)
}

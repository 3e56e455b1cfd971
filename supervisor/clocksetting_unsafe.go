//go:build linux

package supervisor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// timexBytes is a struct timex as the kernel sees it.
func timexBytes(tx *unix.Timex) []byte {
	return (*[unsafe.Sizeof(*tx)]byte)(unsafe.Pointer(tx))[:]
}

//go:build linux

package supervisor

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// readKernelFile reads one of the kernel's files, which never make a reader wait. It makes
// four system calls for one that is shorter than a page, where os.ReadFile makes ten: it
// asks the file's size, which is 0, and whether the poller takes it, which it doesn't.
func readKernelFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	const page = 4096 // the most that a read returns of many
	text := make([]byte, 0, page)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return text, nil
		}
		if text = text[:len(text)+n]; cap(text)-len(text) < page/2 {
			text = slices.Grow(text, max(page, len(text)))
		}
	}
}

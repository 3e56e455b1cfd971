//go:build linux

package supervisor

import (
	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// The open of a FIFO waits until somebody opens its other side, or a signal comes
// (fifo(7)). The supervisor must not wait itself: it opens a FIFO for the program
// only if there is nothing to wait for, otherwise the program does.

// openFIFO opens a FIFO unless the open has to wait. One at a time tries: while one
// looks whether somebody writes, another would find that somebody reads.
func (v *view) openFIFO(sp *cow.Special) (fd int, waits bool, err error) {
	v.fifo.Lock()
	defer v.fifo.Unlock()
	flags := sp.Flags
	fd, err = sp.Open(flags | unix.O_NONBLOCK)
	nonblock := flags&unix.O_NONBLOCK != 0
	switch {
	case err == unix.ENXIO && flags&unix.O_ACCMODE == unix.O_WRONLY && !nonblock:
		return -1, true, nil // nobody reads
	case err != nil:
		return -1, false, err
	case nonblock:
		return fd, false, nil
	}
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		if waits, err = nobodyWrites(fd); err != nil || waits {
			unix.Close(fd)
			return -1, waits, err
		}
	}
	return fd, false, unix.SetNonblock(fd, false)
}

// nobodyWrites reports whether the other side of a FIFO is closed: then tee(2)
// finds its end, otherwise bytes, or nothing yet.
func nobodyWrites(fd int) (bool, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return false, err
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	n, err := unix.Tee(fd, p[1], 1, unix.SPLICE_F_NONBLOCK)
	if err == unix.EAGAIN {
		return false, nil
	}
	return n == 0, err
}

//go:build linux

package supervisor

import (
	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// The open of a FIFO waits until somebody opens its other side, or a signal comes
// (fifo(7)). The supervisor must not wait itself: it opens a FIFO for the program
// only if there is nothing to wait for, otherwise the program does.

// openFIFO opens a FIFO unless the open has to wait. Whether a reader has to can't be
// seen from outside without reading for a moment, and who opens it for writing in that
// moment wouldn't wait for the reader.
func (v *view) openFIFO(sp *cow.Special) (fd int, waits bool, err error) {
	flags := sp.Flags
	if flags&unix.O_NONBLOCK != 0 || flags&unix.O_ACCMODE == unix.O_RDWR {
		fd, err = sp.Open(flags)
		return fd, false, err
	}
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return -1, true, nil
	}
	switch fd, err = sp.Open(flags | unix.O_NONBLOCK); err {
	case nil:
		return fd, false, unix.SetNonblock(fd, false)
	case unix.ENXIO: // nobody reads
		return -1, true, nil
	}
	return -1, false, err
}

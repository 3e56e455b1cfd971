//go:build linux

package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// A descriptor of /dev/urandom or /dev/random is a stream socket whose other end
// the supervisor feeds without end. SO_RCVLOWAT makes a read wait until all it
// asked for is there, so that a read of a megabyte returns a megabyte, as from
// the device. What is written to it is thrown away.
//
// What remains: it can't be sought, read at a position (pread) or be sent from (sendfile), may be
// read and written however it was opened, and epoll takes it. A program that sets O_NONBLOCK on it
// (as Go's os package does) may get less than it asked for. Opening with O_NONBLOCK has no effect,
// as on the device.

// isRandomDevice reports whether a file is one of the kernel's random devices,
// under whatever name (Documentation/admin-guide/devices.txt).
func isRandomDevice(mode uint32, dev uint64) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR && (dev == unix.Mkdev(1, 8) || dev == unix.Mkdev(1, 9))
}

// randomDeviceName is where a random device is found.
func randomDeviceName(st *unix.Stat_t) string {
	if unix.Minor(st.Rdev) == 8 {
		return "/dev/random"
	}
	return "/dev/urandom"
}

// randomReady is how much can be read as soon as the device is open.
const randomReady = 64 << 10

func (s *Sandbox) openRandom(c *Call, cloexec bool) Answer {
	theirs, err := s.feedRandom(c.Process, c.statBuf())
	if err != nil {
		return Fatal(fmt.Errorf("make a random device: %w", err))
	}
	return InjectFD(theirs, cloexec)
}

// feedRandom makes a descriptor of a device of which stat tells st.
func (s *Sandbox) feedRandom(p *Process, st *unix.Stat_t) (theirs int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	theirs, ours := pair[0], pair[1]
	defer func() {
		if err != nil {
			unix.Close(theirs)
			unix.Close(ours)
		}
	}()
	if err := unix.SetsockoptInt(theirs, unix.SOL_SOCKET, unix.SO_RCVLOWAT, math.MaxInt32); err != nil {
		return -1, err
	}
	if err := unix.SetNonblock(ours, true); err != nil {
		return -1, err
	}
	stream := det.NewStream(s.cfg.Seed, det.URandom, p.Lineage, p.random.count(det.URandom))
	// The device is always ready, so the first bytes are there before anybody asks.
	first := make([]byte, randomReady)
	stream.Read(first)
	n, err := unix.Write(ours, first)
	if err != nil {
		return -1, err
	}
	forget, err := s.standIns.socket(theirs, st)
	if err != nil {
		return -1, err
	}
	s.feeds.add(ours)
	f := os.NewFile(uintptr(ours), "random") // non-blocking: waits cost no thread
	go func() {
		// Writes arriving from a program end when it has closed its descriptor.
		_, _ = io.Copy(io.Discard, f)
	}()
	go func() {
		defer f.Close()
		defer s.feeds.remove(ours)
		defer forget()
		// It ends with EPIPE, when the program has closed its descriptor.
		_, err := io.Copy(f, io.MultiReader(bytes.NewReader(first[n:]), stream))
		if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			s.fail(fmt.Errorf("supervisor: feed a random device: %w", err))
		}
	}()
	return theirs, nil
}

// feeds are the ends at which the supervisor writes.
type feeds struct {
	mu   sync.Mutex
	list []unix.PollFd
}

func (f *feeds) add(fd int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT})
}

func (f *feeds) remove(fd int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = slices.DeleteFunc(f.list, func(p unix.PollFd) bool { return p.Fd == int32(fd) })
}

// working reports whether there is something to write: then who waits to read will not
// wait for long.
func (f *feeds) working() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) == 0 {
		return false
	}
	if _, err := unix.Poll(f.list, 0); err != nil {
		return true
	}
	return slices.ContainsFunc(f.list, func(p unix.PollFd) bool { return p.Revents == unix.POLLOUT }) // and nobody has closed it
}

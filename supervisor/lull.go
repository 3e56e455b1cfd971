//go:build linux

package supervisor

import (
	"os"
	"syscall"
	"time"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// A lull is a time in which calls come seldom. A receiver that waits in the kernel keeps one
// of the runtime's processors, and for as long as 10 ms the runtime's monitor looks some
// fifty times whether somebody else needs it: more work than the call before was. So in a
// lull the receiver waits where the runtime does, which takes a few switches of context
// when a call comes.
//
// There is none in virtual time, whose detector looks for the receiver in the kernel.
type lull struct {
	listener *seccomp.Listener // nil where there are no lulls
	ready    func(fd uintptr) bool
	file     *os.File // of the listener, nil outside of a lull: the poller's thread is woken with each call
	conn     syscall.RawConn
	on       bool
	calls    int // that came after since
	since    time.Time
}

// When calls come seldom, on the average of so many.
const (
	lullCalls = 16
	lullEach  = 2 * time.Millisecond
)

// watch lets wait know of the listener.
func (l *lull) watch(listener *seccomp.Listener) {
	l.listener, l.since = listener, time.Now()
	l.ready = func(uintptr) bool { return listener.Ready() }
}

// wait waits for a call in a lull, and otherwise leaves that to who receives it. Whoever has
// the baton calls it before each call.
func (l *lull) wait() {
	if l.listener == nil {
		return
	}
	if l.count(time.Now); !l.on {
		l.close()
	} else if l.open() {
		_ = l.conn.Read(l.ready)
	}
}

// open gives the runtime's poller the listener. Where that can't be had, there are no lulls.
func (l *lull) open() bool {
	if l.file != nil {
		return l.conn != nil
	}
	fd, err := l.listener.Dup()
	if err != nil {
		return false
	}
	if err := unix.SetNonblock(fd, true); err != nil { // which the poller wants, and nobody else heeds
		unix.Close(fd)
		return false
	}
	l.file = os.NewFile(uintptr(fd), "listener")
	l.conn, err = l.file.SyscallConn()
	return err == nil
}

// count finds out whether calls come seldom.
func (l *lull) count(clock func() time.Time) {
	if l.calls++; l.calls < lullCalls {
		return
	}
	now := clock()
	l.on = now.Sub(l.since) > lullCalls*lullEach
	l.calls, l.since = 0, now
}

func (l *lull) close() {
	if l.file != nil {
		_ = l.file.Close()
		l.file, l.conn = nil, nil
	}
}

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
	conn  syscall.RawConn // of the listener, nil where there are no lulls
	file  *os.File
	ready func(fd uintptr) bool
	on    bool
	calls int // that came after since
	since time.Time
}

// When calls come seldom, on the average of so many.
const (
	lullCalls = 16
	lullEach  = 2 * time.Millisecond
)

// watch lets wait know of the listener. Where that can't be had, there are no lulls.
func (l *lull) watch(listener *seccomp.Listener) {
	fd, err := listener.Dup()
	if err != nil {
		return
	}
	if err := unix.SetNonblock(fd, true); err != nil { // which the poller wants, and nobody else heeds
		unix.Close(fd)
		return
	}
	l.file = os.NewFile(uintptr(fd), "listener")
	l.ready = func(uintptr) bool { return listener.Ready() }
	l.since = time.Now()
	l.conn, _ = l.file.SyscallConn()
}

// wait waits for a call in a lull, and otherwise leaves that to who receives it. Whoever has
// the baton calls it before each call.
func (l *lull) wait() {
	if l.conn == nil {
		return
	}
	if l.count(time.Now); l.on {
		_ = l.conn.Read(l.ready)
	}
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
	}
}

//go:build linux

package supervisor

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A bell wakes the one thread that waits for it (futex(2)). Ringing costs a
// system call only if that thread has lain down for long.
type bell struct {
	rung  atomic.Uint32
	sleep atomic.Bool
}

// heard returns what wait is to be told: it returns at once if the bell has rung
// since.
func (b *bell) heard() uint32 { return b.rung.Load() }

// ring tells that there is something new.
func (b *bell) ring() {
	b.rung.Add(1)
	if b.sleep.Load() {
		b.wake()
	}
}

// wake ends a wait in any case.
func (b *bell) wake() {
	b.rung.Add(1)
	futexWake(&b.rung)
}

// briefly is a wait that isn't worth being woken from.
const briefly = 100 * time.Microsecond

// wait returns when the bell rings or after d, for ever if that is 0. It reports
// whether the bell has rung.
func (b *bell) wait(heard uint32, d time.Duration) bool {
	if d > 0 && d <= briefly {
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil)
		return b.rung.Load() != heard
	}
	b.sleep.Store(true)
	futexWait(&b.rung, heard, d)
	b.sleep.Store(false)
	return b.rung.Load() != heard
}

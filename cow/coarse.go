//go:build linux

package cow

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Whether a file was written to is told by its size and time. The kernel takes the time of
// a write from a clock that ticks every few milliseconds, and only from Linux 6.13 on, and
// not on every file system, another one when somebody has looked since the write before.
// So a time that is no older than a tick is in doubt: a second write of as many bytes may
// leave it as it is. An object is the tree's own, so where that is so it is given a time
// long past, that no write leaves.

// tick is no less than one of the kernel's clock (CONFIG_HZ is 100 or more).
const tick = 10 * time.Millisecond

// A hostClock says how the host's file system tells the times of writes. Its fields are set
// by tests alone.
type hostClock struct {
	now    func() time.Time
	coarse *bool // nil until somebody has tried
}

// note remembers what the host tells of an object. A write after the look that st is from
// is seen at the next one.
func (t *Tree) note(o *object, st *unix.Stat_t) {
	o.size, o.mtime = st.Size, st.Mtim.Nano()
	if o.told || !t.inDoubt(o.mtime) { // who watches it would hear of it
		return
	}
	past := unix.Timespec{Sec: o.notes + 1} // another one each time, on any file system
	err := unix.UtimesNanoAt(unix.AT_FDCWD, o.path, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, past}, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil { // otherwise it has lost its name, and its last changes may be taken for one
		o.notes++
		o.mtime = past.Nano()
	}
}

// inDoubt reports whether a write may leave a time as it is.
func (t *Tree) inDoubt(mtime int64) bool {
	if t.clock.coarse != nil && !*t.clock.coarse {
		return false
	}
	now := time.Now
	if t.clock.now != nil {
		now = t.clock.now
	}
	if mtime < now().Add(-tick).UnixNano() {
		return false
	}
	if t.clock.coarse == nil {
		coarse := t.triesCoarse()
		t.clock.coarse = &coarse
	}
	return *t.clock.coarse
}

// triesCoarse reports whether two writes one after the other leave one time. Where nobody
// can tell, they may.
func (t *Tree) triesCoarse() bool {
	path := fmt.Sprint(t.upper, "/tick")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	defer func() { _ = unix.Unlink(path) }() // what is left goes with the upper directory
	const times = 4                          // a tick may come between two
	last := int64(0)
	for range times {
		var st unix.Stat_t
		if _, err := unix.Pwrite(fd, []byte{0}, 0); err != nil {
			return true
		}
		if unix.Fstat(fd, &st) != nil || st.Mtim.Nano() == last {
			return true
		}
		last = st.Mtim.Nano()
	}
	return false
}

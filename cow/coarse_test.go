//go:build linux

package cow

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// coarseTree makes a tree with a file of five bytes, open, on a host whose file times stand
// at stood while it is written to.
func coarseTree(t *testing.T, coarse bool) (tr *Tree, fd int, write func(text string)) {
	t.Helper()
	tr, err := New(Config{Upper: t.TempDir(), Mounts: []Mount{{At: "/", Host: t.TempDir()}}})
	if err != nil {
		t.Fatal(err)
	}
	stood := time.Unix(2_000_000_000, 0)
	tr.clock = hostClock{now: func() time.Time { return stood.Add(tick / 2) }, coarse: &coarse}
	if fd, err = tr.Open(&Walk{Cred: Superuser()}, "/f", unix.O_CREAT|unix.O_RDWR, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return tr, fd, func(text string) {
		t.Helper()
		if _, err := unix.Pwrite(fd, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
		ts := unix.NsecToTimespec(stood.UnixNano())
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, heldPath(fd), []unix.Timespec{ts, ts}, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// A second write of as many bytes within a tick of the host's clock is seen, and no write
// where there was none.
func TestCoarseTimes(t *testing.T) {
	tr, _, write := coarseTree(t, true)
	mtime := func() int64 {
		t.Helper()
		f, err := tr.Lookup(&Walk{Cred: Superuser()}, "/f")
		if err != nil {
			t.Fatal(err)
		}
		a, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return Nanoseconds(a.Mtime)
	}
	last := mtime()
	for _, text := range []string{"first", "other", "third"} {
		write(text)
		at := mtime()
		if at <= last {
			t.Errorf("%q was written, and the time is %d after %d", text, at, last)
		}
		if again := mtime(); again != at {
			t.Errorf("after %q, when nothing was written, the time goes from %d to %d", text, at, again)
		}
		last = at
	}
}

// Whether the host's clock is coarse is found out, and nothing is left of that.
func TestTriesCoarse(t *testing.T) {
	tr, fd, _ := coarseTree(t, true)
	tr.clock = hostClock{}
	coarse := tr.triesCoarse()
	tr.inDoubt(time.Now().UnixNano())
	if tr.clock.coarse == nil || *tr.clock.coarse != coarse {
		t.Errorf("it is tried to be %v, and then %v", coarse, tr.clock.coarse)
	}
	var st unix.Stat_t
	if err := unix.Stat(tr.upper+"/tick", &st); err != unix.ENOENT {
		t.Errorf("what was tried with: %v", err)
	}
	// With a finer one, an object's time is left to the host.
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	fine := false
	tr.clock.coarse = &fine
	o := &object{path: heldPath(fd)}
	if tr.note(o, &st); o.mtime != st.Mtim.Nano() || o.notes != 0 {
		t.Errorf("the time that is noted is %d, the host's is %d", o.mtime, st.Mtim.Nano())
	}
}

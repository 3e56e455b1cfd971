package cow

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTimesOfInputs: a file of the host's that was changed after the tree's beginning reads
// as if that had been there, however late it was.
func TestTimesOfInputs(t *testing.T) {
	const start = 946_684_800
	dir := t.TempDir()
	tr, err := New(Config{Upper: t.TempDir(), Mounts: []Mount{{At: "/", Host: dir}}, Start: start * 1e9})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	begin := unix.Timespec{Sec: start}
	for _, tt := range []struct{ ts, want unix.Timespec }{
		{unix.Timespec{Sec: start - 1, Nsec: 7}, unix.Timespec{Sec: start - 1, Nsec: 7}},
		{unix.Timespec{Sec: start, Nsec: 1}, begin},
		{unix.Timespec{Sec: 2_000_000_000}, begin},
		{unix.Timespec{Sec: 13_569_465_600}, begin}, // 2400: no 64 bits hold its nanoseconds
		{unix.Timespec{Sec: -1_000_000_000, Nsec: 1}, unix.Timespec{Sec: -1_000_000_000, Nsec: 1}},
	} {
		ts := tt.ts
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, 0); err != nil {
			t.Fatal(err)
		}
		f, err := tr.Lookup(&Walk{Cred: Superuser()}, "/file")
		if err != nil {
			t.Fatal(err)
		}
		if a, err := f.Stat(); err != nil || a.Mtime != tt.want {
			t.Errorf("%v reads as %v (%v), want %v", ts, a.Mtime, err, tt.want)
		}
	}
}

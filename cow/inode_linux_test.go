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
	for _, tt := range []struct{ sec, nsec, want int64 }{
		{start - 1, 7, (start-1)*1e9 + 7},
		{start, 1, start * 1e9},
		{2_000_000_000, 0, start * 1e9},
		{13_569_465_600, 0, start * 1e9}, // 2400: no 64 bits hold its nanoseconds
		{-1_000_000_000, 1, -1e18 + 1},
	} {
		ts := unix.Timespec{Sec: tt.sec, Nsec: tt.nsec}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, 0); err != nil {
			t.Fatal(err)
		}
		f, err := tr.Lookup(&Walk{Cred: Superuser()}, "/file")
		if err != nil {
			t.Fatal(err)
		}
		if a, err := f.Stat(); err != nil || a.Mtime != tt.want {
			t.Errorf("%d.%09d reads as %d (%v), want %d", tt.sec, tt.nsec, a.Mtime, err, tt.want)
		}
	}
}

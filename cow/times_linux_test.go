package cow

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFarTimes: a time that is set reads back, and reaches the host and a snapshot, also where
// 64 bits don't hold its nanoseconds.
func TestFarTimes(t *testing.T) {
	for _, want := range []unix.Timespec{{Sec: 13_569_465_600, Nsec: 123_456_789}, {Sec: -1_000_000_000, Nsec: 999_999_999}, {Sec: 1, Nsec: 1}} {
		host, snapshot := t.TempDir(), filepath.Join(t.TempDir(), "snapshot")
		bare := filepath.Join(host, "bare")
		for _, name := range []string{bare, filepath.Join(host, "file")} {
			if err := os.WriteFile(name, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, bare, []unix.Timespec{want, want}, 0); err != nil {
			t.Fatal(err)
		}
		var onHost unix.Stat_t
		if err := unix.Stat(bare, &onHost); err != nil {
			t.Fatal(err)
		}
		if onHost.Mtim != want {
			t.Skipf("the file system has no time %v", want)
		}
		begin := func() *Tree {
			tr, err := New(Config{Upper: t.TempDir(), Mounts: []Mount{{At: "/", Host: host}}, Start: 1e18})
			if err != nil {
				t.Fatal(err)
			}
			return tr
		}
		check := func(what string, tr *Tree) *File {
			t.Helper()
			f, err := tr.Lookup(&Walk{Cred: Superuser()}, "/file")
			if err != nil {
				t.Fatal(what, err)
			}
			if a, err := f.Stat(); err != nil || what != "" && (a.Mtime != want || a.Atime != want) {
				t.Errorf("%s: %v and %v (%v), want %v", what, a.Atime, a.Mtime, err, want)
			}
			return f
		}
		tr := begin()
		f := check("", tr)
		if err := f.Chmod(Superuser(), 0o600); err != nil { // times alone are no change
			t.Fatal(err)
		}
		if err := f.SetTimes(Superuser(), want, want); err != nil {
			t.Fatal(err)
		}
		check("read back", tr)
		if err := tr.Snapshot(snapshot); err != nil {
			t.Fatal(err)
		}
		again := begin()
		if err := again.Restore(snapshot); err != nil {
			t.Fatal(err)
		}
		check("from a snapshot", again)
		changes, err := tr.Changes()
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Commit(changes, t.TempDir()); err != nil {
			t.Fatal(err)
		}
		if err := unix.Stat(filepath.Join(host, "file"), &onHost); err != nil || onHost.Mtim != want {
			t.Errorf("on the host: %v (%v), want %v", onHost.Mtim, err, want)
		}
		text, err := json.Marshal(jsonTime(want))
		var back jsonTime
		if err != nil || json.Unmarshal(text, &back) != nil || unix.Timespec(back) != want {
			t.Errorf("%v as %s reads back as %v (%v)", want, text, back, err)
		}
	}
	var far jsonTime
	if err := json.Unmarshal([]byte("10000000000000000000000000000000000000"), &far); err == nil {
		t.Errorf("a time beyond all reads as %v", far)
	}
}

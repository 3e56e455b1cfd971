//go:build linux

package cow_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// makeFiles makes files of the host below a directory; a name with a slash at its end is a
// directory.
func makeFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else if err == nil {
			err = os.WriteFile(path, []byte(name+"\n"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// write writes to a file, which is created if need be.
func (l layered) write(t *testing.T, path string, flags int, text string) {
	t.Helper()
	fd, err := l.t.Open(l.walk(false), path, flags|unix.O_WRONLY|unix.O_CREAT, 0o644)
	if err != nil {
		t.Fatalf("open %q: %v", path, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// changes compares the changes with lines.
func (l layered) changes(t *testing.T, want ...string) {
	t.Helper()
	got, err := l.t.Changes()
	if err != nil {
		t.Error(err)
	} else if want := strings.Join(append(want, ""), "\n"); got.String() != want {
		t.Errorf("the changes are\n%swant\n%s", got, want)
	}
}

// unprivileged lets the rest of the test do its calls as somebody who can't override
// permissions, and returns a directory of theirs.
func unprivileged(t *testing.T) string {
	t.Helper()
	const nobody = 65534
	dir := t.TempDir()
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(path, 0o755)
			}
			return nil
		})
	})
	if os.Geteuid() != 0 {
		return dir
	}
	must(t, os.Chown(filepath.Dir(dir), nobody, nobody), os.Chown(dir, nobody, nobody))
	runtime.LockOSThread()
	become := func(uid, gid uintptr) { // this thread only
		for _, call := range [][2]uintptr{{unix.SYS_SETRESGID, gid}, {unix.SYS_SETRESUID, uid}} {
			if _, _, errno := unix.RawSyscall(call[0], ^uintptr(0), call[1], ^uintptr(0)); errno != 0 {
				t.Fatal(errno)
			}
		}
	}
	become(nobody, nobody)
	t.Cleanup(func() {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 0, ^uintptr(0)); errno != 0 {
			t.Fatal(errno)
		}
		become(0, 0)
		runtime.UnlockOSThread()
	})
	return dir
}

// What the host takes away meanwhile is no reason to lose the list.
func TestChangesOverVanishedFiles(t *testing.T) {
	dir := t.TempDir()
	makeFiles(t, dir, "d/f", "e/f", "e/g", "f", "h")
	l := layer(t, dir, ".")
	l.write(t, "d/new", 0, "new")
	l.write(t, "f", unix.O_TRUNC, "changed")
	must(t, l.Rename("e", "moved", 0), l.Unlink("h"))
	must(t, os.RemoveAll(filepath.Join(dir, "d")), os.RemoveAll(filepath.Join(dir, "e")), os.Remove(filepath.Join(dir, "f")), os.Remove(filepath.Join(dir, "h")))
	l.changes(t, "A drwxr-xr-x /d", "A -rw-r--r-- /d/new", "A -rw-r--r-- /f", "A drwxr-xr-x /moved")
}

// What is done to a file is done to it under all its names.
func TestChangesOfLinks(t *testing.T) {
	dir := t.TempDir()
	makeFiles(t, dir, "a", "d/f", "e/f", "b", "c", "like", "same")
	for name, old := range map[string]string{"a2": "a", "d/a": "a", "e/a": "a", "b2": "b", "c2": "c"} {
		must(t, os.Link(filepath.Join(dir, old), filepath.Join(dir, name)))
	}
	l := layer(t, dir, ".")
	_, err := l.Stat("d", false) // and nobody looks into e
	must(t, err)
	l.write(t, "a", unix.O_TRUNC, "new")
	must(t, l.Rename("b", "moved", 0), l.Chmod("c", 0o600), l.Unlink("c2"))
	l.write(t, "n", 0, "like\n")
	l.write(t, "n2", 0, "same\n")
	must(t, l.Link("n", "z", 0), l.Rename("n", "like", 0), l.Rename("n2", "same", 0)) // the host's like isn't z
	l.changes(t, "M -rw-r--r-- /a", "M -rw-r--r-- /a2", "D -rw-r--r-- /b", "M -rw------- /c", "D -rw-r--r-- /c2", "M -rw-r--r-- /d/a",
		"M -rw-r--r-- /like", "A -rw-r--r-- /moved", "A -rw-r--r-- /z")
}

// A directory that can't be read is listed, and nothing in it; but nobody takes that for
// all there is.
func TestChangesOfUnreadable(t *testing.T) {
	for _, mode := range []os.FileMode{0, 0o444, 0o311} {
		t.Run(mode.String(), func(t *testing.T) {
			dir := unprivileged(t)
			makeFiles(t, dir, "z/f", "y/f", "f")
			must(t, os.Chmod(filepath.Join(dir, "z"), mode), os.Chmod(filepath.Join(dir, "y"), mode), os.Chmod(filepath.Join(dir, "f"), 0))
			l := layer(t, dir, ".")
			must(t, l.Rename("z", "z2", 0), l.Rename("y", "y2", 0), l.Mkdir("y", uint32(mode)), l.Rename("f", "f2", 0))
			perm := map[os.FileMode]string{0: "---------", 0o444: "r--r--r--", 0o311: "-wx--x--x"}[mode]
			l.changes(t, "D ---------- /f", "A ---------- /f2", "M d"+perm+" /y", "A d"+perm+" /y2", "D d"+perm+" /z", "A d"+perm+" /z2")

			changes, err := l.t.Changes()
			must(t, err)
			for name, err := range map[string]error{"commit": l.t.Commit(changes[2:], dir), "snapshot": l.t.Snapshot(filepath.Join(dir, "snapshot")), "keep": l.t.Keep(changes[2:], filepath.Join(dir, "kept"))} {
				if err == nil || !strings.Contains(err.Error(), "can't be read on the host") && name != "snapshot" {
					t.Errorf("%s: %v", name, err)
				}
			}
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, "z"), &st); err != nil {
				t.Errorf("the host's directory after the commit: %v", err)
			}
		})
	}
}

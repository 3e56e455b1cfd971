//go:build linux

package cow

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// What a snapshot holds counts in the tree that starts from it as in the one that it was
// taken of.
func TestRestoreCounts(t *testing.T) {
	host := t.TempDir()
	tree := func() *Tree {
		tr, err := New(Config{Upper: t.TempDir(), Mounts: []Mount{{At: "/", Host: host}}, MaxBytes: 1 << 20, MaxInodes: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	first := tree()
	w := &Walk{Cred: Superuser()}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(first.Mkdir(w, "/d", 0o755))
	fd, err := first.Open(w, "/d/f", unix.O_CREAT|unix.O_WRONLY, 0o644)
	must(err)
	_, err = unix.Write(fd, make([]byte, 5000))
	must(err)
	must(unix.Close(fd))
	must(first.Link(w, "/d/f", w, "/d/g"))
	must(first.Link(w, "/d/f", w, "/h"))
	must(first.Symlink(w, "somewhere else", "/d/s"))
	for _, path := range []string{"/d", "/d/f"} {
		f, err := first.Lookup(w, path)
		must(err)
		must(f.Setxattr(w.Cred, "user.a", "value", 0))
	}
	dir := t.TempDir()
	must(first.Snapshot(dir))
	second := tree()
	must(second.Restore(dir))
	wantBytes, wantInodes := Space{1 << 20, 5000 + 14 + 2*11}, Space{1000, 5}
	for i, tr := range []*Tree{first, second} {
		if bytes, inodes := tr.Space(); bytes != wantBytes || inodes != wantInodes {
			t.Errorf("tree %d: %v bytes, %v inodes, want %v, %v", i+1, bytes, inodes, wantBytes, wantInodes)
		}
	}
	for _, path := range []string{"/d/f", "/d/g", "/h", "/d/s"} {
		must(second.Unlink(w, path))
	}
	must(second.Rmdir(w, "/d"))
	if bytes, inodes := second.Space(); bytes.Used != 0 || inodes.Used != 0 {
		t.Errorf("when everything is removed: %v bytes, %v inodes", bytes, inodes)
	}
	for i := range 1000 {
		must(second.Mkdir(w, fmt.Sprint("/", i), 0o755))
	}
	if err := second.Mkdir(w, "/one more", 0o755); err != unix.ENOSPC {
		t.Errorf("one more: %v", err)
	}
}

package cow

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSpares: objects that are made before they are needed are each one file's, and no more
// than it seems that are needed.
func TestSpares(t *testing.T) {
	upper := t.TempDir()
	tr, err := New(Config{Upper: upper, Mounts: []Mount{{At: "/", Host: t.TempDir()}}, Start: 1e18})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Rest()
	w := &Walk{Cred: Superuser()}
	const files = 400
	taken := 0
	for i := range files {
		tr.Rest() // so that there is one, if there is to be one
		tr.mu.Lock()
		before := len(tr.spares.list)
		tr.mu.Unlock()
		name := fmt.Sprint("/", i)
		fd, err := tr.Open(w, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if before > 0 {
			taken++
		}
		if _, err := unix.Write(fd, []byte(name)); err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	if taken < files/2 {
		t.Errorf("of %d files %d have got an object that was there", files, taken)
	}
	for i := range files {
		name := fmt.Sprint("/", i)
		fd, err := tr.Open(w, name, unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, err := unix.Read(fd, buf)
		unix.Close(fd)
		if got := string(buf[:max(n, 0)]); got != name || err != nil {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	tr.Rest()
	entries, err := os.ReadDir(upper)
	if most := files + files/sparesShare; err != nil || len(entries) > most {
		t.Errorf("%d objects (%v) for %d files, want no more than %d", len(entries), err, files, most)
	}
	changes, err := tr.Changes()
	if err != nil || len(changes) != files {
		t.Errorf("%d changes (%v), want %d", len(changes), err, files)
	}

	// Where no more can be made, whoever needs one is told.
	if unix.Geteuid() == 0 {
		return // who may make files anywhere
	}
	if err := os.Chmod(upper, 0o500); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(upper, 0o700)
	for i := range files {
		fd, err := tr.Open(w, fmt.Sprint("/more", i), unix.O_WRONLY|unix.O_CREAT, 0o644)
		if err == unix.EACCES {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	t.Errorf("there were objects for %d files in a directory without write permission", files)
}

package cow

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLowerNames: a directory in which many files are created is still the host's.
func TestLowerNames(t *testing.T) {
	host := t.TempDir()
	put := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(host, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const before = 30
	for i := range before {
		put(fmt.Sprint("host", i))
	}
	tr, err := New(Config{Upper: t.TempDir(), Mounts: []Mount{{At: "/", Host: host}}, Start: 1e18})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Rest()
	w := &Walk{Cred: Superuser()}
	create := func(name string) error {
		fd, err := tr.Open(w, "/"+name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	for i := range 2 * listedAfter {
		if err := create(fmt.Sprint("new", i)); err != nil {
			t.Fatal(err)
		}
		for j := range before {
			if err := create(fmt.Sprint("host", j)); err != unix.EEXIST {
				t.Fatalf("after %d files host%d is created: %v", i+1, j, err)
			}
		}
	}
	if err := create("new0"); err != unix.EEXIST {
		t.Errorf("a file is created again: %v", err)
	}

	// What the host takes away is gone; what it puts there is seen by all but who creates it
	// anew, until somebody else uses the tree.
	if err := os.Remove(filepath.Join(host, "host0")); err != nil {
		t.Fatal(err)
	}
	if err := create("host0"); err != nil {
		t.Errorf("what the host has removed: %v", err)
	}
	put("late")
	if _, err := tr.Lookup(w, "/late"); err != nil {
		t.Errorf("what the host has put there isn't seen: %v", err)
	}
	if fd, err := tr.Open(w, "/late", unix.O_RDWR|unix.O_CREAT, 0o644); err != nil {
		t.Errorf("what the host has put there isn't opened: %v", err)
	} else if n, err := unix.Read(fd, make([]byte, 10)); n != len("late") || err != nil {
		t.Errorf("what the host has put there is opened with %d bytes, %v", n, err)
	} else {
		unix.Close(fd)
	}
	put("later")
	if err := create("later"); err != nil {
		t.Errorf("the host is asked about each name that is new: %v", err)
	}
	if err := tr.Resume(func() int64 { return 1e18 }, 0, 0, nil); err != nil {
		t.Fatal(err)
	}
	put("last")
	if err := create("last"); err != unix.EEXIST {
		t.Errorf("what the host put there before: %v", err)
	}
}

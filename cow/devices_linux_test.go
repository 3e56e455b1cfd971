package cow_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/cow"
)

// A directory of devices shows what was put there, as long as it is there, and nothing of
// it is a change.
func TestDevices(t *testing.T) {
	host := t.TempDir()
	for _, name := range []string{"dev", "other"} {
		must(t, unix.Mkdir(host+"/"+name, 0o755))
	}
	must(t, unix.Mkfifo(host+"/dev/hosts", 0o666))
	tree, err := cow.New(cow.Config{Upper: t.TempDir(), Start: 1e18, Devices: []string{host + "/dev", host + "/missing"},
		Mounts: []cow.Mount{{At: "/", Host: host}, {At: "/again", Host: host + "/dev"}}})
	if err != nil {
		t.Fatal(err)
	}
	root := &cow.Walk{Cred: cow.Superuser()}
	names := func() (list []string) {
		f, err := tree.Lookup(root, "/dev")
		must(t, err)
		entries, err := f.ReadDir()
		must(t, err)
		for _, e := range entries[2:] {
			list = append(list, e.Name)
		}
		return list
	}
	gone := false
	first, err := tree.Put(host+"/dev", cow.Device{Name: "0", Mode: 0o620, UID: 7, Rdev: unix.Mkdev(136, 0), Gone: func() bool { return gone }})
	must(t, err)
	second, err := tree.Put(host+"/dev", cow.Device{Name: "1", Mode: 0o620, Rdev: unix.Mkdev(136, 1)})
	must(t, err)
	nowhere, err := tree.Put(host+"/missing", cow.Device{Name: "0", Rdev: unix.Mkdev(136, 2)})
	if err != nil || nowhere.Path() == "" {
		t.Errorf("a directory that isn't there: %v", err)
	}
	if diff := cmp.Diff([]string{"0", "1"}, names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f, err := tree.Lookup(root, "/again/0")
	must(t, err)
	if a, err := f.Stat(); err != nil || a.Rdev != unix.Mkdev(136, 0) || a.Mode != unix.S_IFCHR|0o620 || a.UID != 7 {
		t.Errorf("%+v, %v", a, err)
	}
	var special *cow.Special
	if _, err := tree.Open(root, "/dev/0", unix.O_RDWR, 0); !errors.As(err, &special) || !special.Put {
		t.Errorf("open: %v", err)
	}
	if _, err := tree.Open(root, "/dev/0", unix.O_PATH, 0); !errors.As(err, &special) {
		t.Errorf("open of its path: %v", err)
	}
	if err := tree.Unlink(root, "/dev/0"); err != unix.EBUSY {
		t.Errorf("unlink: %v", err)
	}
	if _, err := tree.Lookup(root, "/dev/hosts"); err != unix.ENOENT {
		t.Errorf("what the host has there: %v", err)
	}
	gone = true
	tree.Take(second)
	if list := names(); len(list) > 0 || first.Path() != "/again/0 (deleted)" {
		t.Errorf("%q are left, and %q", list, first.Path())
	}
	if changes, err := tree.Changes(); err != nil || len(changes) > 0 {
		t.Errorf("changes %v, %v", changes, err)
	}
}

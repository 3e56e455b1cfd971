package cow_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/cow"
)

// A template is seen where it is mounted, by nobody changed, and no change.
func TestTemplate(t *testing.T) {
	top := cow.Directory()
	top.Dir("a/b").Entries["file"] = &cow.Template{Mode: 0o644}
	top.Dir("a").Entries["link"] = &cow.Template{Target: "b/file"}
	host := t.TempDir()
	must(t, unix.Mkdir(host+"/out", 0o755), unix.Mkdir(host+"/dir", 0o777))
	tree, err := cow.New(cow.Config{Upper: t.TempDir(), Start: 1e18, Mounts: []cow.Mount{
		{At: "/", Host: host}, {At: "/shown", Template: top}, {At: "/out", Host: host + "/out", Foreign: true}, {At: "/out/in", Template: top}, {At: "/shown/a/c", Host: host + "/dir"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	root, user := &cow.Walk{Cred: cow.Superuser()}, &cow.Walk{Cred: &cow.Cred{UID: 7, GID: 7}}
	var special *cow.Special
	if _, err := tree.Open(user, "/shown/a/link", unix.O_RDONLY, 0); !errors.As(err, &special) || !special.Put || special.Path != "/shown/a/b/file" {
		t.Errorf("open: %v", err)
	}
	for _, w := range []struct {
		walk *cow.Walk
		want unix.Errno
	}{{root, unix.EROFS}, {user, unix.EACCES}} {
		if _, err := tree.Open(w.walk, "/shown/a/b/file", unix.O_WRONLY, 0); err != w.want {
			t.Errorf("open to write: %v, want %v", err, w.want)
		}
		for name, err := range map[string]error{
			"create": func() error {
				_, err := tree.Open(w.walk, "/shown/a/new", unix.O_WRONLY|unix.O_CREAT, 0o666)
				return err
			}(),
			"unlink": tree.Unlink(w.walk, "/shown/a/link"),
			"mkdir":  tree.Mkdir(w.walk, "/shown/a/d", 0o777),
		} {
			if err != unix.EROFS {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	names := func(path string) (list []string) {
		f, err := tree.Lookup(root, path)
		must(t, err)
		entries, err := f.ReadDir()
		must(t, err)
		for _, e := range entries[2:] {
			found, err := tree.Lookup(&cow.Walk{Cred: root.Cred, NoFollow: true}, path+"/"+e.Name)
			must(t, err)
			if a, err := found.Stat(); err != nil || a.Ino != e.Ino || a.Type() != e.Type {
				t.Errorf("%s: %+v, %v, and in its directory %+v", e.Name, a, err, e)
			}
			list = append(list, e.Name)
		}
		return list
	}
	if diff := cmp.Diff([]string{"b", "c", "link"}, names("/shown/a")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	in := tree.Within("/out/in")
	f, err := tree.Lookup(&cow.Walk{Cred: root.Cred, Base: in}, "./a/b/file")
	if err != nil || f.Path() != "/out/in/a/b/file" {
		t.Errorf("within what is foreign: %v, %v", f, err)
	}
	if changes, err := tree.Changes(); err != nil || len(changes) > 0 {
		t.Errorf("changes %v, %v", changes, err)
	}
}

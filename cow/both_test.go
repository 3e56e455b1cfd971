//go:build linux

package cow_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/internal/conformance"
	"golang.org/x/sys/unix"
)

// layered tries them on a tree.
type layered struct {
	t    *cow.Tree
	cred *cow.Cred
	base *cow.Inode
}

func (l layered) walk(nofollow bool) *cow.Walk {
	return &cow.Walk{Cred: l.cred, Base: l.base, NoFollow: nofollow, Told: true}
}

// with does something to what a path leads to.
func (l layered) with(path string, nofollow bool, f func(*cow.File) error) error {
	file, err := l.t.Lookup(l.walk(nofollow), path)
	if err != nil {
		return err
	}
	return f(file)
}

func (l layered) Open(path string, flags int, mode uint32) (int, error) {
	fd, err := l.t.Open(l.walk(false), path, flags|unix.O_NONBLOCK, mode)
	if s := (*cow.Special)(nil); errors.As(err, &s) {
		return unix.Open(s.Host, s.Flags, 0)
	}
	return fd, err
}
func (l layered) Mkdir(path string, mode uint32) error { return l.t.Mkdir(l.walk(false), path, mode) }
func (l layered) Mkfifo(path string, mode uint32) error {
	return l.t.Mknod(l.walk(false), path, unix.S_IFIFO|mode, 0)
}
func (l layered) Symlink(target, path string) error {
	return l.t.Symlink(l.walk(false), target, path)
}
func (l layered) Link(old, path string, flags int) error {
	return l.t.Link(l.walk(flags&unix.AT_SYMLINK_FOLLOW == 0), old, l.walk(false), path)
}
func (l layered) Unlink(path string) error { return l.t.Unlink(l.walk(false), path) }
func (l layered) Rmdir(path string) error  { return l.t.Rmdir(l.walk(false), path) }
func (l layered) Rename(old, path string, flags uint) error {
	return l.t.Rename(l.walk(false), old, l.walk(false), path, uint32(flags))
}
func (l layered) Chmod(path string, mode uint32) error {
	return l.with(path, false, func(f *cow.File) error { return f.Chmod(l.cred, mode) })
}
func (l layered) Chown(path string, uid, gid int) error {
	return l.with(path, true, func(f *cow.File) error { return f.Chown(l.cred, int32(uid), int32(gid)) })
}
func (l layered) Truncate(path string, size int64) error {
	if size < 0 { // which the kernel looks at before it looks at the path
		return unix.EINVAL
	}
	return l.with(path, false, func(f *cow.File) error { return f.Truncate(l.cred, size) })
}
func (l layered) Utime(path string, ns int64) error {
	return l.with(path, false, func(f *cow.File) error { return f.SetTimes(l.cred, unix.NsecToTimespec(ns), unix.NsecToTimespec(ns)) })
}
func (l layered) Access(path string, mode uint32) error {
	if mode&^7 != 0 {
		return unix.EINVAL
	}
	return l.with(path, false, func(f *cow.File) error { return f.Access(l.cred, mode) })
}
func (l layered) Readlink(path string) (target string, err error) {
	err = l.with(path, true, func(f *cow.File) (err error) { target, err = f.Readlink(); return err })
	return target, err
}
func (l layered) Setxattr(path, name, value string, flags int) error {
	return l.with(path, false, func(f *cow.File) error { return f.Setxattr(l.cred, name, value, flags) })
}
func (l layered) Removexattr(path, name string) error {
	return l.with(path, false, func(f *cow.File) error { return f.Removexattr(l.cred, name) })
}
func (l layered) Stat(path string, nofollow bool) (s conformance.Status, err error) {
	err = l.with(path, nofollow, func(f *cow.File) error {
		a, err := f.Stat()
		s = conformance.Status{Mode: a.Mode, UID: a.UID, GID: a.GID, Nlink: uint64(a.Nlink), Size: a.Size, Ino: a.Ino}
		if a.Type() == unix.S_IFDIR {
			s.Nlink, s.Size = 0, 0
		}
		return err
	})
	return s, err
}
func (l layered) List(path string) (names []string, err error) {
	fd, err := l.t.Open(l.walk(false), path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	f := l.t.Descriptor(&st)
	if f == nil {
		return nil, fmt.Errorf("the descriptor of %s isn't known", path)
	}
	entries, err := f.ReadDir()
	for _, e := range entries[min(2, len(entries)):] {
		names = append(names, e.Name)
	}
	return names, err
}
func (l layered) Xattrs(path string) (string, error) {
	var all []string
	err := l.with(path, true, func(f *cow.File) error {
		names, err := f.Listxattr(l.cred)
		for _, name := range names {
			if strings.HasPrefix(name, "user.") {
				v, err := f.Getxattr(l.cred, name)
				all = append(all, fmt.Sprintf("%s=%s %v", name, v, err))
			}
		}
		return err
	})
	return strings.Join(all, " "), err
}

// both runs operations on a copy of a tree and in a tree over it, and compares
// what they return and what they leave. before makes the tree.
func both(t *testing.T, before func(dir string), list []conformance.Op) (wrong string) {
	t.Helper()
	host, lower := t.TempDir()+"/a/b/c", t.TempDir()+"/a/b/c"
	for _, dir := range []string{host, lower} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		before(dir)
		defer conformance.LetRemove(strings.TrimSuffix(dir, "/a/b/c")) // sequences get out of it
	}
	fd, err := unix.Open(host, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	untouched := conformance.Snapshot(bareAt(t, lower))
	l := layer(t, strings.TrimSuffix(lower, "/a/b/c"), "a/b/c")
	var who *cow.Cred // in every other sequence
	if len(list)%2 == 0 {
		who = l.cred
	}
	told := newNotebook(l.t, who)
	for i, o := range list {
		want, got := o.Do(conformance.Bare{Dir: fd}), o.Do(l)
		if want != got {
			return fmt.Sprintf("operation %d, %s: bare %q, in the tree %q", i, o.Name, want, got)
		}
		const seldom = 5 // it takes longer than the operation
		if i%seldom != 0 && i != len(list)-1 {
			continue
		}
		if wrong := told.wrong(); wrong != "" {
			return fmt.Sprintf("after operation %d, %s, it was told that %s", i, o.Name, wrong)
		}
	}
	if diff := cmp.Diff(conformance.Snapshot(conformance.Bare{Dir: fd}), conformance.Snapshot(l)); diff != "" {
		return fmt.Sprintf("what is left (-bare +tree):\n%s", diff)
	}
	if diff := cmp.Diff(untouched, conformance.Snapshot(bareAt(t, lower))); diff != "" {
		return fmt.Sprintf("the lower directory has changed:\n%s", diff)
	}
	return ""
}

func bareAt(t *testing.T, dir string) conformance.Bare {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return conformance.Bare{Dir: fd}
}

// layer returns a tree over a directory, seen from a directory in it.
func layer(t *testing.T, root, from string) layered {
	t.Helper()
	tree, err := cow.New(cow.Config{Upper: t.TempDir(), Mounts: []cow.Mount{{At: "/", Host: root}}, Start: 1e18})
	if err != nil {
		t.Fatal(err)
	}
	l := layered{t: tree, cred: self()}
	dir, err := tree.Lookup(l.walk(false), from)
	if err != nil {
		t.Fatal(err)
	}
	l.base = dir.Inode()
	return l
}

// self is on whose behalf the tests run.
func self() *cow.Cred {
	if os.Geteuid() == 0 {
		return cow.Superuser()
	}
	return &cow.Cred{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
}

//go:build linux

package cow_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// A files is something that file operations can be tried on. Paths are relative.
// Results are the kernel's: an errno, or what was asked for.
type files interface {
	open(path string, flags int, mode uint32) (fd int, err error)
	mkdir(path string, mode uint32) error
	mkfifo(path string, mode uint32) error
	symlink(target, path string) error
	link(old, path string, flags int) error
	unlink(path string) error
	rmdir(path string) error
	rename(old, path string, flags uint) error
	chmod(path string, mode uint32) error
	chown(path string, uid, gid int) error
	truncate(path string, size int64) error
	utime(path string, ns int64) error
	access(path string, mode uint32) error
	readlink(path string) (string, error)
	setxattr(path, name, value string, flags int) error
	removexattr(path, name string) error
	stat(path string, nofollow bool) (status, error)
	list(path string) ([]string, error)
	xattrs(path string) (string, error)
}

// A status is what must be the same in a tree and on the host.
type status struct {
	mode, uid, gid uint32
	nlink          uint64 // 0 for directories
	size           int64  // 0 for directories
	ino            uint64
	mtime          int64 // of files whose time was set
}

// bare tries them on a directory of the host.
type bare struct{ dir int }

func (b bare) open(path string, flags int, mode uint32) (int, error) {
	return unix.Openat(b.dir, path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
}
func (b bare) mkdir(path string, mode uint32) error { return unix.Mkdirat(b.dir, path, mode) }
func (b bare) mkfifo(path string, mode uint32) error {
	return unix.Mknodat(b.dir, path, unix.S_IFIFO|mode, 0)
}
func (b bare) symlink(target, path string) error { return unix.Symlinkat(target, b.dir, path) }
func (b bare) link(old, path string, flags int) error {
	return unix.Linkat(b.dir, old, b.dir, path, flags)
}
func (b bare) unlink(path string) error { return unix.Unlinkat(b.dir, path, 0) }
func (b bare) rmdir(path string) error  { return unix.Unlinkat(b.dir, path, unix.AT_REMOVEDIR) }
func (b bare) rename(old, path string, flags uint) error {
	return unix.Renameat2(b.dir, old, b.dir, path, flags)
}
func (b bare) chmod(path string, mode uint32) error { return unix.Fchmodat(b.dir, path, mode, 0) }
func (b bare) chown(path string, uid, gid int) error {
	return unix.Fchownat(b.dir, path, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}
func (b bare) truncate(path string, size int64) error { return unix.Truncate(b.at(path), size) }
func (b bare) utime(path string, ns int64) error {
	ts := unix.NsecToTimespec(ns)
	return unix.UtimesNanoAt(b.dir, path, []unix.Timespec{ts, ts}, 0)
}
func (b bare) access(path string, mode uint32) error { return unix.Faccessat(b.dir, path, mode, 0) }
func (b bare) readlink(path string) (string, error) {
	buf := make([]byte, 5000)
	n, err := unix.Readlinkat(b.dir, path, buf)
	return string(buf[:max(n, 0)]), err
}
func (b bare) setxattr(path, name, value string, flags int) error {
	return unix.Setxattr(b.at(path), name, []byte(value), flags)
}
func (b bare) removexattr(path, name string) error { return unix.Removexattr(b.at(path), name) }

// at is a path for calls that take no directory.
func (b bare) at(path string) string {
	if path == "" {
		return ""
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", b.dir, path)
}

func (b bare) stat(path string, nofollow bool) (status, error) {
	var st unix.Stat_t
	flags := 0
	if nofollow {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	if err := unix.Fstatat(b.dir, path, &st, flags); err != nil {
		return status{}, err
	}
	s := status{st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Ino, 0}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		s.nlink, s.size = 0, 0
	}
	return s, nil
}

func (b bare) list(path string) ([]string, error) {
	fd, err := unix.Openat(b.dir, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (b bare) xattrs(path string) (string, error) {
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(b.at(path), buf)
	if err != nil {
		return "", err
	}
	var all []string
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if strings.HasPrefix(name, "user.") {
			n, err := unix.Lgetxattr(b.at(path), name, buf)
			all = append(all, fmt.Sprintf("%s=%s %v", name, buf[:max(n, 0)], err))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " "), nil
}

// layered tries them on a tree.
type layered struct {
	t    *cow.Tree
	cred *cow.Cred
	base *cow.Inode
}

func (l layered) walk(nofollow bool) *cow.Walk {
	return &cow.Walk{Cred: l.cred, Base: l.base, NoFollow: nofollow}
}

// with does something to what a path leads to.
func (l layered) with(path string, nofollow bool, f func(*cow.File) error) error {
	file, err := l.t.Lookup(l.walk(nofollow), path)
	if err != nil {
		return err
	}
	return f(file)
}

func (l layered) open(path string, flags int, mode uint32) (int, error) {
	fd, err := l.t.Open(l.walk(false), path, flags|unix.O_NONBLOCK, mode)
	if s := (*cow.Special)(nil); errors.As(err, &s) {
		return unix.Open(s.Host, s.Flags, 0)
	}
	return fd, err
}
func (l layered) mkdir(path string, mode uint32) error { return l.t.Mkdir(l.walk(false), path, mode) }
func (l layered) mkfifo(path string, mode uint32) error {
	return l.t.Mknod(l.walk(false), path, unix.S_IFIFO|mode, 0)
}
func (l layered) symlink(target, path string) error {
	return l.t.Symlink(l.walk(false), target, path)
}
func (l layered) link(old, path string, flags int) error {
	return l.t.Link(l.walk(flags&unix.AT_SYMLINK_FOLLOW == 0), old, l.walk(false), path)
}
func (l layered) unlink(path string) error { return l.t.Unlink(l.walk(false), path) }
func (l layered) rmdir(path string) error  { return l.t.Rmdir(l.walk(false), path) }
func (l layered) rename(old, path string, flags uint) error {
	return l.t.Rename(l.walk(false), old, l.walk(false), path, uint32(flags))
}
func (l layered) chmod(path string, mode uint32) error {
	return l.with(path, false, func(f *cow.File) error { return f.Chmod(l.cred, mode) })
}
func (l layered) chown(path string, uid, gid int) error {
	return l.with(path, true, func(f *cow.File) error { return f.Chown(l.cred, int32(uid), int32(gid)) })
}
func (l layered) truncate(path string, size int64) error {
	return l.with(path, false, func(f *cow.File) error { return f.Truncate(l.cred, size) })
}
func (l layered) utime(path string, ns int64) error {
	return l.with(path, false, func(f *cow.File) error { return f.SetTimes(l.cred, ns, ns) })
}
func (l layered) access(path string, mode uint32) error {
	return l.with(path, false, func(f *cow.File) error { return f.Access(l.cred, mode) })
}
func (l layered) readlink(path string) (target string, err error) {
	err = l.with(path, true, func(f *cow.File) (err error) { target, err = f.Readlink(); return err })
	return target, err
}
func (l layered) setxattr(path, name, value string, flags int) error {
	return l.with(path, false, func(f *cow.File) error { return f.Setxattr(l.cred, name, value, flags) })
}
func (l layered) removexattr(path, name string) error {
	return l.with(path, false, func(f *cow.File) error { return f.Removexattr(l.cred, name) })
}
func (l layered) stat(path string, nofollow bool) (s status, err error) {
	err = l.with(path, nofollow, func(f *cow.File) error {
		a, err := f.Stat()
		s = status{a.Mode, a.UID, a.GID, uint64(a.Nlink), a.Size, a.Ino, 0}
		if a.Type() == unix.S_IFDIR {
			s.nlink, s.size = 0, 0
		}
		return err
	})
	return s, err
}
func (l layered) list(path string) (names []string, err error) {
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
func (l layered) xattrs(path string) (string, error) {
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

// An op is one operation. It returns what can be told apart.
type op struct {
	name string
	do   func(files) string
}

func outcome(err error, more ...any) string {
	if err != nil {
		return fmt.Sprintf("%v", err)
	}
	return strings.TrimSpace("ok " + fmt.Sprint(more...))
}

func ops(list ...op) []op { return list }

func open(path string, flags int, mode uint32, write string) op {
	return op{fmt.Sprintf("open(%q, %#x, %#o) write %q", path, flags, mode, write), func(f files) string {
		fd, err := f.open(path, flags, mode)
		if err != nil {
			return outcome(err)
		}
		defer unix.Close(fd)
		if flags&unix.O_PATH != 0 {
			return outcome(nil)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			return outcome(err, "no regular file")
		}
		if write != "" {
			n, err := unix.Write(fd, []byte(write))
			return outcome(err, n)
		}
		buf := make([]byte, 1<<16)
		n, err := unix.Read(fd, buf)
		return outcome(err, string(buf[:max(n, 0)]))
	}}
}

func cat(path string) op { return open(path, unix.O_RDONLY, 0, "") }
func write(path, text string) op {
	return open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644, text)
}
func add(path, text string) op {
	return open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND, 0o644, text)
}

func call(name string, do func(files) error, args ...any) op {
	return op{fmt.Sprintf("%s%q", name, args), func(f files) string { return outcome(do(f)) }}
}

func mkdir(p string) op { return mkdirMode(p, 0o755) }
func mkdirMode(p string, mode uint32) op {
	return call("mkdir", func(f files) error { return f.mkdir(p, mode) }, p, mode)
}
func mkfifo(p string) op { return call("mkfifo", func(f files) error { return f.mkfifo(p, 0o644) }, p) }
func symlink(target, p string) op {
	return call("symlink", func(f files) error { return f.symlink(target, p) }, target, p)
}
func link(old, p string) op {
	return call("link", func(f files) error { return f.link(old, p, 0) }, old, p)
}
func linkFollow(old, p string) op {
	return call("linkfollow", func(f files) error { return f.link(old, p, unix.AT_SYMLINK_FOLLOW) }, old, p)
}
func unlink(p string) op { return call("unlink", func(f files) error { return f.unlink(p) }, p) }
func rmdir(p string) op  { return call("rmdir", func(f files) error { return f.rmdir(p) }, p) }
func rename(old, p string) op {
	return call("rename", func(f files) error { return f.rename(old, p, 0) }, old, p)
}
func noReplace(old, p string) op {
	return call("noreplace", func(f files) error { return f.rename(old, p, unix.RENAME_NOREPLACE) }, old, p)
}
func exchange(old, p string) op {
	return call("exchange", func(f files) error { return f.rename(old, p, unix.RENAME_EXCHANGE) }, old, p)
}
func chmod(p string, mode uint32) op {
	return call("chmod", func(f files) error { return f.chmod(p, mode) }, p, mode)
}
func chown(p string, uid, gid int) op {
	return call("chown", func(f files) error { return f.chown(p, uid, gid) }, p, uid, gid)
}
func truncate(p string, size int64) op {
	return call("truncate", func(f files) error { return f.truncate(p, size) }, p, size)
}
func utime(p string, ns int64) op {
	return call("utime", func(f files) error { return f.utime(p, ns) }, p, ns)
}
func access(p string, mode uint32) op {
	return call("access", func(f files) error { return f.access(p, mode) }, p, mode)
}
func setxattr(p, name, value string, flags int) op {
	return call("setxattr", func(f files) error { return f.setxattr(p, name, value, flags) }, p, name, value, flags)
}
func removexattr(p, name string) op {
	return call("removexattr", func(f files) error { return f.removexattr(p, name) }, p, name)
}
func readlink(p string) op {
	return op{"readlink " + p, func(f files) string { s, err := f.readlink(p); return outcome(err, s) }}
}
func list(p string) op {
	return op{"list " + p, func(f files) string { s, err := f.list(p); return outcome(err, s) }}
}
func stat(p string) op {
	return op{"stat " + p, func(f files) string {
		s, err := f.stat(p, false)
		s.ino = 0
		return outcome(err, s)
	}}
}

// both runs operations on a copy of a tree and in a tree over it, and compares
// what they return and what they leave. before makes the tree.
func both(t *testing.T, before func(dir string), list []op) (wrong string) {
	t.Helper()
	host, lower := t.TempDir()+"/a/b/c", t.TempDir()+"/a/b/c"
	for _, dir := range []string{host, lower} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		before(dir)
	}
	fd, err := unix.Open(host, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	untouched := snapshot(bareAt(t, lower), "")
	l := layer(t, strings.TrimSuffix(lower, "/a/b/c"), "a/b/c")
	for i, o := range list {
		want, got := o.do(bare{fd}), o.do(l)
		if want != got {
			return fmt.Sprintf("operation %d, %s: bare %q, in the tree %q", i, o.name, want, got)
		}
	}
	if diff := cmp.Diff(snapshot(bare{fd}, ""), snapshot(l, "")); diff != "" {
		return fmt.Sprintf("what is left (-bare +tree):\n%s", diff)
	}
	if diff := cmp.Diff(untouched, snapshot(bareAt(t, lower), "")); diff != "" {
		return fmt.Sprintf("the lower directory has changed:\n%s", diff)
	}
	return ""
}

func bareAt(t *testing.T, dir string) bare {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return bare{fd}
}

// layer returns a tree over a directory, seen from a directory in it.
func layer(t *testing.T, root, from string) layered {
	t.Helper()
	tree, err := cow.New(cow.Config{Upper: t.TempDir(), Mounts: []cow.Mount{{At: "/", Host: root}}, Clock: func() int64 { return 1e18 }})
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

// snapshot tells all about a tree, with inode numbers replaced by the order in
// which they are met.
func snapshot(f files, ignore string) []string {
	var lines []string
	seen := map[uint64]int{}
	var visit func(path string)
	visit = func(path string) {
		if len(path) > 4000 {
			return // a directory that is below itself
		}
		s, err := f.stat(path, true)
		if err != nil {
			lines = append(lines, fmt.Sprintf("%s: %v", path, err))
			return
		}
		if _, ok := seen[s.ino]; !ok {
			seen[s.ino] = len(seen)
		}
		line := fmt.Sprintf("%s: %o %d %d links %d size %d #%d", path, s.mode, s.uid, s.gid, s.nlink, s.size, seen[s.ino])
		x, err := f.xattrs(path)
		line += fmt.Sprintf(" %s %v", x, err)
		switch s.mode & unix.S_IFMT {
		case unix.S_IFREG:
			line += " " + content(f, path)
		case unix.S_IFLNK:
			target, err := f.readlink(path)
			line += fmt.Sprintf(" -> %s %v", target, err)
		}
		lines = append(lines, line)
		if s.mode&unix.S_IFMT == unix.S_IFDIR {
			names, err := f.list(path)
			if err != nil {
				lines = append(lines, fmt.Sprintf("%s: list: %v", path, err))
			}
			for _, name := range names {
				visit(filepath.Join(path, name))
			}
		}
	}
	visit(".")
	return lines
}

func content(f files, path string) string {
	fd, err := f.open(path, unix.O_RDONLY, 0)
	if err != nil {
		return err.Error()
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	text, err := io.ReadAll(file)
	return outcome(err, fmt.Sprintf("%q", text))
}

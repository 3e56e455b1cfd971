//go:build linux

// Package conformance holds file operations that are tried on a directory of the
// host and on what stands for one, to compare what they return and what they
// leave.
package conformance

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Files are something that file operations can be tried on. Paths are relative.
// Results are the kernel's: an errno, or what was asked for.
type Files interface {
	Open(path string, flags int, mode uint32) (fd int, err error)
	Mkdir(path string, mode uint32) error
	Mkfifo(path string, mode uint32) error
	Symlink(target, path string) error
	Link(old, path string, flags int) error
	Unlink(path string) error
	Rmdir(path string) error
	Rename(old, path string, flags uint) error
	Chmod(path string, mode uint32) error
	Chown(path string, uid, gid int) error
	Truncate(path string, size int64) error
	Utime(path string, ns int64) error
	Access(path string, mode uint32) error
	Readlink(path string) (string, error)
	Setxattr(path, name, value string, flags int) error
	Removexattr(path, name string) error
	Stat(path string, nofollow bool) (Status, error)
	List(path string) ([]string, error)
	Xattrs(path string) (string, error)
}

// A Status is what must be the same in a tree and on the host.
type Status struct {
	Mode, UID, GID uint32
	Nlink          uint64 // 0 for directories
	Size           int64  // 0 for directories
	Ino            uint64
	Mtime          int64 // of files whose time was set
}

// Bare tries them on a directory of the host.
type Bare struct{ Dir int }

func (b Bare) Open(path string, flags int, mode uint32) (int, error) {
	return unix.Openat(b.Dir, path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
}
func (b Bare) Mkdir(path string, mode uint32) error { return unix.Mkdirat(b.Dir, path, mode) }
func (b Bare) Mkfifo(path string, mode uint32) error {
	return unix.Mknodat(b.Dir, path, unix.S_IFIFO|mode, 0)
}
func (b Bare) Symlink(target, path string) error { return unix.Symlinkat(target, b.Dir, path) }
func (b Bare) Link(old, path string, flags int) error {
	return unix.Linkat(b.Dir, old, b.Dir, path, flags)
}
func (b Bare) Unlink(path string) error { return unix.Unlinkat(b.Dir, path, 0) }
func (b Bare) Rmdir(path string) error  { return unix.Unlinkat(b.Dir, path, unix.AT_REMOVEDIR) }
func (b Bare) Rename(old, path string, flags uint) error {
	return unix.Renameat2(b.Dir, old, b.Dir, path, flags)
}
func (b Bare) Chmod(path string, mode uint32) error { return unix.Fchmodat(b.Dir, path, mode, 0) }
func (b Bare) Chown(path string, uid, gid int) error {
	return unix.Fchownat(b.Dir, path, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}
func (b Bare) Truncate(path string, size int64) error { return unix.Truncate(b.at(path), size) }
func (b Bare) Utime(path string, ns int64) error {
	ts := unix.NsecToTimespec(ns)
	return unix.UtimesNanoAt(b.Dir, path, []unix.Timespec{ts, ts}, 0)
}
func (b Bare) Access(path string, mode uint32) error { return unix.Faccessat(b.Dir, path, mode, 0) }
func (b Bare) Readlink(path string) (string, error) {
	buf := make([]byte, 5000)
	n, err := unix.Readlinkat(b.Dir, path, buf)
	return string(buf[:max(n, 0)]), err
}
func (b Bare) Setxattr(path, name, value string, flags int) error {
	return unix.Setxattr(b.at(path), name, []byte(value), flags)
}
func (b Bare) Removexattr(path, name string) error { return unix.Removexattr(b.at(path), name) }

// at is a path for calls that take no directory.
func (b Bare) at(path string) string {
	if path == "" {
		return ""
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", b.Dir, path)
}

func (b Bare) Stat(path string, nofollow bool) (Status, error) {
	var st unix.Stat_t
	flags := 0
	if nofollow {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	if err := unix.Fstatat(b.Dir, path, &st, flags); err != nil {
		return Status{}, err
	}
	s := Status{st.Mode, st.Uid, st.Gid, uint64(st.Nlink), st.Size, st.Ino, 0}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		s.Nlink, s.Size = 0, 0
	}
	return s, nil
}

func (b Bare) List(path string) ([]string, error) {
	fd, err := unix.Openat(b.Dir, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (b Bare) Xattrs(path string) (string, error) {
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

// An Op is one operation. It returns what can be told apart.
type Op struct {
	Name string
	Do   func(Files) string
}

func outcome(err error, more ...any) string {
	if err != nil {
		return fmt.Sprintf("%v", err)
	}
	return strings.TrimSpace("ok " + fmt.Sprint(more...))
}

func ops(list ...Op) []Op { return list }

func open(path string, flags int, mode uint32, write string) Op {
	return Op{fmt.Sprintf("open(%q, %#x, %#o) write %q", path, flags, mode, write), func(f Files) string {
		fd, err := f.Open(path, flags, mode)
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

func cat(path string) Op { return open(path, unix.O_RDONLY, 0, "") }
func write(path, text string) Op {
	return open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644, text)
}
func add(path, text string) Op {
	return open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND, 0o644, text)
}

func call(name string, do func(Files) error, args ...any) Op {
	return Op{fmt.Sprintf("%s%q", name, args), func(f Files) string { return outcome(do(f)) }}
}

func mkdir(p string) Op { return mkdirMode(p, 0o755) }
func mkdirMode(p string, mode uint32) Op {
	return call("mkdir", func(f Files) error { return f.Mkdir(p, mode) }, p, mode)
}
func mkfifo(p string) Op { return call("mkfifo", func(f Files) error { return f.Mkfifo(p, 0o644) }, p) }
func symlink(target, p string) Op {
	return call("symlink", func(f Files) error { return f.Symlink(target, p) }, target, p)
}
func link(old, p string) Op {
	return call("link", func(f Files) error { return f.Link(old, p, 0) }, old, p)
}
func linkFollow(old, p string) Op {
	return call("linkfollow", func(f Files) error { return f.Link(old, p, unix.AT_SYMLINK_FOLLOW) }, old, p)
}
func unlink(p string) Op { return call("unlink", func(f Files) error { return f.Unlink(p) }, p) }
func rmdir(p string) Op  { return call("rmdir", func(f Files) error { return f.Rmdir(p) }, p) }
func rename(old, p string) Op {
	return call("rename", func(f Files) error { return f.Rename(old, p, 0) }, old, p)
}
func noReplace(old, p string) Op {
	return call("noreplace", func(f Files) error { return f.Rename(old, p, unix.RENAME_NOREPLACE) }, old, p)
}
func exchange(old, p string) Op {
	return call("exchange", func(f Files) error { return f.Rename(old, p, unix.RENAME_EXCHANGE) }, old, p)
}
func chmod(p string, mode uint32) Op {
	return call("chmod", func(f Files) error { return f.Chmod(p, mode) }, p, mode)
}
func chown(p string, uid, gid int) Op {
	return call("chown", func(f Files) error { return f.Chown(p, uid, gid) }, p, uid, gid)
}
func truncate(p string, size int64) Op {
	return call("truncate", func(f Files) error { return f.Truncate(p, size) }, p, size)
}
func utime(p string, ns int64) Op {
	return call("utime", func(f Files) error { return f.Utime(p, ns) }, p, ns)
}
func access(p string, mode uint32) Op {
	return call("access", func(f Files) error { return f.Access(p, mode) }, p, mode)
}
func setxattr(p, name, value string, flags int) Op {
	return call("setxattr", func(f Files) error { return f.Setxattr(p, name, value, flags) }, p, name, value, flags)
}
func removexattr(p, name string) Op {
	return call("removexattr", func(f Files) error { return f.Removexattr(p, name) }, p, name)
}
func readlink(p string) Op {
	return Op{"readlink " + p, func(f Files) string { s, err := f.Readlink(p); return outcome(err, s) }}
}
func list(p string) Op {
	return Op{"list " + p, func(f Files) string { s, err := f.List(p); return outcome(err, s) }}
}
func stat(p string) Op {
	return Op{"stat " + p, func(f Files) string {
		s, err := f.Stat(p, false)
		s.Ino = 0
		return outcome(err, s)
	}}
}

// Snapshot tells all about a tree, with inode numbers replaced by the order in
// which they are met.
func Snapshot(f Files) []string {
	var lines []string
	seen := map[uint64]int{}
	var visit func(path string)
	visit = func(path string) {
		if len(path) > 4000 {
			return // a directory that is below itself
		}
		s, err := f.Stat(path, true)
		if err != nil {
			lines = append(lines, fmt.Sprintf("%s: %v", path, err))
			return
		}
		if _, ok := seen[s.Ino]; !ok {
			seen[s.Ino] = len(seen)
		}
		line := fmt.Sprintf("%s: %o %d %d links %d size %d #%d", path, s.Mode, s.UID, s.GID, s.Nlink, s.Size, seen[s.Ino])
		x, err := f.Xattrs(path)
		line += fmt.Sprintf(" %s %v", x, err)
		switch s.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			line += " " + content(f, path)
		case unix.S_IFLNK:
			target, err := f.Readlink(path)
			line += fmt.Sprintf(" -> %s %v", target, err)
		}
		lines = append(lines, line)
		if s.Mode&unix.S_IFMT == unix.S_IFDIR {
			names, err := f.List(path)
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

func content(f Files, path string) string {
	fd, err := f.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return err.Error()
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	text, err := io.ReadAll(file)
	return outcome(err, fmt.Sprintf("%q", text))
}

// Sample fills a directory with a little of everything.
func Sample(dir string) {
	b, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	defer unix.Close(b)
	for _, o := range ops(
		mkdir("a"), mkdir("a/b"), mkdir("a/empty"), mkdir("c"), mkdir("secret"), write("secret/x", "x"), chmod("secret", 0), write("f", "text of f\n"), write("a/f", "text of a/f\n"), write("a/b/f", "text of a/b/f\n"),
		link("a/f", "a/l"), link("f", "c/l"), symlink("f", "s"), symlink("../a", "c/s"), symlink("nowhere", "a/s"), symlink("loop", "loop"),
		mkfifo("c/p"), chmod("a/b/f", 0o600), chmod("c", 0o700), setxattr("f", "user.k", "value", 0),
	) {
		if got := o.Do(Bare{b}); got[:2] != "ok" && !strings.HasPrefix(o.Name, "setxattr") {
			panic(o.Name + ": " + got)
		}
	}
}

// Sequence returns n random operations on a small name space.
func Sequence(seed uint64, n int) []Op {
	return sequence(seed, n, []string{"a", "b", "c", "f", "l", "s", "p", "new", ".", "..", "loop"})
}

// SequenceWithin returns n random operations that lead no farther than to the directory's
// parent.
func SequenceWithin(seed uint64, n int) []Op {
	return sequence(seed, n, []string{"a", "b", "c", "f", "l", "s", "p", "new", ".", "empty", "loop"})
}

func sequence(seed uint64, n int, names []string) []Op {
	r := rand.New(rand.NewPCG(seed, 1))
	path := func() string {
		p := names[r.IntN(8)]
		for r.IntN(2) == 0 {
			p += "/" + names[r.IntN(len(names))]
		}
		if strings.Count(p, "..") > 2 {
			return "a"
		}
		switch r.IntN(20) {
		case 0:
			p += "/"
		case 1:
			p = "./" + p
		}
		return p
	}
	flags := []int{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_CREAT, unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC,
		unix.O_WRONLY | unix.O_APPEND, unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, unix.O_RDONLY | unix.O_DIRECTORY,
		unix.O_RDONLY | unix.O_NOFOLLOW, unix.O_PATH, unix.O_RDONLY | unix.O_TRUNC, unix.O_RDONLY | unix.O_CREAT}
	modes := []uint32{0o755, 0o644, 0o600, 0o000, 0o1777, 0o2755, 0o4711, 0o555, 0o444}
	list := make([]Op, n)
	for i := range list {
		p, q, mode := path(), path(), modes[r.IntN(len(modes))]
		switch r.IntN(24) {
		case 0, 1, 2, 3:
			f := flags[r.IntN(len(flags))]
			text := ""
			if f&unix.O_ACCMODE != unix.O_RDONLY && f&unix.O_PATH == 0 {
				text = fmt.Sprintf("written by %d\n", i)
			}
			list[i] = open(p, f, 0o644, text)
		case 4, 5:
			list[i] = mkdir(p)
		case 6:
			list[i] = mkdirMode(p, mode)
		case 7:
			list[i] = symlink(q, p)
		case 8, 9:
			list[i] = link(p, q)
		case 10, 11:
			list[i] = unlink(p)
		case 12:
			list[i] = rmdir(p)
		case 13, 14, 15:
			list[i] = rename(p, q)
		case 16:
			list[i] = exchange(p, q)
		case 17:
			list[i] = noReplace(p, q)
		case 18:
			list[i] = chmod(p, mode)
		case 19:
			list[i] = truncate(p, int64(r.IntN(20)))
		case 20:
			list[i] = cat(p)
		case 21:
			list[i] = readlink(p)
		case 22:
			list[i] = stat(p)
		case 23:
			list[i] = mkfifo(p)
		}
	}
	return list
}

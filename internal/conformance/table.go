//go:build linux

package conformance

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Scenario is a sequence of operations on a directory that Sample has filled.
type Scenario struct {
	Name string
	Ops  []Op
}

// places are what a path of a scenario can lead to.
var places = []string{
	"f", "f/", "a", "a/", "a/b/", "a/empty", "c/p", "s", "s/", "c/s", "c/s/", "a/s", "a/s/", "loop", "loop/x", "missing", "missing/", "missing/x",
	"f/x", ".", "..", "a/.", "a/..", "a/l", "a/./b/../f", "", "c/s/b/f", "secret/x",
}

// openFlags are the ways to open a file.
var openFlags = []struct {
	name  string
	flags int
}{
	{"read", unix.O_RDONLY}, {"write", unix.O_WRONLY}, {"read and write", unix.O_RDWR}, {"create", unix.O_WRONLY | unix.O_CREAT},
	{"create anew", unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL}, {"truncate", unix.O_WRONLY | unix.O_TRUNC}, {"truncate to read", unix.O_RDONLY | unix.O_TRUNC},
	{"append", unix.O_WRONLY | unix.O_APPEND}, {"directory", unix.O_RDONLY | unix.O_DIRECTORY}, {"no link", unix.O_RDONLY | unix.O_NOFOLLOW},
	{"path", unix.O_PATH}, {"path of the link", unix.O_PATH | unix.O_NOFOLLOW}, {"path of a directory", unix.O_PATH | unix.O_DIRECTORY},
	{"create to read", unix.O_RDONLY | unix.O_CREAT}, {"create a directory", unix.O_RDONLY | unix.O_CREAT | unix.O_DIRECTORY},
	{"without a name", unix.O_TMPFILE | unix.O_RDWR}, {"without a name to read", unix.O_TMPFILE | unix.O_RDONLY},
	{"create but no link", unix.O_WRONLY | unix.O_CREAT | unix.O_NOFOLLOW},
}

// Table returns every operation on every kind of place, and every pair of places
// for those that take two. With full false it is a part of them, some hundreds,
// evenly spread.
func Table(full bool) []Scenario {
	var table []Scenario
	add := func(list ...Op) {
		name := ""
		for i, o := range list {
			if i > 0 {
				name += ", then "
			}
			name += o.Name
		}
		table = append(table, Scenario{name, list})
	}
	for _, p := range places {
		for _, o := range openFlags {
			text := ""
			if o.flags&unix.O_ACCMODE != unix.O_RDONLY && o.flags&unix.O_PATH == 0 {
				text = "written"
			}
			add(open(p, o.flags, 0o640, text))
		}
		for _, o := range []Op{
			mkdir(p), mkfifo(p), symlink("f", p), unlink(p), rmdir(p), chmod(p, 0o4751), chmod(p, 0), truncate(p, 0), truncate(p, 5), truncate(p, 5000), truncate(p, -1),
			utime(p, 5e9), access(p, unix.F_OK), access(p, unix.R_OK|unix.W_OK), access(p, unix.X_OK), access(p, 8), readlink(p), list(p), stat(p),
			chown(p, os.Geteuid(), os.Getegid()), chown(p, -1, -1), setxattr(p, "user.new", "v", 0), setxattr(p, "user.k", "v", unix.XATTR_CREATE),
			setxattr(p, "user.none", "v", unix.XATTR_REPLACE), setxattr(p, "odd", "v", 0), setxattr(p, "user.", "v", 0), removexattr(p, "user.k"), removexattr(p, "user.none"),
		} {
			add(o)
		}
		for _, q := range places {
			add(rename(p, q))
			add(link(p, q))
			add(exchange(p, q))
			add(noReplace(p, q))
			add(linkFollow(p, q))
		}
	}
	if !full {
		const part = 7 // which has no divisor in common with the number of places
		for i := range len(table) / part {
			table[i] = table[i*part]
		}
		table = table[:len(table)/part]
	}
	return append(table, sequences()...)
}

// sequences are scenarios in which one operation builds on another.
func sequences() []Scenario {
	return []Scenario{
		{"a directory that was removed and made again is empty", ops(unlink("a/b/f"), rmdir("a/b"), mkdir("a/b"), list("a/b"), write("a/b/g", "x"), list("a/b"))},
		{"a file over one that was removed", ops(unlink("f"), write("f", "new"), cat("f"), cat("c/l"))},
		{"a directory over a file", ops(unlink("f"), mkdir("f"), write("f/f", "deep"), cat("f/f"), stat("f"))},
		{"a file over a directory", ops(unlink("c/l"), unlink("c/p"), unlink("c/s"), rmdir("c"), write("c", "file"), cat("c"))},
		{"a link over a directory", ops(rmdir("a/empty"), symlink("b", "a/empty"), cat("a/empty/f"), list("a/empty"))},
		{"a moved directory keeps what it holds", ops(rename("a", "z"), list("z"), cat("z/b/f"), add("z/b/f", "more"), cat("z/b/f"), list("."))},
		{"a moved directory moves again", ops(rename("a", "c/a"), rename("c", "a"), list("a/a"), cat("a/a/b/f"), unlink("a/a/b/f"), list("a/a/b"))},
		{"a directory moved over an empty one", ops(rename("a/b", "a/empty"), list("a"), cat("a/empty/f"), mkdir("a/b"), list("a/b"))},
		{"a directory moved away and another in its place", ops(rename("a", "z"), mkdir("a"), list("a"), rename("z/b", "a/b"), cat("a/b/f"))},
		{"exchanged directories", ops(exchange("a", "c"), list("a"), list("c"), cat("c/b/f"), exchange("a", "c"), list("a"))},
		{"an exchanged file and directory", ops(exchange("f", "a"), cat("a"), list("f"), cat("f/b/f"))},
		{"links share bytes", ops(add("f", "more"), cat("c/l"), stat("c/l"), chmod("c/l", 0o600), stat("f"), unlink("f"), stat("c/l"), cat("c/l"))},
		{"a third link", ops(link("f", "g"), stat("f"), stat("g"), unlink("f"), unlink("c/l"), stat("g"), cat("g"))},
		{"links across a move", ops(rename("f", "g"), add("c/l", "more"), cat("g"), rename("c/l", "g"), stat("g"), stat("c/l"))},
		{"a link that is moved over its other name stays", ops(rename("f", "c/l"), stat("f"), stat("c/l"))},
		{"links to a file that was copied up", ops(write("a/f", "written"), link("a/f", "a/b/l2"), cat("a/l"), cat("a/b/l2"), stat("a/l"))},
		{"truncated twice", ops(truncate("f", 3), cat("f"), truncate("f", 6), cat("f"), truncate("f", 0), cat("f"), add("f", "x"), cat("f"))},
		{"set-id bits go with the owner", ops(chmod("f", 0o6755), stat("f"), chown("f", os.Geteuid(), os.Getegid()), stat("f"))},
		{"directories inherit their group bit", ops(chmod("a", 0o2755), mkdir("a/new"), stat("a/new"), write("a/newer", ""), stat("a/newer"))},
		{"a sticky directory", ops(chmod("a", 0o1777), unlink("a/f"), rename("a/l", "a/m"), list("a"))},
		{"a FIFO moves", ops(rename("c/p", "p"), stat("p"), mkfifo("c/p"), link("p", "q"), stat("q"), unlink("p"), stat("q"))},
		{"links of links", ops(symlink("s", "t"), cat("t"), symlink("a", "u"), cat("u/f"), mkdir("u/new"), list("a"), unlink("u"), list("a"))},
		{"a link that leads up", ops(symlink("../..", "a/b/up"), list("a/b/up"), cat("a/b/up/f"), rename("a/b", "b"), readlink("b/up"))},
		{"extended attributes follow", ops(setxattr("f", "user.x", "1", 0), rename("f", "g"), setxattr("g", "user.x", "2", unix.XATTR_REPLACE), removexattr("g", "user.k"), write("g", "x"))},
		{"a deep tree", deepTree(60)},
		{"many names", manyNames(300)},
		{"everything is removed", ops(unlink("a/f"), unlink("a/l"), unlink("a/s"), unlink("a/b/f"), rmdir("a/b"), rmdir("a/empty"), rmdir("a"), unlink("c/l"), unlink("c/s"), unlink("c/p"), rmdir("c"), unlink("s"), unlink("f"), unlink("loop"), list("."))},
		{"written and put back", ops(write("f", "other"), write("f", "text of f\n"), cat("f"), chmod("f", 0o600), chmod("f", 0o644), stat("f"))},
	}
}

func deepTree(n int) (list []Op) {
	p := "a"
	for range n {
		p += "/deeper-and-deeper"
		list = append(list, mkdir(p))
	}
	return append(list, write(p+"/f", "at the end"), cat(p+"/f"), rename("a", "z"), cat("z"+p[1:]+"/f"), ls(p), ls("z"+p[1:]))
}

func ls(p string) Op { return list(p) }

func manyNames(n int) (ops []Op) {
	for i := range n {
		ops = append(ops, write(fmt.Sprintf("a/b/name-%d", i*7919%n), fmt.Sprint(i)))
	}
	for i := range n {
		if i%3 == 0 {
			ops = append(ops, unlink(fmt.Sprintf("a/b/name-%d", i)))
		}
	}
	return append(ops, list("a/b"))
}

// Run carries out operations in a directory and returns what they return and what
// they leave.
func Run(f Files, list []Op) []string {
	var lines []string
	for _, o := range list {
		lines = append(lines, o.Name+": "+o.Do(f))
	}
	return append(lines, Snapshot(f)...)
}

// LetRemove makes a tree removable that has directories nobody may enter.
func LetRemove(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o755)
		}
		return nil
	})
}

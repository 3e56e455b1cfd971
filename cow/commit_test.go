//go:build linux

package cow_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/internal/conformance"
	"golang.org/x/sys/unix"
)

// commit writes all the changes to the host.
func (l layered) commit(home string) error {
	changes, err := l.t.Changes()
	if err != nil {
		return err
	}
	return l.t.Commit(changes, home)
}

// committed does something in a tree and commits it, does the same on the host, and
// compares what is left.
func committed(t *testing.T, before func(dir string), do func(conformance.Files)) {
	t.Helper()
	host, lower := t.TempDir(), t.TempDir()
	before(host)
	before(lower)
	do(bareAt(t, host))
	l := layer(t, lower, ".")
	do(l)
	if err := l.commit(lower); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(conformance.Snapshot(bareAt(t, host)), conformance.Snapshot(bareAt(t, lower))); diff != "" {
		t.Errorf("what is left (-bare +committed):\n%s", diff)
	}
}

// Names and targets needn't be UTF-8.
func TestCommitNames(t *testing.T) {
	before := func(dir string) { makeFiles(t, dir, "c\xfe", "d\xfd/f", "e\xfc/f\xfb", "\ufffd") }
	committed(t, before, func(f conformance.Files) {
		fd, err := f.Open("a\xff", os.O_WRONLY|os.O_CREATE, 0o644)
		must(t, err, os.NewFile(uintptr(fd), "a").Close(), f.Unlink("c\xfe"), f.Symlink("t\xff", "l\xff"), f.Rename("d\xfd", "d", 0),
			f.Unlink("e\xfc/f\xfb"), f.Rmdir("e\xfc"), f.Rename("\ufffd", "\xfa", 0))
	})
}

// Nothing is written over what somebody else has done meanwhile.
func TestCommitHostChanged(t *testing.T) {
	remove := func(name string) func(string) error {
		return func(dir string) error { return os.RemoveAll(filepath.Join(dir, name)) }
	}
	write := func(name string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte("host\n"), 0o644) }
	}
	over := func(l layered, old, name string) error { return l.Rename(old, name, 0) }
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, l layered)
		host func(dir string) error
		want string
	}{
		{"a file that was appended to is removed", func(t *testing.T, l layered) { l.write(t, "a", unix.O_APPEND, "more") }, remove("a"), "a: "},
		{"a file whose mode was changed is removed", func(t *testing.T, l layered) { must(t, l.Chmod("a", 0o600)) }, remove("a"), "a: "},
		{"a file that was replaced is removed", func(t *testing.T, l layered) { l.write(t, "new", 0, "x"); must(t, over(l, "new", "a")) }, remove("a"), "a: "},
		{"a file that was made anew is removed", func(t *testing.T, l layered) { must(t, l.Unlink("a")); l.write(t, "a", 0, "x") }, remove("a"), "a: "},
		{"one of two names that were replaced is removed", func(t *testing.T, l layered) { l.write(t, "new", 0, "x"); must(t, over(l, "new", "l2")) }, remove("l2"), "l2: "},
		{"a file that was moved is removed", func(t *testing.T, l layered) { must(t, over(l, "a", "b")) }, remove("a"), "a: "},
		{"one of two files that were exchanged is removed", func(t *testing.T, l layered) { must(t, l.Rename("a", "d/f", unix.RENAME_EXCHANGE)) }, remove("a"), "a: "},
		{"a link's target is removed", func(t *testing.T, l layered) { must(t, l.Link("a", "b", 0)) }, remove("a"), "a: "},
		{"a directory in which a file was made is removed", func(t *testing.T, l layered) { l.write(t, "d/new", 0, "x") }, remove("d"), "d: "},
		{"a directory that was made anew is removed", func(t *testing.T, l layered) { must(t, l.Unlink("d/f"), l.Rmdir("d"), l.Mkdir("d", 0o755)) }, remove("d"), "d: "},
		{"a file in a directory that was moved is removed", func(t *testing.T, l layered) { l.write(t, "d/f", 0, "x"); must(t, over(l, "d", "e")) }, remove("d/f"), "d: "},
		{"a file that was appended to is written to", func(t *testing.T, l layered) { l.write(t, "a", unix.O_APPEND, "more") }, write("a"), "a: "},
		{"a file that was removed is written to", func(t *testing.T, l layered) { must(t, l.Unlink("a")) }, write("a"), "a: "},
		{"a file that was made is made", func(t *testing.T, l layered) { l.write(t, "new", 0, "x") }, write("new"), "new: "},
		{"a file whose link was made is written to", func(t *testing.T, l layered) { must(t, l.Link("a", "b", 0)) }, write("a"), "a: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			makeFiles(t, dir, "a", "l1", "d/f", "other")
			must(t, os.Link(filepath.Join(dir, "l1"), filepath.Join(dir, "l2")))
			l := layer(t, dir, ".")
			_, err := l.List(".")
			must(t, err)
			l.write(t, "also", 0, "x")
			must(t, l.Unlink("other"))
			tt.do(t, l)
			time.Sleep(20 * time.Millisecond) // the kernel's clock is coarse
			must(t, tt.host(dir))
			before := conformance.Snapshot(bareAt(t, dir))
			if err := l.commit(dir); !errors.Is(err, cow.ErrHostChanged) || !strings.Contains(err.Error(), filepath.Join(dir, tt.want)) {
				t.Errorf("the commit says %v", err)
			}
			if diff := cmp.Diff(before, conformance.Snapshot(bareAt(t, dir))); diff != "" {
				t.Errorf("it changed the host (-before +after):\n%s", diff)
			}
		})
	}
}

// What the tree and the host have both removed is no quarrel.
func TestCommitBothRemoved(t *testing.T) {
	dir := t.TempDir()
	makeFiles(t, dir, "a", "b")
	l := layer(t, dir, ".")
	must(t, l.Unlink("a"), l.Rename("b", "c", 0), l.Unlink("c"), os.Remove(filepath.Join(dir, "a")), os.Remove(filepath.Join(dir, "b")), l.commit(dir))
}

// What random operations leave in a tree is what they leave on the host, once it is
// committed; and it is that as well if the commit is killed and finished later.
func TestCommitRandom(t *testing.T) {
	seeds := 150
	if os.Getenv("SANDTEST_LONG") != "" {
		seeds = 1100
	}
	for seed := range seeds {
		list := conformance.SequenceWithin(uint64(seed), 20+seed%100)
		for _, killed := range []string{"", "in the middle", "at the end"} {
			if wrong := committedOps(t, list, seed, killed); wrong != "" {
				t.Fatalf("seed %d, killed %s: %s", seed, killed, wrong)
			}
		}
	}
}

func committedOps(t *testing.T, list []conformance.Op, seed int, killed string) (wrong string) {
	host, lower := t.TempDir(), t.TempDir()
	const within = "a/b/c" // links lead out of it
	for _, dir := range []string{host, lower} {
		must(t, os.MkdirAll(filepath.Join(dir, within), 0o755))
		conformance.Sample(filepath.Join(dir, within))
		defer conformance.LetRemove(dir)
	}
	bare, l := bareAt(t, filepath.Join(host, within)), layer(t, lower, within)
	conformance.Snapshot(l) // who hasn't looked into a directory doesn't know what names a file has there
	for _, o := range list {
		o.Do(bare)
		o.Do(l)
	}
	changes, err := l.t.Changes()
	must(t, err)
	if killed != "" {
		err := l.t.KilledCommit(changes, lower, func(steps int) int {
			if killed == "at the end" {
				return steps
			}
			return seed * 7 % (steps + 1)
		})
		if err == nil {
			err = cow.Recover(lower)
		}
		if err != nil {
			return fmt.Sprintf("%v\n%s", err, changes)
		}
	} else if err := l.t.Commit(changes, lower); err != nil {
		return fmt.Sprintf("%v\n%s", err, changes)
	}
	return cmp.Diff(conformance.Snapshot(bareAt(t, host)), conformance.Snapshot(bareAt(t, lower)))
}

// Directories that their owner may not write to are no hindrance where they were none in
// the sandbox, and have the modes then that they have there.
func TestCommitClosedDirectories(t *testing.T) {
	for _, killed := range []bool{false, true} {
		dir := unprivileged(t)
		makeFiles(t, dir, "ro/z", "ro/keep", "ro/deep/f", "gone/f", "a", "zz")
		for _, name := range []string{"ro/deep", "ro", "gone"} {
			must(t, os.Chmod(filepath.Join(dir, name), 0o555))
		}
		l := layer(t, dir, ".")
		must(t, l.Chmod("ro", 0o755), l.Unlink("ro/z"), l.Mkdir("ro/new", 0o700), l.Symlink("x", "ro/new/s"), l.Chmod("ro/new", 0o400), l.Chmod("ro", 0o555),
			l.Chmod("ro/deep", 0o711), l.Unlink("ro/deep/f"), l.Chmod("ro/deep", 0o111),
			l.Chmod("gone", 0o755), l.Unlink("gone/f"), l.Rmdir("gone"), l.Unlink("zz"))
		l.write(t, "a", unix.O_TRUNC, "2\n")
		changes, err := l.t.Changes()
		must(t, err)
		if killed {
			must(t, l.t.KilledCommit(changes, dir, func(n int) int { return n }), cow.Recover(dir))
		} else {
			must(t, l.t.Commit(changes, dir))
		}
		want := map[string]os.FileMode{"a": 0o644, "ro": 0o555, "ro/deep": 0o111, "ro/new": 0o400, "ro/keep": 0o644}
		got := map[string]os.FileMode{}
		must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if st, err := os.Lstat(path); err == nil && path != dir {
				got[strings.TrimPrefix(path, dir+"/")] = st.Mode().Perm()
			}
			return nil
		}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("killed %v: what is left (-want +got):\n%s", killed, diff)
		}
	}
}

// What can't be carried out is refused before anything is done.
func TestCommitForeseen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of somebody else")
	}
	theirs := filepath.Join(t.TempDir(), "theirs")
	makeFiles(t, theirs, "dir/", "closed/f", "zz")
	must(t, os.Chmod(theirs, 0o777), os.Chmod(filepath.Dir(theirs), 0o755), os.Chmod(filepath.Dir(filepath.Dir(theirs)), 0o755))
	home := unprivileged(t)
	for _, tt := range []struct {
		name, want string
		do         func(l layered) error
	}{
		{"a directory of somebody else is moved", "only root can make files of user 0", func(l layered) error { return l.Rename("dir", "moved", 0) }},
		{"a file of somebody else is rewritten", "user 0", func(l layered) error {
			return l.with("zz", false, func(f *cow.File) error { return f.Truncate(cow.Superuser(), 0) })
		}},
		{"a directory of somebody else is written to", "can't be changed", func(l layered) error { l.cred = cow.Superuser(); return l.Unlink("closed/f") }},
	} {
		l := layer(t, theirs, ".") // not in a goroutine of its own: it has the privileges of its thread
		must(t, tt.do(l))
		l.write(t, "a", 0, "new")
		before := conformance.Snapshot(bareAt(t, theirs))
		if err := l.commit(home); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: the commit says %v", tt.name, err)
		}
		if diff := cmp.Diff(before, conformance.Snapshot(bareAt(t, theirs))); diff != "" {
			t.Errorf("%s: it changed the host (-before +after):\n%s", tt.name, diff)
		}
	}
}

// Extended attributes and times are committed like the rest.
func TestCommitAttributes(t *testing.T) {
	before := func(dir string) {
		makeFiles(t, dir, "a", "b", "c", "ro", "d/", "e/", "moved", "old", "link/")
		for _, name := range []string{"a", "b", "ro", "d", "moved"} {
			for _, x := range []string{"user.one", "user.two"} {
				if err := unix.Setxattr(filepath.Join(dir, name), x, []byte(x), 0); err == unix.EOPNOTSUPP {
					t.Skip("the file system has no extended attributes")
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}
		must(t, os.Chmod(filepath.Join(dir, "ro"), 0o444), os.Symlink("a", filepath.Join(dir, "s")))
		for _, name := range []string{"old", "moved"} {
			must(t, os.Chtimes(filepath.Join(dir, name), time.Unix(15e8, 7), time.Unix(15e8, 7))) // later than the tree's start
		}
	}
	dir := unprivileged(t)
	times := map[string][]int64{}
	for _, root := range []string{filepath.Join(dir, "bare"), filepath.Join(dir, "tree")} {
		must(t, os.Mkdir(root, 0o755))
		before(root)
		bare := bareAt(t, root)
		l := layer(t, root, ".")
		f := conformance.Files(l)
		if filepath.Base(root) == "bare" {
			f = bare
		}
		fd, err := f.Open("a", unix.O_WRONLY|unix.O_APPEND, 0)
		must(t, err)
		_, err = unix.Write(fd, []byte("more"))
		must(t, err, unix.Close(fd), f.Setxattr("a", "user.three", "3", 0), f.Removexattr("a", "user.one"), f.Setxattr("b", "user.two", "\xff\x00", 0),
			f.Setxattr("c", "user.\xff", "new", 0), f.Chmod("ro", 0o644), f.Setxattr("ro", "user.one", "changed", 0), f.Chmod("ro", 0o400),
			f.Removexattr("d", "user.two"), f.Setxattr("e", "user.e", "e", 0), f.Chmod("e", 0o555), f.Rename("moved", "there", 0), f.Chmod("old", 0o600),
			f.Symlink("x", "new"))
		if root != filepath.Join(dir, "bare") {
			must(t, l.with("new", true, func(f *cow.File) error { return f.SetTimes(l.cred, unix.Timespec{Sec: 3}, unix.Timespec{Sec: 3}) }), l.commit(root))
		} else {
			ts := unix.NsecToTimespec(3e9)
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(root, "new"), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
		}
		for _, name := range []string{"new", "there", "old"} {
			var st unix.Stat_t
			must(t, unix.Lstat(filepath.Join(root, name), &st))
			times[name] = append(times[name], st.Mtim.Nano())
		}
	}
	if diff := cmp.Diff(conformance.Snapshot(bareAt(t, filepath.Join(dir, "bare"))), conformance.Snapshot(bareAt(t, filepath.Join(dir, "tree")))); diff != "" {
		t.Errorf("what is left (-bare +committed):\n%s", diff)
	}
	for name, list := range times {
		if list[0] != list[1] {
			t.Errorf("%s is of %d, and committed of %d", name, list[0], list[1])
		}
	}
}

// Names of one file stay that, those that nobody has looked at as well.
func TestCommitLinks(t *testing.T) {
	before := func(dir string) {
		makeFiles(t, dir, "a", "b", "c", "d", "e", "far/x")
		for i, old := range []string{"a", "b", "c", "e"} {
			must(t, os.Link(filepath.Join(dir, old), filepath.Join(dir, "far", strconv.Itoa(i))), os.Chmod(filepath.Join(dir, old), 0o444))
		}
	}
	committed(t, before, func(f conformance.Files) {
		must(t, f.Chmod("a", 0o644), f.Truncate("a", 1), f.Chmod("a", 0o444), f.Chmod("b", 0o600), f.Truncate("b", 0), f.Rename("b", "b2", 0),
			f.Chmod("c", 0o600), f.Link("d", "d2", 0), f.Link("e", "e2", 0), f.Unlink("e"))
	})
}

// A file that is executed can't be written into: that is foreseen.
func TestCommitBusy(t *testing.T) {
	dir := t.TempDir()
	sleep, err := os.ReadFile("/bin/sleep")
	must(t, err, os.WriteFile(filepath.Join(dir, "p"), sleep, 0o755), os.Link(filepath.Join(dir, "p"), filepath.Join(dir, "p2")))
	cmd := exec.Command(filepath.Join(dir, "p"), "100")
	must(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	l := layer(t, dir, ".")
	must(t, l.Truncate("p", 5))
	l.write(t, "also", 0, "x")
	if err := l.commit(dir); !errors.Is(err, unix.ETXTBSY) {
		t.Errorf("the commit says %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// What has become a symbolic link isn't followed, by who finishes a commit least of all.
func TestCommitOverLinks(t *testing.T) {
	for _, killed := range []bool{false, true} {
		dir := t.TempDir()
		makeFiles(t, dir, "out/f", "out/g", "in/d/f", "in/f")
		must(t, os.Symlink("../out", filepath.Join(dir, "in/s")))
		l := layer(t, filepath.Join(dir, "in"), ".")
		must(t, l.Unlink("d/f"), l.Rmdir("d"), l.Symlink("../out", "d"), l.Unlink("f"), l.Symlink("d", "f"), l.Unlink("s"), l.Mkdir("s", 0o755))
		l.write(t, "s/g", 0, "new")
		changes, err := l.t.Changes()
		must(t, err)
		home := filepath.Join(dir, "in")
		if killed {
			must(t, l.t.KilledCommit(changes, home, func(n int) int { return n }), cow.Recover(home))
		} else {
			must(t, l.t.Commit(changes, home))
		}
		got := conformance.Snapshot(bareAt(t, filepath.Join(dir, "out")))
		if len(got) != 3 || !strings.Contains(got[2], "out/g") {
			t.Errorf("killed %v: outside there is\n%s", killed, strings.Join(got, "\n"))
		}
		if text, err := os.ReadFile(filepath.Join(dir, "in/s/g")); string(text) != "new" {
			t.Errorf("killed %v: s/g is %q, %v", killed, text, err)
		}
	}
}

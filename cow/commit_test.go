//go:build linux

package cow_test

import (
	"errors"
	"os"
	"path/filepath"
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

//go:build linux

package cow_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/internal/conformance"
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

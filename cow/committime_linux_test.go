package cow_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// Commits in one directory at the same time are made one after the other, and each is whole.
func TestCommitsBeside(t *testing.T) {
	const many, files = 6, 20
	dir := t.TempDir()
	for round := range 5 {
		var trees []layered
		for i := range many {
			l := layer(t, dir, ".")
			for n := range files {
				l.write(t, fmt.Sprintf("%d-%d-%d", round, i, n), os.O_CREATE, "text")
			}
			trees = append(trees, l)
		}
		var wg sync.WaitGroup
		for i, l := range trees {
			wg.Go(func() {
				if err := l.commit(dir); err != nil {
					t.Errorf("commit %d of round %d: %v", i, round, err)
				}
			})
		}
		wg.Wait()
	}
	list, err := os.ReadDir(dir)
	must(t, err)
	if len(list) != 5*many*files {
		t.Errorf("%d files, want %d", len(list), 5*many*files)
	}
}

// What has been changed by the tree's clock is committed as changed now, in the same order;
// times that were set stay.
func TestCommitTimes(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"changed", "mode", "set"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("text"), 0o644), os.Chtimes(filepath.Join(dir, name), old, old))
	}
	l := layer(t, dir, ".")
	for _, name := range []string{"first", "second", "changed", "set"} {
		l.write(t, name, os.O_APPEND, "more")
		_, err := l.Stat(name, false) // when a file was written to is found out by looking
		must(t, err)
	}
	must(t, l.Mkdir("dir", 0o755), l.Chmod("mode", 0o600), l.Utime("set", 5e9))
	before := time.Now()
	must(t, l.commit(dir))
	times := map[string]time.Time{}
	for _, name := range []string{"first", "second", "changed", "mode", "set", "dir"} {
		st, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		times[name] = st.ModTime()
	}
	const coarse = 20 * time.Millisecond // what file systems may take away
	for _, name := range []string{"first", "second", "changed", "dir"} {
		if at := times[name]; at.Before(before.Add(-coarse)) || at.After(time.Now()) {
			t.Errorf("%s is of %v, want %v or a little later", name, at, before)
		}
	}
	if times["first"].After(times["second"]) || times["second"].After(times["changed"]) {
		t.Errorf("another order: %v", times)
	}
	if !times["mode"].Equal(old.Truncate(0)) || !times["set"].Equal(time.Unix(5, 0)) {
		t.Errorf("mode %v, want %v; set %v, want 5 s", times["mode"], old, times["set"])
	}
}

// Who starts after a commit that was killed sees the files that it was to leave; who has
// started before is told.
func TestCommitAfterKilled(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o644))
	}
	killed := func() {
		l := layer(t, dir, ".")
		l.write(t, "a", os.O_TRUNC, "new")
		l.write(t, "b", os.O_TRUNC, "new")
		changes, err := l.t.Changes()
		must(t, err, l.t.KilledCommit(changes, dir, func(int) int { return 1 }))
	}
	unfinished := func(want bool) {
		t.Helper()
		if got, err := cow.Unfinished(dir); err != nil || got != want {
			t.Fatalf("unfinished: %v, %v, want %v", got, err, want)
		}
	}
	unfinished(false)
	killed()
	unfinished(true)
	early := layer(t, dir, ".")
	early.write(t, "b", os.O_APPEND, " more")
	err := early.commit(dir)
	if !errors.Is(err, cow.ErrHostChanged) || !strings.Contains(err.Error(), "run it again") {
		t.Errorf("over a commit that was killed: %v", err)
	}
	unfinished(false)
	for _, name := range []string{"a", "b"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != "new" {
			t.Errorf("%s holds %q, %v", name, text, err)
		}
	}
	// One that says it is, and isn't this user's, is none.
	must(t, os.Mkdir(filepath.Join(dir, ".sandtest-commit"), 0o755), os.WriteFile(filepath.Join(dir, ".sandtest-commit", "journal"), []byte("[]"), 0o644))
	unfinished(false)
}

// Hard links to what doesn't change stay links, on whichever file system.
func TestCommitLinksElsewhere(t *testing.T) {
	dir, other := t.TempDir(), ""
	var here, there unix.Stat_t
	must(t, unix.Stat(dir, &here))
	for _, at := range []string{"/dev/shm", "/var/tmp"} {
		if unix.Stat(at, &there) == nil && there.Dev != here.Dev {
			if d, err := os.MkdirTemp(at, "links"); err == nil {
				other = d
				defer os.RemoveAll(d)
				break
			}
		}
	}
	if other == "" {
		t.Skip("there is no other file system to write to")
	}
	must(t, os.WriteFile(filepath.Join(other, "f"), []byte("text"), 0o644))
	tree, err := cow.New(cow.Config{Upper: t.TempDir(), Mounts: []cow.Mount{{At: "/", Host: dir}, {At: "/x", Host: other}}, Start: 1e18})
	must(t, err)
	l := layered{t: tree, cred: self()}
	root, err := tree.Lookup(l.walk(false), "/x")
	must(t, err)
	l.base = root.Inode()
	must(t, l.Link("f", "g", 0), l.commit(dir))
	var f, g unix.Stat_t
	must(t, unix.Stat(filepath.Join(other, "f"), &f), unix.Stat(filepath.Join(other, "g"), &g))
	if f.Ino != g.Ino || f.Nlink != 2 {
		t.Errorf("inodes %d and %d, %d links", f.Ino, g.Ino, f.Nlink)
	}
}

// A file of somebody else's that may be written to stays that, with what was written.
func TestCommitForeign(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of somebody else's")
	}
	dir := filepath.Join(t.TempDir(), "theirs")
	makeFiles(t, dir, "written", "replaced")
	must(t, os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755),
		os.Chmod(filepath.Join(dir, "written"), 0o666), os.WriteFile(filepath.Join(dir, "written"), []byte("root's\n"), 0))
	home := unprivileged(t)
	l := layer(t, dir, ".")
	l.write(t, "written", os.O_APPEND, "mine\n")
	must(t, l.Unlink("replaced"))
	l.write(t, "replaced", os.O_CREATE, "mine\n")
	must(t, l.commit(home))
	for name, want := range map[string]struct {
		text string
		uid  int
		mode uint32
	}{"written": {"root's\nmine\n", 0, 0o666}, "replaced": {"mine\n", unix.Geteuid(), 0o644}} {
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(dir, name), &st))
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(text) != want.text || int(st.Uid) != want.uid || st.Mode&0o777 != want.mode {
			t.Errorf("%s holds %q, %v, is user %d's, mode %o, want %v", name, text, err, st.Uid, st.Mode, want)
		}
	}
}

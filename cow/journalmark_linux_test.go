package cow

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestForeignJournal: a journal that no commit has written is not carried out, and none can be
// brought along by a commit.
func TestForeignJournal(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	home, victim := t.TempDir(), t.TempDir()
	precious := filepath.Join(victim, "file")
	if err := os.WriteFile(precious, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	steps, err := json.Marshal([]journalStep{{Do: "remove", Path: rawName(precious)}})
	if err != nil {
		t.Fatal(err)
	}
	staging := filepath.Join(home, stagingName)
	if err := os.Mkdir(staging, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(staging, journalName), steps, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Recover(home); err == nil || !strings.Contains(err.Error(), filepath.Join(staging, journalName)) {
		t.Errorf("it is carried out, or isn't named: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(staging); err != nil {
		t.Fatal(err)
	}

	// Nor is one that a mark was made for elsewhere.
	if err := markJournal(t.TempDir(), steps); err != nil {
		t.Fatal(err)
	}
	tr, err := New(Config{Upper: t.TempDir(), Mounts: []Mount{{At: "/", Host: home}}, Start: 1e18})
	if err != nil {
		t.Fatal(err)
	}
	w := &Walk{Cred: Superuser()}
	for _, dir := range []string{"/sub", "/sub/" + stagingName} {
		if err := tr.Mkdir(w, dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	changes, err := tr.Changes()
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Commit(changes, home); !errors.Is(err, unix.EPERM) {
		t.Errorf("a commit brings one along: %v", err)
	}
	if list, err := os.ReadDir(home); err != nil || len(list) != 0 {
		t.Errorf("it has left %v, %v", list, err)
	}
}

// TestCommitTooDeep: what can't be reached by a path is refused before anything is changed.
func TestCommitTooDeep(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "a"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	tr, err := New(Config{Upper: t.TempDir(), Mounts: []Mount{{At: "/", Host: home}}, Start: 1e18})
	if err != nil {
		t.Fatal(err)
	}
	w := &Walk{Cred: Superuser()}
	fd, err := tr.Open(w, "/a", unix.O_WRONLY|unix.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	for range 45 {
		if err := tr.Mkdir(w, strings.Repeat("D", 100), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := tr.Lookup(w, strings.Repeat("D", 100))
		if err != nil {
			t.Fatal(err)
		}
		w.Base = f.Inode()
	}
	changes, err := tr.Changes()
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Commit(changes, home); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("it is committed: %v", err)
	}
	if list, err := os.ReadDir(home); err != nil || len(list) != 1 {
		t.Errorf("it has left %v, %v", list, err)
	}
	if text, err := os.ReadFile(filepath.Join(home, "a")); string(text) != "old" {
		t.Errorf("it has left %q, %v", text, err)
	}
}

// TestKeepOnce: changes are kept in a directory that has nothing in it, under whatever name.
func TestKeepOnce(t *testing.T) {
	tr, err := New(Config{Upper: t.TempDir(), Mounts: []Mount{{At: "/", Host: t.TempDir()}}, Start: 1e18})
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("N", nameMax)
	fd, err := tr.Open(&Walk{Cred: Superuser()}, "/"+name, unix.O_WRONLY|unix.O_CREAT, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	changes, err := tr.Changes()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "kept")
	if err := tr.Keep(changes, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "files", name)); err != nil {
		t.Error(err)
	}
	if err := tr.Keep(changes, dir); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("kept once more: %v", err)
	}
}

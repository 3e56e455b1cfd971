//go:build linux

package supervisor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// What a killed supervisor has left is removed by the next sandbox, and nothing that is
// in use.
func TestLayerDirs(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	home := filepath.Join(os.TempDir(), "sandtest-"+strconv.Itoa(os.Geteuid()))
	first, err := newLayerDir()
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(home, "left-behind")
	if err := os.MkdirAll(filepath.Join(left, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	second, err := newLayerDir()
	if err != nil {
		t.Fatal(err)
	}
	if exists(left) || !exists(first.path) || !exists(second.path) {
		t.Errorf("left behind %v, in use %v and %v", exists(left), exists(first.path), exists(second.path))
	}
	if err := first.remove(); err != nil || exists(first.path) || !exists(second.path) {
		t.Errorf("removed: %v, %v, %v", err, exists(first.path), exists(second.path))
	}
	for range 2 {
		if err := second.remove(); err != nil || exists(home) {
			t.Errorf("both removed: %v, %v", err, exists(home))
		}
	}
	old := unix.Umask(0o777)
	closed, err := newLayerDir()
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.remove(); err != nil {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				d, err := newLayerDir()
				if err != nil {
					t.Error(err)
					return
				}
				if !exists(d.path) {
					t.Error("a directory that is in use was removed")
				}
				if err := d.remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := os.WriteFile(home, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := startFails(t, sh("true"), Config{}); !strings.Contains(err.Error(), "is in the way") {
		t.Errorf("a file in the way: %v", err)
	}
	if err := os.Remove(home); err != nil {
		t.Fatal(err)
	}
	// A directory that others can write isn't trusted.
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(home, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := startFails(t, sh("true"), Config{}); !strings.Contains(err.Error(), "is in the way") {
		t.Errorf("a directory of everybody's: %v", err)
	}
}

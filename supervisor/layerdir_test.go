//go:build linux

package supervisor

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a killed supervisor has left is removed by the next sandbox, and nothing that is
// in use.
func TestLayerDirs(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	home := filepath.Join(os.TempDir(), "sandtest-"+strconv.Itoa(os.Geteuid()))
	first, err := newLayerDir(os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(home, "left-behind")
	if err := os.MkdirAll(filepath.Join(left, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	second, err := newLayerDir(os.TempDir())
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
	closed, err := newLayerDir(os.TempDir())
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
				d, err := newLayerDir(os.TempDir())
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

// A sandbox in which no bytes are written takes no directory for them.
func TestLayerIsMadeForBytes(t *testing.T) {
	if !inMemory("/dev/shm") {
		t.Skip("/dev/shm isn't in memory")
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	cmd := sh("mkdir a a/b; mv a c; ln -s c l; mkfifo f; chmod 700 c; rmdir c/b; echo names; read line; echo bytes >c/file; echo bytes; read line")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(cmd, Config{})
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []struct {
		said string
		dirs int
	}{{"names", 0}, {"bytes", 1}} {
		if !lines.Scan() || lines.Text() != want.said {
			t.Errorf("it says %q, want %q", lines.Text(), want.said)
		}
		if list, err := os.ReadDir(tmp); err != nil || len(list) != want.dirs {
			t.Errorf("%s: %v in the temporary directory, %v; want %d", want.said, list, err, want.dirs)
		}
		if _, err := io.WriteString(in, "go on\n"); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(tmp); err != nil || len(list) != 0 {
		t.Errorf("it has left %v, %v", list, err)
	}
}

// Of a supervisor that was killed, no directory stays.
func TestSweeper(t *testing.T) {
	tmp := t.TempDir()
	if dir := os.Getenv("SWEEPER_TEST"); dir != "" {
		cmd := sh("echo bytes >file; mkfifo f; echo made; read line")
		in, err := os.Open("/dev/zero")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin, cmd.Stdout = in, os.Stdout
		if _, err := Start(cmd, Config{}); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestSweeper$")
	cmd.Env = append(os.Environ(), "SWEEPER_TEST=1", "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "made\n" {
		t.Errorf("it says %q, %v", line, err)
	}
	if list := layersOf(t, tmp, cmd.Process.Pid); len(list) == 0 {
		t.Error("it has no layer")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	areSwept(t, tmp, cmd.Process.Pid)
	for began := time.Now(); exists(layerHome(tmp)); runtime.Gosched() {
		if time.Since(began) > ending {
			t.Fatal("the directory of its layers has stayed")
		}
	}
}

// layersOf returns the directories of a supervisor that has tmp for its temporary one.
func layersOf(t *testing.T, tmp string, pid int) (list []string) {
	t.Helper()
	for _, dir := range []string{tmp, "/dev/shm"} {
		names, err := filepath.Glob(fmt.Sprintf("%s/%d-*", layerHome(dir), pid))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, names...)
	}
	return list
}

// areSwept waits until there are none any more, without another sandbox, which would remove
// them, too.
func areSwept(t *testing.T, tmp string, pid int) {
	t.Helper()
	for began := time.Now(); len(layersOf(t, tmp, pid)) > 0; runtime.Gosched() {
		if time.Since(began) > ending {
			t.Fatalf("these have stayed: %q", layersOf(t, tmp, pid))
		}
	}
}

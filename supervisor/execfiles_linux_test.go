package supervisor

import (
	"fmt"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestExecuteWritten: what a process has written and closed it can execute, however soon, and
// what it has closed it can lock anew, also while this process starts others, which have its
// files open until they execute their programs.
func TestExecuteWritten(t *testing.T) {
	program := compileC(t, "written", true)
	written := func(t *testing.T, times int, args ...string) {
		if long {
			times *= 5
		}
		cmd := cmdC(program, append([]string{fmt.Sprint(times)}, args...)...)
		cmd.Dir = t.TempDir()
		if got := succeeds(t, Config{}, cmd); got != "0 failed\n" {
			t.Errorf("of %d: %s", times, got)
		}
	}
	t.Run("alone", func(t *testing.T) { written(t, 200) })
	t.Run("beside others", func(t *testing.T) {
		var ended atomic.Bool
		var starters sync.WaitGroup
		for range 2 {
			starters.Go(func() {
				for !ended.Load() {
					if err := exec.Command("/bin/true").Run(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		written(t, 100)
		written(t, 200, "locks")
		ended.Store(true)
		starters.Wait()
	})
}

// TestChangesOwnIDs: a process that has a sandbox can change its ids, for which Go and the C
// library interrupt each of its threads.
func TestChangesOwnIDs(t *testing.T) {
	cmd := exec.Command("/bin/cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(cmd, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setgid(syscall.Getgid()); err != nil {
		t.Error(err)
	}
	in.Close()
	if _, err := s.Wait(); err != nil {
		t.Error(err)
	}
}

package tracee_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// The end of the oldest process is told although younger ones come to something all the
// time.
func TestEventsAreFair(t *testing.T) {
	tracee.OnOwnThread(func() {
		cmd := exec.Command("sh", "-c", "read line; for i in 1 2 3 4 5 6 7 8; do yes >/dev/null & done; wait")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Skip(err)
		}
		if err := tracee.Seize(cmd.Process.Pid); err != nil {
			t.Skip(err)
		}
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Fatal(err)
		}
		var q tracee.Events
		var used unix.Rusage
		var made []int // in their order
		defer func() {
			for _, tid := range append(made, cmd.Process.Pid) {
				_ = unix.Kill(tid, unix.SIGKILL)
			}
			for err == nil {
				_, _, err = q.Next(&used)
			}
		}()
		// next goes on with whatever is told.
		next := func() (tid int) {
			tid, ws, err := q.Next(&used)
			if err != nil {
				t.Fatal(err)
			}
			if !ws.Stopped() {
				return tid
			}
			if tracee.Event(ws) == unix.PTRACE_EVENT_FORK || tracee.Event(ws) == unix.PTRACE_EVENT_VFORK || tracee.Event(ws) == unix.PTRACE_EVENT_CLONE {
				child, err := tracee.EventMsg(tid)
				if err != nil {
					t.Fatal(err)
				}
				made = append(made, child)
			}
			_ = tracee.ContToSyscall(tid, 0) // it may have been killed
			return tid
		}
		const all = 8
		for busy := map[int]int{}; len(made) < all || busy[made[all-1]] < 100; {
			busy[next()]++
		}
		oldest := made[0]
		if err := unix.Kill(oldest, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", oldest))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(stat, []byte(") Z")) {
				break
			}
			if time.Since(began) > time.Minute {
				t.Fatal("it doesn't end")
			}
		}
		told := 0
		for next() != oldest {
			if told++; told > 10_000 {
				break
			}
		}
		if most := tracee.Fairness + all; told > most {
			t.Errorf("%d events of others were told first, want at most %d", told, most)
		}
	})
}

// A stop of a tracee isn't told by a signal, and Go's handler stays what it was.
func TestQuietStops(t *testing.T) {
	tracee.QuietStops()
	if !tracee.StopsAreQuiet() {
		t.Error("a SIGCHLD comes for each stop")
	}
	if err := exec.Command("true").Run(); err != nil {
		t.Error(err)
	}
}

//go:build linux

package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A lookout tells that the CPU is free whenever it is asked, and its thread ends.
func TestLookout(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var p placement
	if err := unix.SchedGetaffinity(0, &p.allowed); err != nil {
		t.Fatal(err)
	}
	cpu, err := currentCPU()
	if err != nil {
		t.Fatal(err)
	}
	p.here.Set(cpu)
	p.one = true
	var b bell
	l := p.post(&b)
	if l == nil {
		t.Skip("the kernel refuses SCHED_IDLE")
	}
	for range 100 {
		for began := time.Now(); !l.wait(b.heard(), time.Millisecond); {
			if time.Since(began) > ending {
				t.Fatal("it doesn't tell")
			}
		}
	}
	p.end(l)
	task := fmt.Sprintf("/proc/self/task/%d", l.tid)
	for began := time.Now(); l.tid != os.Getpid(); runtime.Gosched() { // Go never lets the first thread end
		if _, err := os.Stat(task); err != nil {
			break
		}
		if time.Since(began) > ending {
			t.Fatal("its thread goes on")
		}
	}
	if len(p.more) != 0 {
		t.Errorf("the threads %v are still moved with the sandbox", p.more)
	}
}

// A program that computes while another one sleeps ends, and then the clock moves at once.
func TestClockMovesAfterLongWork(t *testing.T) {
	got := output(t, Config{}, exec.Command("sh", "-c", `
		sleep 1000 &
		i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done
		date +%s; wait; date +%s`))
	if want := "946684800\n946685800\n"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}

// A command gets the priority that it is to have, and its children have it too.
func TestNice(t *testing.T) {
	was := output(t, Config{}, sh("nice"))
	n, err := strconv.Atoi(strings.TrimSpace(was))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintln(min(n+5, 19))
	for _, spread := range []Spread{SpreadOne, SpreadAll} {
		if got := output(t, Config{Nice: 5, Spread: spread}, sh("(nice)")); got != want {
			t.Errorf("with spread %d it is %q, want %q", spread, got, want)
		}
	}
}

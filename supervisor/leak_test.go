//go:build linux

package supervisor

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/sandtest/go-sandtest/det"
)

// threadCount is the number of OS threads of this process.
func threadCount(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

// repeatedly runs a sandbox many times and checks that nothing accumulates.
func repeatedly(t *testing.T, n int, once func()) {
	t.Helper()
	for range 10 { // the runtime keeps what it has needed once
		once()
	}
	runtime.GC() // closes what only finalizers would
	before, threads := held(t), threadCount(t)
	for range n {
		once()
	}
	if err := given(before); err != nil {
		t.Errorf("after %d runs: %v", n, err)
	}
	// Go keeps idle threads for later, and how many there are depends on how runs
	// overlap: a few more are no leak, one for every run would be.
	if now := threadCount(t); now > threads+n/10+10 {
		t.Errorf("%d threads after %d runs, before %d", now, n, threads)
	}
}

func runs() int {
	if testing.Short() || raceEnabled {
		return 100
	}
	return 500
}

func TestNothingAccumulates(t *testing.T) {
	for _, tt := range []struct {
		name string
		n    int
		once func()
	}{
		{"true", runs(), func() { output(t, Config{}, exec.Command("/bin/true")) }},
		{"not found", runs(), func() {
			if _, err := Start(exec.Command("/no/such/command"), Config{}); err == nil {
				t.Fatal("it started")
			}
		}},
		{"wrong configuration", runs(), func() {
			if _, err := Start(exec.Command("/bin/true"), Config{Clock: 9}); err == nil {
				t.Fatal("it started")
			}
		}},
		{"output and files", runs() / 5, func() {
			output(t, Config{}, sh("head -c 1000 /dev/urandom >/dev/null; cat /proc/cpuinfo; ls / | cat; exec 3</dev/random; exit 0"))
		}},
		{"killed", runs() / 5, func() {
			s, err := Start(sh("exec 3</dev/urandom; sleep 100 & sleep 100"), Config{Clock: det.Running})
			if err != nil {
				t.Fatal(err)
			}
			s.Kill()
			if _, err := s.Wait(); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { repeatedly(t, tt.n, tt.once) })
	}
}

// Sandboxes at the same time share nothing.
func TestManySandboxes(t *testing.T) {
	n := 50
	if testing.Short() {
		n = 15
	}
	before := held(t)
	var wg sync.WaitGroup
	out := make([]string, n)
	for i := range n {
		wg.Go(func() {
			out[i] = output(t, Config{Seed: uint64(i % 5), Time: testTime.AddDate(i%5, 0, 0)},
				sh("date; head -c 8 /dev/urandom | od -An -tx1; sleep 0.02; date +%N; "+strconv.Quote("uname")+" -a"))
		})
	}
	wg.Wait()
	for i, got := range out {
		if got != out[i%5] {
			t.Errorf("sandbox %d: %q, want that of %d: %q", i, got, i%5, out[i%5])
		}
		if i > 0 && i < 5 && got == out[0] {
			t.Errorf("sandbox %d: %q is that of another seed and time", i, got)
		}
	}
	if err := given(before); err != nil {
		t.Error(err)
	}
}

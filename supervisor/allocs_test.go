//go:build linux

package supervisor

import (
	"runtime"
	"strconv"
	"testing"
)

// mallocs counts the allocations of this process while a program makes n calls.
func mallocs(t testing.TB, path, call string, n int) float64 {
	t.Helper()
	cmd := cmdC(path, call, strconv.Itoa(n))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	state, _ := run(t, Config{}, cmd)
	runtime.ReadMemStats(&after)
	if state.ExitCode != 0 || state.Stats.Notifications[call] < uint64(n) {
		t.Fatalf("%s: %+v", call, state)
	}
	return float64(after.Mallocs - before.Mallocs)
}

// Answering a call allocates nothing. What the supervisor does every 100 ms
// allocates a little, so a few per hundred calls are no failure.
func TestNoAllocationPerCall(t *testing.T) {
	const n = 20_000
	path := compileC(t, "loop", true)
	for _, call := range []string{"uname", "getrandom", "sched_getaffinity", "clock_gettime", "getcpu", "getrusage"} {
		t.Run(call, func(t *testing.T) {
			mallocs(t, path, call, 100)
			empty := min(mallocs(t, path, call, 0), mallocs(t, path, call, 0))
			per := (mallocs(t, path, call, n) - empty) / n
			t.Logf("%.5f allocations per call", per)
			if per >= 0.1 {
				t.Errorf("%.3f allocations per call", per)
			}
		})
	}
}

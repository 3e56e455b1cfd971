//go:build linux

package supervisor

import "testing"

// The time-stamp counter is the monotonic clock, and a program may forbid it to
// itself.
func TestTimeStampCounter(t *testing.T) {
	const want = `main: rdtsc same rdtscp same cpu 0
thread: rdtsc same rdtscp same cpu 0
child: rdtsc same rdtscp same cpu 0
program: rdtsc same rdtscp same cpu 0
mode: 1
handler: 11
`
	if got := succeeds(t, Config{}, cmdC(compileC(t, "tsc", false))); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := succeeds(t, Config{HostTSC: true}, cmdC(compileC(t, "tsc", false))); got == want {
		t.Error("HostTSC: the counter is the monotonic clock all the same")
	}
}

//go:build linux

package supervisor

import "testing"

// The time-stamp counter is the monotonic clock, which each read moves on by a tick, and a program may forbid it to
// itself.
func TestTimeStampCounter(t *testing.T) {
	const want = `main: rdtsc same rdtscp rises cpu 0
thread: rdtsc same rdtscp rises cpu 0
child: rdtsc same rdtscp rises cpu 0
program: rdtsc same rdtscp rises cpu 0
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

//go:build linux

package supervisor

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/sandtest/go-sandtest/supervisor/internal/tsc"
)

// needsCounter skips a test where nobody can be kept from the counter, of which the state
// tells.
func needsCounter(t *testing.T) {
	t.Helper()
	state, _ := run(t, Config{}, exec.Command("true"))
	if told := state.Stats.HostTSC != ""; told == tsc.Obeyed() {
		t.Errorf("Stats.HostTSC is %q; a read of the counter by who is kept from it faults: %v", state.Stats.HostTSC, !told)
	}
	if !tsc.Obeyed() {
		t.Skip(errTSC)
	}
}

// The time-stamp counter is the monotonic clock, which each read moves on by a tick, and a program may forbid it to
// itself.
func TestTimeStampCounter(t *testing.T) {
	needsCounter(t)
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

// A program starts without a read of the counter by the dynamic linker, unless that is to
// tell how long it has taken.
func TestLinkerTime(t *testing.T) {
	needsCounter(t)
	cmd := cmdC(compileC(t, "tsc", false))
	cmd.Env = append(cmd.Env, "TICKS=1")
	if got := succeeds(t, Config{}, cmd); got != "before: 0\n" {
		t.Errorf("the dynamic linker has read the counter: got %q, want \"before: 0\"", got)
	}
	asked := cmdC(cmd.Path)
	asked.Env = append(cmd.Env, "LD_DEBUG=statistics")
	if got := succeeds(t, Config{}, asked); got == "before: 0\n" || !strings.HasPrefix(got, "before: ") {
		t.Errorf("LD_DEBUG=statistics: got %q, want what tells of reads by the dynamic linker", got)
	}
}

// What a callback starts outside of the sandbox may read the counter, which the threads that
// serve the sandbox may not.
func TestCallbackStartsProgram(t *testing.T) {
	needsCounter(t)
	path := compileC(t, "tsc", false)
	var out []byte
	var err error
	cfg := Config{Events: []string{"uname"}, OnSyscall: func(e *Event) Verdict {
		if e.Name == "uname" {
			out, err = exec.Command(path).Output()
		}
		return Allow
	}}
	succeeds(t, cfg, program(t, "uname", "1"))
	if err != nil || !strings.Contains(string(out), "mode: 1\n") {
		t.Errorf("the program said %q, %v; want a counter that it may read (mode: 1)", out, err)
	}
}

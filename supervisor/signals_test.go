//go:build linux

package supervisor

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// storms is how long a program under a storm of signals may take; natively it
// is well below a second.
const storms = 20 * time.Second

// realTimers is for programs that are to be interrupted while they compute: a
// virtual timer expires when everything waits.
var realTimers = Config{Clock: det.Running}

// count returns what a loop of a test runs to.
func count(short, thorough int) string {
	switch {
	case long:
		return strconv.Itoa(thorough)
	case testing.Short():
		return strconv.Itoa(short / 4)
	}
	return strconv.Itoa(short)
}

// A call that natively no signal interrupts isn't interrupted in the sandbox
// either, and the handlers run.
func TestSignalsDontInterrupt(t *testing.T) {
	path := compileC(t, "signals", false)
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"timer", "failed 0 errno 0\nfired\n", []string{"calls", count(20_000, 200_000)}},
		{"children", "", []string{"children", count(4000, 40_000)}},
		{"SIGCONT", "failed 0 errno 0\nfired\n", []string{"jobs", count(2000, 20_000), strconv.Itoa(int(unix.SIGCONT))}},
		{"SIGTSTP", "failed 0 errno 0\nfired\n", []string{"jobs", count(2000, 20_000), strconv.Itoa(int(unix.SIGTSTP))}},
		{"SIGUSR1", "failed 0 errno 0\nfired\n", []string{"jobs", count(2000, 20_000), strconv.Itoa(int(unix.SIGUSR1))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			if want == "" {
				want = bare(t, cmdC(path, tt.args...))
			}
			cfg, limit := Config{}, storms
			if tt.args[0] == "calls" {
				cfg = realTimers
			}
			if long {
				limit *= 10
			}
			if _, got := endsWithin(t, limit, cfg, cmdC(path, tt.args...)); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// What comes with a signal stays with it, in the order in which it was sent.
func TestSignalInformation(t *testing.T) {
	path := compileC(t, "signals", false)
	for _, args := range [][]string{{"queue", "0"}, {"queue", "0", "min"}, {"queue", "1"}, {"queue", "1", "min"}, {"acknowledged", "1000"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			want := bare(t, cmdC(path, args...))
			if !strings.Contains(want, "wrong 0") {
				t.Fatalf("bare: %s", want)
			}
			for range 3 {
				if _, got := endsWithin(t, storms, Config{}, cmdC(path, args...)); got != want {
					t.Fatalf("got %q, bare %q", got, want)
				}
			}
		})
	}
}

// A signal that is ignored by default leaves a wait alone.
func TestIgnoredSignals(t *testing.T) {
	path := compileC(t, "signals", false)
	for _, how := range []string{"read", "wait", "poll", "ppoll", "select", "epoll_wait", "epoll_wait with timeout"} {
		t.Run(how, func(t *testing.T) {
			sameAsBare(t, Config{}, func() *exec.Cmd { return cmdC(path, "ignored", how) })
		})
	}
}

// Nor does it change by how much a wait moves the clock.
func TestIgnoredSignalsDuringSleeps(t *testing.T) {
	path := compileC(t, "signals", false)
	for line := range strings.Lines(succeeds(t, Config{}, cmdC(path, "waits"))) {
		name, got, _ := strings.Cut(line, ": ")
		if got != "0 60000000\n" {
			t.Errorf("%s: a wait of 60 ms returned and moved the clock by %s", name, got)
		}
	}
}

// A sleep that a handler cuts short hasn't ended.
func TestInterruptedSleeps(t *testing.T) {
	path := compileC(t, "signals", false)
	sameAsBare(t, Config{}, func() *exec.Cmd { return cmdC(path, "interrupted") })
}

// Pipelines of a shell that is told of each of its children's ends.
func TestPipelines(t *testing.T) {
	for _, shell := range []string{"dash", "bash"} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skip(err)
			}
			const script = `
				trap 'n=$((n+1))' USR1 CHLD
				i=0; while [ $i -lt $0 ]; do
					{ echo $i; seq 1000; } | cat | tail -n +1 | wc -l
					i=$((i+1))
				done`
			n := count(60, 300)
			want := bare(t, cmdC(shell, "-c", script, n))
			if _, got := endsWithin(t, 6*storms, Config{}, cmdC(shell, "-c", script, n)); got != want {
				t.Errorf("%d lines of output instead of %d", len(lines(got)), len(lines(want)))
			}
		})
	}
}

// Job control works as natively, whatever the child does when it is stopped.
func TestStopAndContinue(t *testing.T) {
	path := compileC(t, "signals", false)
	for _, how := range []string{"pause", "calls", "sleep", "fork", "exec"} {
		t.Run(how, func(t *testing.T) {
			cfg := Config{}
			if how == "sleep" {
				cfg = realTimers // the parent waits for it by spinning
			}
			cmd := func() *exec.Cmd { return cmdC(path, "stop", count(20, 300), how) }
			want := bare(t, cmd())
			if _, got := endsWithin(t, storms, cfg, cmd()); got != want {
				t.Errorf("got %q, bare %q", got, want)
			}
		})
	}
}

// An open that waits is interrupted, and goes on, as natively.
func TestOpenOfFIFO(t *testing.T) {
	path := compileC(t, "signals", false)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"fifo", "opened"} {
		t.Run(what, func(t *testing.T) {
			cmd := func() *exec.Cmd { return cmdC(path, what, fifo) }
			want := bare(t, cmd())
			for range 20 {
				if _, got := endsWithin(t, storms, realTimers, cmd()); got != want {
					t.Fatalf("got %q, bare %q", got, want)
				}
			}
		})
	}
}

// Processes that are killed while they fork or execute leave nothing behind that
// waits for ever.
func TestKilledInTheMiddle(t *testing.T) {
	path := compileC(t, "signals", false)
	for _, what := range []string{"hunt", "strike"} {
		t.Run(what, func(t *testing.T) {
			_, got := endsWithin(t, storms, Config{}, cmdC(path, what, count(300, 2000)))
			if got != "nobody is left: 0\n" {
				t.Errorf("output %q", got)
			}
		})
	}
}

// Signal sends one signal, to the command.
func TestSignalTheCommand(t *testing.T) {
	cmd := sh(`trap 'echo got it; exit 5' USR2; echo ready; while :; do sleep 0.02; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(cmd, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(ending, s.Kill).Stop()
	var line string
	if _, err := fmt.Fscanln(out, &line); err != nil || line != "ready" {
		t.Errorf("it says %q, %v", line, err)
	}
	if err := s.Signal(unix.SIGUSR2); err != nil {
		t.Error(err)
	}
	if _, err := fmt.Fscanln(out, &line, new(string)); err != nil || line != "got" {
		t.Errorf("it says %q, %v", line, err)
	}
	state, err := s.Wait()
	if err != nil || state.ExitCode != 5 {
		t.Errorf("state %+v, error %v", state, err)
	}
}

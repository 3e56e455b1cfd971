//go:build linux

package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// Every call that may end because time has passed does in hours of the sandbox's
// clock what it does bare in milliseconds, and moves the clock to the nanosecond.
func TestTimedCalls(t *testing.T) {
	path := compileC(t, "timed", false)
	const span = 3 * time.Hour
	got := succeeds(t, Config{}, cmdC(path, strconv.Itoa(int(span))))
	inRealTime(t, func(span string) string {
		return cmp.Diff(results(bare(t, cmdC(path, span))), results(got))
	})
	n := 0
	for _, line := range lines(got) {
		name, _, _ := strings.Cut(line, ":")
		kind, _, _ := strings.Cut(name, " ")
		moved := span
		switch kind {
		case "interrupted":
			moved = span / 3
		case "zero", "bad", "negative", "fault", "other", "past", "thread's", "unknown":
			moved = 0
		}
		if _, ns, ok := strings.Cut(line, " moved "); ok {
			n++
			if ns != fmt.Sprintf("%d\n", moved) {
				t.Errorf("%s: moved the clock by %s ns, want %d", name, strings.TrimSpace(ns), moved)
			}
		}
		if _, ns, ok := strings.Cut(line, " left "); ok && ns != fmt.Sprintf("%d\n", span-moved) {
			t.Errorf("%s: %s ns were left, want %d", name, strings.TrimSpace(ns), span-moved)
		}
	}
	if n < 45 {
		t.Errorf("only %d calls were made", n)
	}
}

// Under a running clock they do what they do bare, also where the host's clock
// reads another century.
func TestTimedCallsRunning(t *testing.T) {
	path := compileC(t, "timed", false)
	starts := []time.Time{DefaultTime, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)}
	if testing.Short() {
		starts = starts[1:]
	}
	for _, start := range starts {
		var got string
		inRealTime(t, func(span string) string {
			got = succeeds(t, Config{Clock: det.Running, Time: start}, cmdC(path, span))
			return cmp.Diff(results(bare(t, cmdC(path, span))), results(got))
		})
		for _, line := range lines(got) {
			name, ns, ok := strings.Cut(line, " moved ")
			moved, _ := strconv.Atoi(strings.TrimSpace(ns))
			if ok && strings.Contains(name, "until") && moved < int(20*time.Millisecond) {
				t.Errorf("%s: ended after %d ns, want at least 20 ms", name, moved)
			}
		}
	}
}

// inRealTime compares what the program does bare with what it does in a sandbox. In
// real time a busy machine may let a timer run out before the program gets to waiting
// for it; then longer spans tell whether that was all.
func inRealTime(t *testing.T, compare func(span string) string) {
	t.Helper()
	var diff string
	for span := 21 * time.Millisecond; span < 2*time.Second; span *= 4 {
		if diff = compare(strconv.Itoa(int(span))); diff == "" {
			return
		}
	}
	t.Errorf("(-bare +sandbox):\n%s", diff)
}

// results takes the times out of what the program says.
func results(s string) []string {
	var list []string
	for _, line := range lines(s) {
		line, _, _ = strings.Cut(line, " moved ")
		if line, _, _ = strings.Cut(line, ": left "); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// Programs that wait for each other are told from those that wait for something.
func TestDeadlock(t *testing.T) {
	for _, tt := range []struct {
		name string
		cmd  *exec.Cmd
		cfg  Config
		want []string
	}{
		{name: "forever", cmd: exec.Command("sleep", "infinity"), want: []string{"0 1 pause"}},
		{name: "pipe", cmd: exec.Command("bash", "-c", "sleep infinity | cat; true"), want: []string{"0 1 wait4", "0.1 1 pause", "0.2 1 read(0)"}},
		{name: "beyond the limit", cmd: exec.Command("sleep", "3601"), cfg: Config{MaxVirtual: time.Hour}, want: []string{"0 1 clock_nanosleep"}},
		{name: "within the limit", cmd: exec.Command("sleep", "3600"), cfg: Config{MaxVirtual: time.Hour}},
		{name: "input", cmd: sh("read x; echo $x")},
		{name: "CPU time of another", cmd: program(t, "cpusleep"), want: []string{"0 1 clock_nanosleep"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := exec.LookPath(tt.cmd.Path); err != nil {
				t.Skip(err)
			}
			if tt.name == "input" {
				in, err := tt.cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(4*longestWatch, func() { in.Close() })
			}
			state, _ := run(t, tt.cfg, tt.cmd)
			var got []string
			for _, b := range state.Deadlock {
				if b.Thread == 1 {
					got = append(got, fmt.Sprintf("%s %d %s", b.Process, b.Thread, b.Call))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("deadlocked threads (-want +got):\n%s", diff)
			}
		})
	}
}

// A program that reads the clock until it has moved gets on, and always at the
// same reading.
func TestBusyWaits(t *testing.T) {
	for _, tt := range []struct{ how string }{{"time"}, {"clock_gettime"}, {"gettimeofday"}, {"call"}, {"cpu"}, {"thread"}, {"prof"}} {
		t.Run(tt.how, func(t *testing.T) {
			if testing.Short() && (tt.how == "gettimeofday" || tt.how == "prof" || tt.how == "cpu") {
				t.Skip("nearly the same as another")
			}
			path := compileC(t, "busy", false)
			first := succeeds(t, Config{}, cmdC(path, tt.how))
			if again := succeeds(t, Config{}, cmdC(path, tt.how)); again != first {
				t.Errorf("%q, and then %q", first, again)
			}
			moved, err := time.ParseDuration(strings.TrimSpace(first))
			if err != nil || moved < time.Second || moved > 5*time.Second/4+time.Millisecond {
				t.Errorf("a wait for a second moved the clock by %q (%v)", first, err)
			}
		})
	}
}

func init() {
	programs["cpusleep"] = func([]string) error {
		ts := unix.Timespec{Sec: 1}
		return unix.ClockNanosleep(unix.CLOCK_PROCESS_CPUTIME_ID, 0, &ts, nil)
	}
}

// A program sees nothing of the ways by which its timed waits return, whatever ends them.
func TestDetours(t *testing.T) {
	path := compileC(t, "detour", false)
	want := bare(t, cmdC(path))
	for _, b := range []Backend{BackendSeccomp, BackendAuto} {
		for range runs() / 25 {
			got := succeeds(t, Config{Backend: b}, cmdC(path))
			if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
				t.Fatalf("%v (-bare +sandbox):\n%s", b, diff)
			}
		}
	}
}

// Nor in a storm of signals.
func TestDetoursInAStorm(t *testing.T) {
	path := compileC(t, "detour", false)
	n := runs() * 40
	if os.Getenv("SANDTEST_LONG") != "" {
		n = 1_000_000
	}
	want := fmt.Sprintf("%d of %d kept, 0 timed out, some interrupted, some ended\n", n, n)
	if got := succeeds(t, Config{}, cmdC(path, "storm", strconv.Itoa(n))); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Where there are more threads than detours, the others wait as exactly.
func TestManyWait(t *testing.T) {
	path := compileC(t, "detour", false)
	const threads = vdso.Detours + 50
	got := succeeds(t, Config{}, cmdC(path, strconv.Itoa(threads)))
	if want := fmt.Sprintf("%d ended in their order\n", threads); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

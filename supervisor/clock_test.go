//go:build linux

package supervisor

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/det"
)

// The clocks of clock_gettime(2) and the scale each reads, -1 for CPU time.
var clockScale = map[int]det.Scale{
	0: det.Realtime, 1: det.Monotonic, 2: -1, 3: -1, 4: det.Monotonic, 5: det.Realtime, 6: det.Monotonic,
	7: det.Boottime, 8: det.Realtime, 9: det.Boottime, 11: det.TAI,
}

// seconds prints nanoseconds as the C programs do.
func seconds(ns int64) string {
	return fmt.Sprintf("%d.%09d", floorDiv(ns, 1e9), ns-floorDiv(ns, 1e9)*1e9)
}

func microseconds(ns int64) string { return seconds(ns)[:len(seconds(ns))-3] }

// dynamicAndStatic runs a test with both kinds of a C program.
func dynamicAndStatic(t *testing.T, name string, test func(t *testing.T, path string)) {
	for _, kind := range []string{"dynamic", "static"} {
		t.Run(kind, func(t *testing.T) { test(t, compileC(t, name, kind == "static")) })
	}
}

var instants = []time.Time{
	{}, // the default
	testTime,
	time.Unix(0, 0),
	time.Unix(0, -1),
	time.Unix(-5000, 123456789), // of what lies nearer a library makes an errno
	time.Date(1901, 1, 1, 0, 0, 0, 999_999_999, time.UTC),
	time.Date(2038, 1, 19, 3, 14, 8, 1, time.UTC),
	time.Date(2200, 2, 28, 23, 59, 59, 1000, time.UTC),
}

// Every clock, through the vDSO and by a system call.
func TestClocks(t *testing.T) {
	dynamicAndStatic(t, "clock", func(t *testing.T, path string) {
		for _, start := range instants {
			t.Run(start.Format(time.RFC3339Nano), func(t *testing.T) {
				effective := start
				if start.IsZero() {
					effective = DefaultTime
				}
				var want strings.Builder
				for _, id := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11} {
					ns := int64(0)
					if clockScale[id] >= 0 {
						ns = clockScale[id].Start(effective)
					}
					fmt.Fprintf(&want, "libc %d %s\nraw %d %s\n", id, seconds(ns), id, seconds(ns))
				}
				fmt.Fprintf(&want, "pid 2 %s\npid 6 %s\n", seconds(0), seconds(0))
				got := succeeds(t, Config{Time: start}, cmdC(path, "clocks"))
				if diff := cmp.Diff(lines(want.String()), lines(got)); diff != "" {
					t.Errorf("clocks (-want +got):\n%s", diff)
				}
			})
		}
	})
}

// gettimeofday and time, with and without each pointer.
func TestWallClock(t *testing.T) {
	dynamicAndStatic(t, "clock", func(t *testing.T, path string) {
		for _, start := range instants[1:] {
			t.Run(start.Format(time.RFC3339Nano), func(t *testing.T) {
				ns := start.UnixNano()
				var want strings.Builder
				for bits := range 4 {
					for _, way := range []string{"libc", "raw"} {
						fmt.Fprintf(&want, "gettimeofday %s %d: 0", way, bits)
						if bits&1 != 0 {
							fmt.Fprintf(&want, " tv %s", microseconds(ns))
						}
						if bits&2 != 0 {
							fmt.Fprintf(&want, " tz 0 0")
						}
						fmt.Fprintln(&want)
					}
				}
				sec := floorDiv(ns, 1e9)
				for _, way := range []string{"libc", "raw"} {
					fmt.Fprintf(&want, "time %s NULL: %d\ntime %s &t: %d %d\n", way, sec, way, sec, sec)
				}
				got := succeeds(t, Config{Time: start}, cmdC(path, "wall"))
				if diff := cmp.Diff(lines(want.String()), lines(got)); diff != "" {
					t.Errorf("wall clock (-want +got):\n%s", diff)
				}
			})
		}
	})
}

// Unknown clocks and bad pointers give what they give natively.
func TestClockErrors(t *testing.T) {
	for _, mode := range []det.Mode{det.Virtual, det.Running, det.Host} {
		t.Run(mode.String(), func(t *testing.T) {
			dynamicAndStatic(t, "clock", func(t *testing.T, path string) {
				want, got := bare(t, cmdC(path, "errors")), succeeds(t, Config{Clock: mode}, cmdC(path, "errors"))
				if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
					t.Errorf("errors (-bare +sandbox):\n%s", diff)
				}
			})
		})
	}
}

// Not even root sets a clock or the host's name.
func TestClockCantBeSet(t *testing.T) {
	path := compileC(t, "clock", false)
	for _, mode := range []det.Mode{det.Virtual, det.Running, det.Host} {
		n := 0
		for _, line := range lines(succeeds(t, Config{Clock: mode}, cmdC(path, "set")) + succeeds(t, Config{Clock: mode}, cmdC(path, "names"))) {
			call, errno, ok := strings.Cut(line, ": errno ")
			if !ok {
				continue // a reading
			}
			n++
			if errno != fmt.Sprintf("%d\n", int(unix.EPERM)) {
				t.Errorf("%v clock: %s gives errno %s, want EPERM", mode, call, errno)
			}
		}
		if n != 9 {
			t.Errorf("%v clock: %d calls failed, want 9", mode, n)
		}
	}
}

// With SetClock they set the sandbox's own.
func TestSetClock(t *testing.T) {
	const want = `clock_settime: 0
clock_settime: 1500000000.000000250
settimeofday: 0
settimeofday: 1600000000.000250000
adjtimex: 5
adjtimex: 1600000100.500250000
clock_adjtime: 5
clock_adjtime: 1600000200.500750000
frequency: errno 1
monotonic: errno 22
nonsense: errno 22
`
	path := compileC(t, "clock", false)
	state, got := run(t, Config{SetClock: true}, cmdC(path, "set"))
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if end := time.Unix(1600000200, 500_750_000).UTC(); !state.Clock.Equal(end) {
		t.Errorf("the clock ended at %v, want %v", state.Clock, end)
	}
	// An instant nine hours away comes an hour after the clock was set to that before
	// it, and at once when it is set to one that lies behind.
	const waiters = "read: 946720800.000000000\nslept: 946720800.000000000\nmonotonic 7260\n" +
		"read: 946724400.000000000\nslept: 946724400.000000000\nmonotonic 7320\n"
	if _, got := run(t, Config{SetClock: true}, cmdC(path, "waiters")); got != waiters {
		t.Errorf("got\n%swant\n%s", got, waiters)
	}
	if _, err := Start(sh(":"), Config{SetClock: true, Clock: det.Running}); err == nil {
		t.Error("SetClock with a running clock was accepted")
	}
}

// What the clock is tuned to may be read, as natively, and tells the sandbox's
// time.
func TestReadTuning(t *testing.T) {
	path := compileC(t, "clock", false)
	const want = "adjtimex: ok, tick 10000, 946684800.000000\nclock_adjtime: ok, tick 10000\nfault: -14\n"
	if got := succeeds(t, Config{}, cmdC(path, "timex")); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	first, _, _ := strings.Cut(succeeds(t, Config{Clock: det.Running}, cmdC(path, "timex")), ".")
	if first != "adjtimex: ok, tick 10000, 946684800" && first != "adjtimex: ok, tick 10000, 946684801" {
		t.Errorf("under a running clock: %q", first)
	}
	succeeds(t, Config{Clock: det.Host}, cmdC(path, "timex"))
}

// hostNow reads a clock of the host.
func hostNow(t *testing.T, id int) int64 {
	t.Helper()
	ns, err := readHost(int32(id))
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// parseSeconds reads what the C programs print.
func parseSeconds(t *testing.T, s string) int64 {
	t.Helper()
	sec, frac, ok := strings.Cut(s, ".")
	a, err1 := strconv.ParseInt(sec, 10, 64)
	b, err2 := strconv.ParseInt(frac, 10, 64)
	if !ok || err1 != nil || err2 != nil || len(frac) != 9 {
		t.Fatalf("%q is no number of seconds", s)
	}
	return a*1e9 + b
}

// A running clock reads no less than its start, and no more than that plus what
// passes on the host.
func TestRunningClock(t *testing.T) {
	dynamicAndStatic(t, "clock", func(t *testing.T, path string) {
		for _, start := range []time.Time{testTime, time.Unix(-5000, 123456789)} {
			t.Run(start.Format(time.RFC3339Nano), func(t *testing.T) {
				before := hostNow(t, unix.CLOCK_MONOTONIC)
				out := succeeds(t, Config{Clock: det.Running, Time: start}, cmdC(path, "clocks"))
				elapsed := hostNow(t, unix.CLOCK_MONOTONIC) - before
				for line := range strings.Lines(out) {
					var how, value string
					var id int
					if _, err := fmt.Sscan(line, &how, &id, &value); err != nil {
						t.Fatalf("line %q: %v", line, err)
					}
					lo := int64(0)
					if how != "pid" && clockScale[id] >= 0 {
						lo = clockScale[id].Start(start)
					}
					if value == "errno" {
						t.Errorf("%s clock %d can't be read", how, id)
					} else if got := parseSeconds(t, value); got < lo || got > lo+elapsed {
						t.Errorf("%s clock %d reads %s, want %s and at most %v later", how, id, value, seconds(lo), time.Duration(elapsed))
					}
				}
			})
		}
	})
}

// It moves, and never back, whichever way it is read.
func TestRunningClockMoves(t *testing.T) {
	dynamicAndStatic(t, "clock", func(t *testing.T, path string) {
		want := ""
		for _, id := range []int{0, 1, 4, 7, 11} {
			want += fmt.Sprintf("steps %d back 0\n", id)
		}
		if got := succeeds(t, Config{Clock: det.Running}, cmdC(path, "steps")); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
}

// Under the host's clock nothing is changed, nor trapped.
func TestHostClock(t *testing.T) {
	dynamicAndStatic(t, "clock", func(t *testing.T, path string) {
		before := map[int]int64{}
		for id, scale := range clockScale {
			if scale >= 0 && id != 8 && id != 9 {
				before[id] = hostNow(t, id)
			}
		}
		state, out := ends(t, Config{Clock: det.Host, Time: testTime}, cmdC(path, "clocks"))
		for line := range strings.Lines(out) {
			var how, value string
			var id int
			if _, err := fmt.Sscan(line, &how, &id, &value); err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
			if _, ok := before[id]; !ok || how == "pid" {
				continue
			}
			if got, after := parseSeconds(t, value), hostNow(t, id); got < before[id] || got > after {
				t.Errorf("%s clock %d reads %s, want %s to %s", how, id, value, seconds(before[id]), seconds(after))
			}
		}
		if n := state.Stats.Notifications["clock_gettime"]; n != 0 {
			t.Errorf("%d clock_gettime calls were trapped", n)
		}
	})
}

// A sleep moves the clock by exactly what was slept.
func TestSleepMovesClock(t *testing.T) {
	t.Run("sleep", func(t *testing.T) {
		state, _ := ends(t, Config{Time: testTime}, sh("sleep 0.05; sleep 0.025"))
		if got, want := state.Clock.Sub(testTime), 75*time.Millisecond; got != want {
			t.Errorf("the clock moved by %v, want %v", got, want)
		}
	})
	t.Run("calls", func(t *testing.T) {
		const us = 20_000
		state, out := ends(t, Config{Time: testTime}, cmdC(compileC(t, "sleep", false), strconv.Itoa(us), "relative"))
		n := 0
		for line := range strings.Lines(out) {
			name, got, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			if want := fmt.Sprintf("0 real %d mono %d", us*1000, us*1000); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
			n++
		}
		if want := time.Duration(n) * us * time.Microsecond; n != 16 || state.Clock.Sub(testTime) != want {
			t.Errorf("after %d sleeps the clock had moved by %v, want %v", n, state.Clock.Sub(testTime), want)
		}
	})
}

// hanging is how long a program of a fraction of a second may take before it is
// taken for one that waits for ever.
const hanging = time.Minute

// An absolute deadline is one of the sandbox's clock, whether the host's is
// before it or behind.
func TestSleepUntil(t *testing.T) {
	path := compileC(t, "sleep", false)
	want := "absolute 0: 0 real 20000000 mono 20000000\nabsolute 1: 0 real 20000000 mono 20000000\n" +
		"absolute 7: 0 real 20000000 mono 20000000\nabsolute past: 0 real 0 mono 0\n"
	for _, start := range []time.Time{DefaultTime, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)} {
		t.Run(start.Format(time.DateOnly), func(t *testing.T) {
			_, got := endsWithin(t, hanging, Config{Time: start}, cmdC(path, "20000", "absolute"))
			if got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
	// A running clock passes what is slept.
	for _, start := range []time.Time{DefaultTime, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)} {
		t.Run("running "+start.Format(time.DateOnly), func(t *testing.T) {
			_, got := endsWithin(t, hanging, Config{Time: start, Clock: det.Running}, cmdC(path, "20000", "absolute"))
			for i, line := range lines(got)[:3] {
				var id, ret, moved, mono int
				if _, err := fmt.Sscanf(line, "absolute %d: %d real %d mono %d\n", &id, &ret, &moved, &mono); err != nil {
					t.Fatalf("line %d %q: %v", i, line, err)
				}
				if ret != 0 || moved < 20_000_000 || mono < 20_000_000 {
					t.Errorf("%q: the sleep was too short", line)
				}
			}
		})
	}
}

// A Go program sleeps by waits of its runtime, however short they are.
func TestGoSleeps(t *testing.T) {
	for _, d := range []time.Duration{time.Microsecond, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 11 * time.Millisecond, 50 * time.Millisecond} {
		t.Run(d.String(), func(t *testing.T) {
			_, out := endsWithin(t, hanging, Config{}, program(t, "gosleep", d.String()))
			got, err := time.ParseDuration(strings.TrimSpace(out))
			if err != nil || got < d {
				t.Errorf("the program measured %q (%v), want at least %v", out, err, d)
			}
		})
	}
}

// So does a program that waits in small steps until its time is up.
func TestSmallSteps(t *testing.T) {
	_, out := endsWithin(t, hanging, Config{}, program(t, "smallsteps"))
	if out != "done\n" {
		t.Errorf("output %q", out)
	}
}

func init() {
	programs["gosleep"] = func(args []string) error {
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		began := time.Now()
		time.Sleep(d)
		fmt.Println(time.Since(began))
		return nil
	}
	programs["smallsteps"] = func([]string) error {
		for began := time.Now(); time.Since(began) < 30*time.Millisecond; {
			ts := unix.NsecToTimespec(1e6)
			if err := unix.Nanosleep(&ts, nil); err != nil && err != unix.EINTR {
				return err
			}
		}
		fmt.Println("done")
		return nil
	}
	programs["now"] = func(args []string) error {
		t := time.Now()
		fmt.Printf("%s %s\n", args[0], seconds(t.UnixNano()))
		return nil
	}
}

// A process of whatever origin reads the same instant, and none of them by a
// system call.
func TestEveryProcessIsPatched(t *testing.T) {
	dynamicAndStatic(t, "spawn", func(t *testing.T, path string) {
		cmd := cmdC(path)
		state, out := ends(t, Config{Time: testTime}, cmd)
		ns := testTime.UnixNano()
		now := fmt.Sprintf("%s %s %d", seconds(ns), microseconds(ns), testTime.Unix())
		got := fields(t, out)
		want := map[string]string{}
		for _, name := range []string{"first", "fork", "fork-exec", "vfork-exec", "posix_spawn", "thread", "clone-vm",
			"double-fork-exec", "double-fork", "execveat", "popen", "exec"} {
			want[name] = now
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("what they read (-want +got):\n%s", diff)
		}
		for _, call := range []string{"clock_gettime", "gettimeofday", "time"} {
			if n := state.Stats.Notifications[call]; n != 0 {
				t.Errorf("%s was trapped %d times: some process's vDSO isn't patched", call, n)
			}
		}
	})
}

// Programs of all kinds after each other and beside each other.
func TestEveryProgramReadsTheSame(t *testing.T) {
	dynamic, static := compileC(t, "clock", false), compileC(t, "clock", true)
	cmd := program(t, "now", "go")
	self := cmd.Path
	script := `
		dynamic=$1 static=$2 self=$3
		$dynamic now one; $static now two; (exec $dynamic now three); $self four
		for i in 5 6 7; do $dynamic now $i & $static now s$i & $self g$i & wait; done
		sh -c "$dynamic now nested; sh -c '$static now deeper; $self deepest'"
		echo piped | (read name; $dynamic now $name) | cat
		i=0; while [ $i -lt 30 ]; do $dynamic now again$i; i=$((i+1)); done
		exec $dynamic now last`
	sh := sh(script)
	sh.Args = append(sh.Args, "sh", dynamic, static, self)
	sh.Env = cmd.Env
	got := fields(t, succeeds(t, Config{Time: testTime}, sh))
	if len(got) != 4+9+3+1+30+1 {
		t.Errorf("%d lines: %v", len(got), got)
	}
	for name, now := range got {
		if now != seconds(testTime.UnixNano()) {
			t.Errorf("%s reads %s, want %s", name, now, seconds(testTime.UnixNano()))
		}
	}
}

// An image that is executed over and over in one process is prepared every time.
func TestManyExecs(t *testing.T) {
	const script = `case $1 in 0) exec $2 now end;; esac; exec /bin/sh -c "$0" "$0" $(($1-1)) $2`
	cmd := cmdC("/bin/sh", "-c", script, script, "100", compileC(t, "clock", false))
	var out bytes.Buffer
	cmd.Stdout = &out
	state, _ := ends(t, Config{Time: testTime}, cmd)
	if want := "end " + seconds(testTime.UnixNano()) + "\n"; out.String() != want {
		t.Errorf("output %q, want %q", out.String(), want)
	}
	if state.Stats.Execs != 102 || state.Stats.Processes != 1 {
		t.Errorf("%d programs in %d processes, want 102 in 1", state.Stats.Execs, state.Stats.Processes)
	}
}

func init() {
	// Does what Go's runtime does to stop the world, but that the one that is to stop has
	// missed being asked: it stops only when it is asked again, some time later. The time
	// that is left of that may be less than all of it.
	programs["askagain"] = func(args []string) error {
		left, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		var note atomic.Uint32
		var asked, stopped atomic.Bool
		go func() {
			for !asked.Load() {
			}
			stopped.Store(true)
		}()
		deadline := time.Now().Add(time.Duration(left))
		for now := time.Now(); now.Before(deadline); now = time.Now() {
			futexWait(&note, 0, deadline.Sub(now))
		}
		asked.Store(true)
		for !stopped.Load() {
			runtime.Gosched()
		}
		fmt.Println("stopped")
		return nil
	}
}

// A thread that computes until the runtime asks it once more to stop is asked, although the
// clock stands still meanwhile.
func TestRuntimeAsksAgain(t *testing.T) {
	for _, left := range []string{"100000", "99999", "1"} {
		if got := output(t, Config{Identity: det.Identity{CPUs: 2}}, program(t, "askagain", left)); got != "stopped\n" {
			t.Errorf("%s ns: %q", left, got)
		}
	}
}

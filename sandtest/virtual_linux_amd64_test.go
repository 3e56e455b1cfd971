package sandtest_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/sandtest"
)

// Programs that wait do so at once, with the same output in every run, whether
// the machine is idle or not, and end at the instant that they have waited for.
func TestVirtualTime(t *testing.T) {
	cache := t.TempDir()
	runs := 3
	switch {
	case os.Getenv("SANDTEST_LONG") != "":
		runs = 100
	case testing.Short():
		runs = 2
	}
	for _, tt := range []struct {
		name, want string
		moved      time.Duration
		cpus       int
		command    func(t *testing.T) []string
	}{
		{"bash", "50\n100\n", 100 * time.Second, 1, words("bash", "-c", "s() { sleep $1; echo $1; }; s 100 & s 50; wait")},
		{"timeout", "124\n", time.Hour, 1, words("sh", "-c", "timeout 1h sleep 2h; echo $?")},
		{"watch", "00:00:00\n00:00:02\n00:00:04\n", 6 * time.Second, 1, words("sh", "-c", "for i in 1 2 3; do date +%T; sleep 2; done")},
		{"perl alarm", "alarm 60\n", time.Minute, 1, words("perl", "-e", "$s = time; $SIG{ALRM} = sub { print qq(alarm ), time - $s, qq(\n); exit }; alarm 60; sleep 1000")},
		{"node", "1000 1\n2000 2\n2000 3\n", 2 * time.Second, 1, words("node", "-e",
			"t = Date.now(); f = n => console.log(Date.now() - t, n); setTimeout(f, 2000, 2); setTimeout(f, 1000, 1); setTimeout(f, 2000, 3)")},
		{"python cron", "1440 86400.0\n", 24 * time.Hour, 1, words("python3", "-c",
			"import time\nt = time.time()\nn = 0\nwhile time.time() < t + 86400:\n  time.sleep(60)\n  n += 1\nprint(n, time.time() - t)")},
		{"python asyncio", "1000 999.0\n", 999 * time.Second, 1, words("python3", "-c", `
import asyncio, random, time
async def task(n):
    await asyncio.sleep(n)
    ended.append(n)
ended = []
async def main():
    order = list(range(1000))
    random.Random(1).shuffle(order)
    await asyncio.gather(*map(task, order))
t = time.monotonic()
asyncio.run(main())
assert ended == sorted(ended)
print(len(ended), round(time.monotonic() - t, 1))`)},
		{"go", "1h0m0s\n", time.Hour, 1, goTool(cache, "hour.go")},
		{"go with 4 CPUs", "1h0m0s\n", time.Hour, 4, goTool(cache, "hour.go")},
		{"go http", "5s timeout true\n11s timeout true\n15s hello\n", 15 * time.Second, 1, goTool(cache, "retry.go")},
		{"go http with 4 CPUs", "5s timeout true\n11s timeout true\n15s hello\n", 15 * time.Second, 4, goTool(cache, "retry.go")},
		{"curl", "28 30.0\n", 30 * time.Second, 1, words("python3", "-c", `
import socket, subprocess, time
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(0)
full = [socket.socket() for _ in range(3)]
for c in full:
    c.setblocking(False)
    c.connect_ex(s.getsockname())
t = time.monotonic()
p = subprocess.run(["curl", "-s", "--connect-timeout", "30", "http://127.0.0.1:%d/" % s.getsockname()[1]])
print(p.returncode, time.monotonic() - t)`)},
		{"java", "tick 1\ntick 11\ntick 21\ntick 31\ntick 41\ntick 51\nminute 60000\n", time.Minute, 1,
			func(t *testing.T) []string {
				// With compiler threads the end of the JVM is no fixed instant, see package supervisor.
				return slices.Insert(javaProgram(t, "Timers"), 1, "-Xint")
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.command(t)
			for i := range runs {
				if testing.Short() && i%2 == 0 {
					continue // the one beside others is the harder
				}
				stop := func() {}
				if i%2 == 1 {
					stop = load(t)
				}
				res := sandtest.Run(t, exec.Command(args[0], args[1:]...), sandtest.Options{CPUs: tt.cpus, Timeout: time.Minute, Mounts: shown(args)})
				stop()
				moved := res.Clock.Sub(res.ClockStart)
				if res.Stdout != tt.want || moved < tt.moved || moved > tt.moved+2*time.Millisecond || res.ExitCode != 0 {
					t.Fatalf("run %d: exit code %d, timed out %v, the clock moved by %v, want %v; output %q, want %q\n%s",
						i, res.ExitCode, res.TimedOut, moved, tt.moved, res.Stdout, tt.want, res.Stderr)
				}
			}
		})
	}
}

// words returns a command whose program may be missing.
func words(args ...string) func(*testing.T) []string {
	return func(t *testing.T) []string {
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Skip(err)
		}
		return args
	}
}

func goTool(cache, file string) func(*testing.T) []string {
	return func(t *testing.T) []string { return []string{goProgram(t, cache, file)} }
}

// Two sandboxes have clocks of their own.
func TestUnrelatedClocks(t *testing.T) {
	var list [2]*sandtest.Process
	for i := range list {
		list[i] = sandtest.Start(t, sh(fmt.Sprintf("for i in 1 2 3 4 5; do sleep %d; done", i+1)), sandtest.Options{})
	}
	for i, p := range list {
		res := p.Wait()
		if got, want := res.Clock.Sub(res.ClockStart), time.Duration(5*(i+1))*time.Second; got != want {
			t.Errorf("sandbox %d: the clock moved by %v, want %v", i, got, want)
		}
	}
}

//go:build linux && amd64

package sandtest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/sandtest"
	"golang.org/x/sys/unix"
)

// A program that sleeps must wake up, and find that the time it asked for has
// passed.
func TestSleep(t *testing.T) {
	cache := t.TempDir()
	goSleep := func(args ...string) func(*testing.T) []string {
		return func(t *testing.T) []string { return append([]string{goProgram(t, cache, "sleep.go")}, args...) }
	}
	command := func(args ...string) func(*testing.T) []string {
		return func(t *testing.T) []string {
			if _, err := exec.LookPath(args[0]); err != nil {
				t.Skip(err)
			}
			return args
		}
	}
	pythonCode := func(code string) func(*testing.T) []string {
		return func(t *testing.T) []string {
			return append(python(t, cache)[:3], "-c", "import threading, time\nt = time.monotonic_ns()\n"+code+"\nprint((time.monotonic_ns() - t) // 1000000)")
		}
	}
	for _, tt := range []struct {
		name  string
		build func(*testing.T) []string
		want  string
	}{
		{"go", goSleep("25ms", "1s"), "true\ntrue\n"},
		{"go short", goSleep("5ms", "1us"), "true\ntrue\n"},
		{"go remainder", goSleep("25500us"), "true\n"},
		{"node", command("node", "-e", "t = Date.now(); setTimeout(() => console.log(Date.now() - t), 50)"), "50\n"},
		{"node short", command("node", "-e", "t = Date.now(); setTimeout(() => console.log(Date.now() - t), 1)"), "1\n"},
		{"python", pythonCode("time.sleep(0.05)"), "50\n"},
		{"python loop", pythonCode("while time.monotonic_ns() - t < 20_000_000: time.sleep(0.005)"), "20\n"},
		{"python event", pythonCode("threading.Event().wait(0.05)"), "50\n"},
		{"java", func(t *testing.T) []string { return javaProgram(t, "Sleep") }, "50\n"},
		{"perl", command("perl", "-MTime::HiRes=time", "-e", "$t = time; select undef, undef, undef, 0.05; printf qq(%.6f\n), time - $t"), "0.050000\n"},
		{"bash", command("bash", "-c", "exec 3<> <(:); t=$EPOCHREALTIME; read -t 0.05 -u 3; echo $? $(( ${EPOCHREALTIME/./} - ${t/./} ))"), "142 50000\n"},
		{"timeout", command("sh", "-c", "timeout 0.05 sleep 1000; echo $?"), "124\n"},
		{"c absolute", func(t *testing.T) []string { return []string{absoluteSleeper(t), "50000000"} }, "50000000\n50000000\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.build(t)
			res := sandtest.Run(t, exec.Command(args[0], args[1:]...), sandtest.Options{Timeout: time.Minute, Mounts: shown(args)})
			if diff := cmp.Diff(tt.want, res.Stdout); diff != "" || res.TimedOut {
				t.Errorf("timed out: %v, output (-want +got)\n%s\nstandard error:\n%s", res.TimedOut, diff, res.Stderr)
			}
		})
	}
}

func absoluteSleeper(t *testing.T) string {
	exe := filepath.Join(t.TempDir(), "absolute")
	tool(t, exec.Command("gcc", "-static", "-O1", "-o", exe, "testdata/src/absolute.c"))
	return exe
}

// Under a running clock a wait lasts at least as long as was asked for.
func TestSleepRunning(t *testing.T) {
	const ns = 50_000_000
	res := sandtest.Run(t, exec.Command(absoluteSleeper(t), fmt.Sprint(ns)), sandtest.Options{Clock: sandtest.Running, Timeout: time.Minute})
	var slept [2]int64
	if _, err := fmt.Sscan(res.Stdout, &slept[0], &slept[1]); err != nil || min(slept[0], slept[1]) < ns {
		t.Errorf("the waits took %v ns, want at least %d; timed out: %v, %v", slept, ns, res.TimedOut, err)
	}
}

// The host's monotonic clock may be behind the sandbox's, which starts an hour
// after boot.
func TestSleepAfterBoot(t *testing.T) {
	const childVar = "SANDTEST_TEST_AFTER_BOOT"
	if os.Getenv(childVar) == "" {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			t.Fatal(err)
		}
		// A time namespace in which the machine was booted a minute ago.
		young := []string{"--time", "--monotonic", fmt.Sprint(60 - now.Sec), "--fork", "--kill-child"}
		tool(t, exec.Command("unshare", append(young, "true")...))
		cmd := exec.Command("unshare", append(young, os.Args[0], "-test.run=^TestSleepAfterBoot$", "-test.v")...)
		cmd.Env = append(os.Environ(), childVar+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", cmd.Args, err, out)
		}
		t.Log(string(out))
		return
	}
	res := sandtest.Run(t, exec.Command(absoluteSleeper(t), "50000000"), sandtest.Options{Timeout: time.Minute})
	if want := "50000000\n50000000\n"; res.Stdout != want {
		t.Errorf("got %q, timed out: %v, want %q", res.Stdout, res.TimedOut, want)
	}
}

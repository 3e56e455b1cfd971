package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/internal/marked"
	"github.com/sandtest/go-sandtest/sandtest"
	"github.com/sandtest/go-sandtest/supervisor"
)

func TestDate(t *testing.T) {
	run(t, "run", "--", "date").check(t, 0, "Sat Jan  1 00:00:00 UTC 2000\n")
}

func TestStatus(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	notExecutable := write("data", "#!/bin/sh\n", 0o644)
	noInterpreter := write("script", "#!/nonexistent/interpreter\n", 0o755)
	notProgram := write("text", "no program\n", 0o755)
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		stderr []string
	}{
		{"success", []string{"true"}, 0, nil},
		{"failure", []string{"sh", "-c", "exit 7"}, 7, nil},
		{"same as a timeout's", []string{"sh", "-c", "exit 124"}, 124, nil},
		{"largest", []string{"sh", "-c", "exit 255"}, 255, nil},
		{"killed", []string{"sh", "-c", "kill -9 $$"}, 128 + 9, nil},
		{"terminated", []string{"sh", "-c", "kill -TERM $$"}, 128 + 15, nil},
		{"timeout", []string{"--timeout", "50ms", "--clock", "running", "sleep", "1000"}, 124, []string{"sandtest: sleep timed out after 50ms"}},
		{"no limit", []string{"--timeout", "0", "true"}, 0, nil},
		{"not executable", []string{notExecutable}, 126, []string{"sandtest: ", notExecutable, "permission denied"}},
		{"directory", []string{dir}, 126, []string{"sandtest: ", dir, "permission denied"}},
		{"no program", []string{notProgram}, 126, []string{"sandtest: ", notProgram, "exec format error"}},
		{"not found in PATH", []string{"no-such-command-anywhere"}, 127, []string{"sandtest: ", "no-such-command-anywhere", "not found"}},
		{"no such file", []string{"/nonexistent/program"}, 127, []string{"sandtest: ", "/nonexistent/program", "no such file"}},
		{"no mount", []string{"--mount", "/nonexistent:/x", "true"}, 125, []string{"sandtest: ", "/nonexistent", "no such file"}},
		{"nothing to read", []string{"--read", "/nonexistent", "true"}, 125, []string{"sandtest: ", "/nonexistent", "no such file"}},
		{"no root", []string{"--chroot", "/nonexistent", "true"}, 125, []string{"sandtest: ", "/nonexistent", "no such file"}},
		{"no interpreter", []string{noInterpreter}, 127, []string{"sandtest: ", noInterpreter, "no such file", "not its interpreter, /nonexistent/interpreter"}},
		{"no seed", []string{"--seed", "x", "true"}, 125, []string{"want a number from 0 to 18446744073709551615"}},
		{"seed too large", []string{"--seed", "18446744073709551616", "true"}, 125, []string{"want a number from 0 to 18446744073709551615"}},
		{"no duration", []string{"--timeout", "5", "true"}, 125, []string{"want a duration such as 90s or 5m"}},
		{"too much memory", []string{"--memory", "99999999999999999999G", "true"}, 125, []string{"want a size that 63 bits can hold"}},
		{"the host's clock at another time", []string{"--time", "2020-01-01", "--clock", "host", "true"}, 125, []string{"--time with --clock host"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, append([]string{"run"}, tt.args...)...).check(t, tt.status, "", tt.stderr...)
		})
	}
}

// A directory that can't be entered isn't a command that can't be executed.
func TestDirNotEntered(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may enter every directory")
	}
	dir := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(dir, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "run", "--dir", dir, "true").check(t, 125, "", "sandtest: --dir", dir, "permission denied")
}

func TestFlags(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FROM_HOST", "value of the host")
	t.Setenv("TZ", "Asia/Tokyo")
	const get = "echo $A,$B,$FROM_HOST,$USER,$TZ"
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"echo", "--time", "x", "--", "-v"}, "--time x -- -v\n"},
		{[]string{"--", "echo", "--seed"}, "--seed\n"},
		{[]string{"--seed", "1", "--", "echo", "--", "x"}, "-- x\n"},
		{[]string{"echo", ""}, "\n"},

		{[]string{"--time", "2024-02-29T12:30:00.5+05:00", "date", "+%F %T.%N"}, "2024-02-29 07:30:00.500000000\n"},
		{[]string{"-time", "2024-02-29", "date", "+%F %T"}, "2024-02-29 00:00:00\n"},
		{[]string{"--time=@1", "date", "+%s"}, "1\n"},
		{[]string{"-time=@-1.5", "date", "+%s.%N"}, "-2.500000000\n"},
		{[]string{"--time", "2001-01-01", "--time", "2002-01-01", "date", "+%Y"}, "2002\n"},
		{[]string{"--hostname", "name", "uname", "-n"}, "name\n"},
		{[]string{"-hostname=" + strings.Repeat("h", 64), "uname", "-n"}, strings.Repeat("h", 64) + "\n"},
		{[]string{"--cpus", "3", "nproc"}, "3\n"},
		{[]string{"-cpus=1024", "nproc"}, "1024\n"},
		{[]string{"--memory", "512M", "awk", "/^MemTotal/ { print $2 }", "/proc/meminfo"}, "524288\n"},
		{[]string{"--memory", "2GiB", "awk", "/^MemTotal/ { print $2 }", "/proc/meminfo"}, "2097152\n"},
		{[]string{"--dir", dir, "pwd", "-P"}, "/work\n"},
		{[]string{"--dir", dir, "--work=", "pwd", "-P"}, dir + "\n"},
		{[]string{"--work", "/src/here", "pwd", "-P"}, "/src/here\n"},
		{[]string{"--mount", dir + ":/other", "ls", "/other"}, "below\n"},
		{[]string{"--read", dir, "--read", "/usr/bin", "--read", "/bin", "ls", dir}, "below\n"},
		{[]string{"--dir", dir, "--deny", filepath.Join(dir, "below"), "sh", "-c", "ls below 2>/dev/null; echo $?"}, "2\n"},
		{[]string{"sh", "-c", "ls /tmp; ls ~"}, "home\n"},
		{[]string{"--dir", filepath.Join(dir, "below", ".."), "ls"}, "below\n"},
		{[]string{"--timeout", "1h", "echo", "x"}, "x\n"},
		{[]string{"--timeout", "-1s", "echo", "x"}, "x\n"},

		{[]string{"sh", "-c", get}, ",,,sandtest,UTC\n"},
		{[]string{"--env", "A=1", "-env", "B=x=y z", "sh", "-c", get}, "1,x=y z,,sandtest,UTC\n"},
		{[]string{"--env", "A=1", "--env", "A=2", "--env", "B=", "sh", "-c", get}, "2,,,sandtest,UTC\n"},
		{[]string{"--env", "FROM_HOST", "--env", "NOT_SET_ANYWHERE", "sh", "-c", get + "; echo ${NOT_SET_ANYWHERE-unset}"}, ",,value of the host,sandtest,UTC\nunset\n"},
		{[]string{"--env", "TZ", "sh", "-c", get}, ",,,sandtest,Asia/Tokyo\n"},
		{[]string{"--env", "USER=me", "sh", "-c", get}, ",,,me,UTC\n"},
		{[]string{"--inherit-env", "--env", "USER=me", "sh", "-c", get}, ",,value of the host,me,Asia/Tokyo\n"},
		{[]string{"--inherit-env=false", "sh", "-c", get}, ",,,sandtest,UTC\n"},
		{[]string{"env"}, strings.Join(sandtest.Environ(), "\n") + "\n"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			// The test's own environment differs from the host's in what was set above.
			o := run(t, append([]string{"run"}, tt.args...)...)
			o.check(t, 0, strings.ReplaceAll(tt.want, "TZ=Asia/Tokyo", "TZ=UTC"))
		})
	}
}

func TestSeed(t *testing.T) {
	const random = "/proc/sys/kernel/random/uuid"
	zero := run(t, "run", "cat", random)
	run(t, "run", "--seed", "0", "cat", random).check(t, 0, zero.stdout)
	run(t, "run", "--seed", "00", "cat", random).check(t, 0, zero.stdout)
	if one := run(t, "run", "--seed", "1", "cat", random); one.stdout == zero.stdout || one.status != 0 {
		t.Errorf("seed 1 gives %q, seed 0 %q", one.stdout, zero.stdout)
	}
	if most := run(t, "run", "--seed", "18446744073709551615", "cat", random); most.stdout == zero.stdout || most.status != 0 {
		t.Errorf("the largest seed gives %q, seed 0 %q\n%s", most.stdout, zero.stdout, most.stderr)
	}
}

func TestClock(t *testing.T) {
	read := func(clock string) (first, second time.Time) {
		t.Helper()
		o := run(t, "run", "--clock", clock, "sh", "-c", "date +%s%N; :; date +%s%N")
		var a, b int64
		if _, err := fmt.Sscan(o.stdout, &a, &b); err != nil {
			t.Fatalf("%v: %+v", err, o)
		}
		return time.Unix(0, a), time.Unix(0, b)
	}
	if first, second := read("virtual"); !first.Equal(supervisor.DefaultTime) || !second.Equal(first) {
		t.Errorf("virtual: %v, then %v", first, second)
	}
	if first, second := read("running"); !first.After(supervisor.DefaultTime) || !second.After(first) {
		t.Errorf("running: %v, then %v", first, second)
	}
	before := time.Now()
	if first, second := read("host"); first.Before(before) || !second.After(first) || second.After(time.Now()) {
		t.Errorf("host: %v, then %v, began at %v", first, second, before)
	}
}

func TestStdin(t *testing.T) {
	cmd := sandtestCommand(t, "run", "cat")
	cmd.Stdin = strings.NewReader("hello\n")
	runCommand(t, cmd).check(t, 0, "hello\n")
	run(t, "run", "sh", "-c", "echo out; echo error >&2; exit 2").check(t, 2, "out\n", "error\n")
}

// The command has what it reads and writes, and nothing else that the caller has open.
func TestDescriptors(t *testing.T) {
	secret, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	cmd := sandtestCommand(t, "run", "sh", "-c", "echo /proc/self/fd/*; cat <&3 2>/dev/null || echo nothing")
	cmd.ExtraFiles = []*os.File{secret, secret}
	runCommand(t, cmd).check(t, 0, run(t, "run", "sh", "-c", "echo /proc/self/fd/*").stdout+"nothing\n", "")
}

// result decodes what --json writes, and insists on the names.
func result(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	want := []string{"backend", "changes", "clock_end", "clock_start", "exit_code", "leaked", "signal", "stats"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(m))); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	want = []string{"execs", "landlock", "notifications", "processes", "real_ns", "signals_held", "stops"}
	stats, _ := m["stats"].(map[string]any)
	if why, ok := stats["no_namespaces"]; ok && m["backend"] != "seccomp" {
		t.Errorf("no namespaces, because of %v, with the backend %v", why, m["backend"])
	}
	for _, maybe := range []string{"no_namespaces", "no_netspace", "host_tsc"} {
		delete(stats, maybe)
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(stats))); diff != "" {
		t.Errorf("keys of stats (-want +got):\n%s", diff)
	}
	return m
}

func TestJSON(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   map[string]any
	}{
		{"exit code", []string{"sh", "-c", "exit 3"}, 3, map[string]any{"exit_code": 3.0}},
		{"signal", []string{"sh", "-c", "kill -9 $$"}, 137, map[string]any{"exit_code": -1.0, "signal": "SIGKILL"}},
		{"timeout", []string{"--timeout", "50ms", "sh", "-c", "while :; do :; done"}, 124, map[string]any{"exit_code": -1.0, "signal": "SIGKILL"}},
		{"clock", []string{"--time", "2024-02-29T12:00:00.5+01:00", "sleep", "0.25"}, 0,
			map[string]any{"clock_start": "2024-02-29T11:00:00.5Z", "clock_end": "2024-02-29T11:00:00.75Z"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "result.json")
			o := run(t, append([]string{"run", "--backend", "seccomp", "--json", file}, tt.args...)...)
			if o.status != tt.status {
				t.Errorf("status %d, want %d", o.status, tt.status)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := result(t, string(text))
			delete(got, "stats")
			want := map[string]any{
				"exit_code": 0.0, "signal": "", "changes": []any{}, "leaked": []any{}, "backend": "seccomp",
				"clock_start": "2000-01-01T00:00:00Z", "clock_end": "2000-01-01T00:00:00Z",
			}
			maps.Copy(want, tt.want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("backend", func(t *testing.T) {
		want := "seccomp"
		if regexp.MustCompile("(?m)^ok +namespaces ").MatchString(run(t, "doctor").stdout) {
			want = "namespaces"
		}
		if got := result(t, run(t, "run", "--json", "-", "true").stdout)["backend"]; got != want {
			t.Errorf("%v, want %v", got, want)
		}
	})
	t.Run("standard output", func(t *testing.T) {
		o := run(t, "run", "--json", "-", "sh", "-c", "echo out; uname >/dev/null; exit 4")
		text, ok := strings.CutPrefix(o.stdout, "out\n")
		if !ok || o.status != 4 || o.stderr != "" {
			t.Errorf("%+v", o)
		}
		m := result(t, text)
		stats := m["stats"].(map[string]any)
		if m["exit_code"] != 4.0 || stats["processes"] != 2.0 || stats["execs"] != 2.0 || stats["notifications"].(map[string]any)["uname"] == nil || stats["real_ns"].(float64) <= 0 {
			t.Errorf("%v", m)
		}
	})
	t.Run("host's clock", func(t *testing.T) {
		before := time.Now()
		m := result(t, run(t, "run", "--clock", "host", "--json", "-", "true").stdout)
		start, err1 := time.Parse(time.RFC3339Nano, m["clock_start"].(string))
		end, err2 := time.Parse(time.RFC3339Nano, m["clock_end"].(string))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if start.Before(before) || end.Before(start) || end.After(time.Now()) {
			t.Errorf("clock_start %v, clock_end %v, want them between %v and now", start, end, before)
		}
	})
	t.Run("not writable", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "missing", "file")
		run(t, "run", "--json", file, "echo", "ran").check(t, 125, "", "sandtest: --json: ", file)
	})
}

// A conversation talks with a program that sandtest runs.
type conversation struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
}

// startCommand starts sandtest in a session of its own, without a terminal.
func startCommand(t *testing.T, args ...string) *conversation {
	t.Helper()
	cmd := sandtestCommand(t, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return &conversation{t, cmd, stdin, bufio.NewReader(stdout)}
}

func (c *conversation) line() string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read a line: %v, got %q", err, line)
	}
	return strings.TrimSuffix(line, "\n")
}

func (c *conversation) signal(sig syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.t.Fatal(err)
	}
}

// end reads the rest of the output and waits for the end.
func (c *conversation) end() (rest string, status int) {
	c.t.Helper()
	b, err := io.ReadAll(c.out)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = c.cmd.Wait() // the status tells
	return string(b), c.cmd.ProcessState.ExitCode()
}

// With few descriptors a command runs as ever, or the error says what is short.
func TestFewDescriptors(t *testing.T) {
	under := func(limit int, args ...string) outcome {
		self := sandtestCommand(t, append([]string{"run", "--timeout", "1m"}, args...)...)
		cmd := exec.Command("sh", append([]string{"-c", `ulimit -n "$1" && shift && exec "$@"`, "sh", strconv.Itoa(limit)}, self.Args...)...)
		cmd.Env = self.Env
		return runCommand(t, cmd)
	}
	ran := 0
	for limit := 9; limit < 64; limit += 5 {
		if o := under(limit, "echo", "ran"); o.status == 0 {
			o.check(t, 0, "ran\n")
			ran++
		} else {
			o.check(t, 125, "", "too many open files", "ulimit -n")
		}
	}
	if ran == 0 {
		t.Error("none has run")
	}
	t.Run("processes that have ended", func(t *testing.T) {
		const naps = "i=0; while [ $i -lt 40 ]; do sleep 0.1; i=$((i+1)); done"
		under(80, "sh", "-c", naps).check(t, 0, "")
	})
	t.Run("threads that wait", func(t *testing.T) {
		python, err := exec.LookPath("python3")
		if err != nil {
			t.Skip(err)
		}
		const sleepers = "import threading, time\nfor _ in range(60): threading.Thread(target=time.sleep, args=[1000]).start()"
		under(100, python, "-c", sleepers).check(t, 125, "", "too many open files", "ulimit -n")
		under(1000, python, "-c", sleepers).check(t, 0, "")
	})
}

func TestSignalPassedOn(t *testing.T) {
	for _, tt := range []struct {
		name string
		sig  syscall.Signal
	}{
		{"INT", syscall.SIGINT}, {"TERM", syscall.SIGTERM}, {"HUP", syscall.SIGHUP}, {"QUIT", syscall.SIGQUIT},
		{"USR1", syscall.SIGUSR1}, {"USR2", syscall.SIGUSR2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// The signal comes once: the second line is the answer to the input.
			c := startCommand(t, "run", "sh", "-c", "trap 'echo got "+tt.name+"' "+tt.name+
				"; echo ready; until read line; do :; done; echo $line; exit 5")
			c.line()
			c.signal(tt.sig)
			if got := c.line(); got != "got "+tt.name {
				t.Errorf("the program printed %q", got)
			}
			if _, err := io.WriteString(c.stdin, "more\n"); err != nil {
				t.Fatal(err)
			}
			if rest, status := c.end(); rest != "more\n" || status != 5 {
				t.Errorf("the program printed %q in the end, status %d, want 5", rest, status)
			}
		})
	}
	t.Run("not handled", func(t *testing.T) {
		c := startCommand(t, "run", "--clock", "running", "sh", "-c", "echo ready; exec sleep 1000")
		c.line()
		c.signal(syscall.SIGTERM)
		if rest, status := c.end(); rest != "" || status != 128+15 {
			t.Errorf("output %q, status %d, want 143", rest, status)
		}
	})
}

// A signal must have an effect whenever it comes: before there is a program, it
// ends sandtest itself.
func TestSignalAtStart(t *testing.T) {
	for i := range 60 {
		c := startCommand(t, "run", "--timeout", "5s", "--clock", "running", "sleep", "1000")
		for until := time.Now().Add(time.Duration(i) * 100 * time.Microsecond); time.Now().Before(until); {
		}
		c.signal(syscall.SIGTERM)
		_, status := c.end()
		sig := c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
		if status != 128+15 && sig != syscall.SIGTERM {
			t.Fatalf("a SIGTERM after about %d us had no effect: status %d", 100*i, status)
		}
	}
}

// Signals that come all the time, as those of a window that is being resized.
func TestSignalsDuringStart(t *testing.T) {
	for range 5 {
		c := startCommand(t, "run", "sh", "-c", "exit 6")
		done := make(chan struct{})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-done:
					return
				default:
					_ = c.cmd.Process.Signal(syscall.SIGWINCH) // it may have ended
				}
			}
		}()
		b, err := io.ReadAll(c.out)
		close(done)
		<-stopped
		if err != nil || len(b) > 0 {
			t.Errorf("output %q, %v", b, err)
		}
		if _, status := c.end(); status != 6 {
			t.Fatalf("status %d, want 6", status)
		}
	}
}

// The death of sandtest is the death of all it runs.
func TestKilled(t *testing.T) {
	mark := marked.New()
	c := startCommand(t, "run", "--clock", "running", "--env", string(mark), "sh", "-c", "sleep 1000 & echo $! $$; wait")
	c.line()
	if n := len(mark.Alive()); n < 2 {
		t.Errorf("%d processes are alive before", n)
	}
	c.signal(syscall.SIGKILL)
	c.end()
	if left := mark.Gone(10 * time.Second); len(left) > 0 {
		t.Fatalf("%v are there 10 s after sandtest was killed", left)
	}
}

func TestDoctor(t *testing.T) {
	o := run(t, "doctor")
	if o.status != 0 || o.stderr != "" {
		t.Errorf("%+v", o)
	}
	lines := strings.Split(strings.TrimSuffix(o.stdout, "\n"), "\n")
	checks := supervisor.Doctor()
	if len(lines) != len(checks) {
		t.Fatalf("%d lines for %d checks:\n%s", len(lines), len(checks), o.stdout)
	}
	for i, c := range checks {
		for _, want := range []string{c.Name, c.Detail} {
			if !strings.Contains(lines[i], want) {
				t.Errorf("line %q doesn't say %q", lines[i], want)
			}
		}
		if c.OK != strings.HasPrefix(lines[i], "ok ") {
			t.Errorf("line %q, the check is OK: %v", lines[i], c.OK)
		}
	}
}

// --trace writes a trace as text, or for Perfetto.
func TestTrace(t *testing.T) {
	dir := t.TempDir()
	text, events := filepath.Join(dir, "trace"), filepath.Join(dir, "trace.json")
	run(t, "run", "--trace", text, "sh", "-c", "sleep 7").check(t, 0, "")
	got, err := os.ReadFile(text)
	if err != nil {
		t.Fatal(err)
	}
	if want := " 7.000000000, ...) = 0 after 7.000000 <waits>\n"; !strings.Contains(string(got), want) {
		t.Errorf("the trace has no %q:\n%s", want, got)
	}
	run(t, "run", "--trace", events, "true").check(t, 0, "")
	if got, err = os.ReadFile(events); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(got) {
		t.Errorf("%s isn't JSON:\n%s", events, got)
	}
	if err := os.WriteFile(text, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(dir, "no", "trace"), dir} {
		run(t, "run", "--json", text, "--trace", file, "echo", "ran").check(t, 125, "", "sandtest: --trace: ", file+": ", "want a file that can be written")
		run(t, "run", "--trace", text, "--json", file, "echo", "ran").check(t, 125, "", "sandtest: --json: ", file+": ")
	}
	if got, err := os.ReadFile(text); err != nil || string(got) != "kept" {
		t.Errorf("where nothing ran, the trace of the last time is %q, %v", got, err)
	}
	fresh := filepath.Join(dir, "fresh")
	run(t, "run", "--dir", dir, "--trace", fresh, "sh", "-c", "ls fresh; exec 9>fresh").check(t, 0, "", "No such file")
	run(t, "run", "--trace", "/dev/null", "true").check(t, 0, "")
	run(t, "run", "--trace", "", "true").check(t, 125, "", "-trace", "want a file")
}

// --fault makes calls fail, and says if there were none.
func TestFault(t *testing.T) {
	run(t, "run", "--fault", "write:fd=pipe:when=1:error=EPIPE", "--", "sh", "-c", "echo x; exit 3").check(t, 3, "", "I/O error")
	run(t, "run", "--fault", "rmdir:error=EIO", "true").check(t, 0, "", "sandtest: --fault rmdir:error=EIO has hit no call")
	run(t, "run", "--fault", "rmdir", "true").check(t, 125, "", "-fault", "0 effects")
}

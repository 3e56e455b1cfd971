//go:build linux && amd64

package sandtest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/internal/marked"
	"github.com/sandtest/go-sandtest/sandtest"
	"github.com/sandtest/go-sandtest/supervisor"
)

var start2000 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func sh(script string, args ...string) *exec.Cmd {
	return exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
}

// eventually waits for a condition that another process brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s still not: %s", what)
		}
	}
}

// withMark returns the command with a mark, by which its processes are known outside.
func withMark(cmd *exec.Cmd) (*exec.Cmd, marked.Mark) {
	mark := marked.New()
	cmd.Env = append(sandtest.Environ(), string(mark))
	return cmd, mark
}

func commandLine(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSuffix(string(b), "\x00"), "\x00", " ")
}

// A dialog talks with a command through its standard input and output.
type dialog struct {
	t     *testing.T
	stdin io.WriteCloser
	out   *bufio.Reader
}

func newDialog(t *testing.T, cmd *exec.Cmd) *dialog {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return &dialog{t, stdin, bufio.NewReader(stdout)}
}

func (d *dialog) line() string {
	d.t.Helper()
	line, err := d.out.ReadString('\n')
	if err != nil {
		d.t.Fatalf("read a line: %v, got %q", err, line)
	}
	return strings.TrimSuffix(line, "\n")
}

func (d *dialog) number() int {
	d.t.Helper()
	n, err := strconv.Atoi(d.line())
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

func TestRun(t *testing.T) {
	res := sandtest.Run(t, sh("echo out; echo error >&2; (echo more)"), sandtest.Options{})
	if res.Stats.Real <= 0 || res.Stats.Processes != 2 || res.Stats.Execs != 1 {
		t.Errorf("Stats = %+v, want 2 processes, 1 exec, and the time it took", res.Stats)
	}
	if res.ExitCode != 0 || res.Signal != 0 || res.TimedOut || res.Leaked != nil || !res.Clock.Equal(start2000) ||
		res.Stdout != "out\nmore\n" || res.Stderr != "error\n" {
		t.Errorf("Result = %+v", res)
	}
}

func TestRunStatus(t *testing.T) {
	for _, tt := range []struct {
		script string
		code   int
		signal syscall.Signal
	}{
		{"exit 0", 0, 0},
		{"exit 1", 1, 0},
		{"exit 255", 255, 0},
		{"kill -KILL $$", -1, syscall.SIGKILL},
		{"kill -TERM $$", -1, syscall.SIGTERM},
		{"ulimit -c 0; kill -ABRT $$", -1, syscall.SIGABRT},
		{"sh -c 'kill -9 $$'; exit $?", 128 + 9, 0},
	} {
		t.Run(tt.script, func(t *testing.T) {
			res := sandtest.Run(t, sh(tt.script), sandtest.Options{})
			if res.ExitCode != tt.code || res.Signal != tt.signal || res.TimedOut {
				t.Errorf("exit code %d, signal %v, timed out %v, want %d, %v, false", res.ExitCode, res.Signal, res.TimedOut, tt.code, tt.signal)
			}
		})
	}
}

func TestRunOutputSet(t *testing.T) {
	const script = "echo out; echo error >&2"
	t.Run("stdout", func(t *testing.T) {
		var out bytes.Buffer
		cmd := sh(script)
		cmd.Stdout = &out
		res := sandtest.Run(t, cmd, sandtest.Options{})
		if out.String() != "out\n" || res.Stdout != "" || res.Stderr != "error\n" {
			t.Errorf("the writer got %q, Stdout is %q, Stderr %q", out.String(), res.Stdout, res.Stderr)
		}
	})
	t.Run("stderr", func(t *testing.T) {
		var out bytes.Buffer
		cmd := sh(script)
		cmd.Stderr = &out
		res := sandtest.Run(t, cmd, sandtest.Options{})
		if out.String() != "error\n" || res.Stdout != "out\n" || res.Stderr != "" {
			t.Errorf("the writer got %q, Stdout is %q, Stderr %q", out.String(), res.Stdout, res.Stderr)
		}
	})
	t.Run("both the same", func(t *testing.T) {
		var out bytes.Buffer
		cmd := sh(script)
		cmd.Stdout, cmd.Stderr = &out, &out
		res := sandtest.Run(t, cmd, sandtest.Options{})
		if out.String() != "out\nerror\n" || res.Stdout != "" || res.Stderr != "" {
			t.Errorf("the writer got %q, Stdout is %q, Stderr %q", out.String(), res.Stdout, res.Stderr)
		}
	})
	t.Run("file", func(t *testing.T) {
		file, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		cmd := sh(script)
		cmd.Stdout = file
		res := sandtest.Run(t, cmd, sandtest.Options{})
		got, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != "out\n" || res.Stdout != "" {
			t.Errorf("the file has %q, Stdout is %q", got, res.Stdout)
		}
	})
}

// What doesn't fit into a pipe is captured whole.
func TestRunLargeOutput(t *testing.T) {
	const size = 1 << 20
	res := sandtest.Run(t, sh("head -c 1048576 /dev/zero; head -c 1048576 /dev/zero >&2"), sandtest.Options{})
	zeros := strings.Repeat("\x00", size)
	if res.Stdout != zeros || res.Stderr != zeros {
		t.Errorf("captured %d and %d bytes, want %d zeros each", len(res.Stdout), len(res.Stderr), size)
	}
}

// brokenWriter is a writer that can't be written to.
type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

// Output that got lost must not pass for output that wasn't there.
func TestExecuteOutputLost(t *testing.T) {
	want := errors.New("the disk is full")
	cmd := sh("echo out")
	cmd.Stdout = brokenWriter{want}
	if _, err := sandtest.Execute(cmd, sandtest.Options{}); !errors.Is(err, want) {
		t.Errorf("the writer's error is lost: Execute returned %v, want %v, as os/exec does", err, want)
	}
}

func TestRunEnv(t *testing.T) {
	t.Setenv("SANDTEST_TEST_LEAK", "from the host")
	for _, tt := range []struct {
		name      string
		env, want []string
	}{
		{"nil", nil, sandtest.Environ()},
		{"set", []string{"A=1", "B=x y", "EMPTY="}, []string{"A=1", "B=x y", "EMPTY="}},
		{"empty", []string{}, nil},
		{"twice", []string{"A=1", "A=2"}, []string{"A=2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("env")
			cmd.Env = tt.env
			res := sandtest.Run(t, cmd, sandtest.Options{})
			var want string
			for _, kv := range tt.want {
				want += kv + "\n"
			}
			if diff := cmp.Diff(want, res.Stdout); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnviron(t *testing.T) {
	want := []string{"PATH=" + os.Getenv("PATH"), "HOME=/tmp/home", "TMPDIR=/tmp", "USER=sandtest", "TZ=UTC", "LANG=C.UTF-8", "TERM=dumb"}
	got := sandtest.Environ()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Environ (-want +got):\n%s", diff)
	}
	got[0] = "changed"
	if sandtest.Environ()[0] != want[0] {
		t.Error("two calls share a slice")
	}
}

func TestRunDir(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for work, want := range map[string]string{"": "/work", "/elsewhere/deep": "/elsewhere/deep", sandtest.InPlace: dir} {
		cmd := exec.Command("pwd", "-P")
		cmd.Dir = dir
		if res := sandtest.Run(t, cmd, sandtest.Options{Work: work}); res.Stdout != want+"\n" {
			t.Errorf("with Work %q pwd printed %q, want %q", work, res.Stdout, want)
		}
	}
}

func TestRunStdin(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 1<<16)
	for _, tt := range []struct {
		name  string
		stdin io.Reader
		want  string
	}{
		{"nil", nil, ""},
		{"text", strings.NewReader("hello\n"), "hello\n"},
		{"large", strings.NewReader(large), large},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("cat")
			cmd.Stdin = tt.stdin
			if res := sandtest.Run(t, cmd, sandtest.Options{}); res.Stdout != tt.want {
				t.Errorf("cat copied %d bytes, want %d", len(res.Stdout), len(tt.want))
			}
		})
	}
	t.Run("not read", func(t *testing.T) {
		cmd := sh("exit 4")
		cmd.Stdin = strings.NewReader(large)
		if res := sandtest.Run(t, cmd, sandtest.Options{}); res.ExitCode != 4 {
			t.Errorf("exit code %d, want 4", res.ExitCode)
		}
	})
}

func TestRunExtraFiles(t *testing.T) {
	var files []*os.File
	for i := range 3 {
		file, err := os.CreateTemp(t.TempDir(), "extra")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		fmt.Fprintf(file, "file %d\n", i)
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	cmd := sh("cat <&3; cat <&5; cat <&4")
	cmd.ExtraFiles = files
	want := "file 0\nfile 2\nfile 1\n"
	if res := sandtest.Run(t, cmd, sandtest.Options{}); res.Stdout != want {
		t.Errorf("got %q, want %q", res.Stdout, want)
	}
}

// A command has the descriptors that it has without a sandbox.
func TestRunDescriptors(t *testing.T) {
	list := func() *exec.Cmd { return exec.Command("ls", "/proc/self/fd") }
	bare, err := list().Output()
	if err != nil {
		t.Fatal(err)
	}
	// The host's order is that of numbers.
	want := slices.Sorted(strings.FieldsSeq(string(bare)))
	got := slices.Sorted(strings.FieldsSeq(sandtest.Run(t, list(), sandtest.Options{}).Stdout))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("descriptors (-without +with a sandbox):\n%s", diff)
	}
}

func TestCommandContext(t *testing.T) {
	const untilKilled = "trap 'echo terminated; exit 5' TERM; echo ready; while :; do sleep 1000 & wait; done"
	opts := sandtest.Options{Clock: sandtest.Running} // under which a sleep lasts
	command := func(t *testing.T) (*exec.Cmd, context.CancelFunc) {
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		return exec.CommandContext(ctx, "/bin/sh", "-c", untilKilled), cancel
	}
	t.Run("cancelled", func(t *testing.T) {
		cmd, cancel := command(t)
		d := newDialog(t, cmd)
		p := sandtest.Start(t, cmd, opts)
		d.line()
		cancel()
		if res := p.Wait(); res.Signal != syscall.SIGKILL || res.ExitCode != -1 || res.TimedOut {
			t.Errorf("signal %v, exit code %d, timed out %v, want SIGKILL, -1, false", res.Signal, res.ExitCode, res.TimedOut)
		}
	})
	t.Run("own way to cancel", func(t *testing.T) {
		cmd, cancel := command(t)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		d := newDialog(t, cmd)
		p := sandtest.Start(t, cmd, opts)
		d.line()
		cancel()
		if got := d.line(); got != "terminated" {
			t.Errorf("the program printed %q", got)
		}
		if res := p.Wait(); res.Signal != 0 || res.ExitCode != 5 {
			t.Errorf("signal %v, exit code %d, want 0, 5", res.Signal, res.ExitCode)
		}
	})
	t.Run("wait delay", func(t *testing.T) {
		cmd, cancel := command(t)
		cmd.Cancel = func() error { return nil } // the program doesn't take the hint
		cmd.WaitDelay = time.Millisecond
		d := newDialog(t, cmd)
		p := sandtest.Start(t, cmd, opts)
		d.line()
		cancel()
		if res := p.Wait(); res.Signal != syscall.SIGKILL {
			t.Errorf("signal %v, exit code %d, want SIGKILL", res.Signal, res.ExitCode)
		}
	})
	t.Run("before the start", func(t *testing.T) {
		cmd, cancel := command(t)
		cancel()
		if _, err := sandtest.Execute(cmd, opts); !errors.Is(err, context.Canceled) {
			t.Errorf("Execute: %v, want context.Canceled", err)
		}
	})
	t.Run("after the end", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		p := sandtest.Start(t, exec.CommandContext(ctx, "/bin/sh", "-c", "exit 6"), sandtest.Options{})
		<-p.Done()
		cancel()
		if res := p.Wait(); res.ExitCode != 6 || res.Signal != 0 {
			t.Errorf("exit code %d, signal %v, want 6, 0", res.ExitCode, res.Signal)
		}
	})
}

// A tree of processes that tell their pids and stay.
const tree = `echo $$ >>"$1"
(sh -c 'echo $$ >>"$1"; exec sleep 1000' sh "$1" & echo $! >/dev/null; exec sh -c 'echo $$ >>"$1"; exec sleep 2000' sh "$1") &
wait`

func pids(t *testing.T, file string) []int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var list []int
	for word := range strings.FieldsSeq(string(b)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, pid)
	}
	return list
}

func TestTimeout(t *testing.T) {
	// A slow machine may need more than the first limit to start the processes.
	for limit := 100 * time.Millisecond; ; limit *= 4 {
		file := filepath.Join(t.TempDir(), "pids")
		cmd, mark := withMark(sh(tree, file))
		res := sandtest.Run(t, cmd, sandtest.Options{Clock: sandtest.Running, Timeout: limit, Write: []string{filepath.Dir(file)}})
		if !res.TimedOut || res.Signal != syscall.SIGKILL || res.ExitCode != -1 {
			t.Fatalf("timed out %v, signal %v, exit code %d, want true, SIGKILL, -1", res.TimedOut, res.Signal, res.ExitCode)
		}
		if left := mark.Alive(); len(left) > 0 {
			t.Errorf("%v are alive", left)
		}
		told := pids(t, file)
		if len(told) == 3 {
			break
		}
		if limit > 10*time.Second {
			t.Fatalf("%d processes told their pids within %v, want 3", len(told), limit)
		}
	}
}

func TestTimeoutOfTest(t *testing.T) {
	fake := fakeTB{deadline: time.Now().Add(300 * time.Millisecond)}
	var res *sandtest.Result
	fake.run(func(t testing.TB) { res = sandtest.Run(t, sh("sleep 1000"), sandtest.Options{Clock: sandtest.Running}) })
	if res == nil {
		t.Fatalf("Run failed: %s", fake.fatal)
	}
	if !res.TimedOut || res.Signal != syscall.SIGKILL {
		t.Errorf("timed out %v, signal %v, want true, SIGKILL", res.TimedOut, res.Signal)
	}
}

// A command that has ended in time hasn't timed out, whenever its result is asked
// for.
func TestTimeoutAfterEnd(t *testing.T) {
	const limit = 500 * time.Millisecond
	p := sandtest.Start(t, sh("exit 3"), sandtest.Options{Timeout: limit})
	select {
	case <-p.Done():
	case <-time.After(limit / 2):
		t.Skip("too slow a machine to tell")
	}
	<-time.After(2 * limit) // the sandbox's own timer was started before
	if res := p.Wait(); res.TimedOut || res.ExitCode != 3 {
		t.Errorf("timed out %v, exit code %d, want false, 3", res.TimedOut, res.ExitCode)
	}
}

func TestLeaked(t *testing.T) {
	// Eleven children, so that the order of names isn't that of their text, and one
	// grandchild whose parent is gone.
	cmd, mark := withMark(sh(`for i in 01 02 03 04 05 06 07 08 09 10 11; do sleep 10$i & echo $!; done
		sh -c 'sleep 2000 & echo $!'
		read x; exit 7`))
	d := newDialog(t, cmd)
	p := sandtest.Start(t, cmd, sandtest.Options{Clock: sandtest.Running})
	var want []supervisor.LeakedProcess
	expect := func(who det.Lineage, args ...string) {
		pid := d.number()
		eventually(t, fmt.Sprintf("process %d runs %v", pid, args), func() bool {
			return slices.ContainsFunc(mark.Alive(), func(pid int) bool { return commandLine(pid) == strings.Join(args, " ") })
		})
		want = append(want, supervisor.LeakedProcess{Lineage: who, Args: args})
	}
	for i := range 11 {
		expect(det.Root.Child(i+1), "sleep", fmt.Sprint(1001+i))
	}
	expect(det.Root.Child(12).Child(1), "sleep", "2000")
	d.stdin.Close()
	res := p.Wait()
	if res.ExitCode != 7 || res.Signal != 0 || res.TimedOut {
		t.Errorf("exit code %d, signal %v, timed out %v, want 7, 0, false", res.ExitCode, res.Signal, res.TimedOut)
	}
	if diff := cmp.Diff(want, res.Leaked); diff != "" {
		t.Errorf("Leaked (-want +got):\n%s", diff)
	}
	if left := mark.Alive(); len(left) > 0 {
		t.Errorf("%v are alive", left)
	}
}

const server = "trap 'echo terminated; exit 5' TERM; echo $$; while :; do sleep 1000 & wait; done"

func TestStartSignal(t *testing.T) {
	cmd := sh(server)
	d := newDialog(t, cmd)
	p := sandtest.Start(t, cmd, sandtest.Options{Clock: sandtest.Running})
	d.line()
	select {
	case <-p.Done():
		t.Error("Done is closed while the server runs")
	default:
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := d.line(); got != "terminated" {
		t.Errorf("the server printed %q", got)
	}
	res := p.Wait()
	if res.ExitCode != 5 || res.Signal != 0 {
		t.Errorf("exit code %d, signal %v, want 5, 0", res.ExitCode, res.Signal)
	}
	if again := p.Wait(); again != res {
		t.Error("the second Wait returned another result")
	}
	<-p.Done()
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Signal after the end: %v, want os.ErrProcessDone", err)
	}
	p.Kill() // no effect
}

func TestSignalBeforeWait(t *testing.T) {
	p := sandtest.Start(t, sh("exit 1"), sandtest.Options{})
	<-p.Done()
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Signal after the end: %v, want os.ErrProcessDone", err)
	}
	if res := p.Wait(); res.ExitCode != 1 {
		t.Errorf("exit code %d, want 1", res.ExitCode)
	}
}

func TestStartKill(t *testing.T) {
	cmd, mark := withMark(sh(server))
	d := newDialog(t, cmd)
	p := sandtest.Start(t, cmd, sandtest.Options{Clock: sandtest.Running})
	d.number()
	p.Kill()
	<-p.Done()
	if left := mark.Alive(); len(left) > 0 {
		t.Errorf("Done is closed and %v are alive", left)
	}
	if res := p.Wait(); res.Signal != syscall.SIGKILL || res.ExitCode != -1 || res.TimedOut {
		t.Errorf("signal %v, exit code %d, timed out %v, want SIGKILL, -1, false", res.Signal, res.ExitCode, res.TimedOut)
	}
	p.Kill()
}

func TestWaitConcurrently(t *testing.T) {
	p := sandtest.Start(t, sh("echo out"), sandtest.Options{})
	results := make(chan *sandtest.Result)
	for range 8 {
		go func() { results <- p.Wait() }()
	}
	first := <-results
	for range 7 {
		if <-results != first {
			t.Error("two calls of Wait returned different results")
		}
	}
	if first.Stdout != "out\n" {
		t.Errorf("Stdout is %q", first.Stdout)
	}
}

func TestStartCleanup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	cmd, mark := withMark(sh(tree, file))
	var waited *sandtest.Process
	t.Run("test", func(t *testing.T) {
		sandtest.Start(t, cmd, sandtest.Options{Clock: sandtest.Running, Write: []string{filepath.Dir(file)}})
		eventually(t, "three processes run", func() bool { return len(pids(t, file)) == 3 })
		waited = sandtest.Start(t, sh("exit 2"), sandtest.Options{})
		waited.Wait()
	})
	if left := mark.Alive(); len(left) > 0 {
		t.Errorf("the test has ended and %v are alive", left)
	}
	<-waited.Done()
}

// Children of the test itself are none of a sandbox's business, whichever thread
// started them: the kernel tells a thread of its own children only, and any of the
// runtime's threads may become the one that supervises.
func TestOtherChildren(t *testing.T) {
	const threads = 16
	others := make(chan *exec.Cmd, threads)
	hold := make(chan struct{})
	for range threads {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			other := exec.Command("sleep", "1000")
			if err := other.Start(); err != nil {
				t.Error(err)
				other = nil
			}
			others <- other
			<-hold // so that each is on a thread of its own
		}()
	}
	var started []*exec.Cmd
	for range threads {
		if other := <-others; other != nil {
			started = append(started, other)
		}
	}
	close(hold)

	var processes []*sandtest.Process
	for range 4 {
		processes = append(processes, sandtest.Start(t, sh("exit 3"), sandtest.Options{}))
	}
	limit := time.After(10 * time.Second)
	for _, p := range processes {
		select {
		case <-p.Done():
		case <-limit:
			killOthers(t, started)
			t.Fatal("after 10 s a sandbox waits for a process that isn't its own")
		}
	}
	killOthers(t, started)
	for _, p := range processes {
		if res := p.Wait(); res.ExitCode != 3 {
			t.Errorf("exit code %d, want 3", res.ExitCode)
		}
	}
}

// killOthers ends processes outside of a sandbox, of which the test must learn how
// they ended.
func killOthers(t *testing.T, others []*exec.Cmd) {
	for _, other := range others {
		if err := other.Process.Kill(); err != nil {
			t.Errorf("kill a process outside of the sandbox: %v", err)
		}
		var exit *exec.ExitError
		if err := other.Wait(); !errors.As(err, &exit) {
			t.Errorf("wait for a process outside of the sandbox: %v", err)
		}
	}
}

// A machine is what a sandbox shows of itself.
type machine struct {
	seed     uint64
	time     time.Time
	hostname string
	cpus     int
}

func (m machine) options() sandtest.Options {
	return sandtest.Options{Seed: m.seed, Time: m.time, Hostname: m.hostname, CPUs: m.cpus}
}

func machineNumber(i int) machine {
	return machine{
		seed:     uint64(i),
		time:     time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC).Add(time.Duration(i) * 1001 * time.Hour),
		hostname: fmt.Sprintf("machine-%d", i),
		cpus:     i + 1,
	}
}

// script tells about the machine, after a line on standard input.
const machineScript = `echo $1; read x; date +%s; uname -n; nproc; od -An -v -N16 -tx1 /dev/urandom; cat /proc/sys/kernel/hostname`

// want is what machineScript prints.
func (m machine) want(id string) string {
	b := make([]byte, 16)
	det.NewStream(m.seed, det.URandom, det.Root.Child(4), 0).Read(b)
	return fmt.Sprintf("%s\n%d\n%s\n%d\n % x\n%s\n", id, m.time.Unix(), m.hostname, m.cpus, b, m.hostname)
}

func TestParallel(t *testing.T) {
	for i := range 64 {
		id := fmt.Sprint(i)
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			m := machineNumber(i)
			res := sandtest.Run(t, sh(machineScript, id), m.options())
			if diff := cmp.Diff(m.want(id), res.Stdout); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !res.Clock.Equal(m.time) {
				t.Errorf("Clock = %v, want %v", res.Clock, m.time)
			}
		})
	}
}

// The same with all of them alive at the same time.
func TestManyAtOnce(t *testing.T) {
	const n = 64
	var processes []*sandtest.Process
	var inputs []io.WriteCloser
	for i := range n {
		cmd := sh(machineScript, fmt.Sprint(i))
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, stdin)
		processes = append(processes, sandtest.Start(t, cmd, machineNumber(i).options()))
	}
	for _, stdin := range inputs {
		stdin.Close()
	}
	for i, p := range processes {
		if diff := cmp.Diff(machineNumber(i).want(fmt.Sprint(i)), p.Wait().Stdout); diff != "" {
			t.Errorf("sandbox %d (-want +got):\n%s", i, diff)
		}
	}
}

// elf32 is a program for 32-bit x86 that exits with status 3.
func elf32(t *testing.T) string {
	t.Helper()
	const base = 0x8048000
	code := []byte{0xb8, 1, 0, 0, 0, 0xbb, 3, 0, 0, 0, 0xcd, 0x80} // mov eax, 1; mov ebx, 3; int 0x80
	var b bytes.Buffer
	header := struct {
		Ident                                         [16]byte
		Type, Machine                                 uint16
		Version, Entry, Phoff, Shoff, Flags           uint32
		Ehsize, Phentsize, Phnum, Shentsize, Shnum, S uint16
		// the one program header
		PType, Offset, Vaddr, Paddr, Filesz, Memsz, PFlags, Align uint32
	}{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 1, 1, 1}, Type: 2, Machine: 3, Version: 1, Entry: base + 84, Phoff: 52,
		Ehsize: 52, Phentsize: 32, Phnum: 1,
		PType: 1, Vaddr: base, Paddr: base, Filesz: 84 + 12, Memsz: 84 + 12, PFlags: 5, Align: 0x1000,
	}
	if err := binary.Write(&b, binary.LittleEndian, header); err != nil {
		t.Fatal(err)
	}
	b.Write(code)
	file := filepath.Join(t.TempDir(), "elf32")
	if err := os.WriteFile(file, b.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := exec.Command(file).Run(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Skipf("this machine doesn't run 32-bit programs: %v", err)
	}
	return file
}

// A sandbox that fails must not return what the command did until then.
func TestSandboxFails(t *testing.T) {
	program := elf32(t)
	for _, tt := range []struct {
		name string
		cmd  func() *exec.Cmd
	}{
		{"command", func() *exec.Cmd { return exec.Command(program) }},
		{"child", func() *exec.Cmd { return sh(`"$1"; exit 0`, program) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opts := sandtest.Options{Mounts: []sandtest.Mount{{Host: program}}}
			res, err := sandtest.Execute(tt.cmd(), opts)
			if err == nil || res != nil || !strings.Contains(err.Error(), "32-bit program") {
				t.Errorf("Execute returned %+v and %v, want an error about a 32-bit program", res, err)
			}
			var fake fakeTB
			fake.run(func(t testing.TB) { res = sandtest.Run(t, tt.cmd(), opts) })
			if res != nil || !strings.Contains(fake.fatal, "32-bit program") {
				t.Errorf("Run returned %+v and failed with %q, want the same error", res, fake.fatal)
			}
		})
	}
}

// notExecutable is a file without the right to be executed.
func notExecutable(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestStartFails(t *testing.T) {
	withDir := exec.Command("true")
	withDir.Dir = filepath.Join(t.TempDir(), "missing")
	traced := exec.Command("true")
	traced.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	used := exec.Command("true")
	sandtest.Run(t, used, sandtest.Options{})
	for _, tt := range []struct {
		name string
		cmd  *exec.Cmd
		is   error  // nil if any
		text string // in the message
	}{
		{"not found in PATH", exec.Command("no-such-command-anywhere"), exec.ErrNotFound, "no-such-command-anywhere"},
		{"no such file", exec.Command("/nonexistent/program"), fs.ErrNotExist, "/nonexistent/program"},
		{"not executable", exec.Command(notExecutable(t)), fs.ErrPermission, "permission denied"},
		{"directory", exec.Command(t.TempDir()), fs.ErrPermission, "permission denied"},
		{"no such directory", withDir, fs.ErrNotExist, withDir.Dir},
		{"traced already", traced, nil, "SysProcAttr.Ptrace"},
		{"used already", used, nil, "already started"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := sandtest.Execute(tt.cmd, sandtest.Options{})
			if err == nil {
				t.Fatalf("Execute returned %+v and no error", res)
			}
			if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) || res != nil {
				t.Errorf("Execute returned %+v and %v, want an error that says %q and is %v", res, err, tt.text, tt.is)
			}
		})
	}
	t.Run("test", func(t *testing.T) {
		var fake fakeTB
		returned := false
		fake.run(func(t testing.TB) {
			sandtest.Run(t, exec.Command("no-such-command-anywhere", "argument"), sandtest.Options{})
			returned = true
		})
		for _, want := range []string{"sandtest: ", "no-such-command-anywhere argument", "not found"} {
			if !strings.Contains(fake.fatal, want) {
				t.Errorf("Run failed with %q, want it to say %q", fake.fatal, want)
			}
		}
		if returned || fake.skip != "" {
			t.Errorf("Run returned: %v, skipped the test: %q", returned, fake.skip)
		}
	})
}

// A command that could not be started leaves nothing open.
func TestStartFailsClean(t *testing.T) {
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	attempt := func() {
		_, err := sandtest.Execute(exec.Command("/nonexistent/program"), sandtest.Options{})
		if err == nil {
			t.Fatal("no error")
		}
	}
	attempt()
	before := count()
	for range 8 {
		attempt()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors are open after failed starts, %d before", after, before)
	}
}

func TestOptionsInvalid(t *testing.T) {
	for _, tt := range []struct {
		name string
		opts sandtest.Options
		text string
	}{
		{"time too early", sandtest.Options{Time: time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)}, "1600-01-01"},
		{"time too late", sandtest.Options{Time: time.Date(2263, 1, 1, 0, 0, 0, 0, time.UTC)}, "2263-01-01"},
		{"clock", sandtest.Options{Clock: 7}, "clock"},
		{"long host name", sandtest.Options{Hostname: strings.Repeat("h", 65)}, "65 bytes"},
		{"NUL in host name", sandtest.Options{Hostname: "a\x00b"}, "host name"},
		{"line break in host name", sandtest.Options{Hostname: "a\n"}, "host name"},
		{"CPUs below zero", sandtest.Options{CPUs: -1}, "CPUs -1"},
		{"too many CPUs", sandtest.Options{CPUs: 1025}, "CPUs 1025"},
		{"memory below zero", sandtest.Options{Memory: -1}, "memory"},
		{"too little memory", sandtest.Options{Memory: 1<<20 - 1}, "memory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "file")
			res, err := sandtest.Execute(sh(`: >"$1"`, file), tt.opts)
			if err == nil || res != nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Execute returned %+v and %v, want an error that says %q", res, err, tt.text)
			}
			if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
				t.Error("the command ran")
			}
			var fake fakeTB
			fake.run(func(t testing.TB) { sandtest.Run(t, exec.Command("true"), tt.opts) })
			if !strings.Contains(fake.fatal, tt.text) {
				t.Errorf("Run failed with %q, want it to say %q", fake.fatal, tt.text)
			}
		})
	}
}

// The largest and smallest values that are permitted.
func TestOptionsLimits(t *testing.T) {
	const script = "uname -n; nproc; awk '/^MemTotal/ { print $2 }' /proc/meminfo; date +%Y"
	name := strings.Repeat("h", 64)
	for _, tt := range []struct {
		name string
		opts sandtest.Options
		want string
	}{
		{"zero", sandtest.Options{}, "sandtest\n1\n4194304\n2000\n"},
		{"most", sandtest.Options{Hostname: name, CPUs: 1024, Memory: 1 << 40, Time: time.Date(2262, 4, 1, 0, 0, 0, 0, time.UTC)}, name + "\n1024\n1073741824\n2262\n"},
		{"least", sandtest.Options{Hostname: "h", CPUs: 1, Memory: 1 << 20, Time: time.Date(1678, 1, 1, 0, 0, 0, 0, time.UTC)}, "h\n1\n1024\n1678\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if res := sandtest.Run(t, sh(script), tt.opts); res.Stdout != tt.want {
				t.Errorf("got %q, want %q\n%s", res.Stdout, tt.want, res.Stderr)
			}
		})
	}
}

func TestOptionsZero(t *testing.T) {
	// Descriptors, umask and signals are set by the sandbox or by os/exec, whatever
	// this process has.
	defer syscall.Umask(syscall.Umask(0o077))
	res := sandtest.Run(t, sh("umask; uname -r; echo $TZ; readlink /proc/self/fd/0; ulimit -c >/dev/null; cat /proc/sys/kernel/random/boot_id"), sandtest.Options{})
	boot := det.NewUUID(det.NewStream(0, det.BootID, det.Root, 0))
	if want := "0022\n6.1.0-sandtest\nUTC\n/dev/null\n" + boot + "\n"; res.Stdout != want {
		t.Errorf("got %q, want %q", res.Stdout, want)
	}
}

func TestOptionsSeed(t *testing.T) {
	const script = "od -An -N16 -tx1 /dev/urandom; cat /proc/sys/kernel/random/uuid; mktemp -u XXXXXXXXXX"
	seen := map[string]uint64{}
	for _, seed := range []uint64{0, 1, 2, 1 << 63, 1<<64 - 1} {
		first := sandtest.Run(t, sh(script), sandtest.Options{Seed: seed})
		second := sandtest.Run(t, sh(script), sandtest.Options{Seed: seed})
		if diff := cmp.Diff(first.Stdout, second.Stdout); diff != "" {
			t.Errorf("two runs with seed %d (-first +second):\n%s", seed, diff)
		}
		for line := range strings.Lines(first.Stdout) {
			if other, ok := seen[line]; ok {
				t.Errorf("seeds %d and %d both give %q", other, seed, line)
			}
			seen[line] = seed
		}
	}
}

func TestOptionsClock(t *testing.T) {
	const script = "date +%s%N; :; date +%s%N"
	run := func(t *testing.T, opts sandtest.Options) (first, second time.Time, res *sandtest.Result) {
		t.Helper()
		res = sandtest.Run(t, sh(script), opts)
		var a, b int64
		if _, err := fmt.Sscan(res.Stdout, &a, &b); err != nil {
			t.Fatalf("%v: %q", err, res.Stdout)
		}
		return time.Unix(0, a), time.Unix(0, b), res
	}
	start := time.Date(2010, 11, 12, 13, 14, 15, 123456789, time.UTC)
	t.Run("virtual", func(t *testing.T) {
		first, second, res := run(t, sandtest.Options{Time: start})
		if !first.Equal(start) || !second.Equal(start) || !res.Clock.Equal(start) {
			t.Errorf("read %v and %v, ended at %v, want %v", first, second, res.Clock, start)
		}
	})
	t.Run("another zone", func(t *testing.T) {
		first, _, res := run(t, sandtest.Options{Time: start.In(time.FixedZone("x", 5*3600))})
		if !first.Equal(start) || !res.Clock.Equal(start) {
			t.Errorf("read %v, ended at %v, want %v", first, res.Clock, start)
		}
	})
	t.Run("running", func(t *testing.T) {
		first, second, res := run(t, sandtest.Options{Time: start, Clock: sandtest.Running})
		if !first.After(start) || !second.After(first) || res.Clock.Before(second) || res.Clock.After(start.Add(time.Hour)) {
			t.Errorf("read %v, then %v, ended at %v, want them ascending from %v", first, second, res.Clock, start)
		}
	})
	t.Run("host", func(t *testing.T) {
		before := time.Now()
		first, second, res := run(t, sandtest.Options{Time: start, Clock: sandtest.Host})
		if first.Before(before) || !second.After(first) || res.Clock.Before(second) || res.Clock.After(time.Now()) {
			t.Errorf("read %v, then %v, ended at %v, want the host's time, now %v", first, second, res.Clock, time.Now())
		}
	})
}

func TestOptionsASLR(t *testing.T) {
	stack := func(opts sandtest.Options) string {
		return sandtest.Run(t, exec.Command("grep", "-F", "[stack]", "/proc/self/maps"), opts).Stdout
	}
	first := stack(sandtest.Options{})
	if second := stack(sandtest.Options{}); first == "" || first != second {
		t.Errorf("the stack is at %q, then at %q", first, second)
	}
	random := map[string]bool{}
	for range 4 {
		random[stack(sandtest.Options{ASLR: true})] = true
	}
	if len(random) == 1 {
		t.Error("with ASLR the stack is at the same place four times")
	}
}

func TestStats(t *testing.T) {
	res := sandtest.Run(t, sh("uname -n; uname -r; sleep 0.02"), sandtest.Options{})
	s := res.Stats
	if s.Processes != 4 || s.Execs != 4 || s.Notifications["uname"] != 2 || s.Stops["clock_nanosleep"] != 1 {
		t.Errorf("Stats = %+v, want 4 processes, 4 execs, 2 notifications of uname, 1 stop of clock_nanosleep", s)
	}
}

// Run takes a cmd's fields as they are, and leaves those it doesn't document.
func TestCmdUntouched(t *testing.T) {
	cmd := sh("exit 1")
	attr := &syscall.SysProcAttr{Setsid: true}
	cmd.SysProcAttr = attr
	args := cmd.Args
	sandtest.Run(t, cmd, sandtest.Options{})
	if cmd.SysProcAttr != attr || !reflect.DeepEqual(*attr, syscall.SysProcAttr{Setsid: true}) {
		t.Errorf("SysProcAttr is %+v, want it as it was", cmd.SysProcAttr)
	}
	if !reflect.DeepEqual(cmd.Args, args) || cmd.ProcessState != nil {
		t.Errorf("Args is %v, ProcessState %v", cmd.Args, cmd.ProcessState)
	}
}

//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
)

// resources is what this process holds that a sandbox must give back.
type resources struct {
	fds, children string
	goroutines    int
}

// held lists descriptors and children, and counts goroutines.
func held(t testing.TB) resources {
	t.Helper()
	r, err := holdsAtFirst()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// holdsAtFirst says what this process holds with the sweeper, which goes on until this
// process ends, and without the shell that begins it.
func holdsAtFirst() (r resources, err error) {
	sweeps.watch("/nonexistent/")
	for deadline := time.Now().Add(hanging); ; runtime.Gosched() {
		if r, err = holds(); err != nil || r.children == "" || time.Now().After(deadline) {
			return r, err
		}
	}
}

func holds() (r resources, err error) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return r, err
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return r, err
	}
	own := strconv.Itoa(int(dir.Fd()))
	if err := dir.Close(); err != nil {
		return r, err
	}
	for _, name := range names {
		if target, err := os.Readlink("/proc/self/fd/" + name); err == nil && name != own {
			r.fds += name + " " + target + "\n"
		}
	}
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return r, err
	}
	for _, task := range tasks {
		if text, err := os.ReadFile(task); err == nil { // else the thread has ended
			r.children += string(text)
		}
	}
	r.goroutines = runtime.NumGoroutine()
	return r, nil
}

// given waits until what is held is no more than it was; what is given back by
// goroutines that are about to end takes a moment.
func given(before resources) error {
	for deadline := time.Now().Add(hanging); ; runtime.Gosched() {
		now, err := holds()
		if err != nil {
			return err
		}
		if len(strings.Fields(now.fds)) <= len(strings.Fields(before.fds)) && now.children == before.children && now.goroutines <= before.goroutines {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d goroutines, before %d; children %q, before %q; descriptors\n%sbefore\n%s",
				now.goroutines, before.goroutines, now.children, before.children, now.fds, before.fds)
		}
	}
}

// startFails starts a command that can't be started, and checks that nothing is
// left of it.
func startFails(t *testing.T, cmd *exec.Cmd, cfg Config) error {
	t.Helper()
	before := held(t)
	s, err := Start(cmd, cfg)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err == nil {
		state, err := s.Wait()
		t.Fatalf("it started, and ended with %+v, %v", state, err)
	}
	if err := given(before); err != nil {
		t.Errorf("left behind: %v", err)
	}
	return err
}

// What os/exec says of a command that can't be started.
func TestCommandCantBeStarted(t *testing.T) {
	// A first sandbox makes what the process keeps.
	output(t, Config{}, sh("exit 0"))
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	inDir := func(dir string) *exec.Cmd {
		cmd := sh("exit 0")
		cmd.Dir = dir
		return cmd
	}
	for _, tt := range []struct {
		name string
		cmd  *exec.Cmd
		want error
	}{
		{"no such command", exec.Command("no-such-command-anywhere"), exec.ErrNotFound},
		{"no such file", exec.Command("/no/such/file"), fs.ErrNotExist},
		{"not executable", exec.Command(write("plain", "text", 0o644)), fs.ErrPermission},
		{"a directory", exec.Command(dir), fs.ErrPermission},
		{"no format", exec.Command(write("rubbish", "\x01\x02\x03", 0o755)), unix.ENOEXEC},
		{"no interpreter", exec.Command(write("script", "#!/no/such/interpreter\n", 0o755)), fs.ErrNotExist},
		{"no such directory", inDir("/no/such/directory"), fs.ErrNotExist},
		{"directory is a file", inDir(write("file", "", 0o644)), unix.ENOTDIR},
		{"argument too long", exec.Command("/bin/true", strings.Repeat("x", 1<<20)), unix.E2BIG},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := startFails(t, tt.cmd, Config{})
			if !errors.Is(err, tt.want) {
				t.Errorf("error %q, want %v", err, tt.want)
			}
			if bare := (&exec.Cmd{Path: tt.cmd.Path, Args: tt.cmd.Args, Dir: tt.cmd.Dir, Err: tt.cmd.Err}).Run(); !errors.Is(bare, tt.want) {
				t.Errorf("bare: error %v, want %v", bare, tt.want)
			}
		})
	}
}

func TestConfigErrors(t *testing.T) {
	output(t, Config{}, sh("exit 0"))
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"negative CPUs", Config{Identity: det.Identity{CPUs: -1}}, "CPUs -1"},
		{"too many CPUs", Config{Identity: det.Identity{CPUs: 1025}}, "CPUs 1025"},
		{"long host name", Config{Identity: det.Identity{Hostname: strings.Repeat("n", 65)}}, "65 bytes"},
		{"host name of two lines", Config{Identity: det.Identity{Hostname: "a\nb"}}, `"a\nb"`},
		{"host name with NUL", Config{Identity: det.Identity{Hostname: "a\x00b"}}, `"a\x00b"`},
		{"negative memory", Config{Identity: det.Identity{Memory: -1}}, "memory of -1"},
		{"little memory", Config{Identity: det.Identity{Memory: 1}}, "1 MiB"},
		{"unknown clock", Config{Clock: 3}, "clock Mode(3)"},
		{"negative clock", Config{Clock: -1}, "clock Mode(-1)"},
		{"unknown spread", Config{Spread: 3}, "spread 3"},
		{"negative priority value", Config{Nice: -1}, "Nice is -1"},
		{"too early", Config{Time: time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)}, "1600"},
		{"too late", Config{Time: time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)}, "2300"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := startFails(t, sh("exit 0"), tt.cfg)
			if !strings.HasPrefix(err.Error(), "supervisor: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want %q in it", err, tt.want)
			}
		})
	}
	// The ends of what is allowed.
	for _, cfg := range []Config{
		{Identity: det.Identity{CPUs: 1024, Hostname: strings.Repeat("n", 64), Memory: math.MaxInt64}},
		{Identity: det.Identity{CPUs: 1, Hostname: "n", Memory: 1 << 20}},
		{Time: time.Unix(0, math.MinInt64)},
		{Time: time.Unix(0, math.MaxInt64)},
		{Seed: math.MaxUint64},
	} {
		output(t, cfg, sh("date; nproc; cat /proc/meminfo"))
	}
}

func TestPtraceAttribute(t *testing.T) {
	output(t, Config{}, sh("exit 0"))
	cmd := sh("exit 0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	attr := cmd.SysProcAttr
	err := startFails(t, cmd, Config{})
	if !strings.Contains(err.Error(), "Ptrace") {
		t.Errorf("error %q doesn't name the field", err)
	}
	if cmd.SysProcAttr != attr || !attr.Ptrace {
		t.Error("the command's SysProcAttr was changed")
	}
	// Other attributes keep their meaning, and the command's own are left alone.
	cmd = sh("ps -o pgid= -p $$ 2>/dev/null || echo $$; echo $$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	attr, copied := cmd.SysProcAttr, *cmd.SysProcAttr
	if got := strings.Fields(output(t, Config{}, cmd)); len(got) != 2 || got[0] != got[1] {
		t.Errorf("process group and pid are %v", got)
	}
	if cmd.SysProcAttr != attr || !reflect.DeepEqual(*attr, copied) {
		t.Error("the command's SysProcAttr was changed")
	}
}

func init() {
	// Starts a command and prints why that fails, and what is left of it. A first
	// argument names a call that a policy around this process forbids.
	programs["start"] = func(args []string) error {
		cfg := Config{ASLR: len(args) > 1}
		before, err := holdsAtFirst()
		if err != nil {
			return err
		}
		if len(args) > 0 && args[0] != "" {
			if err := forbid(args[0]); err != nil {
				return fmt.Errorf("install a policy: %w", err)
			}
		}
		s, err := Start(exec.Command("/bin/true"), cfg)
		if err != nil {
			fmt.Println(err)
		} else {
			_, err := s.Wait()
			fmt.Println("ended:", err)
		}
		// What the process keeps from the first use is no loss.
		before.goroutines++
		return given(before)
	}
}

// forbid makes a call fail with EPERM in every thread of this process and what
// it starts, as the policy of a container does.
func forbid(name string) error {
	nr, ok := seccomp.Number(name)
	if !ok {
		return fmt.Errorf("no system call %s", name)
	}
	prog, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: nr, SkipFalse: 1},
		bpf.RetConstant{Val: uint32(seccomp.Errno(uint16(unix.EPERM)))},
		bpf.RetConstant{Val: uint32(seccomp.Allow)},
	})
	if err != nil {
		return err
	}
	return installFilter(prog)
}

// A policy that forbids what a sandbox needs is named in the error, together
// with what to do, and nothing is left running.
func TestPolicyForbids(t *testing.T) {
	for _, tt := range []struct {
		call string
		aslr bool
		want []string // nil if a sandbox can do without
	}{
		{"personality", false, []string{"personality", "ASLR"}},
		{"personality", true, nil},
		{"ptrace", false, []string{"ptrace", "policy"}},
		{"seccomp", false, []string{"seccomp", "policy"}},
		{"pidfd_getfd", false, nil},
		{"process_vm_readv", false, []string{"process_vm_readv"}},
		{"process_vm_writev", false, []string{"process_vm_writev"}},
		{"memfd_create", false, []string{"memfd_create"}},
		{"kcmp", false, nil},
		{"sched_setaffinity", false, nil},
		{"getcpu", false, nil},
	} {
		t.Run(fmt.Sprint(tt.call, tt.aslr), func(t *testing.T) {
			cmd := program(t, "start", tt.call)
			if tt.aslr {
				cmd.Args = append(cmd.Args, "aslr")
			}
			got := runBare(t, cmd)
			if tt.want == nil {
				if got != "ended: <nil>\n" {
					t.Errorf("got %q", got)
				}
				return
			}
			for _, want := range append(tt.want, "supervisor: ") {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, want %q in it", got, want)
				}
			}
		})
	}
}

// A process that is traced can't trace, and says so.
func TestSupervisorIsTraced(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip(err)
	}
	cmd := program(t, "start")
	cmd.Args = append([]string{strace, "-f", "-o", filepath.Join(t.TempDir(), "trace"), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = strace
	got := runBare(t, cmd)
	if !strings.Contains(got, "traced") || !strings.Contains(got, "strace") {
		t.Errorf("got %q, want it to name the tracer", got)
	}
}

// runBare runs a program that must end by itself and succeed.
func runBare(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	stop := time.AfterFunc(ending, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// A sandbox in a sandbox: an error that says why, in the inner one.
func TestNested(t *testing.T) {
	_, out := ends(t, Config{}, program(t, "start"))
	if !strings.Contains(out, "sandbox") && !strings.Contains(out, "traced") && !strings.Contains(out, "ptrace") {
		t.Errorf("got %q", out)
	}
}

//go:build linux

package supervisor

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The programs in testdata/c each exercise a corner of the system calls. Where
// natively the same should happen, a test runs one bare and in a sandbox and
// compares.

// long says that the tests may take their time.
var long = os.Getenv("SANDTEST_LONG") != ""

// compiled holds the programs that were compiled, by name. They are kept in
// memory, because only a test's own directory is removed for it.
var compiled sync.Map

type cProgram struct {
	once sync.Once
	elf  []byte
	err  error
}

// compileC compiles testdata/c/name.c, once for all tests, and returns the path
// of the program. It skips the test where that can't be done.
func compileC(t testing.TB, name string, static bool) string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the C programs contain amd64 instructions")
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no C compiler: ", err)
	}
	file := filepath.Join(t.TempDir(), name)
	key := name
	args := []string{"-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", file, filepath.Join("testdata", "c", name+".c")}
	if static {
		key += " static"
		args = append(args, "-static")
	}
	v, _ := compiled.LoadOrStore(key, &cProgram{})
	p := v.(*cProgram)
	p.once.Do(func() {
		cmd := exec.Command(gcc, args...)
		cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			p.err = errors.New(string(out))
			return
		}
		p.elf, p.err = os.ReadFile(file)
	})
	if p.err != nil {
		t.Fatalf("compile %s: %v", name, p.err)
	}
	// A descriptor that is open for writing must not get into a process that
	// another test starts: executing the file would fail with ETXTBSY.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	_ = os.Remove(file)
	if err := os.WriteFile(file, p.elf, 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// environ is what the C programs are given: the same, bare and in the sandbox.
func environ() []string { return []string{"PATH=" + os.Getenv("PATH"), "TZ=UTC", "LC_ALL=C"} }

// cmdC returns a command with the environment of the C programs.
func cmdC(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Env = environ()
	return cmd
}

// ending is how long a program may take that should end by itself. It is no
// measure of speed, but tells a program that hangs.
const ending = 60 * time.Second

// ends runs a command that must not hang, in the sandbox, and returns how it
// ended and what it wrote to standard output.
func ends(t testing.TB, cfg Config, cmd *exec.Cmd) (*State, string) {
	t.Helper()
	return endsWithin(t, ending, cfg, cmd)
}

func endsWithin(t testing.TB, limit time.Duration, cfg Config, cmd *exec.Cmd) (*State, string) {
	t.Helper()
	var out, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	s, err := Start(cmd, cfg)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var hung bool
	select {
	case <-s.Done():
	case <-time.After(limit):
		hung = true
		s.Kill()
	}
	state, err := s.Wait()
	switch {
	case hung:
		t.Fatalf("%v: had not ended after %v\n%s%s", cmd.Args, limit, tail(out.String()), tail(stderr.String()))
	case err != nil:
		t.Fatalf("%v: %v\n%s%s", cmd.Args, err, tail(out.String()), tail(stderr.String()))
	}
	if stderr.Len() > 0 {
		t.Logf("%v: standard error:\n%s", cmd.Args, tail(stderr.String()))
	}
	return state, out.String()
}

// tail cuts a text that is too long to be read.
func tail(s string) string {
	const most = 10_000
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

// succeeds is ends for a command that must exit with status 0.
func succeeds(t testing.TB, cfg Config, cmd *exec.Cmd) string {
	t.Helper()
	state, out := ends(t, cfg, cmd)
	if state.ExitCode != 0 {
		t.Fatalf("%v: exit status %d, signal %v\n%s", cmd.Args, state.ExitCode, state.Signal, tail(out))
	}
	return out
}

// bare runs a command without a sandbox.
func bare(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v bare: %v\n%s%s", cmd.Args, err, tail(string(out)), tail(stderr.String()))
	}
	return string(out)
}

// sameAsBare compares what a program writes in the sandbox with what it writes
// bare.
func sameAsBare(t testing.TB, cfg Config, make func() *exec.Cmd) {
	t.Helper()
	want := bare(t, make())
	got := succeeds(t, cfg, make())
	if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
		t.Errorf("%v (-bare +sandbox):\n%s", make().Args, diff)
	}
}

func lines(s string) []string {
	return slices.Collect(strings.Lines(s))
}

// fields splits every line at its first space.
func fields(t testing.TB, text string) map[string]string {
	t.Helper()
	m := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, twice := m[name]; !ok || twice {
			t.Fatalf("line %q: no value, or its name for the second time", line)
		}
		m[name] = value
	}
	return m
}

// testTime is an instant that can't be taken for any other.
var testTime = time.Date(2011, 12, 13, 14, 15, 16, 123456789, time.UTC)

// hasNamespaces reports whether sandboxes have namespaces of their own here.
func hasNamespaces(t testing.TB) bool {
	t.Helper()
	state, _ := run(t, Config{}, exec.Command("true"))
	return state.Stats.Backend == BackendNamespaces.String()
}

// startPiped starts a command, and returns its sandbox and what it writes to standard
// output. It is killed if it takes as long as none does, or the test ends.
func startPiped(t *testing.T, cfg Config, cmd *exec.Cmd) (*Sandbox, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd.Stdout = w
	s, err := Start(cmd, cfg)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	watch := time.AfterFunc(ending, s.Kill)
	t.Cleanup(func() {
		watch.Stop()
		s.Kill()
		_, _ = s.Wait() // the test has judged it
	})
	return s, r
}

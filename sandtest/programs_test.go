//go:build linux && amd64

package sandtest_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/sandtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A program is run three times. What it writes must be the same each time, and
// must be what its golden file says.
//
// A line that begins with "~ " also depends on the program's version, as the
// value of a library's random generator does. It stands in a part of the golden
// file that counts only where the version is the one that the file was made with.
type program struct {
	name    string
	command []string
	version []string // tells the version; none when no line begins with "~ "

	// build makes the program, and returns its command. It skips the test where
	// that can't be done. Programs share the directory cache.
	build func(t *testing.T, cache string) []string

	opts sandtest.Options

	// pending is why the outcome isn't deterministic so far. Such a row is run, and
	// skipped in the end.
	pending string

	pid bool // the outcome depends on the program's process id
}

var programs = []program{
	{name: "date", command: []string{"date", "+%Y-%m-%dT%H:%M:%S.%N %Z %j"}},
	{name: "date-rfc", command: []string{"date", "-R"}},
	{
		name:    "bash",
		command: []string{"bash", "-c", `echo $EPOCHREALTIME $EPOCHSECONDS $SECONDS; printf '%(%F %T)T\n'; echo "~" $SRANDOM $SRANDOM`},
		version: []string{"bash", "--version"},
	},
	{
		// With the same pid it depends on the uid still.
		name:    "bash-random",
		command: []string{"bash", "-c", `echo "~" $RANDOM $RANDOM`},
		version: []string{"sh", "-c", "bash --version | head -n 1; id -u"},
		pid:     true,
	},
	{
		name:    "uuidgen",
		command: []string{"sh", "-c", `echo "~ $(uuidgen)"`},
		version: []string{"sh", "-c", "uuidgen --version; id -u"},
		pid:     true, // libuuid mixes it into what getrandom gives
	},
	{name: "mktemp", command: []string{"mktemp", "-u", "~ XXXXXXXXXX"}, version: []string{"mktemp", "--version"}},
	{name: "openssl", command: []string{"sh", "-c", `echo "~ $(openssl rand -hex 16)"`}, version: []string{"openssl", "version"}},
	{name: "shuf", command: []string{"sh", "-c", `echo "~" $(shuf -i 1-20)`}, version: []string{"shuf", "--version"}},
	{name: "mawk", command: []string{"mawk", awkProgram}, version: []string{"mawk", "-W", "version"}},
	{name: "gawk", command: []string{"gawk", awkProgram}, version: []string{"gawk", "--version"}},
	{name: "perl", command: []string{"perl", "testdata/src/native.pl"}, version: []string{"perl", "-v"}},
	{name: "python", build: python, version: []string{"python3", "--version"}},
	{name: "node", command: []string{"node", "testdata/src/native.js"}, version: []string{"node", "--version"}},
	{name: "java", build: compileJava, version: []string{"java", "-XX:-UsePerfData", "-version"}},
	{name: "go", build: compileGo("native.go")},
	{
		name: "go-runtime", build: compileGo("runtime.go"), version: []string{"go", "version"},
		pending: "a new thread draws its seed from the thread that makes it, and how many threads Go's runtime makes before main begins is up to the scheduler",
	},
	{name: "c", build: compileC, version: []string{"gcc", "--version"}},
	{name: "urandom", command: []string{"sh", "-c", "for i in 1 2; do od -An -N 16 -t x1 /dev/urandom; od -An -N 4 -t x1 /dev/random; done"}},
	{name: "uuid", command: []string{"cat", "/proc/sys/kernel/random/uuid", "/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/random/uuid"}},
	{name: "ls", build: inDirectory("ls", "-f")},
	{name: "find", build: inDirectory("find", ".")},
	{name: "glob", build: inDirectory("perl", "-e", `opendir D, "."; print "$_\n" for readdir D`)},
	{name: "nproc", command: []string{"nproc"}},
	{name: "nproc-all", command: []string{"nproc", "--all"}},
	{name: "cpus", command: []string{"sh", "-c", "nproc; getconf _NPROCESSORS_ONLN; grep -c ^processor /proc/cpuinfo; cat /sys/devices/system/cpu/online"}, opts: sandtest.Options{CPUs: 6}},
	{name: "free", command: []string{"sh", "-c", `free -b | awk '/^Mem:/ { print $2, $3, $4, $7 }'`}},
	{name: "uptime", command: []string{"sh", "-c", "uptime -s; cat /proc/uptime /proc/loadavg"}},
	{name: "uname", command: []string{"uname", "-snrvm"}},
	{name: "hostname", command: []string{"hostname"}},
	{name: "sleep", command: []string{"sh", "-c", "date +%s.%N; sleep 0.1; date +%s.%N; cat /proc/uptime"}},
	{name: "failure", command: []string{"sh", "-c", "echo out; echo error >&2; exit 9"}},
}

const awkProgram = `BEGIN { print "~", rand(); srand(); print "~", rand(); print srand() }`

// hasNamespaces reports whether sandboxes have process ids of their own here.
func hasNamespaces(t *testing.T) bool {
	t.Helper()
	return sandtest.Run(t, exec.Command("true"), sandtest.Options{}).Stats.Backend == sandtest.BackendNamespaces.String()
}

func TestPrograms(t *testing.T) {
	cache := t.TempDir()
	namespaces := hasNamespaces(t)
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			if p.pid && !namespaces {
				p.pending = "without namespaces the process id is the host's"
			}
			args := p.command
			if p.build != nil {
				args = p.build(t, cache)
			} else if _, err := exec.LookPath(args[0]); err != nil {
				t.Skip(err)
			}
			// A shell says 127 for what it doesn't find.
			for _, tool := range p.version[:min(1, len(p.version))] {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skip(err)
				}
			}
			first := p.run(t, args)
			stop := load(t)
			second := p.run(t, args)
			stop()
			third := p.run(t, args)
			same := first == second && second == third
			switch {
			case p.pending != "":
				t.Skipf("%s; the outcome was the same three times: %v", p.pending, same)
			case !same:
				t.Fatalf("the second run, under load, and the third differ from the first (-first +other):\n%s%s",
					cmp.Diff(first, second), cmp.Diff(first, third))
			}
			p.golden(t, first)
		})
	}
}

// shown lets a command see its arguments that are files below the host's /tmp.
func shown(args []string) (list []sandtest.Mount) {
	for _, arg := range args {
		if _, err := os.Stat(arg); err == nil && strings.HasPrefix(arg, os.TempDir()+"/") {
			list = append(list, sandtest.Mount{Host: arg})
		}
	}
	return list
}

// run runs the program and returns its outcome: the exit status, what it wrote to
// standard output, and what to standard error, if anything.
func (p program) run(t *testing.T, args []string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	opts := p.opts
	opts.Timeout = 2 * time.Minute
	opts.Mounts = shown(args)
	res := sandtest.Run(t, cmd, opts)
	if res.TimedOut || res.Signal != 0 {
		t.Fatalf("%v: timed out: %v, signal: %v, standard error:\n%s\n%+v", args, res.TimedOut, res.Signal, res.Stderr, res.Stats)
	}
	out := fmt.Sprintf("exit %d\n%s", res.ExitCode, res.Stdout)
	if res.Stderr != "" {
		out += "-- stderr --\n" + res.Stderr
	}
	return out
}

// golden compares an outcome with the golden file, or writes that.
func (p program) golden(t *testing.T, outcome string) {
	t.Helper()
	var got, ofVersion strings.Builder
	for line := range strings.Lines(outcome) {
		if strings.HasPrefix(line, "~ ") {
			ofVersion.WriteString(line)
		} else {
			got.WriteString(line)
		}
	}
	if ofVersion.Len() > 0 {
		if p.version == nil {
			t.Fatalf("the output depends on the version, and the row doesn't say how to find it:\n%s", outcome)
		}
		got.WriteString(versionMark + versionOf(t, p.version) + "\n" + ofVersion.String())
	}
	file := filepath.Join("testdata", "programs", p.name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\nrun the test with -update to write it", err)
	}
	wantAlways, wantVersion := cutVersion(string(want))
	gotAlways, gotVersion := cutVersion(got.String())
	if diff := cmp.Diff(wantAlways, gotAlways); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
	wantHeader, _, _ := strings.Cut(wantVersion, "\n")
	gotHeader, _, _ := strings.Cut(gotVersion, "\n")
	if wantHeader != gotHeader {
		t.Logf("part of %s isn't compared: it is for %q, this is %q", file, wantHeader, gotHeader)
		return
	}
	if diff := cmp.Diff(wantVersion, gotVersion); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// versionMark begins the part of a golden file that depends on a version.
const versionMark = "-- only with "

func cutVersion(golden string) (always, ofVersion string) {
	before, after, _ := strings.Cut(golden, versionMark)
	return before, after
}

// versionOf says with what version a program runs: its own and the C library's,
// which draws random bytes too. It runs outside of a sandbox.
func versionOf(t *testing.T, command []string) string {
	t.Helper()
	var words []string
	for _, args := range [][]string{command, {"getconf", "GNU_LIBC_VERSION"}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir()) // for Go's telemetry
		out, err := cmd.CombinedOutput()
		if err != nil {
			words = append(words, "unknown")
			continue
		}
		words = append(words, strings.Join(strings.Fields(firstLines(string(out), 2)), " "))
	}
	return strings.Join(words, ", ")
}

func firstLines(s string, n int) string {
	lines := strings.SplitAfter(strings.TrimLeft(s, "\n"), "\n")
	return strings.Join(lines[:min(n, len(lines))], "")
}

// load keeps the CPUs busy until stop is called.
func load(t *testing.T) (stop func()) {
	t.Helper()
	started, quit, ended := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		// The processes die with the thread that starts them.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		var busy []*exec.Cmd
		var err error
		for range 2 {
			cmd := exec.Command("sh", "-c", "while :; do :; done")
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err = cmd.Start(); err != nil {
				break
			}
			busy = append(busy, cmd)
		}
		started <- err
		<-quit
		for _, cmd := range busy {
			_ = cmd.Process.Kill() // Wait tells
			_ = cmd.Wait()         // it was killed
		}
	}()
	stop = sync.OnceFunc(func() { close(quit); <-ended })
	t.Cleanup(stop)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return stop
}

// python finds the interpreter itself: where python3 is a script that looks for
// one, the processes it starts differ from machine to machine.
func python(t *testing.T, _ string) []string {
	out := tool(t, exec.Command("python3", "-I", "-S", "-c", "import sys; print(sys.executable)"))
	return []string{strings.TrimSpace(out), "-I", "-S", "-B", "testdata/src/native.py"}
}

func compileC(t *testing.T, _ string) []string {
	exe := filepath.Join(t.TempDir(), "native")
	tool(t, exec.Command("gcc", "-static", "-O1", "-o", exe, "testdata/src/native.c"))
	return []string{exe}
}

func compileJava(t *testing.T, _ string) []string { return javaProgram(t, "Native") }

// javaProgram compiles a class. Performance data would be kept in a file in /tmp
// that has the pid as its name.
func javaProgram(t *testing.T, class string) []string {
	t.Helper()
	dir := t.TempDir()
	tool(t, exec.Command("javac", "-J-XX:-UsePerfData", "-d", dir, filepath.Join("testdata", "src", class+".java")))
	return []string{"java", "-XX:-UsePerfData", "-cp", dir, class}
}

func compileGo(source string) func(*testing.T, string) []string {
	return func(t *testing.T, cache string) []string {
		return []string{goProgram(t, cache, source)}
	}
}

// goProgram builds a static program. It writes only into the build cache, or into
// the one given where that can't be written.
func goProgram(t *testing.T, cache, source string) string {
	t.Helper()
	dir := t.TempDir()
	env := exec.Command("go", "env", "GOCACHE")
	env.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir) // for telemetry
	own := strings.TrimSpace(tool(t, env))
	if probe, err := os.CreateTemp(own, "probe"); err == nil {
		cache = own
		_, _ = probe.Close(), os.Remove(probe.Name())
	}
	exe := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-o", exe, filepath.Join("testdata", "src", source))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local", "GOENV=off",
		"HOME="+dir, "XDG_CONFIG_HOME="+dir, "GOCACHE="+cache)
	tool(t, cmd)
	return exe
}

// tool runs what a test needs, outside of a sandbox, and skips the test where it
// is missing or doesn't work.
func tool(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	return string(out)
}

// inDirectory makes a command that lists a directory whose entries were made in
// an order that isn't that of their names.
func inDirectory(args ...string) func(*testing.T, string) []string {
	return func(t *testing.T, _ string) []string {
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Skip(err)
		}
		dir := t.TempDir()
		for _, name := range []string{"m/b", "m/a", "zebra", "Zebra", "10", "9", ".hidden", "a b", "é", "a", "B/deep/er/file", "a.b", "a-b"} {
			name = filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, nil, 0o666)); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
		}
		return append([]string{"env", "-C", dir}, args...)
	}
}

package sandtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/sandtest"
	"github.com/sandtest/go-sandtest/supervisor"
)

// traced are small programs whose trace must be the same in every run.
var traced = []struct {
	name  string
	tools []string
	shell string
	want  []string // lines of the trace, in this order
}{
	{"sleep", nil, "exec sleep 5", []string{
		`0.000000 0 +++ started "/usr/bin/sh" as ["sh" "-c" "exec sleep 5"] +++`,
		`0.000000 0 execve("/usr/bin/sleep", ["sleep", "5"], 8 variables) = 0 <exec>`,
		`0.000000 0 clock_nanosleep(0, 0x0, 5.000000000, ...) = 0 after 5.000000 <waits>`,
		`5.000000 0 +++ exited with 0 +++`,
	}},
	{"files", nil, `for i in 1 2; do echo $i >f$i; mv f$i g$i; done; ls; rm -r g1; rmdir no; ln -s x y; chmod 600 g2`, []string{
		`0.000000 0 openat(AT_FDCWD, "f1", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3 <open>`,
		`0.000000 0.1 renameat2(AT_FDCWD, "f1", AT_FDCWD, "g1", 0x1) = 0 <names>`,
		`0.000000 0.3 getdents64(3, ..., 32768) = 96 <dirorder>`,
		`0.000000 0.4 unlinkat(AT_FDCWD, "g1", 0) = 0 <names>`,
		`0.000000 0.5 rmdir("no") = -1 ENOENT <names>`,
		`0.000000 0.6 symlinkat("x", AT_FDCWD, "y") = 0 <names>`,
		`0.000000 0.7 fchmodat(AT_FDCWD, "g2", 0600) = 0 <attributes>`,
	}},
	{"pipes", nil, `sleep 3 & (date; echo x) | sort | wc -l; wait; kill -TERM $$`, []string{
		`0.000000 0.1 +++ started +++`,
		`3.000000 0 +++ killed by SIGTERM +++`,
		`3.000000 0.1 +++ exited with 0 +++`,
	}},
	{"refused", []string{"unshare"}, `unshare -U true`, []string{`0.000000 0.1 unshare(0x10000000) = -1 EPERM <refused>`}},
	{"network", []string{"python3"}, `exec python3 -c '
import socket
s = socket.socket(); s.bind(("127.0.0.1", 8080)); s.listen()
c = socket.create_connection(("127.0.0.1", 8080)); s.accept()'`, []string{
		`0.000000 0 socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3 <network>`,
		`0.000000 0 bind(3, 127.0.0.1:8080, 16) = 0 <network>`,
		`0.000000 0 connect(4, 127.0.0.1:8080, 16) = 0 <network>`,
		`0.000000 0 accept4(3, ..., ..., 0x80000) = 5 <messages>`,
	}},
	{"signal", []string{"perl"}, `exec perl -e '$SIG{ALRM} = sub { print "x" }; alarm 2; select undef, undef, undef, 5; select undef, undef, undef, 5'`, []string{
		`0.000000 0 alarm(2) = 0 <itimers>`,
		`7.000000 0 +++ exited with 0 +++`,
	}},
	{"compiler", []string{"gcc"}, `printf 'int main(){return 3;}' >p.c; gcc -o p p.c; ./p`, []string{
		`0.000000 0.2 execve("./p", ["./p"], 8 variables) = 0 <exec>`,
		`0.000000 0.2 +++ exited with 3 +++`,
	}},
	{"timeout", []string{"timeout"}, `timeout 2 sleep 10; exit $?`, []string{`2.000000 0 +++ exited with 124 +++`}},
	{"find", []string{"find"}, `find /etc -name "*.conf" | sort | head -n 3`, []string{`0.000000 0 +++ exited with 0 +++`}},
	{"static", []string{"gcc"}, `printf '#include <unistd.h>\nint main(){sleep(1); return access("/nowhere", 0) == 0;}' >p.c; gcc -static -o p p.c && exec ./p`, []string{
		`1.000000 0 access("/nowhere", 0) = -1 ENOENT <stat>`,
	}},
}

// A trace tells what a program does, and is the same in every run.
func TestTrace(t *testing.T) {
	runs := 3
	if os.Getenv("SANDTEST_LONG") != "" {
		runs = 50
	}
	for _, p := range traced {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			for _, tool := range p.tools {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skipf("%s isn't there", tool)
				}
			}
			var first string
			for n := range runs {
				cmd := exec.Command("sh", "-c", p.shell)
				cmd.Dir = t.TempDir()
				res := sandtest.Run(t, cmd, sandtest.Options{Trace: true})
				text := res.Trace.String()
				if n == 0 {
					first = text
					checkLines(t, text, p.want)
				}
				if text != first {
					t.Fatalf("run %d differs (-first +this):\n%s", n+1, cmp.Diff(strings.Split(first, "\n"), strings.Split(text, "\n")))
				}
			}
		})
	}
}

// checkLines looks for lines in a text, in this order. The path of sh and the number of
// variables are the machine's.
func checkLines(t *testing.T, text string, want []string) {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	rest := strings.Split(text, "\n")
	for _, line := range want {
		line = strings.ReplaceAll(line, "/usr/bin/sh", sh)
		i := 0
		for i < len(rest) && rest[i] != line {
			i++
		}
		if i == len(rest) {
			t.Fatalf("the trace has no line (after those before)\n\t%s\nit is\n%s", line, text)
		}
		rest = rest[i+1:]
	}
}

// Without the option nothing is traced, and nothing more is trapped.
func TestNoTrace(t *testing.T) {
	res := sandtest.Run(t, exec.Command("true"), sandtest.Options{})
	if res.Trace != nil {
		t.Errorf("there is a trace: %v", res.Trace)
	}
	if n := res.Stats.Notifications["rseq"]; n != 0 {
		t.Errorf("rseq came %d times, although the filter refuses it", n)
	}
}

// A perfettoEvent is what a test looks at of an event for Perfetto.
type perfettoEvent struct {
	Name, Ph string
	Pid, Tid int
	Ts, Dur  float64
	Args     map[string]any
}

func perfetto(t *testing.T, trace supervisor.Trace) []perfettoEvent {
	t.Helper()
	var b bytes.Buffer
	if err := trace.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var file struct{ TraceEvents []perfettoEvent }
	if err := json.Unmarshal(b.Bytes(), &file); err != nil {
		t.Fatal(err)
	}
	return file.TraceEvents
}

// The tracks of threads are named, also after a program that was executed later.
func TestTraceThreads(t *testing.T) {
	python := pythonItself(t)
	args := append(slices.Clone(python[1:]), "-c", `
import os, threading
for i in range(2):
    t = threading.Thread(target=lambda: os.stat("/")); t.start(); t.join()
os.execv("/bin/sh", ["sh", "-c", "true"])`)
	res := sandtest.Run(t, exec.Command(python[0], args...), sandtest.Options{Trace: true})
	var names []string
	for _, e := range perfetto(t, res.Trace) {
		if e.Ph == "M" && e.Name == "thread_name" {
			names = append(names, fmt.Sprint(e.Pid, "/", e.Tid, " ", e.Args["name"]))
		}
	}
	want := []string{"1/1 " + filepath.Base(python[0]), "1/1 sh", "1/2 thread 2", "1/3 thread 3"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names of threads (-want +got):\n%s%s", diff, res.Stderr)
	}
}

// The trace for Perfetto has a track for each process and for the clock.
func TestTraceJSON(t *testing.T) {
	res := sandtest.Run(t, exec.Command("sh", "-c", "sleep 5 & sleep 2; wait"), sandtest.Options{Trace: true})
	var clock []string
	names := map[int]string{}
	sleeps := map[int]float64{}
	for _, e := range perfetto(t, res.Trace) {
		switch {
		case e.Ph == "M" && e.Name == "process_name":
			names[e.Pid], _ = e.Args["name"].(string)
		case e.Ph == "X" && e.Pid == 0:
			clock = append(clock, e.Name)
		case e.Name == "clock_nanosleep":
			sleeps[e.Pid] = e.Dur
		}
	}
	if diff := cmp.Diff([]string{"+2.000000 s", "+3.000000 s"}, clock); diff != "" {
		t.Errorf("the clock's track (-want +got):\n%s", diff)
	}
	if len(names) != 4 || !strings.HasPrefix(names[2], "0.1 ") || !strings.HasSuffix(names[2], "/sleep") {
		t.Errorf("the tracks are %v: want the clock, sh and two times sleep", names)
	}
	if sleeps[2] != 5e6 || sleeps[3] != 2e6 {
		t.Errorf("sleeps last %v us: want 5 s of process 2 and 2 s of process 3", sleeps)
	}
}

// What a refused call would have been is in the trace, however it is refused.
func TestTraceWho(t *testing.T) {
	res := sandtest.Run(t, exec.Command("cat", "/nowhere"), sandtest.Options{Trace: true})
	var e *supervisor.TraceEntry
	for i := range res.Trace {
		if strings.Contains(res.Trace[i].Text, `"/nowhere"`) && res.Trace[i].Name != "" {
			e = &res.Trace[i]
		}
	}
	if e == nil {
		t.Fatalf("no call names /nowhere:\n%s", res.Trace)
	}
	want := supervisor.TraceEntry{Process: det.Root, Thread: 1, Program: e.Program, Name: "openat", Category: supervisor.FileCall,
		Text: `openat(AT_FDCWD, "/nowhere", O_RDONLY)`, Result: "-1 ENOENT", By: "open"}
	if diff := cmp.Diff(want, *e); diff != "" {
		t.Errorf("the entry (-want +got):\n%s", diff)
	}
}

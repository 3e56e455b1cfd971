package sandtest_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/sandtest"
	"github.com/sandtest/go-sandtest/supervisor"
	"golang.org/x/sys/unix"
)

// fault parses a specification as --fault takes it.
func fault(t *testing.T, spec string) sandtest.Fault {
	t.Helper()
	f, err := supervisor.ParseFault(spec)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Each fault does what it says to the calls that it selects, and to no others.
func TestFaults(t *testing.T) {
	const python = `
import os
def try_(name, f):
    try: print(name, f())
    except OSError as e: print(name, e.strerror)
`
	for _, tt := range []struct {
		fault  string
		script string // of python3, or of sh
		want   string
		hits   int
	}{
		{"mkdir:error=ENOSPC", "mkdir a; mkdir b; echo $?; ls", "1\n", 2},
		{"mkdir:error=28", "mkdir a 2>&1 | grep -o 'No space.*'", "No space left on device\n", 1},
		{"openat:path=secret:error=EACCES", "echo x >secret; echo x >other; ls", "other\n", 1},
		{"openat:path=/work/d/*:error=EACCES", "mkdir d; echo x >d/a; ln -s d/b l; echo x >l; echo x >c; ls", "c\nd\nl\n", 2},
		{`openat:path=a\:b:error=EACCES`, "echo x >a:b; echo x >a; ls", "a\n", 1},
		{"bind,sendmsg:path=*s:error=EACCES", python + `
import socket
for name in "s", "\0abs", "t": try_(name, lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind(name))
try_("send", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendmsg([b"x"], [], 0, "s"))`, "s Permission denied\n\x00abs Permission denied\nt None\nsend Permission denied\n", 3},
		{"%file:path=/work/gone:error=EIO", "mkdir gone; echo >gone; ls", "", 2},
		{"execve:path=date:error=EPERM", "date; echo $?; true", "126\n", -1},
		{"mkdir:when=2:process=0.1:error=EIO", "(mkdir a); sh -c 'mkdir b; mkdir c'; ls", "a\nb\nc\n", 0},
		{"symlinkat:program=ln:error=EIO", "ln -s a b; ls", "", 1},
		{"symlinkat:program=cp:error=EIO", "ln -s a b; ls", "b\n", 0},
		{"write:fd=file:path=f:when=2:error=ENOSPC", python + `
f = os.open("f", os.O_CREAT | os.O_RDWR)
for i in range(3): try_(i, lambda: os.write(f, b"abc"))
print(os.lseek(f, 0, 1))`, "0 3\n1 No space left on device\n2 3\n6\n", 1},
		{"write:fd=file:path=f:when=2+:error=ENOSPC", python + `
f = os.open("f", os.O_CREAT | os.O_RDWR)
for i in range(3): try_(i, lambda: os.write(f, b"abc"))`, "0 3\n1 No space left on device\n2 No space left on device\n", 2},
		{"write:fd=file:path=f:when=1..4+2:error=EIO", python + `
f = os.open("f", os.O_CREAT | os.O_RDWR)
for i in range(6): try_(i, lambda: os.write(f, b"abc"))`, "0 Input/output error\n1 3\n2 Input/output error\n3 3\n4 3\n5 3\n", 2},
		{"read:fd=file:path=f:short=2", python + `
open("f", "w").write("abcde")
f = os.open("f", os.O_RDONLY)
for i in range(4): try_(i, lambda: os.read(f, 100))`, "0 b'ab'\n1 b'cd'\n2 b'e'\n3 b''\n", 4},
		{"write:fd=pipe:short=3", python + `
r, w = os.pipe()
try_("write", lambda: os.write(w, b"abcde"))
try_("read", lambda: os.read(r, 100))`, "write 3\nread b'abc'\n", -1},
		{"fsync:delay=90s", python + `
import time
f = os.open("f", os.O_CREAT | os.O_RDWR)
t = time.time(); os.fsync(f); print(time.time() - t)
os.fdatasync(f); print(time.time() - t)`, "90.0\n90.0\n", 1},
		{"connect:program=python3*:fd=socket:process=0:when=1+:delay=2m", python + `
import socket, time
s = socket.socket(); s.bind(("127.0.0.1", 80)); s.listen()
t = time.time(); c = socket.create_connection(("127.0.0.1", 80)); print(time.time() - t)
c = socket.socket(); c.settimeout(5)
try_("connect", lambda: c.connect(("127.0.0.1", 80))); print(time.time() - t)`, "120.0\nconnect None\n240.0\n", 2},
		{"unlink:signal=SIGUSR1:when=2", python + `
import signal
signal.signal(signal.SIGUSR1, lambda *_: print("signal"))
for n in "abc": open(n, "w"); os.unlink(n); print(n)
print(os.listdir("."))`, "a\nsignal\nb\nc\n[]\n", 1},
		{"rename:kill", python + `
import sys
open("a", "w")
if os.fork() == 0:
    os.rename("a", "b")
    os._exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]), os.listdir("."))`, "-9 ['a']\n", 1},
		{"fork,vfork,clone:error=EAGAIN", python + `try_("fork", os.fork)`, "fork Resource temporarily unavailable\n", 1},
		{"mmap,mprotect,munmap,openat:error=ENOMEM", "true", "", -1}, // a program that can't be loaded, in a sandbox that can
		{"close:path=f:error=EIO", python + `
f = os.open("f", os.O_CREAT | os.O_RDWR)
try_("close", lambda: os.close(f))`, "close Input/output error\n", 1},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			t.Parallel()
			shell := []string{"sh", "-c"}
			if strings.HasPrefix(tt.script, python) {
				shell = append(pythonItself(t), "-c")
			}
			cmd := exec.Command(shell[0], append(shell[1:], tt.script)...)
			cmd.Dir = t.TempDir()
			res := sandtest.Run(t, cmd, sandtest.Options{Faults: []sandtest.Fault{fault(t, tt.fault)}})
			if res.Stdout != tt.want {
				t.Errorf("standard output is %q, want %q\n%s", res.Stdout, tt.want, res.Stderr)
			}
			if tt.hits >= 0 && len(res.Faults) != tt.hits {
				t.Errorf("%d calls were hit, want %d: %v", len(res.Faults), tt.hits, res.Faults)
			}
		})
	}
}

// pythonItself returns the command of python3, not of a script that looks for it, without
// anything that a user may have added.
func pythonItself(t *testing.T) []string {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 isn't there")
	}
	return []string{strings.TrimSpace(tool(t, exec.Command("python3", "-I", "-S", "-c", "import sys; print(sys.executable)"))), "-I", "-S", "-B"}
}

// A share of calls is hit by the seed and by names, not by who comes first.
func TestFaultShare(t *testing.T) {
	hits := func(seed uint64) (list []string) {
		cmd := exec.Command("sh", "-c", `for i in 1 2 3 4 5 6 7 8; do mkdir $i.a $i.b $i.c $i.d & done 2>/dev/null; wait`)
		cmd.Dir = t.TempDir()
		res := sandtest.Run(t, cmd, sandtest.Options{Seed: seed, CPUs: 4, Faults: []sandtest.Fault{fault(t, "mkdir:share=0.5:error=EIO")}})
		for _, h := range res.Faults {
			list = append(list, string(h.Process)+" "+h.Text)
		}
		return list
	}
	first := hits(1)
	if len(first) < 8 || len(first) > 24 {
		t.Errorf("%d of 32 calls were hit, want about half: %q", len(first), first)
	}
	for range 3 {
		if diff := cmp.Diff(first, hits(1)); diff != "" {
			t.Errorf("with the same seed (-first +this):\n%s", diff)
		}
	}
	if slices.Equal(first, hits(2)) {
		t.Errorf("another seed hits the same calls: %q", first)
	}
}

// What can't be meant, or can't be had, is said before anything runs.
func TestFaultErrors(t *testing.T) {
	for _, tt := range []struct{ spec, want string }{
		{"", "it names no call"},
		{"read", "0 effects"},
		{"read:error=EIO:kill", "2 effects"},
		{"read:error=EWHAT", `no error "EWHAT"`},
		{"read:signal=SIGWHAT", `no signal "SIGWHAT"`},
		{"read:short=0", "at least a byte"},
		{"read:delay=-1s", "isn't negative"},
		{"read:delay=1s:share=2", "share is 2"},
		{"read:error=EIO:when=0", "counted from 1"},
		{"read:error=EIO:when=x", "invalid syntax"},
		{"read:error=EIO:when=5..3", "before the first"},
		{"read:error=EIO:fd=thing", "want one of file, dir, pipe"},
		{"read:error=EIO:path=[", "syntax error in pattern"},
		{"read:what=1", `"what=1": want one of error, short, delay`},
		{"read:error=EIO:", `"": want one of error, short, delay`},
		{"read:error=", `"error=": want error=VALUE`},
		{"read:error", `"error": want error=VALUE`},
		{"read:error=EIO:path=", `"path=": want path=VALUE`},
		{"read:error=EIO:share=0", `"share=0": want more than 0, less than 1`},
		{"read:error=EIO:share=NaN", "share is NaN: want more than 0, less than 1"},
		{"read:error=EIO:share=1", "share is 1: want more than 0, less than 1"},
		{"read:delay=0s", `"delay=0s": want a time span that isn't 0`},
		{"read:kill=no", `"kill=no": kill has no value`},
		{"read:kill=", `"kill=": kill has no value`},
		{"read:kill:kill", `"kill": kill was given before`},
		{"read:error=EIO:path=a:path=b", `"path=b": path was given before`},
		{`read:error=EIO:path=a\\:b`, `"b": want one of error`},
	} {
		if _, err := supervisor.ParseFault(tt.spec); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseFault(%q): %v, want %q", tt.spec, err, tt.want)
		}
	}
	for _, tt := range []struct{ spec, want string }{
		{"reed:error=EIO", `no system call "reed"`},
		{"%fils:error=EIO", `no category "%fils"`},
		{"recvmsg:delay=1s", "recvmsg can't be delayed"},
		{"getrandom:short=1", "getrandom can't be cut short: the supervisor answers it"},
		{"readv:short=1", "several buffers"},
	} {
		_, err := sandtest.Execute(exec.Command("true"), sandtest.Options{Faults: []sandtest.Fault{fault(t, tt.spec)}})
		if err == nil || !strings.Contains(err.Error(), "fault 1: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.spec, err, tt.want)
		}
	}
	f := fault(t, "connect,bind:error=EACCES:path=*.sock:when=2..9+3:program=x:process=0.1:share=0.25")
	want := sandtest.Fault{Calls: []string{"connect", "bind"}, Path: "*.sock", Program: "x", Process: "0.1", First: 2, Last: 9, Step: 3, Share: 0.25, Error: unix.EACCES}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Errorf("ParseFault (-want +got):\n%s", diff)
	}
	for spec, path := range map[string]string{`a\:b`: "a:b", `\:\:`: "::", `a\*\:`: `a\*:`, `a\\`: `a\\`} {
		if got := fault(t, "open:path="+spec+":kill"); got.Path != path || !got.Kill {
			t.Errorf("path=%s is %q (kill: %v), want %q", spec, got.Path, got.Kill, path)
		}
	}
	if _, err := sandtest.Execute(exec.Command("true"), sandtest.Options{Faults: []sandtest.Fault{{Calls: []string{"read"}, Error: unix.EIO, Share: math.NaN()}}}); err == nil || !strings.Contains(err.Error(), "fault 1: share is NaN") {
		t.Errorf("a share that is no number: %v", err)
	}
}

// A delay holds up who is delayed, and nobody else.
func TestFaultDelay(t *testing.T) {
	for _, clock := range []sandtest.Clock{sandtest.Virtual, sandtest.Running} {
		cmd := exec.Command("sh", "-c", `mkdir slow & mkdir quick; date +%s.%N; wait; date +%s`)
		cmd.Dir = t.TempDir()
		began := time.Now()
		res := sandtest.Run(t, cmd, sandtest.Options{Clock: clock, Faults: []sandtest.Fault{fault(t, "mkdir:process=0.1:delay=1s")}})
		var before, after float64
		if _, err := fmt.Sscan(res.Stdout, &before, &after); err != nil {
			t.Fatalf("%v: %q %q: %v", clock, res.Stdout, res.Stderr, err)
		}
		start := float64(res.ClockStart.Unix())
		if clock == sandtest.Virtual && (before != start || after != start+1) {
			t.Errorf("%v: the quick one is through at +%v s, the slow one at +%v s: want 0 and 1", clock, before-start, after-start)
		}
		if clock == sandtest.Running && time.Since(began) < time.Second {
			t.Errorf("%v: all was over after %v", clock, time.Since(began))
		}
	}
}

// A call that is held back by the host's clock holds up neither the end nor a freeze.
func TestFaultDelayEnds(t *testing.T) {
	opts := sandtest.Options{Clock: sandtest.Running, Faults: []sandtest.Fault{fault(t, "mkdir:delay=1h")}}
	cmd := exec.Command("sh", "-c", "mkdir slow & sleep 0.1; echo through")
	cmd.Dir = t.TempDir()
	if res := sandtest.Run(t, cmd, opts); res.Stdout != "through\n" {
		t.Errorf("it says %q %q", res.Stdout, res.Stderr)
	}
	cmd = exec.Command("mkdir", "slow")
	cmd.Dir = t.TempDir()
	p := sandtest.Start(t, cmd, opts)
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	p.Thaw()
}

// A process that is killed while its call is held back leaves nothing behind.
func TestFaultDelayKilled(t *testing.T) {
	cmd := exec.Command("sh", "-c", `timeout -s KILL 5 mkdir slow; date +%s`)
	cmd.Dir = t.TempDir()
	res := sandtest.Run(t, cmd, sandtest.Options{Faults: []sandtest.Fault{fault(t, "mkdir:delay=1h")}})
	if want := fmt.Sprintln(res.ClockStart.Unix() + 5); res.Stdout != want || len(res.Changes) != 0 {
		t.Errorf("it ended with %q and %v, want %q and no change", res.Stdout, res.Changes, want)
	}
}

// failures collects in which calls something was wrong.
type failures struct {
	mu   sync.Mutex
	list []string
	runs int
}

func (f *failures) note(t *testing.T, wrong bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs++
	if wrong {
		_, name, _ := strings.Cut(t.Name(), "calls/")
		f.list = append(f.list, name)
	}
}

// A sweep finds the one error that a program doesn't look at.
func TestSweep(t *testing.T) {
	saver := goProgram(t, t.TempDir(), "saver.go")
	sweep := func(args ...string) *failures {
		f := new(failures)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config"), []byte("old contents\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		opts := sandtest.Options{Faults: []sandtest.Fault{
			{Calls: []string{"openat", "write", "fsync", "close", "renameat", "unlinkat"}, Path: "/work/*", Error: unix.EIO},
		}}
		t.Run("calls", func(t *testing.T) {
			cmd := exec.Command(saver, args...)
			cmd.Dir = dir
			sandtest.Sweep(t, cmd, opts, func(t *testing.T, res *sandtest.Result) {
				said := res.ExitCode == 0
				f.note(t, said && (len(res.Faults) > 0 && res.Faults[0].Call != "unlinkat" && !strings.HasSuffix(t.Name(), "none")))
			})
		})
		return f
	}
	f := sweep()
	if diff := cmp.Diff([]string{"p0:3_fsync_/work/config.new@13_EIO"}, f.list); diff != "" {
		t.Errorf("calls whose errors saver doesn't look at (-want +got):\n%s", diff)
	}
	if f.runs != 8 {
		t.Errorf("there were %d runs, want 1 and 7", f.runs)
	}
	if f := sweep("-careful"); f.list != nil {
		t.Errorf("careful, it doesn't look at those of %q", f.list)
	}
}

// The name of each call, given to -run, selects it alone.
func TestSweepNames(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var names []string
	t.Run("calls", func(t *testing.T) {
		cmd := exec.Command("sh", "-c", `f='f (1)+x[$|'; for i in 1 2 3 4 5 6 7 8 9 10; do (: >"$f"); done; : >"$f"; mkdir -p d/e; echo x >d/e/.f; echo x >d/e/xf`)
		cmd.Dir = dir
		sandtest.Sweep(t, cmd, sandtest.Options{Faults: []sandtest.Fault{
			{Calls: []string{"openat"}, Path: "/work/*", Error: unix.EIO},
			{Calls: []string{"write"}, Path: "/work/d/e/*", Short: 1},
			{Calls: []string{"write"}, Path: "/work/d/e/*", Short: 10},
		}}, func(t *testing.T, res *sandtest.Result) {
			mu.Lock()
			defer mu.Unlock()
			names = append(names, strings.TrimPrefix(t.Name(), "TestSweepNames/"))
		})
	})
	for _, name := range names {
		if got := selected(t, name, names); !slices.Equal(got, []string{name}) {
			t.Errorf("-run %s selects %q", name, got)
		}
	}
	for _, want := range []string{"calls/none", "calls/p0:1_openat_/work/f__1__x____EIO", "calls/p0.10:1_openat_/work/f__1__x____EIO",
		"calls/p0:2_write_/work/d/e/xf@0_short=1", "calls/p0:2:3_write_/work/d/e/xf@0_short=10"} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no %s among %q", want, names)
		}
	}
}

// selected returns the names that -run would select by a pattern.
func selected(t *testing.T, pattern string, names []string) (list []string) {
	t.Helper()
	want := strings.Split(pattern, "/")
	for _, name := range names {
		got, ok := strings.Split(name, "/"), true
		for i := range min(len(want), len(got)) {
			matched, err := regexp.MatchString(want[i], got[i])
			if err != nil {
				t.Errorf("-run %s: %v", pattern, err)
			}
			ok = ok && matched
		}
		if ok {
			list = append(list, name)
		}
	}
	return list
}

// sqlite loses nothing that it has said is there, wherever it is killed.
func TestSweepSQLite(t *testing.T) {
	python := pythonItself(t)
	if exec.Command(python[0], append(python[1:], "-c", "import sqlite3")...).Run() != nil {
		t.Skip("python3 has no sqlite3")
	}
	const program = `
import sqlite3
db = sqlite3.connect("db", isolation_level=None)
db.execute("pragma journal_mode=%s"); db.execute("pragma synchronous=%s")
db.execute("create table if not exists t (n integer)")
for n in range(20):
    db.execute("begin"); db.execute("insert into t values (?)", (n,)); db.execute("commit")
    print(n, flush=True)
`
	const recovery = `
import sqlite3
db = sqlite3.connect("db")
try: rows = [n for n, in db.execute("select n from t order by n")]
except sqlite3.OperationalError as e:
    if "no such table" not in str(e): raise
    rows = []
print(db.execute("pragma integrity_check").fetchone()[0], rows == list(range(len(rows))), len(rows))
`
	for _, tt := range []struct {
		mode, synchronous string
		powerLoss         bool
	}{{"delete", "full", false}, {"wal", "full", false}, {"delete", "extra", true}, {"wal", "full", true}} {
		name := tt.mode
		if tt.powerLoss {
			name += ", loss of power"
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command(python[0], append(python[1:], "-c", fmt.Sprintf(program, tt.mode, tt.synchronous))...)
			cmd.Dir = dir
			kill := sandtest.Fault{Calls: []string{"openat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "unlink", "fallocate"}, Path: "db*", Kill: true, Step: 29}
			switch {
			case os.Getenv("SANDTEST_LONG") != "":
				kill.Step = 1
			case testing.Short():
				kill.Step = 67
			}
			sandtest.Sweep(t, cmd, sandtest.Options{Faults: []sandtest.Fault{kill}, PowerLoss: tt.powerLoss}, func(t *testing.T, res *sandtest.Result) {
				cmd := exec.Command(python[0], append(python[1:], "-c", recovery)...)
				cmd.Dir = dir
				again := sandtest.Run(t, cmd, sandtest.Options{On: res})
				said := strings.Count(res.Stdout, "\n")
				var ok, prefix string
				var rows int
				if _, err := fmt.Sscan(again.Stdout, &ok, &prefix, &rows); err != nil || ok != "ok" || prefix != "True" || rows < said || rows > said+1 {
					t.Errorf("after %d transactions the database says %q %q", said, again.Stdout, again.Stderr)
				}
			})
		})
	}
}

// git finds its repository whole, wherever a commit is killed.
func TestSweepGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git isn't there")
	}
	dir := t.TempDir()
	git := func(script string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(sandtest.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@x", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@x")
		return cmd
	}
	res := sandtest.Run(t, git("git init -q -b main . && echo one >f && git add f && git commit -qm first"), sandtest.Options{})
	if res.ExitCode != 0 {
		t.Fatalf("git init: %s", res.Stderr)
	}
	if err := res.Commit(); err != nil {
		t.Fatal(err)
	}
	kill := sandtest.Fault{Calls: []string{"openat", "write", "rename", "link", "unlink", "mkdir", "fsync"}, Path: "/work/.git/*", Kill: true, Step: 3}
	deep := kill
	deep.Path = "/work/.git/*/*"
	if os.Getenv("SANDTEST_LONG") != "" {
		kill.Step, deep.Step = 1, 1
	}
	sandtest.Sweep(t, git("echo two >f; exec git commit -qam second"), sandtest.Options{Faults: []sandtest.Fault{kill, deep}}, func(t *testing.T, res *sandtest.Result) {
		again := sandtest.Run(t, git("find .git -name '*.lock' -delete; git fsck --full --strict 2>&1 | grep -v dangling; git log --format=%s | tail -n 1; git status --porcelain >/dev/null && echo fine"), sandtest.Options{On: res})
		if want := "first\nfine\n"; again.Stdout != want {
			t.Errorf("afterwards git says %q %q, want %q", again.Stdout, again.Stderr, want)
		}
	})
}

// A command starts upon what another has left.
func TestOn(t *testing.T) {
	dir := t.TempDir()
	command := func(script string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		return cmd
	}
	first := sandtest.Run(t, command("echo one >f; mkdir d; sleep 5"), sandtest.Options{})
	second := sandtest.Run(t, command("date +%S; cat f; echo two >>f; rmdir d; stat -c %y f"), sandtest.Options{On: first})
	if want := "05\none\n2000-01-01 00:00:05.000000002 +0000\n"; second.Stdout != want {
		t.Errorf("the second says %q %q, want %q", second.Stdout, second.Stderr, want)
	}
	if got, want := second.Changes.String(), "A -rw-r--r-- /work/f\n"; got != want {
		t.Errorf("both have changed %q, want %q", got, want)
	}
	third := sandtest.Run(t, command("cat f"), sandtest.Options{On: second, Time: time.Unix(1e9, 0)})
	if third.Stdout != "one\ntwo\n" || third.ClockStart.Unix() != 1e9 {
		t.Errorf("the third says %q at %v", third.Stdout, third.ClockStart)
	}
}

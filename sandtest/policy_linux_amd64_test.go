package sandtest_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/sandtest"
	"github.com/sandtest/go-sandtest/supervisor"
)

// A callback sees what a program does, and its verdicts count.
func TestPolicy(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script string
		judge  func(*sandtest.Event) sandtest.Verdict
		want   string
		audit  []string
	}{
		{"allow", "echo x >f; cat f", func(*sandtest.Event) sandtest.Verdict { return sandtest.Allow }, "x\n", nil},
		{"deny a path", "mkdir d; ln -s d/secret l; echo x >d/secret; cat d/secret l ./d/../d/secret 2>&1; echo >other; ls -A d", func(e *sandtest.Event) sandtest.Verdict {
			if e.Path == "/work/d/secret" {
				return sandtest.Deny
			}
			return sandtest.Allow
		}, "cat: d/secret: Operation not permitted\ncat: l: Operation not permitted\ncat: ./d/../d/secret: Operation not permitted\n", nil},
		{"deny with an error", "mkdir a 2>&1; mkdir b", func(e *sandtest.Event) sandtest.Verdict {
			if e.Name == "mkdir" && e.Path == "/work/a" {
				return sandtest.DenyWith(syscall.EDQUOT)
			}
			return sandtest.Allow
		}, "mkdir: cannot create directory 'a': Disk quota exceeded\n", nil},
		{"arguments", "echo one two | tr -d o; tr -d t </dev/null; date -d @0 +%s", func(e *sandtest.Event) sandtest.Verdict {
			if e.Category == supervisor.ProcessCall && slices.Equal(e.Argv, []string{"tr", "-d", "t"}) {
				return sandtest.DenyWith(syscall.EACCES)
			}
			if len(e.Argv) > 0 && e.Argv[0] == "date" {
				return sandtest.Audit
			}
			return sandtest.Allow
		}, "ne tw\n0\n", []string{"0.4 execve /usr/bin/date date -d @0 +%s"}},
		{"two paths", "touch a; mv a b; ln b c; ls", func(e *sandtest.Event) sandtest.Verdict {
			if e.To != "" {
				return sandtest.Audit
			}
			return sandtest.Allow
		}, "b\nc\n", []string{"0.2 renameat2 /work/a /work/b", "0.3 linkat /work/b /work/c"}},
		{"events of one's own", "touch a; ln a b; ls", func(e *sandtest.Event) sandtest.Verdict {
			if e.Name == "linkat" {
				return sandtest.DenyWith(syscall.EMLINK)
			}
			return sandtest.Allow
		}, "a\n", nil},
		{"a refused call", "unshare -U true 2>&1", func(e *sandtest.Event) sandtest.Verdict {
			if e.Name == "unshare" && e.Denied {
				return sandtest.Audit
			}
			return sandtest.Allow
		}, "unshare: unshare failed: Operation not permitted\n", []string{"0.1 unshare"}},
		{"sockets with a path", `python3 -ISBc '
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind("s"); open("t", "w")
u = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for f in lambda: u.connect("./s"), lambda: u.sendto(b"x", "/work/s"), lambda: u.sendmsg([b"x"], [], 0, "s"), lambda: s.send(b"x"):
    try: f()
    except OSError as e: print(e.strerror)'`, func(e *sandtest.Event) sandtest.Verdict {
			if e.Category == supervisor.NetworkCall && e.Name != "bind" && e.Path == "/work/s" {
				return sandtest.Deny
			}
			return sandtest.Allow
		}, "Operation not permitted\nOperation not permitted\nOperation not permitted\nTransport endpoint is not connected\n", nil},
		{"scripts", "printf '#!/bin/sh -e\\necho script $@\\n' >s; chmod +x s; ./s a b", func(e *sandtest.Event) sandtest.Verdict {
			if e.Path == "/work/s" && e.Name == "execve" {
				return sandtest.Audit
			}
			return sandtest.Allow
		}, "script a b\n", []string{"0.2 execve /work/s ./s a b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			script := tt.script
			if strings.HasPrefix(script, "python3 ") {
				script = strings.Replace(script, "python3", pythonItself(t)[0], 1)
			}
			cmd := exec.Command("sh", "-c", script)
			cmd.Dir = t.TempDir()
			cmd.Env = append(sandtest.Environ(), "LC_ALL=C")
			res := sandtest.Run(t, cmd, sandtest.Options{OnSyscall: tt.judge, Events: []string{"linkat", "unshare"}})
			if res.Stdout != tt.want {
				t.Errorf("standard output is %q, want %q\n%s", res.Stdout, tt.want, res.Stderr)
			}
			var audit []string
			for _, a := range res.Audit {
				audit = append(audit, strings.Replace(a.String(), " /bin/", " /usr/bin/", 1))
			}
			if diff := cmp.Diff(tt.audit, audit); diff != "" {
				t.Errorf("what was audited (-want +got):\n%s", diff)
			}
		})
	}
}

// Rules that the callback sets count from then on, and for this sandbox alone.
func TestPolicyRules(t *testing.T) {
	python := pythonItself(t)
	const try = `
import os, socket, mmap
def try_(name, f):
    try: f(); print(name, "yes")
    except OSError as e: print(name, e.strerror)
`
	for _, tt := range []struct {
		name, script string
		rule         func(*sandtest.Event)
		want         string
	}{
		{"paths", try + `
os.makedirs("d/sub"); open("d/f", "w"); open("d/sub/g", "w"); open("go", "w")
for f in "d/f", "d/sub/g", "d": try_(f, lambda: os.stat(f))
try_("list", lambda: os.listdir("d"))
try_("chmod", lambda: os.chmod("d/f", 0o600))`, func(e *sandtest.Event) {
			e.Rules.DenyPath("/work/d")
			e.Rules.AllowPath("/work/d/sub")
		}, "d/f Permission denied\nd/sub/g yes\nd Permission denied\nlist Permission denied\nchmod Permission denied\n"},
		{"paths again", try + `open("f", "w"); open("go", "w"); try_("f", lambda: os.stat("f"))`, func(e *sandtest.Event) {
			e.Rules.DenyPath("/work/f")
			e.Rules.AllowPath("/work/f")
		}, "f yes\n"},
		{"network", try + `
s = socket.socket(); s.bind(("", 80)); s.listen()
try_("before", lambda: socket.create_connection(("127.0.0.1", 80)))
open("go", "w")
try_("connect", lambda: socket.create_connection(("127.0.0.1", 80)))
try_("granted", lambda: socket.create_connection(("127.0.0.2", 80)))
try_("bind", lambda: socket.socket().bind(("127.0.0.1", 81)))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try_("sendto", lambda: u.sendto(b"x", ("127.0.0.1", 53)))
try_("sendmsg", lambda: u.sendmsg([b"x"], [], 0, ("127.0.0.1", 53)))
try_("unix", lambda: socket.socket(socket.AF_UNIX).bind("s"))`, func(e *sandtest.Event) {
			e.Rules.RestrictNetwork()
			if err := e.Rules.GrantNetwork("127.0.0.2:80"); err != nil {
				panic(err)
			}
		}, "before yes\nconnect Network is unreachable\ngranted yes\nbind Permission denied\nsendto Network is unreachable\nsendmsg Network is unreachable\nunix yes\n"},
		{"one process", try + `
s = socket.socket(); s.bind(("127.0.0.1", 80)); s.listen()
r, w = os.pipe()
if os.fork() == 0:
    open("go", "w")
    try_("child", lambda: socket.create_connection(("127.0.0.1", 80)))
    if os.fork() == 0:
        try_("grandchild", lambda: socket.create_connection(("127.0.0.1", 80)))
        os._exit(0)
    os.wait(); os._exit(0)
os.wait()
try_("parent", lambda: socket.create_connection(("127.0.0.1", 80)))`, func(e *sandtest.Event) { e.Rules.RestrictPidNetwork(e.PID) },
			"child Network is unreachable\ngrandchild Network is unreachable\nparent yes\n"},
		{"processes", try + `
open("go", "w")
def fork():
    if os.fork() == 0: os.read(r, 1); os._exit(0)
r, w = os.pipe()
for i in range(3): try_(i, fork)
os.close(w)`, func(e *sandtest.Event) { e.Rules.LimitProcesses(3) }, "0 yes\n1 yes\n2 Resource temporarily unavailable\n"},
		{"memory", try + `
open("go", "w")
b = bytearray(300 << 20)
for i in range(0, len(b), 4096): b[i] = 1
import time; time.sleep(1); print("alive", flush=True)
while True: pass`, func(e *sandtest.Event) { e.Rules.LimitMemory(100 << 20) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(python[0], append(python[1:], "-u", "-c", tt.script)...)
			cmd.Dir = t.TempDir()
			var gone atomic.Bool
			res := sandtest.Run(t, cmd, sandtest.Options{OnSyscall: func(e *sandtest.Event) sandtest.Verdict {
				if e.Path == "/work/go" && !gone.Swap(true) {
					tt.rule(e)
				}
				return sandtest.Allow
			}})
			if !gone.Load() {
				t.Fatalf("nobody has opened /work/go: %s", res.Stderr)
			}
			if res.Stdout != tt.want || res.OutOfMemory != (tt.name == "memory") {
				t.Errorf("standard output is %q, want %q (out of memory: %v)\n%s", res.Stdout, tt.want, res.OutOfMemory, res.Stderr)
			}
		})
	}
}

// What fails anyhow, or can't fail, is reported and not held.
func TestPolicyReports(t *testing.T) {
	refused, ended := make(chan struct{}), make(chan struct{})
	res := sandtest.Run(t, exec.Command("sh", "-c", "unshare -U true 2>/dev/null; echo $?"), sandtest.Options{
		Events: []string{"unshare", "exit_group"},
		OnSyscall: func(e *sandtest.Event) sandtest.Verdict {
			switch {
			case e.Name == "unshare":
				<-ended // it would never come if the program had to wait
				close(refused)
				return sandtest.Audit
			case e.Name == "exit_group" && e.Lineage == "0":
				close(ended)
				return sandtest.Deny // which doesn't matter
			case e.Name == "mmap" && e.Lineage == "0":
				return sandtest.Audit
			}
			return sandtest.Allow
		},
	})
	if res.Stdout != "1\n" || !strings.Contains(fmt.Sprint(res.Audit), "0.1 unshare") || !strings.Contains(fmt.Sprint(res.Audit), "0 mmap") {
		t.Errorf("it says %q, and is audited for %v", res.Stdout, res.Audit)
	}
	select {
	case <-refused:
	default:
		t.Error("nobody was told of unshare")
	}
}

// The addresses that a callback sees are the sandbox's, each written in one way.
func TestPolicyNetwork(t *testing.T) {
	python := pythonItself(t)
	const script = `
import ctypes, os, socket, struct
libc = ctypes.CDLL(None)
s = socket.socket(); s.bind(("127.0.0.1", 80)); s.listen()
c = socket.create_connection(("127.0.0.1", 80))
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(("::1", 53))
u.sendto(b"abc", ("::1", 53)); u.sendmsg([b"x"], [], 0, ("::1", 53))
socket.socket(socket.AF_INET6).connect(("::ffff:127.0.0.1", 80))
m = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); m.bind(("::ffff:127.0.0.1", 54)); m.sendto(b"x", ("::ffff:127.0.0.1", 54))
a = struct.pack("=HH4s8x", socket.AF_UNSPEC, socket.htons(55), socket.inet_aton("127.0.0.1")) # an old way to say AF_INET
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); libc.sendto(v.fileno(), b"x", 1, 0, a, len(a))
os.mkdir("d"); os.symlink("d/sock", "link"); os.symlink("nowhere", "dangling")
f = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); f.bind("d/../d/sock")
try: socket.socket(socket.AF_UNIX).bind("dangling")
except OSError as e: print(e.strerror)
g = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); g.connect("link"); g.send(b"x")
g = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); g.sendto(b"xy", "link"); g.sendmsg([b"x"], [], 0, "d/sock")
h = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); h.bind("\0abstract"); g.sendto(b"xyz", "\0abstract")`
	var mu sync.Mutex
	var seen []string
	cmd := exec.Command(python[0], append(python[1:], "-c", script)...)
	cmd.Dir = t.TempDir()
	res := sandtest.Run(t, cmd, sandtest.Options{OnSyscall: func(e *sandtest.Event) sandtest.Verdict {
		if e.Category == supervisor.NetworkCall {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprint(e.Name, " ", e.Host, " ", e.Port, " ", e.Path, " ", e.Size))
		}
		return sandtest.Allow
	}})
	want := []string{
		"bind 127.0.0.1 80  0", "connect 127.0.0.1 80  0", "bind ::1 53  0", "sendto ::1 53  3", "sendmsg ::1 53  0",
		"connect 127.0.0.1 80  0", "bind 127.0.0.1 54  0", "sendto 127.0.0.1 54  1", "sendto 127.0.0.1 55  1",
		"bind  0 /work/d/sock 0", "bind  0 /work/dangling 0", "connect  0 /work/d/sock 0", "sendto  0  1",
		"sendto  0 /work/d/sock 2", "sendmsg  0 /work/d/sock 0", "bind  0 @abstract 0", "sendto  0 @abstract 3",
	}
	if diff := cmp.Diff(want, seen); diff != "" || res.Stdout != "Address already in use\n" {
		t.Errorf("what was seen (-want +got):\n%s\n%s%s", diff, res.Stdout, res.Stderr)
	}
}

// What the sandbox refuses is denied, and nothing else.
func TestPolicyDenied(t *testing.T) {
	python := pythonItself(t)
	dir, readOnly := t.TempDir(), t.TempDir()
	for _, file := range []string{filepath.Join(dir, "hidden", "f"), filepath.Join(readOnly, "f"), filepath.Join(readOnly, "d", "g")} {
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	const script = `
import os, socket
def try_(name, f):
    try: f(); print(name, "made")
    except OSError as e: print(name, "failed")
def o(name, flags): return lambda: os.close(os.open(name, flags, 0o666))
def tcp(to): return lambda: socket.socket().connect(to)
def udp(): return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s = socket.socket(); s.bind(("127.0.0.1", 80)); s.listen(); c = socket.create_connection(("127.0.0.1", 80))
w = os.O_RDWR
os.symlink("/mnt/ro/f", "link")
for name, f in {
    "hidden": o("hidden/f", os.O_RDONLY), "missing": o("missing", os.O_RDONLY), "mine": o("mine", w|os.O_CREAT),
    "read": o("/mnt/ro/f", os.O_RDONLY), "write": o("/mnt/ro/f", w), "link": o("link", w), "truncate": o("/mnt/ro/f", os.O_TRUNC),
    "path": o("/mnt/ro/f", os.O_PATH|w), "create": o("/mnt/ro/new", os.O_CREAT), "there": o("/mnt/ro/f", os.O_CREAT), "temporary": o("/mnt/ro", os.O_TMPFILE|w),
    "mkdir": lambda: os.mkdir("/mnt/ro/e"), "rmdir": lambda: os.rmdir("/mnt/ro/d"), "unlink": lambda: os.unlink("/mnt/ro/f"),
    "from": lambda: os.rename("/mnt/ro/f", "f"), "to": lambda: os.rename("mine", "/mnt/ro/d/f"), "around": lambda: os.rename("mine", "mine2"),
    "bind path": lambda: socket.socket(socket.AF_UNIX).bind("/mnt/ro/s"), "bind other": lambda: socket.socket(socket.AF_UNIX).bind("s"),
    "outside": tcp(("192.0.2.1", 80)), "allowed": lambda: udp().connect(("192.0.2.2", 53)), "nobody": tcp(("127.0.0.1", 1)),
    "bind outside": lambda: socket.socket().bind(("192.0.2.1", 80)), "bind all": lambda: socket.socket().bind(("", 81)),
    "send outside": lambda: udp().sendto(b"x", ("192.0.2.1", 53)), "send": lambda: udp().sendto(b"x", ("127.0.0.1", 53)),
    "stream": lambda: c.sendto(b"x", ("192.0.2.1", 53)),
}.items():
    os.mkdir("/work/case " + name)
    try_(name, f)`
	want := map[string]bool{
		"hidden": true, "write": true, "link": true, "truncate": true, "create": true, "temporary": true, "mkdir": true, "rmdir": true, "unlink": true,
		"from": true, "to": true, "bind path": true, "outside": true, "bind outside": true, "send outside": true,
	}
	made := map[string]bool{"mine": true, "read": true, "path": true, "there": true, "around": true, "bind other": true, "allowed": true, "bind all": true, "send": true, "stream": true}
	if c, err := net.Dial("udp4", "192.0.2.2:53"); err == nil {
		c.Close()
	} else {
		delete(made, "allowed")
		t.Run("allowed", func(t *testing.T) { t.Skipf("this host has no route to what is allowed: %v", err) })
	}
	var mu sync.Mutex
	denied, current := map[string]bool{}, ""
	cmd := exec.Command(python[0], append(python[1:], "-c", script)...)
	cmd.Dir = dir
	res := sandtest.Run(t, cmd, sandtest.Options{
		Deny: []string{filepath.Join(dir, "hidden")}, AllowNet: []string{"192.0.2.2:53"},
		Mounts: []sandtest.Mount{{Host: readOnly, Path: "/mnt/ro", ReadOnly: true}},
		OnSyscall: func(e *sandtest.Event) sandtest.Verdict {
			mu.Lock()
			defer mu.Unlock()
			if name, ok := strings.CutPrefix(e.Path, "/work/case "); ok {
				current = name
			} else if current != "" && e.Name != "mmap" && e.Denied {
				denied[current] = true
			}
			return sandtest.Allow
		},
	})
	if diff := cmp.Diff(want, denied); diff != "" {
		t.Errorf("what is denied (-want +got):\n%s\n%s%s", diff, res.Stdout, res.Stderr)
	}
	for line := range strings.Lines(res.Stdout) {
		if name, ok := strings.CutSuffix(line, " made\n"); ok != made[strings.TrimSuffix(name, " failed\n")] {
			t.Errorf("it says %q", line)
		}
	}
}

// However a program was named when it was executed, events and the trace know it by its
// path from the root.
func TestPolicyProgram(t *testing.T) {
	python := pythonItself(t)[0]
	dir := t.TempDir()
	tool(t, exec.Command("cp", "/bin/true", filepath.Join(dir, "tt")))
	tool(t, exec.Command("mkdir", filepath.Join(dir, "d")))
	for _, tt := range []struct {
		name string
		args []string
		want []string
	}{
		{"named", []string{"sh", "-c", "ln -s tt l; (./tt); (./l); (d/../tt); (cd d; ../tt); (cd /; work/tt); (PATH=.:$PATH; tt); true"},
			[]string{"0.2 /work/tt", "0.3 /work/l", "0.4 /work/tt", "0.5 /work/tt", "0.6 /work/tt", "0.7 /work/tt"}},
		{"by its descriptor", []string{python, "-ISBc", `import os; os.execve(os.open("tt", os.O_RDONLY), ["x"], {})`}, []string{"0 /work/tt"}},
		{"the command", []string{"./tt"}, []string{"0 /work/tt"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(tt.args[0], tt.args[1:]...)
			cmd.Dir = dir
			var mu sync.Mutex
			var seen, traced []string
			res := sandtest.Run(t, cmd, sandtest.Options{Trace: true, OnSyscall: func(e *sandtest.Event) sandtest.Verdict {
				mu.Lock()
				defer mu.Unlock()
				if e.Name == "openat" && e.Path == "/etc/ld.so.cache" && strings.HasPrefix(e.Program, "/work/") {
					seen = append(seen, fmt.Sprint(e.Lineage, " ", e.Program))
				}
				return sandtest.Allow
			}})
			for _, e := range res.Trace {
				if e.Name == "openat" && strings.Contains(e.Text, "/etc/ld.so.cache") && strings.HasPrefix(e.Program, "/work/") {
					traced = append(traced, fmt.Sprint(e.Process, " ", e.Program))
				}
			}
			if diff := cmp.Diff(tt.want, seen); diff != "" {
				t.Errorf("programs in events (-want +got):\n%s%s", diff, res.Stderr)
			}
			if diff := cmp.Diff(tt.want, traced); diff != "" {
				t.Errorf("programs in the trace (-want +got):\n%s", diff)
			}
		})
	}
}

// The size of a structure that the call itself has isn't what it is about.
func TestPolicySize(t *testing.T) {
	python := pythonItself(t)
	const script = `
import ctypes, struct
libc = ctypes.CDLL(None)
how = struct.pack("=QQQ", 0, 0, 0)
libc.syscall(437, -100, b"/etc/hostname", how, len(how))
libc.syscall(271, None, 0, struct.pack("=qq", 0, 0), b"\0" * 8, 8)
libc.read(0, ctypes.create_string_buffer(7), 7)`
	var mu sync.Mutex
	sizes := map[string]uint64{}
	res := sandtest.Run(t, exec.Command(python[0], append(python[1:], "-c", script)...), sandtest.Options{
		Events: []string{"ppoll", "read"},
		OnSyscall: func(e *sandtest.Event) sandtest.Verdict {
			mu.Lock()
			defer mu.Unlock()
			if e.Name == "openat2" || e.Name == "ppoll" || e.Name == "read" {
				sizes[e.Name] = e.Size
			}
			return sandtest.Allow
		},
	})
	if diff := cmp.Diff(map[string]uint64{"openat2": 0, "ppoll": 0, "read": 7}, sizes); diff != "" {
		t.Errorf("sizes (-want +got):\n%s%s", diff, res.Stderr)
	}
}

// A callback that doesn't answer fails the run, whatever thread of the sandbox's asks it:
// nothing is allowed because of that, and nothing asked any more.
func TestPolicySlow(t *testing.T) {
	for call, text := range map[string]string{"mkdir": `mkdir("a", 0777) of process 0.1`, "execve": `["mkdir", "a"]`} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			defer close(release)
			err := askedOnce(t, call, func() { <-release })
			if err == nil || !strings.Contains(err.Error(), "OnSyscall hadn't answered after 5s: ") || !strings.Contains(err.Error(), text) {
				t.Errorf("the error is %v, want one at %s", err, text)
			}
		})
	}
}

// So does one that ends its goroutine, at once.
func TestPolicyGoexit(t *testing.T) {
	for call, text := range map[string]string{
		"mkdir": `mkdir("a", 0777) of process 0.1`, "execve": `["mkdir", "a"]`, "fork": " of process 0", "exit_group": "exit_group of process 0.1",
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			err := askedOnce(t, call, runtime.Goexit)
			if err == nil || !strings.Contains(err.Error(), "OnSyscall has ended its goroutine (t.Fatal?) at ") || !strings.Contains(err.Error(), text) {
				t.Errorf("the error is %v, want one at %s", err, text)
			}
		})
	}
}

// askedOnce runs a program whose callback does what never returns at a call, and returns
// the error. The shell tries to execute mkdir along its path.
func askedOnce(t *testing.T, call string, never func()) error {
	t.Helper()
	cmd := exec.Command("sh", "-c", "mkdir a; sleep 1000000")
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/bin:/bin"}
	var asked atomic.Int64
	p, err := sandtest.Begin(cmd, sandtest.Options{Clock: sandtest.Running, Events: []string{"exit_group"}, OnSyscall: func(e *sandtest.Event) sandtest.Verdict {
		if e.Name == call || call == "fork" && (e.Name == "vfork" || e.Name == "clone") {
			asked.Add(1)
			never()
		}
		return sandtest.Allow
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Result()
	if n := asked.Load(); n != 1 {
		t.Errorf("it was asked about %s %d times, want once", call, n)
	}
	return err
}

// While a callback thinks, other processes go on.
func TestPolicyBeside(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", "mkdir slow & mkdir quick; wait; ls")
	cmd.Dir = dir
	quick := make(chan struct{})
	res := sandtest.Run(t, cmd, sandtest.Options{CPUs: 2, OnSyscall: func(e *sandtest.Event) sandtest.Verdict {
		switch e.Path {
		case "/work/slow":
			<-quick
		case "/work/quick":
			close(quick)
		}
		return sandtest.Allow
	}})
	if want := "quick\nslow\n"; res.Stdout != want {
		t.Errorf("standard output is %q, want %q", res.Stdout, want)
	}
}

// What was judged is what is used: a thread that exchanges the path or the argument of a
// call meanwhile gains nothing.
func TestPolicyRace(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc isn't there")
	}
	dir := t.TempDir()
	source := filepath.Join("testdata", "src", "exchange.c")
	exe := filepath.Join(dir, "exchange")
	tool(t, exec.Command("gcc", "-O1", "-pthread", "-o", exe, source))
	n := "5000"
	if os.Getenv("SANDTEST_LONG") != "" {
		n = "100000"
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"memory", "empty", "gone", "link", "exec", "null", "bad"} {
		cmd := exec.Command(exe, mode, n)
		execs := mode == "exec" || mode == "null" || mode == "bad"
		if execs {
			cmd.Args[2] = "200"
			cmd.Stdin = strings.NewReader("")
		}
		cmd.Dir = dir
		var asked atomic.Int64
		p, err := sandtest.Begin(cmd, sandtest.Options{CPUs: 2, OnSyscall: func(e *sandtest.Event) sandtest.Verdict {
			if e.Path == "/work/secret" || len(e.Argv) > 1 && e.Argv[1] == "secret" {
				asked.Add(1)
				return sandtest.Deny
			}
			return sandtest.Allow
		}})
		if err != nil {
			t.Fatal(err)
		}
		res, err := p.Result()
		if execs && err != nil && strings.Contains(err.Error(), "and judged with") {
			continue // which is the end of it
		}
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		if res.ExitCode != 0 || strings.Contains(res.Stdout, "secret") {
			t.Errorf("%s: exit status %d: %q %q", mode, res.ExitCode, res.Stdout, res.Stderr)
		}
		if asked.Load() == 0 {
			t.Errorf("%s: nobody has tried", mode)
		}
		_ = res.Close()
	}
}

// What is denied later can be used by who has it open, and not be opened again.
func TestPolicyDeniedLater(t *testing.T) {
	python := pythonItself(t)
	const script = `
import os
fd = os.open("secret", os.O_CREAT | os.O_RDWR); os.write(fd, b"text")
open("trigger", "w").close()
print(os.fstat(fd).st_size, os.pread(fd, 9, 0))
for path in "secret", "/proc/self/fd/%d" % fd, "/dev/fd/%d" % fd:
    try: print(open(path).read())
    except OSError as e: print(e.strerror)
`
	cmd := exec.Command(python[0], append(python[1:], "-c", script)...)
	cmd.Dir = t.TempDir()
	res := sandtest.Run(t, cmd, sandtest.Options{OnSyscall: func(e *sandtest.Event) sandtest.Verdict {
		if e.Path == "/work/trigger" {
			e.Rules.DenyPath("/work/secret")
		}
		return sandtest.Allow
	}})
	if want := "4 b'text'\n" + strings.Repeat("Permission denied\n", 3); res.Stdout != want {
		t.Errorf("it prints %q %q, want %q", res.Stdout, res.Stderr, want)
	}
}

// What can't be asked about is said.
func TestPolicyErrors(t *testing.T) {
	ask := func(*sandtest.Event) sandtest.Verdict { return sandtest.Allow }
	for _, tt := range []struct {
		opts sandtest.Options
		want string
	}{
		{sandtest.Options{OnSyscall: ask, Events: []string{"opn"}}, `no system call "opn"`},
		{sandtest.Options{Events: []string{"open"}}, "without OnSyscall"},
	} {
		if _, err := sandtest.Execute(exec.Command("true"), tt.opts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.opts.Events, err, tt.want)
		}
	}
}

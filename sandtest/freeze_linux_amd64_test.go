package sandtest_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/sandtest"
)

// freezes lets a command that runs be frozen and thawed at random moments until it has
// ended, at least so many times, and calls look while it is frozen.
func freezes(t *testing.T, start func() *sandtest.Process, times int, look func(*sandtest.Process)) *sandtest.Result {
	t.Helper()
	moments := rand.New(rand.NewPCG(3, 4))
	n := 0
	for {
		p := start()
		for {
			for range moments.IntN(2000) {
				select {
				case <-p.Done():
				default:
				}
			}
			err := p.Freeze()
			if errors.Is(err, os.ErrProcessDone) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			n++
			look(p)
			p.Thaw()
		}
		res := p.Wait()
		if n >= times || t.Failed() {
			return res
		}
		if res.ExitCode != 0 {
			t.Fatalf("exit status %d: %s %s", res.ExitCode, res.Stdout, res.Stderr)
		}
	}
}

func times(short, all int) int {
	if os.Getenv("SANDTEST_LONG") != "" {
		return all
	}
	return short
}

// text reads a file that was added, and nothing if there is none.
func text(t *testing.T, changes cow.Changes, path string) string {
	t.Helper()
	for i := range changes {
		if changes[i].Path != path {
			continue
		}
		f, err := changes[i].Open()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, changes[i].Size)
		n, err := f.Read(b)
		if err != nil && n > 0 {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	return ""
}

// What is frozen is a state that there really was: of two files that get a line each, one
// after the other, the first is ahead by one at most; and it doesn't change.
func TestFreeze(t *testing.T) {
	dir := t.TempDir()
	lines := func(p *sandtest.Process) (a, b int) {
		changes, err := p.Changes()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(text(t, changes, "/work/a"), "\n"), strings.Count(text(t, changes, "/work/b"), "\n")
	}
	frozen := 0
	res := freezes(t, func() *sandtest.Process {
		cmd := exec.Command("sh", "-c", `sleep 1000 & i=0; while [ $i -lt 300 ]; do echo $i >>a; echo $i >>b; i=$((i+1)); done; wait; date +%s; cat a b | wc -l`)
		cmd.Dir = dir
		return sandtest.Start(t, cmd, sandtest.Options{})
	}, times(30, 1000), func(p *sandtest.Process) {
		a, b := lines(p)
		if a != b && a != b+1 {
			t.Errorf("a has %d lines, b %d", a, b)
		}
		if again, _ := lines(p); again != a {
			t.Errorf("a had %d lines, and then %d", a, again)
		}
		frozen++
	})
	if want := fmt.Sprintf("%d\n600\n", res.ClockStart.Unix()+1000); res.Stdout != want {
		t.Errorf("after %d freezes it says %q %q, want %q", frozen, res.Stdout, res.Stderr, want)
	}
}

// A build that is frozen again and again ends as it would have otherwise.
func TestFreezeBuild(t *testing.T) {
	for _, name := range []string{"make", "gcc", "ar"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s isn't there", name)
		}
	}
	dir := t.TempDir()
	makefile := "lib.a: $(addsuffix .o, a b c d e f g h)\n\tar Dcr $@ $^\n"
	for i := range 8 {
		name := string(rune('a' + i))
		if err := os.WriteFile(filepath.Join(dir, name+".c"), []byte(fmt.Sprintf("#include <stdio.h>\nint %s(void) { return printf(\"%d\"); }\n", name, i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(makefile), 0o644); err != nil {
		t.Fatal(err)
	}
	build := func() *exec.Cmd {
		cmd := exec.Command("make", "-j4", "--no-print-directory", "--output-sync=none")
		cmd.Dir = dir
		return cmd
	}
	opts := sandtest.Options{CPUs: 4, Timeout: -1}
	want := sandtest.Run(t, build(), opts)
	if want.ExitCode != 0 {
		t.Fatalf("make: %s", want.Stderr)
	}
	snap, snapshots := t.TempDir(), 0
	of := map[int]*sandtest.Process{} // the builds of the snapshots: it takes several for so many
	got := freezes(t, func() *sandtest.Process { return sandtest.Start(t, build(), opts) }, times(10, 1000), func(p *sandtest.Process) {
		if snapshots++; snapshots%10 == 0 {
			of[snapshots] = p
			if err := p.Snapshot(filepath.Join(snap, fmt.Sprint(snapshots))); err != nil {
				t.Error(err)
			}
		}
	})
	if got.ExitCode != 0 || got.Changes.String() != want.Changes.String() {
		t.Errorf("frozen again and again it ends with %d, %s:\n%s\nwant\n%s", got.ExitCode, got.Stderr, got.Changes, want.Changes)
	}
	if a, b := text(t, got.Changes, "/work/lib.a"), text(t, want.Changes, "/work/lib.a"); a != b {
		t.Errorf("it has built another library, of %d bytes instead of %d", len(a), len(b))
	}
	// Each is a state that the build went through: what was made stays made, and the
	// library isn't begun before all is there that goes into it.
	sums := func(lower string) map[string]string {
		from := opts
		from.Lower = lower
		res := sandtest.Run(t, exec.Command("sh", "-c", "cd /work && sha256sum *.o lib.a 2>/dev/null"), withDir(from, dir))
		list := map[string]string{}
		for line := range strings.Lines(res.Stdout) {
			sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
			list[name] = sum
		}
		return list
	}
	final := map[string]string{}
	for _, name := range []string{"a.o", "b.o", "c.o", "d.o", "e.o", "f.o", "g.o", "h.o", "lib.a"} {
		final[name] = fmt.Sprintf("%x", sha256.Sum256([]byte(text(t, want.Changes, "/work/"+name))))
	}
	made := map[string]bool{}
	for n := 10; n <= snapshots; n += 10 {
		if of[n] != of[n-10] {
			clear(made)
		}
		state := sums(filepath.Join(snap, fmt.Sprint(n)))
		for name := range final {
			is := state[name] == final[name]
			if made[name] && !is {
				t.Errorf("snapshot %d has another %s than one before", n, name)
			}
			made[name] = is
		}
		if _, begun := state["lib.a"]; begun {
			for name := range final {
				if name != "lib.a" && !made[name] {
					t.Errorf("snapshot %d has a library, and no %s to make it of", n, name)
				}
			}
		}
	}
	// From such a state it can go on as well.
	rest := opts
	rest.Lower = filepath.Join(snap, "10")
	res := sandtest.Run(t, exec.Command("sh", "-c", "cd /work && find . -name '*.o' -size 0 -delete; make -s -B && ar t lib.a | wc -l"), withDir(rest, dir))
	if res.Stdout != "8\n" {
		t.Errorf("from the snapshot make says %q %q", res.Stdout, res.Stderr)
	}
}

// withDir shows a directory at /work to a command that has no directory of its own.
func withDir(opts sandtest.Options, dir string) sandtest.Options {
	opts.Work = "/elsewhere"
	opts.Mounts = []sandtest.Mount{{Host: dir, Path: "/work"}}
	return opts
}

// What has just been started can be frozen at once.
func TestFreezeAtOnce(t *testing.T) {
	for range times(30, 1000) {
		p := sandtest.Start(t, exec.Command("true"), sandtest.Options{})
		if err := p.Freeze(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		p.Thaw()
		if res := p.Wait(); res.ExitCode != 0 {
			t.Fatalf("it ended with %d, signal %v", res.ExitCode, res.Signal)
		}
	}
}

// What is frozen can be killed, by the test, by its context, and by a timeout.
func TestFreezeKilled(t *testing.T) {
	for _, how := range []string{"kill", "context", "timeout", "signal"} {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		opts := sandtest.Options{}
		if how == "timeout" {
			opts.Timeout = 2 * time.Second
		}
		p := sandtest.Start(t, exec.CommandContext(ctx, "sh", "-c", "while :; do :; done"), opts)
		if err := p.Freeze(); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if err := p.Freeze(); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("frozen twice: %v", err)
		}
		switch how {
		case "kill":
			p.Kill()
		case "context":
			cancel()
		case "signal":
			if err := p.Signal(9); err != nil {
				t.Error(err)
			}
		}
		if res, err := p.Result(); how != "context" && (err != nil || res.Signal != 9 || res.TimedOut != (how == "timeout")) {
			t.Errorf("%s: %+v, %v", how, res, err)
		}
		if err := p.Freeze(); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("after the end: %v", err)
		}
		p.Thaw()
	}
}

// What job control has stopped is frozen as it is, and goes on when it is continued.
func TestFreezeStopped(t *testing.T) {
	cmd := exec.Command("sh", "-c", "echo ready; kill -STOP $$; echo on")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := sandtest.Start(t, cmd, sandtest.Options{Clock: sandtest.Running})
	b := make([]byte, 6)
	if _, err := io.ReadFull(out, b); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := p.Freeze(); err != nil {
			t.Fatal(err)
		}
		p.Thaw()
	}
	for done := false; !done; { // until it has stopped itself, the signal is lost
		if err := p.Signal(18); err != nil {
			break
		}
		select {
		case <-p.Done():
			done = true
		case <-time.After(5 * time.Millisecond):
		}
	}
	if rest, err := io.ReadAll(out); err != nil || string(rest) != "on\n" {
		t.Errorf("then it says %q, %v", rest, err)
	}
}

// A command whose first thread has ended is frozen as any other.
func TestFreezeLeader(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc isn't there")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.c"), []byte(`#include <pthread.h>
#include <unistd.h>
static void *go(void *x) { for (;;) if (write(1, "x", 1) != 1) _exit(0); return x; }
int main(void) { pthread_t t; pthread_create(&t, 0, go, 0); pthread_exit(0); }`), 0o644); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "p")
	tool(t, exec.Command("gcc", "-pthread", "-o", exe, filepath.Join(dir, "p.c")))
	var written atomic.Int64
	cmd := exec.Command(exe)
	cmd.Stdout = writer(func(b []byte) (int, error) { written.Add(int64(len(b))); return len(b), nil })
	p := sandtest.Start(t, cmd, sandtest.Options{})
	for written.Load() < 1000 {
		runtime.Gosched()
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	for before := int64(-1); before != written.Load(); { // what is in the pipe
		before = written.Load()
		time.Sleep(50 * time.Millisecond)
	}
	before := written.Load()
	time.Sleep(100 * time.Millisecond)
	if now := written.Load(); now != before {
		t.Errorf("while it is frozen it writes %d bytes", now-before)
	}
	p.Thaw()
	for written.Load() == before {
		runtime.Gosched()
	}
	p.Kill()
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// A snapshot is taken of what stands still, and of nothing else.
func TestSnapshotRunning(t *testing.T) {
	cmd := exec.Command("sh", "-c", "echo x >f; sleep 1000000")
	cmd.Dir = t.TempDir()
	p := sandtest.Start(t, cmd, sandtest.Options{Clock: sandtest.Running})
	refused := func(when string) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "snap")
		if err := p.Snapshot(dir); err == nil || !strings.Contains(err.Error(), "Freeze it before") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want an error that says what to do", when, err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: it has written %s", when, dir)
		}
	}
	taken := func(when string) {
		t.Helper()
		if err := p.Snapshot(filepath.Join(t.TempDir(), "snap")); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	refused("at the start")
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	taken("frozen")
	taken("frozen, again")
	p.Thaw()
	refused("thawed")
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	p.Wait()
	taken("at the end")
}

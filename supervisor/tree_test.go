//go:build linux

package supervisor

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/internal/marked"
)

func init() {
	// Runs a command in a sandbox, and tells of it as much as is known at once.
	programs["supervise"] = func(args []string) error {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(environ(), os.Getenv("SUPERVISED")) // a mark
		s, err := Start(cmd, Config{Limits: Limits{Processes: 200}})
		if err != nil {
			return err
		}
		_, err = s.Wait()
		return err
	}
}

func TestExitStatus(t *testing.T) {
	path := compileC(t, "tree", true)
	for _, code := range []int{0, 1, 2, 3, 77, 126, 127, 128, 137, 254, 255} {
		state, _ := ends(t, Config{}, cmdC(path, "exit", fmt.Sprint(code)))
		if state.ExitCode != code || state.Signal != 0 || len(state.Leaked) != 0 {
			t.Errorf("exit(%d): %+v", code, state)
		}
	}
	for sig := unix.Signal(1); sig <= 31; sig++ {
		switch sig {
		case unix.SIGCHLD, unix.SIGURG, unix.SIGWINCH, unix.SIGCONT, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
			continue // they don't kill
		}
		state, _ := ends(t, Config{}, cmdC(path, "signal", fmt.Sprint(int(sig))))
		if state.ExitCode != -1 || state.Signal != syscall.Signal(sig) {
			t.Errorf("%v: %+v", sig, state)
		}
	}
	for _, sig := range []string{"34", "50", "64"} { // real-time signals kill too
		state, _ := ends(t, Config{}, cmdC(path, "signal", sig))
		if want, _ := strconv.Atoi(sig); state.ExitCode != -1 || int(state.Signal) != want {
			t.Errorf("signal %s: %+v", sig, state)
		}
	}
}

// Programs with threads, whose first is not always the one that matters.
func TestThreads(t *testing.T) {
	path := compileC(t, "tree", false)
	for _, tt := range []struct {
		args   []string
		code   int
		signal syscall.Signal
	}{
		{[]string{"thread-exec", "42"}, 42, 0},
		{[]string{"leader-first", "exit_group"}, 5, 0},
		{[]string{"leader-first", "exec"}, 6, 0},
		{[]string{"leader-first", "fork"}, 8, 0},
		{[]string{"leader-first", "signal"}, -1, unix.SIGTERM},
		{[]string{"leader-first", "exit"}, 9, 0}, // what the last thread said, since Linux 5.18
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			for range 5 {
				state, out := ends(t, Config{}, cmdC(path, tt.args...))
				if state.ExitCode != tt.code || state.Signal != tt.signal || len(state.Leaked) != 0 {
					t.Errorf("%+v, want status %d, signal %v\n%s", state, tt.code, tt.signal, out)
				}
			}
		})
	}
}

// A thread that executes a program becomes its process: what the program reads
// is pinned, and drawn under the process's name.
func TestProgramOfAThread(t *testing.T) {
	path, spawn := compileC(t, "tree", false), compileC(t, "spawn", false)
	// The program's name is its zeroth argument, which is what tree executes.
	script := fmt.Sprintf("exec -a %s %s thread-exec name", spawn, path)
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	ns := testTime.UnixNano()
	want := fmt.Sprintf("name %s %s %d\n", seconds(ns), microseconds(ns), testTime.Unix())
	if got := succeeds(t, Config{Time: testTime}, cmdC("bash", "-c", script)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is alive when the command ends is listed in the order of its names, with
// its arguments, and killed.
func TestLeaked(t *testing.T) {
	path := compileC(t, "tree", false)
	var want []LeakedProcess
	for i := range 12 {
		name := det.Root.Child(i + 1)
		want = append(want, LeakedProcess{name, []string{path, "lineage"}})
		if i == 2 {
			want = append(want, LeakedProcess{name.Child(1), []string{"sh", "-c", "echo >&9; read line <&8", "name"}})
		}
	}
	for range 5 {
		state, out := ends(t, Config{}, cmdC(path, "lineage"))
		if state.ExitCode != 0 {
			t.Fatalf("%+v\n%s", state, out)
		}
		if diff := cmp.Diff(want, state.Leaked); diff != "" {
			t.Fatalf("leaked (-want +got):\n%s", diff)
		}
		if state.Stats.Processes != 14 {
			t.Errorf("%d processes, want 14", state.Stats.Processes)
		}
	}
}

// pids reads so many lines "NAME PID".
func pids(t testing.TB, r *bufio.Scanner, n int) (list []string) {
	t.Helper()
	for len(list) < n && r.Scan() {
		_, pid, ok := strings.Cut(r.Text(), " ")
		if _, err := strconv.Atoi(pid); !ok || err != nil {
			t.Fatalf("line %q", r.Text())
		}
		list = append(list, pid)
	}
	if len(list) < n {
		t.Fatalf("%d of %d processes told their number", len(list), n)
	}
	return list
}

// A daemon ends with the command.
func TestDaemon(t *testing.T) {
	path := compileC(t, "tree", false)
	cmd, mark := cmdC(path, "daemon"), marked.New()
	cmd.Env = append(cmd.Env, string(mark))
	state, out := ends(t, Config{}, cmd)
	pids(t, bufio.NewScanner(strings.NewReader(out)), 1)
	if left := mark.Alive(); len(left) > 0 {
		t.Errorf("of the daemon %v is alive", left)
	}
	want := []LeakedProcess{{"0.1.1", []string{path, "daemon"}}}
	if diff := cmp.Diff(want, state.Leaked); state.ExitCode != 3 || diff != "" {
		t.Errorf("%+v (-want +got):\n%s", state, diff)
	}
}

// Kill ends a tree of processes that are just being made.
func TestKillBomb(t *testing.T) {
	path := compileC(t, "tree", true)
	const most = 200
	for _, told := range []int{1, 5, 50, 150} {
		t.Run(fmt.Sprint(told), func(t *testing.T) {
			cmd, mark := cmdC(path, "bomb", fmt.Sprint(most)), marked.New()
			cmd.Env = append(cmd.Env, string(mark))
			s, out := startPiped(t, Config{}, cmd)
			scan := bufio.NewScanner(out)
			list := pids(t, scan, told)
			s.Kill()
			state, err := s.Wait()
			if err != nil {
				t.Fatal(err)
			}
			for scan.Scan() { // ends only when the last of them is gone
				list = append(list, scan.Text())
			}
			if left := mark.Alive(); len(left) > 0 {
				t.Errorf("after Wait %v of %d are alive", left, len(list))
			}
			if state.ExitCode != -1 || state.Signal != unix.SIGKILL {
				t.Errorf("state %+v", state)
			}
		})
	}
}

// Nothing outlives the process that supervises, however that ends.
func TestDeathOfTheSupervisor(t *testing.T) {
	path := compileC(t, "tree", false)
	for range 3 {
		cmd, mark := program(t, "supervise", path, "forest"), marked.New()
		cmd.Env = append(cmd.Env, "SUPERVISED="+string(mark))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := time.AfterFunc(ending, func() { _ = cmd.Process.Kill() })
		pids(t, bufio.NewScanner(out), 1+3+6)
		if n := len(mark.Alive()); n < 1+3+6 {
			t.Errorf("%d processes have the mark", n)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it says that it was killed
		stop.Stop()
		if left := mark.Gone(ending); len(left) > 0 {
			t.Fatalf("%v outlived their supervisor by %v", left, ending)
		}
	}
}

// Of a storm of forks nothing outlives its supervisor either, nor do the files that were
// written.
func TestDeathInAStorm(t *testing.T) {
	n := 10
	if long {
		n = 1000
	}
	path := compileC(t, "tree", true)
	t.Setenv("TMPDIR", t.TempDir())
	moments := rand.New(rand.NewPCG(1, 2))
	for range n {
		cmd, mark := program(t, "supervise", path, "storm"), marked.New()
		cmd.Env = append(cmd.Env, "TMPDIR="+os.Getenv("TMPDIR"), "SUPERVISED="+string(mark))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := time.AfterFunc(ending, func() { _ = cmd.Process.Kill() })
		scan := bufio.NewScanner(out)
		var list []string
		for told := moments.IntN(150); told > 0 && scan.Scan(); told-- {
			list = append(list, scan.Text())
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for scan.Scan() { // ends only when the last of them is gone
			list = append(list, scan.Text())
		}
		_ = cmd.Wait() // it says that it was killed
		if !stop.Stop() {
			t.Fatalf("processes outlived their supervisor by %v", ending)
		}
		if len(list) > 200 {
			t.Errorf("there were %d processes", len(list))
		}
		if left := mark.Gone(ending); len(left) > 0 { // they have closed their files, and are about to be gone
			t.Fatalf("%v outlived their supervisor", left)
		}
		areSwept(t, os.TempDir(), cmd.Process.Pid)
	}
}

// The command's context, its extra files, its standard input and its directory
// mean what they mean to os/exec.
func TestCommandKeepsItsMeaning(t *testing.T) {
	dir := t.TempDir()
	cmd := sh(`cat; cat <&3; pwd; echo $VAR; echo oops >&2`)
	cmd.Stdin = strings.NewReader("input ")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("extra\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	cmd.ExtraFiles = []*os.File{r}
	cmd.Dir = dir
	cmd.Env = append(environ(), "VAR=value")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if got, want := succeeds(t, Config{}, cmd), "input extra\n"+dir+"\nvalue\n"; got != want || stderr.String() != "oops\n" {
		t.Errorf("output %q, want %q; standard error %q", got, want, stderr.String())
	}
}

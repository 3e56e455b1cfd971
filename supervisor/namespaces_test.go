//go:build linux

package supervisor

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/internal/marked"
	"golang.org/x/sys/unix"
)

func init() {
	// Tells what a sandbox with a backend is made of, and what programs in it see.
	programs["backend"] = func(args []string) error {
		b, err := ParseBackend(args[0])
		if err != nil {
			return err
		}
		var out strings.Builder
		cmd := exec.Command("/bin/sh", "-c", "cat /proc/sys/kernel/hostname; date +%s; od -An -N4 -tx /dev/urandom; "+
			// Nobody of whom the program knows nothing is its child.
			"read children </proc/$$/task/$$/children; echo children $children; trap 'echo a child has ended' CHLD; :; :; readlink /proc/self/ns/pid; stat -c %h /proc")
		cmd.Env, cmd.Stdout = environ(), &out
		s, err := Start(cmd, Config{Backend: b})
		if err != nil {
			fmt.Println(err)
			return nil
		}
		state, err := s.Wait()
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s\n%s", state.Stats.Backend, state.Stats.NoNamespaces, out.String())
		return nil
	}
	// Runs a command in the foreground of the terminal that is its input.
	programs["foreground"] = func(args []string) error {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, environ()
		cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
		s, err := Start(cmd, Config{})
		if err != nil {
			return err
		}
		_, err = s.Wait()
		return err
	}
}

// inNamespaced returns a configuration with namespaces.
func inNamespaced(t *testing.T) Config {
	t.Helper()
	if !hasNamespaces(t) {
		t.Skip("no namespaces here, see sandtest doctor")
	}
	return Config{Backend: BackendNamespaces}
}

// Process ids are those of a small machine of the sandbox's own, and the same in each run.
func TestPIDs(t *testing.T) {
	cfg := inNamespaced(t)
	const script = `echo $$ $PPID
		sh -c 'echo $$ $PPID; sh -c "echo \$\$ \$PPID"; exit'
		sh -c 'echo $$ $PPID; exit' & wait $!
		echo $!
		cd /proc; echo [0-9]*
		readlink self; cat 1/comm 2>&1
		kill -0 1 2>/dev/null || echo 1 is not to be signalled
		kill -0 $PPID 2>/dev/null || echo nor the parent`
	const want = "2 1\n3 2\n4 3\n5 2\n5\n2\n6\ncat: 1/comm: No such file or directory\n1 is not to be signalled\nnor the parent\n"
	for range 5 {
		if got := output(t, cfg, sh(script)); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// Process ids begin where they are to.
func TestFirstPID(t *testing.T) {
	cfg := inNamespaced(t)
	// What it takes to do so isn't left open.
	const script = "cd /proc/self/fd; echo *; echo $$ $PPID; sh -c 'echo $$ $PPID; exit'"
	files, rest := cutLine(output(t, cfg, sh(script)))
	if want := "2 1\n3 2\n"; rest != want {
		t.Errorf("got %q, want %q", rest, want)
	}
	cfg.FirstPID = 4711
	if got, want := output(t, cfg, sh(script)), files+"\n4711 1\n4712 4711\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An orphan's parent is process 1, which waits for it.
func TestOrphans(t *testing.T) {
	cfg := inNamespaced(t)
	const script = `mkfifo done
		sh -c 'sh -c "read line <done; grep PPid: /proc/\$\$/status; exit" & echo $!'
		echo >done
		while kill -0 5 2>/dev/null; do sleep 1; done; echo gone`
	if got, want := output(t, cfg, sh("cd /tmp; "+script)), "5\nPPid:\t1\ngone\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Where a policy forbids namespaces, a sandbox does without, and says so.
func TestNamespacesRefused(t *testing.T) {
	refuse := compileC(t, "refuse", true)
	on := func(backend string, wrap ...string) string {
		cmd := program(t, "backend", backend)
		cmd.Env = append(cmd.Env, "SANDTEST_BACKEND=")
		cmd.Args = append(append(wrap, cmd.Path), cmd.Args[1:]...)
		cmd.Path = cmd.Args[0]
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	_, asSeccomp := cutLine(on("seccomp"))
	for what, want := range map[string]string{
		"clone": "seccomp: namespaces: make them: clone: operation not permitted",
		"mount": "seccomp: namespaces: make /proc: mount(MS_REC|MS_SLAVE): operation not permitted",
	} {
		without, sees := cutLine(on("auto", refuse, what))
		if without != want && !(what == "mount" && !hasNamespaces(t)) {
			t.Errorf("got %q, want %q", without, want)
		}
		if sees != asSeccomp {
			t.Errorf("as a fallback\n%s\notherwise\n%s", sees, asSeccomp)
		}
	}
	got := on("namespaces", refuse, "clone")
	for _, part := range []string{"Backend is namespaces", "make them: clone: operation not permitted", "seccomp, or auto"} {
		if !strings.Contains(got, part) {
			t.Errorf("the error %q doesn't say %q", got, part)
		}
	}
	if hasNamespaces(t) {
		if with, alike := cutLine(on("auto")); with != "namespaces: " || alike != asSeccomp {
			t.Errorf("with namespaces %q\n%s\nwithout\n%s", with, alike, asSeccomp)
		}
	}
}

func cutLine(s string) (line, rest string) {
	line, rest, _ = strings.Cut(s, "\n")
	return line, rest
}

// What is sent to the process that os/exec knows, the command gets.
func TestSignalsByProcess(t *testing.T) {
	const script = `trap 'echo $1; exit 3' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 1000 & wait $!; done`
	for _, tt := range []struct {
		name string
		attr *syscall.SysProcAttr
		send func(pid int, sig unix.Signal) error
	}{
		{"a process", nil, unix.Kill},
		{"a group", &syscall.SysProcAttr{Setpgid: true}, func(pid int, sig unix.Signal) error { return unix.Kill(-pid, sig) }},
		{"a session", &syscall.SysProcAttr{Setsid: true}, func(pid int, sig unix.Signal) error { return unix.Kill(-pid, sig) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd, mark := sh(script), marked.New()
			cmd.Args = append(cmd.Args, "sh", "terminated")
			cmd.Env = append(environ(), string(mark))
			cmd.SysProcAttr = tt.attr
			s, out := startPiped(t, Config{Clock: det.Running}, cmd)
			said := bufio.NewReader(out)
			for _, step := range []struct {
				sig  unix.Signal
				want string
			}{{0, "ready\n"}, {unix.SIGUSR1, "usr1\n"}, {unix.SIGTERM, "terminated\n"}} {
				if err := tt.send(cmd.Process.Pid, step.sig); err != nil {
					t.Fatal(err)
				}
				if line, err := said.ReadString('\n'); line != step.want {
					t.Fatalf("after %v: %q, %v, want %q", step.sig, line, err, step.want)
				}
			}
			state, err := s.Wait()
			if err != nil || state.ExitCode != 3 {
				t.Errorf("state %+v, %v", state, err)
			}
			if left := mark.Alive(); len(left) > 0 {
				t.Errorf("%v are alive", left)
			}
		})
	}
}

// A command whose process is killed, not by its sandbox, is dead.
func TestKilledByProcess(t *testing.T) {
	cmd, mark := sh("sleep 1000 & echo ready; wait"), marked.New()
	cmd.Env = append(environ(), string(mark))
	s, out := startPiped(t, Config{Clock: det.Running}, cmd)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if state, err := s.Wait(); err != nil || state.Signal != unix.SIGKILL {
		t.Errorf("state %+v, %v", state, err)
	}
	if left := mark.Alive(); len(left) > 0 {
		t.Errorf("%v are alive", left)
	}
}

// newTerminal returns the two ends of a pseudo terminal.
func newTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: %v", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0), master.SetReadDeadline(time.Now().Add(ending)))
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// A command that os/exec gives a terminal leads its session and its foreground.
func TestControllingTerminal(t *testing.T) {
	const script = `stty -echo; test $$ = $(ps -o pgid= -p $$) && test $$ = $(ps -o sid= -p $$) && test $$ = $(ps -o tpgid= -p $$) && echo leads </dev/tty
		trap 'echo interrupted' INT; trap 'echo hung up; exit 5' HUP; echo ready; until read line; do :; done`
	if _, err := exec.LookPath("ps"); err != nil {
		t.Skip(err)
	}
	master, slave := newTerminal(t)
	cmd := sh(script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	s, err := Start(cmd, Config{Clock: det.Running})
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(ending, s.Kill).Stop()
	shown := bufio.NewReader(master)
	for _, step := range []struct{ send, want string }{{"", "leads\r\n"}, {"", "ready\r\n"}, {"\x03", "interrupted\r\n"}} {
		if _, err := io.WriteString(master, step.send); err != nil {
			t.Fatal(err)
		}
		if line, err := shown.ReadString('\n'); line != step.want && line != "^C"+step.want {
			t.Fatalf("after %q: %q, %v, want %q", step.send, line, err, step.want)
		}
	}
	if err := s.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if line, err := shown.ReadString('\n'); line != "hung up\r\n" {
		t.Errorf("%q, %v, want that it was hung up", line, err)
	}
	if state, err := s.Wait(); err != nil || state.ExitCode != 5 {
		t.Errorf("state %+v, %v", state, err)
	}
}

// A command that os/exec puts into the foreground of a terminal can read from it.
func TestForeground(t *testing.T) {
	master, slave := newTerminal(t)
	cmd := program(t, "foreground", "/bin/sh", "-c", "read line; echo it is $line; test $(ps -o pgid= -p $$) = $$ && echo leads")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(ending, func() { _ = cmd.Process.Kill() }).Stop()
	if _, err := io.WriteString(master, "text\n"); err != nil {
		t.Fatal(err)
	}
	shown := bufio.NewReader(master)
	for _, want := range []string{"text\r\n", "it is text\r\n", "leads\r\n"} {
		if line, err := shown.ReadString('\n'); line != want {
			t.Errorf("%q, %v, want %q", line, err, want)
		}
	}
	if err := cmd.Wait(); err != nil {
		slave.Close() // so that what it has said ends
		said, _ := io.ReadAll(shown)
		t.Errorf("%v: %s", err, said)
	}
}

// Whom a program may become, and of which groups it is, is as without a sandbox.
func TestUserIDs(t *testing.T) {
	path := compileC(t, "ids", false)
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	command := func() *exec.Cmd {
		cmd := cmdC(path)
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{65534, 27, 100}}}
		}
		return cmd
	}
	bare := command()
	want, err := bare.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []Backend{BackendSeccomp, BackendAuto} {
		if diff := cmp.Diff(lines(string(want)), lines(output(t, Config{Backend: b}, command()))); diff != "" {
			t.Errorf("%v (-bare +sandbox):\n%s", b, diff)
		}
	}
}

// A command that has namespaces already, by os/exec, keeps these.
func TestNamespacesOfItsOwn(t *testing.T) {
	if os.Geteuid() != 0 || os.Getenv("SANDTEST_BACKEND") == "namespaces" {
		t.Skip("it takes a privilege, and a backend that isn't prescribed")
	}
	cmd := sh("echo $$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	state, out := run(t, Config{Backend: BackendAuto}, cmd)
	if out != "1\n" || !strings.Contains(state.Stats.NoNamespaces, "Cloneflags") && os.Getenv("SANDTEST_BACKEND") == "" {
		t.Errorf("%q, %+v", out, state.Stats)
	}
}

// Whoever is killed while namespaces are made: Start returns, and nothing is left.
func TestKilledWhileMade(t *testing.T) {
	cfg := inNamespaced(t)
	n := 40
	if long {
		n = 2000
	}
	mark := marked.New()
	before := descriptors(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range n {
		cmd := exec.Command("sleep", "1000")
		cmd.Env = append(environ(), string(mark))
		after := time.Duration(rnd.IntN(1500)) * time.Microsecond
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			killOneOf(mark, i%3, after, stop)
		}()
		s, err := Start(cmd, cfg)
		if err == nil {
			s.Kill()
			_, _ = s.Wait() // it may have been killed in the middle of anything
		}
		close(stop)
		<-stopped
	}
	if left := mark.Gone(ending); len(left) > 0 {
		t.Errorf("%v are left", left)
		for _, pid := range left {
			for _, file := range []string{"status", "wchan", "syscall", "cmdline"} {
				text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
				t.Logf("%d %s: %s %v", pid, file, text, err)
			}
		}
	}
	for began := time.Now(); len(descriptors(t)) > len(before); runtime.Gosched() { // some are closed after a collection
		if time.Since(began) > ending {
			t.Fatalf("there are the descriptors %v, and were %v before", descriptors(t), before)
		}
	}
}

// killOneOf waits until so many processes have a mark, or it is stopped, and kills the last
// of them some time later.
func killOneOf(mark marked.Mark, more int, after time.Duration, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if list := mark.Alive(); len(list) > more {
			for begin := time.Now(); time.Since(begin) < after; {
			}
			_ = unix.Kill(list[len(list)-1], unix.SIGKILL) // it may be gone, and nobody else's number is as high so soon
			return
		}
	}
}

// descriptors returns what this process has open.
func descriptors(t *testing.T) (list []string) {
	t.Helper()
	runtime.GC() // package os closes those of processes then
	runtime.GC()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil { // not that of the listing itself
			list = append(list, e.Name()+": "+target)
		}
	}
	return list
}

// Root who may be anybody may be so in a sandbox, too, whether or not he may mount.
func TestOtherUsers(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("it takes root, and the program setpriv")
	}
	const script = `setpriv --reuid=1234 --regid=1235 --groups 7,8 id`
	for _, without := range []string{"", "-sys_admin"} {
		cmd := program(t, "supervise", "/bin/sh", "-c", script)
		if without != "" {
			cmd.Args = append([]string{setpriv, "--bounding-set", without, "--inh-caps", without, cmd.Path}, cmd.Args[1:]...)
			cmd.Path = setpriv
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "uid=1234 gid=1235 groups=1235,7") && !strings.Contains(string(out), "uid=1234 gid=1235 groups=7") {
			t.Errorf("without %q: %v, %s", without, err, out)
		}
	}
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/internal/marked"
)

// A terminal is a pseudo terminal in which a session of sandtest runs.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	fd     int          // the master's
	seen   bytes.Buffer // all that was written to it
	read   int          // how much of that expect has gone past
}

// inTerminal starts sandtest as the leader of a session with a terminal.
func inTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	return startTerminal(t, sandtestCommand(t, args...))
}

func startTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: open /dev/ptmx: %v", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: %v", err)
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return &terminal{t: t, cmd: cmd, master: master, fd: fd}
}

// send types.
func (term *terminal) send(text string) {
	term.t.Helper()
	if _, err := io.WriteString(term.master, text); err != nil {
		term.t.Fatal(err)
	}
}

// more reads what the terminal shows next.
func (term *terminal) more() error {
	if err := term.master.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	var buf [4096]byte
	n, err := term.master.Read(buf[:])
	term.seen.Write(buf[:n])
	return err
}

// expect waits until the terminal shows a text, after what was expected before.
func (term *terminal) expect(text string) {
	term.t.Helper()
	for {
		rest := term.seen.Bytes()[term.read:]
		if i := bytes.Index(rest, []byte(text)); i >= 0 {
			term.read += i + len(text)
			return
		}
		if err := term.more(); err != nil {
			term.t.Fatalf("waiting for %q: %v\nthe terminal shows:\n%s", text, err, term.seen.String())
		}
	}
}

// end waits for the end of the session.
func (term *terminal) end() (shown string, status int) {
	term.t.Helper()
	for {
		err := term.more()
		if errors.Is(err, unix.EIO) { // nobody has it open
			break
		}
		if err != nil {
			term.t.Fatalf("waiting for the end: %v\nthe terminal shows:\n%s", err, term.seen.String())
		}
	}
	_ = term.cmd.Wait() // the status tells
	return term.seen.String(), term.cmd.ProcessState.ExitCode()
}

func TestTerminalShell(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	const ctrlC, ctrlD, ctrlZ = "\x03", "\x04", "\x1a"
	term := inTerminal(t, "run", "--env", "PS1=prompt: ", "--", "bash", "--norc", "--noprofile", "--noediting", "-i")
	term.expect("prompt: ")
	term.send("stty -echo\n") // from here on, nothing is shown that wasn't printed
	term.expect("prompt: ")
	term.send("echo a$((40 + 2))b; tty -s; echo terminal $?\n")
	term.expect("a42b")
	term.expect("terminal 0")

	term.send("cat\n")
	term.send("to be interrupted\n")
	term.expect("to be interrupted")
	term.send(ctrlC)
	term.expect("prompt: ")
	term.send("echo status $?\n")
	term.expect("status 130")

	term.send("cat\n")
	term.send("to be stopped\n")
	term.expect("to be stopped")
	term.send(ctrlZ)
	term.expect("Stopped")
	term.expect("prompt: ")
	term.send("echo status $?; jobs\n")
	term.expect("status 148")
	term.expect("Stopped")
	term.expect("prompt: ")
	term.send("fg\n")
	term.send("goes on\n")
	term.expect("goes on")
	term.send(ctrlD)
	term.expect("prompt: ")
	term.send("echo status $?\n")
	term.expect("status 0")

	term.send("exit 3\n")
	if shown, status := term.end(); status != 3 {
		t.Errorf("status %d, want 3; the terminal shows:\n%s", status, shown)
	}
}

// sandtest is a job of a shell as any other program is: it stops and goes on with
// what it runs.
func TestTerminalJob(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	cmd.Env = append(os.Environ(), "PS1=prompt: ", "HISTFILE=", "SANDTEST="+sandtestCommand(t).Path)
	term := startTerminal(t, cmd)
	term.expect("prompt: ")
	term.send("stty -echo\n")
	term.expect("prompt: ")
	mark := marked.New()
	term.send(commandVar + "=1 $SANDTEST run --env " + string(mark) + " sh -c 'echo it is; exec cat'\n")
	term.expect("it is")
	for i := range 10 {
		text := fmt.Sprintf("line %d", i)
		term.send(text + "\n")
		term.expect(text)
		term.send("\x1a")
		term.expect("Stopped")
		term.expect("prompt: ")
		// The shell knows that sandtest has stopped. cat would still take a line, had
		// it not got its own signal yet.
		for deadline := time.Now().Add(20 * time.Second); !stopped(t, mark.Named("cat")); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s isn't stopped", mark)
			}
		}
		term.send("fg\n")
		term.expect("exec cat") // the shell tells what goes on
	}
	term.send("last line\n")
	term.expect("last line")
	term.send("\x04")
	term.expect("prompt: ")
	term.send("exit $?\n")
	if shown, status := term.end(); status != 0 {
		t.Errorf("status %d, want 0; the terminal shows:\n%s", status, shown)
	}
}

// stopped reports whether a process is stopped, or stands still for its tracer.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(b, []byte(") "))
	return bytes.HasPrefix(bytes.ToUpper(rest), []byte("T"))
}

// A key interrupts the program once, though sandtest is interrupted too.
func TestTerminalInterrupt(t *testing.T) {
	term := inTerminal(t, "run", "sh", "-c",
		"stty -echo; trap 'echo interrupted' INT; echo ready; until read line; do :; done; echo $line; exit 4")
	term.expect("ready")
	term.send("\x03")
	term.expect("interrupted")
	term.send("more\n")
	shown, status := term.end()
	if n := strings.Count(shown, "interrupted"); n != 1 || status != 4 || !strings.HasSuffix(shown, "more\r\n") {
		t.Errorf("interrupted %d times, status %d, want once, 4; the terminal shows:\n%s", n, status, shown)
	}
}

// A program that doesn't handle the key ends by it, and so does sandtest, whose
// status tells.
func TestTerminalInterruptUnhandled(t *testing.T) {
	term := inTerminal(t, "run", "cat")
	term.send("hello\n")
	term.expect("hello\r\nhello\r\n")
	term.send("\x03")
	if shown, status := term.end(); status != 128+2 {
		t.Errorf("status %d, want 130; the terminal shows:\n%s", status, shown)
	}
}

// A change of size is told once, too.
func TestTerminalSize(t *testing.T) {
	term := inTerminal(t, "run", "sh", "-c",
		"stty -echo; trap 'stty size' WINCH; echo ready; until read line; do :; done; echo $line")
	term.expect("ready")
	if err := unix.IoctlSetWinsize(term.fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 17, Col: 93}); err != nil {
		t.Fatal(err)
	}
	term.expect("17 93")
	term.send("more\n")
	shown, status := term.end()
	if n := strings.Count(shown, "17 93"); n != 1 || status != 0 {
		t.Errorf("told %d times, status %d, want once, 0; the terminal shows:\n%s", n, status, shown)
	}
}

// When the terminal goes away, the session ends.
func TestTerminalHangup(t *testing.T) {
	term := inTerminal(t, "run", "cat")
	term.send("hello\n")
	term.expect("hello\r\nhello\r\n")
	term.master.Close()
	_ = term.cmd.Wait() // the status tells
	// cat may see the end of its input before it gets the signal.
	if status := term.cmd.ProcessState.ExitCode(); status != 128+1 && status != 0 && status != 1 {
		t.Errorf("status %d, want 129", status)
	}
}

// Whoever had the terminal before has it again afterwards.
func TestTerminalGivenBack(t *testing.T) {
	for name, script := range map[string]string{
		"by dash":     `$SANDTEST run --clock host -- dash -c 'dash -ic "echo in"; read x; echo got $x'; read y; echo outer $y`,
		"not by bash": `$SANDTEST run --clock host -- bash --norc -i -c 'echo in'; read x; echo got $x; read y; echo outer $y`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(strings.Fields(name)[len(strings.Fields(name))-1]); err != nil {
				t.Skip(err)
			}
			cmd := exec.Command("/bin/sh", "-c", "stty -echo; export "+commandVar+"=1; "+script)
			cmd.Env = append(os.Environ(), "SANDTEST="+sandtestCommand(t).Path)
			term := startTerminal(t, cmd)
			term.expect("in")
			term.send("one\n")
			term.expect("got one")
			term.send("two\n")
			term.expect("outer two")
			term.end()
		})
	}
}

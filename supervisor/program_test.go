//go:build linux

package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary doubles as a static Go program: with this variable set it runs
// one of programs instead of the tests.
const programVar = "SUPERVISOR_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if name := os.Getenv(programVar); name != "" {
		if err := programs[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program returns a command that runs one of programs.
func program(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	if programs[name] == nil {
		t.Fatalf("no program %q", name)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	// The race detector would otherwise let each program sleep for a second at its
	// end.
	cmd.Env = []string{programVar + "=" + name, "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), "TZ=UTC"}
	return cmd
}

// run runs a command to its end and returns its state and output; the sandbox
// must not fail.
func run(t testing.TB, cfg Config, cmd *exec.Cmd) (*State, string) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	s, err := Start(cmd, cfg)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	limit := 2 * time.Minute
	if long {
		limit = time.Hour
	}
	defer time.AfterFunc(limit, s.Kill).Stop()
	state, err := s.Wait()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out.String())
	}
	return state, out.String()
}

// output runs a command that must succeed.
func output(t testing.TB, cfg Config, cmd *exec.Cmd) string {
	t.Helper()
	state, out := run(t, cfg, cmd)
	if state.ExitCode != 0 {
		t.Fatalf("%v: exit status %d, signal %v, deadlock %v\n%s", cmd.Args, state.ExitCode, state.Signal, state.Deadlock, out)
	}
	return out
}

// sh returns a shell command.
func sh(script string) *exec.Cmd { return exec.Command("/bin/sh", "-c", script) }

// now keeps the clock reads of a benchmark from being optimised away.
var now time.Time

var programs = map[string]func(args []string) error{
	"attempt":   attempt,
	"conform":   conform,
	"uname":     repeat(func() error { var u unix.Utsname; return unix.Uname(&u) }),
	"answered":  repeat(func() error { return unix.Prctl(unix.PR_SET_TSC, unix.PR_TSC_ENABLE, 0, 0, 0) }),
	"getrandom": repeat(func() error { var b [16]byte; _, err := unix.Getrandom(b[:], 0); return err }),
	"clock":     repeat(func() error { now = time.Now(); return nil }),
	"fork": repeat(func() error {
		return (&exec.Cmd{Path: "/bin/true", Args: []string{"true"}}).Run()
	}),
	"getdents": func(args []string) error {
		buf := make([]byte, 32<<10)
		fd, err := unix.Open(args[1], unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		return repeat(func() error {
			if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
				return err
			}
			for {
				if n, err := unix.Getdents(fd, buf); n <= 0 {
					return err
				}
			}
		})(args)
	},
	"open": repeat(func() error {
		fd, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}),
	"stat": repeat(func() error { return unix.Stat("/etc/passwd", new(unix.Stat_t)) }),
	"read": repeat(func() error {
		fd, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		var buf [512]byte
		if _, err := unix.Read(fd, buf[:]); err != nil {
			return err
		}
		return unix.Close(fd)
	}),
	"create": func(args []string) error {
		n := 0
		return repeat(func() error {
			n++
			fd, err := unix.Open("file"+strconv.Itoa(n), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o666)
			if err != nil {
				return err
			}
			if _, err := unix.Write(fd, []byte("a line\n")); err != nil {
				return err
			}
			return unix.Close(fd)
		})(args)
	},
}

// repeat makes a program that does something as many times as its first argument
// says.
func repeat(f func() error) func([]string) error {
	return func(args []string) error {
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		for range n {
			if err := f(); err != nil {
				return err
			}
		}
		return nil
	}
}

//go:build linux

package supervisor

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The calls through which the tests below speak with a program: each is harmless
// and made by nothing else.
const (
	askCall  = "getpriority"
	askOther = "sched_get_priority_max"
)

func init() {
	ask := func(nr uintptr, args ...uintptr) (uintptr, unix.Errno) {
		var a [3]uintptr
		copy(a[:], args)
		r, _, e := unix.Syscall(nr, a[0], a[1], a[2])
		return r, e
	}
	programs["ask"] = func([]string) error {
		r, e := ask(unix.SYS_GETPRIORITY)
		fmt.Println(int(r), int(e))
		return nil
	}
	programs["ask-other"] = func([]string) error {
		r, e := ask(unix.SYS_SCHED_GET_PRIORITY_MAX)
		fmt.Println(int(r), int(e))
		return nil
	}
	// Reads what the descriptor that it is given contains.
	programs["ask-fd"] = func(args []string) error {
		r, e := ask(unix.SYS_GETPRIORITY)
		fd := int(r)
		if len(args) > 0 {
			fmt.Sscan(args[0], &fd)
		}
		text, err := io.ReadAll(os.NewFile(uintptr(fd), "given"))
		flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		fmt.Printf("%q %v cloexec=%v errno=%d\n", text, err, flags&unix.FD_CLOEXEC != 0, int(e))
		return nil
	}
}

// answered runs a program whose getpriority is answered by h.
func answered(t *testing.T, cmd *exec.Cmd, h func(*Call) Answer, more ...call) (*State, string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	calls := append([]call{{name: askCall, notify: h}}, more...)
	s, err := start(cmd, Config{}, hooks{features: []func(*Sandbox) feature{
		func(*Sandbox) feature { return feature{name: "test", calls: calls} },
	}})
	if err != nil {
		t.Fatal(err)
	}
	state, err := s.Wait()
	return state, out.String(), err
}

func textFD(t *testing.T, text string) int {
	t.Helper()
	fd, err := textFile(text, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestAnswers(t *testing.T) {
	native, _, _ := unix.Syscall(unix.SYS_GETPRIORITY, 0, 0, 0)
	for _, tc := range []struct {
		name    string
		program *exec.Cmd
		handler func(*Call) Answer
		want    string
	}{
		{"goes on to the kernel", program(t, "ask"), func(*Call) Answer { return goOn }, fmt.Sprintln(native, 0)},
		{"Continue", program(t, "ask"), func(*Call) Answer { return Continue() }, fmt.Sprintln(native, 0)},
		{"Errno", program(t, "ask"), func(*Call) Answer { return Errno(unix.ENOTNAM) }, fmt.Sprintln(-1, int(unix.ENOTNAM))},
		{"Return", program(t, "ask"), func(*Call) Answer { return Return(1 << 40) }, fmt.Sprintln(1<<40, 0)},
		{"InjectFD", program(t, "ask-fd"), func(*Call) Answer { return InjectFD(textFD(t, "hello"), true) },
			"\"hello\" <nil> cloexec=true errno=0\n"},
		{"InjectFD without cloexec", program(t, "ask-fd"), func(*Call) Answer { return InjectFD(textFD(t, ""), false) },
			"\"\" <nil> cloexec=false errno=0\n"},
		{"InjectFDAt", program(t, "ask-fd", "77"), func(*Call) Answer { return InjectFDAt(77, textFD(t, "at 77"), false) },
			"\"at 77\" <nil> cloexec=false errno=0\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, out, err := answered(t, tc.program, tc.handler)
			if err != nil || out != tc.want {
				t.Errorf("got %q, %v; want %q", out, err, tc.want)
			}
		})
	}
}

func TestAnswerKill(t *testing.T) {
	// The shell has no handler, and waits while the program asks.
	cmd := sh(programVar + `=ask "$0"; echo still there`)
	cmd.Args = append(cmd.Args, program(t, "ask").Path)
	state, out, err := answered(t, cmd, func(*Call) Answer { return Kill(unix.SIGUSR1) })
	if err != nil || state.ExitCode != -1 || state.Signal != unix.SIGUSR1 || strings.Contains(out, "still there") {
		t.Errorf("got %+v, output %q, %v; want death by SIGUSR1", state, out, err)
	}
}

func TestAnswerFatal(t *testing.T) {
	_, out, err := answered(t, program(t, "ask"), func(*Call) Answer { return Fatal(fmt.Errorf("no way")) })
	if err == nil || !strings.Contains(err.Error(), "no way") || out != "" {
		t.Errorf("output %q, error %v; want the error and no output", out, err)
	}
}

// A held call waits without holding up other processes: it is answered only when
// another process has had an answer to a later call.
func TestAnswerHold(t *testing.T) {
	self := program(t, "ask")
	held := make(chan *Held, 1)
	cmd := sh(programVar + `=ask "$0" & ` + programVar + `=ask-other "$0"; wait`)
	cmd.Args = append(cmd.Args, self.Path)
	_, out, err := answered(t, cmd, func(c *Call) Answer {
		h, a := c.Hold()
		held <- h
		return a
	}, call{name: askOther, notify: func(c *Call) Answer {
		c.Yield() // it may be asked first
		(<-held).Answer(Return(11))
		return Return(22)
	}})
	if err != nil || !strings.Contains(out, "11 0\n") || !strings.Contains(out, "22 0\n") {
		t.Errorf("got %q, %v; want both answers", out, err)
	}
}

// A slow handler that yields doesn't hold up other processes either.
func TestYield(t *testing.T) {
	self := program(t, "ask")
	gate := make(chan struct{})
	cmd := sh(programVar + `=ask "$0" & ` + programVar + `=ask-other "$0"; wait`)
	cmd.Args = append(cmd.Args, self.Path)
	_, out, err := answered(t, cmd, func(c *Call) Answer {
		c.Yield()
		<-gate
		return Return(11)
	}, call{name: askOther, notify: func(*Call) Answer {
		close(gate)
		return Return(22)
	}})
	if err != nil || !strings.Contains(out, "11 0\n") || !strings.Contains(out, "22 0\n") {
		t.Errorf("got %q, %v; want both answers", out, err)
	}
}

// Two features that want one call are asked in their order.
func TestFeatureOrder(t *testing.T) {
	_, out, err := answered(t, program(t, "ask"),
		func(*Call) Answer { return goOn },
		call{name: askCall, notify: func(*Call) Answer { return Return(2) }},
		call{name: askCall, notify: func(*Call) Answer { return Return(3) }})
	if err != nil || out != "2 0\n" {
		t.Errorf("got %q, %v; want the first answer", out, err)
	}
}

func TestTableConflict(t *testing.T) {
	tab := &table{notify: map[int][]func(*Call) Answer{}, stop: map[int][]func(*Stop){}}
	if err := tab.add(call{name: askCall, notify: func(*Call) Answer { return goOn }}); err != nil {
		t.Fatal(err)
	}
	if err := tab.add(call{name: askCall, stop: func(*Stop) {}}); err == nil {
		t.Error("no error for a call that is wanted on two channels")
	}
	if err := tab.add(call{name: askOther}); err == nil {
		t.Error("no error for a call without an answer")
	}
}

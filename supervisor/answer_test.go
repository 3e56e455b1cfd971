//go:build linux

package supervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// Numbers that no kernel has a call for.
const (
	testCall  = 0x3ffe0001
	otherCall = 0x3ffe0002
)

func init() {
	// Makes calls, each given as number:argument, and prints results. The argument
	// "file" stands for a call that opens one, "fd" for what the last call returned;
	// the number 0 reads from a descriptor.
	programs["calls"] = func(args []string) error {
		var last uint64
		for _, arg := range args {
			nr, rest, _ := strings.Cut(arg, ":")
			call, err := strconv.ParseUint(nr, 0, 32)
			if err != nil {
				return err
			}
			value := last
			if rest != "fd" {
				value, _ = strconv.ParseUint(rest, 0, 64)
			}
			if nr == "0" { // read and print a descriptor
				b := make([]byte, 100)
				n, err := unix.Read(int(value), b)
				flags, _ := unix.FcntlInt(uintptr(value), unix.F_GETFD, 0)
				fmt.Printf("%q %v cloexec %d\n", b[:max(n, 0)], err, flags)
				continue
			}
			r, _, e := unix.Syscall(uintptr(call), uintptr(value), 0, 0)
			if last = uint64(r); rest == "file" {
				fmt.Println(e == 0)
				continue
			}
			fmt.Printf("%d %d\n", int64(r), int(e))
		}
		return nil
	}
}

// with adds features to those of every sandbox for the time of a test. No test
// of this package is parallel, so nobody else sees them.
func with(t *testing.T, more ...func(*Sandbox) feature) {
	old := features
	features = append(append([]func(*Sandbox) feature{}, old...), more...)
	t.Cleanup(func() { features = old })
}

// notifies is a feature that answers one call.
func notifies(nr uint32, f func(*Call) Answer) func(*Sandbox) feature {
	return func(*Sandbox) feature { return feature{name: "test", calls: []call{{nr: nr, notify: f}}} }
}

// tempText returns a descriptor of a file with a text.
func tempText(t *testing.T, text string) int {
	t.Helper()
	fd, err := textFile(text, 0, 0, 0o444)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// called runs the program that makes calls.
func called(t *testing.T, calls ...string) string {
	t.Helper()
	return succeeds(t, Config{}, program(t, "calls", calls...))
}

func TestAnswers(t *testing.T) {
	test, other := fmt.Sprint(testCall), fmt.Sprint(otherCall)
	for _, tt := range []struct {
		name   string
		answer func(t *testing.T, c *Call) Answer
		calls  []string
		want   string
	}{
		{"Return", func(_ *testing.T, c *Call) Answer { return Return(int64(c.Arg(0)) + 1) }, []string{test + ":41", test + ":0"}, "42 0\n1 0\n"},
		{"Return of much", func(*testing.T, *Call) Answer { return Return(1 << 40) }, []string{test}, fmt.Sprintf("%d 0\n", 1<<40)},
		{"Errno", func(_ *testing.T, c *Call) Answer { return Errno(unix.Errno(c.Arg(0))) }, []string{test + ":1", test + ":133"}, "-1 1\n-1 133\n"},
		{"Continue", func(*testing.T, *Call) Answer { return Continue() }, []string{test}, fmt.Sprintf("-1 %d\n", int(unix.ENOSYS))},
		{"go on", func(*testing.T, *Call) Answer { return goOn }, []string{test}, fmt.Sprintf("-1 %d\n", int(unix.ENOSYS))},
		{"Int", func(_ *testing.T, c *Call) Answer { return Return(int64(c.Int(0)) + 10) }, []string{test + ":0x5eedfffffffe"}, "8 0\n"},
		{"InjectFD", func(t *testing.T, c *Call) Answer { return InjectFD(tempText(t, "injected"), false) },
			[]string{test + ":file", "0:fd"}, "true\n\"injected\" <nil> cloexec 0\n"},
		{"InjectFD with O_CLOEXEC", func(t *testing.T, c *Call) Answer { return InjectFD(tempText(t, "injected"), true) },
			[]string{test + ":file", "0:fd", test + ":file", "0:fd"}, strings.Repeat("true\n\"injected\" <nil> cloexec 1\n", 2)},
		{"InjectFDAt", func(t *testing.T, c *Call) Answer { return InjectFDAt(int(c.Arg(0)), tempText(t, "placed"), true) },
			[]string{test + ":77", "0:77", test + ":77", "0:77"},
			fmt.Sprintf("-1 %[1]d\n\"placed\" <nil> cloexec 1\n-1 %[1]d\n\"placed\" <nil> cloexec 1\n", int(unix.ENOSYS))},
		{"Yield", func(_ *testing.T, c *Call) Answer { c.Yield(); c.Yield(); return Return(5) }, []string{test, test, test}, "5 0\n5 0\n5 0\n"},
		{"held, answered at once", func(_ *testing.T, c *Call) Answer {
			h, a := c.Hold()
			h.Answer(Return(6))
			return a
		}, []string{test, test}, "6 0\n6 0\n"},
		{"held, answered later", func(_ *testing.T, c *Call) Answer {
			h, a := c.Hold()
			go h.Answer(Errno(unix.EDOM))
			return a
		}, []string{test, test}, fmt.Sprintf("-1 %[1]d\n-1 %[1]d\n", int(unix.EDOM))},
		{"only its own call", func(*testing.T, *Call) Answer { return Return(7) }, []string{other, test}, fmt.Sprintf("-1 %d\n7 0\n", int(unix.ENOSYS))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := held(t)
			with(t, notifies(testCall, func(c *Call) Answer { return tt.answer(t, c) }))
			if got := called(t, tt.calls...); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			before.goroutines += 5 // the first sandbox of a process leaves some of the runtime's
			if err := given(before); err != nil {
				t.Error(err)
			}
		})
	}
}

// The first answer stands, in the order of the list.
func TestFirstAnswerStands(t *testing.T) {
	var asked []int
	answers := []Answer{goOn, Return(10), Return(20)}
	var more []func(*Sandbox) feature
	for i, a := range answers {
		more = append(more, notifies(testCall, func(*Call) Answer { asked = append(asked, i); return a }))
	}
	with(t, more...)
	if got := called(t, fmt.Sprint(testCall)); got != "10 0\n" || len(asked) != 2 || asked[0] != 0 || asked[1] != 1 {
		t.Errorf("got %q, asked %v", got, asked)
	}
}

// A call that is held stops nobody else.
func TestHeldCall(t *testing.T) {
	release := make(chan *Held, 1)
	with(t,
		notifies(testCall, func(c *Call) Answer { h, a := c.Hold(); release <- h; return a }),
		notifies(otherCall, func(c *Call) Answer {
			c.Yield() // it may come first
			(<-release).Answer(Return(99))
			return Return(1)
		}))
	self := program(t, "calls").Path
	script := fmt.Sprintf(`"$0" %d & "$0" %d; wait`, testCall, otherCall)
	cmd := program(t, "calls")
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", script, self}
	// The second program waits in its handler for the first.
	_, out := ends(t, Config{}, cmd)
	if got := strings.Count(out, "99 0\n") + strings.Count(out, "1 0\n"); got != 2 {
		t.Errorf("got %q", out)
	}
}

// Kill and Fatal end everything, Fatal with its error.
func TestKillAndFatal(t *testing.T) {
	boom := errors.New("boom")
	for _, tt := range []struct {
		name   string
		answer Answer
		check  func(*State, error) bool
	}{
		{"Kill", Kill(unix.SIGKILL), func(s *State, err error) bool { return err == nil && s.Signal == unix.SIGKILL }},
		{"Fatal", Fatal(boom), func(s *State, err error) bool {
			return s == nil && errors.Is(err, boom) && strings.HasPrefix(err.Error(), "supervisor: ")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			with(t, notifies(testCall, func(*Call) Answer { return tt.answer }))
			cmd := program(t, "calls")
			self := cmd.Path
			cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", fmt.Sprintf(`sleep 1000 & "$0" %d; sleep 1000`, testCall), self}
			s, err := Start(cmd, Config{Clock: det.Running})
			if err != nil {
				t.Fatal(err)
			}
			defer time.AfterFunc(ending, func() { t.Error("it doesn't end"); s.Kill() }).Stop()
			if state, err := s.Wait(); !tt.check(state, err) {
				t.Errorf("state %+v, error %v", state, err)
			}
		})
	}
}

// Memory of the caller, read and written.
func TestCallMemory(t *testing.T) {
	uname, ok := seccomp.Number("uname")
	if !ok {
		t.Fatal("no uname")
	}
	old := features
	features = []func(*Sandbox) feature{refused, imageLoader, notifies(uname, func(c *Call) Answer {
		if _, err := c.String(1); !errors.Is(err, unix.EFAULT) {
			return Fatal(fmt.Errorf("String of a bad pointer: %v", err))
		}
		if n, err := c.Write(c.Arg(0), []byte("a string\x00")); n != 9 || err != nil {
			return Fatal(fmt.Errorf("wrote %d bytes: %v", n, err))
		}
		var b [8]byte
		if err := c.Read(c.Arg(0), b[:]); err != nil || string(b[:]) != "a string" {
			return Fatal(fmt.Errorf("read %q: %v", b, err))
		}
		if s, err := c.String(c.Arg(0)); err != nil || string(s) != "a string" {
			return Fatal(fmt.Errorf("read %q: %v", s, err))
		}
		if c.Name() != "uname" || c.Process.Lineage != "0" || binary.NativeEndian.Uint64(b[:]) == 0 {
			return Fatal(fmt.Errorf("call %s of %s", c.Name(), c.Process.Lineage))
		}
		return Return(0)
	})}
	defer func() { features = old }()
	output(t, Config{}, program(t, "uname", "3"))
}

// A feature that can't close is an error of the run, and a load that fails one
// of the start.
func TestFeatureErrors(t *testing.T) {
	boom := errors.New("boom")
	t.Run("close", func(t *testing.T) {
		with(t, func(*Sandbox) feature { return feature{name: "test", close: func() error { return boom }} })
		s, err := Start(exec.Command("/bin/true"), Config{})
		if err != nil {
			t.Fatal(err)
		}
		if state, err := s.Wait(); !errors.Is(err, boom) {
			t.Errorf("state %+v, error %v", state, err)
		}
	})
	t.Run("load at the start", func(t *testing.T) {
		with(t, func(*Sandbox) feature { return feature{name: "test", load: func(*image) error { return boom }} })
		if err := startFails(t, exec.Command("/bin/true"), Config{}); !errors.Is(err, boom) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("load of a later program", func(t *testing.T) {
		n := 0
		with(t, func(*Sandbox) feature {
			return feature{name: "test", load: func(*image) error {
				if n++; n > 1 {
					return boom
				}
				return nil
			}}
		})
		s, err := Start(sh("/bin/true; sleep 1000"), Config{Clock: det.Running})
		if err != nil {
			t.Fatal(err)
		}
		defer time.AfterFunc(ending, s.Kill).Stop()
		if state, err := s.Wait(); !errors.Is(err, boom) {
			t.Errorf("state %+v, error %v", state, err)
		}
	})
	t.Run("two channels", func(t *testing.T) {
		with(t, func(*Sandbox) feature {
			return feature{name: "test", calls: []call{{name: "uname", stop: func(*Stop) {}}}}
		})
		if err := startFails(t, exec.Command("/bin/true"), Config{}); !strings.Contains(err.Error(), "uname") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		with(t, func(*Sandbox) feature { return feature{name: "test", calls: []call{{name: "getpid"}}} })
		if err := startFails(t, exec.Command("/bin/true"), Config{}); !strings.Contains(err.Error(), "getpid") {
			t.Errorf("error %v", err)
		}
	})
}

// A stop sees a call and its end.
func TestStops(t *testing.T) {
	var seen []string
	getppid, ok := seccomp.Number("getppid")
	if !ok {
		t.Fatal("no getppid")
	}
	with(t, func(*Sandbox) feature {
		return feature{name: "test", calls: []call{{name: "getppid", stop: func(st *Stop) {
			seen = append(seen, fmt.Sprintf("entry %v %d", st.Nr() == int(getppid), st.Arg(0)))
			parent := int64(os.Getpid())
			if st.t.s.spaces != nil {
				parent = initPID
			}
			st.OnExit(func(st *Stop) { seen = append(seen, fmt.Sprintf("exit %v", st.Result() == parent)) })
		}}}}
	})
	called(t, fmt.Sprintf("%d:5", getppid), fmt.Sprintf("%d:6", getppid))
	if want := "entry true 5, exit true, entry true 6, exit true"; strings.Join(seen, ", ") != want {
		t.Errorf("saw %q, want %q", seen, want)
	}
}

// The rules of two sandboxes are the same, so that the filter is assembled once.
func TestSameRules(t *testing.T) {
	rules := func() []seccomp.Rule {
		cfg, err := Config{}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		s := &Sandbox{cfg: cfg, cmd: exec.Command("true"), done: make(chan struct{})}
		if err := s.prepare(); err != nil {
			t.Fatal(err)
		}
		defer s.view.discard()
		defer s.page.close()
		table, err := newTable(s)
		if err != nil {
			t.Fatal(err)
		}
		return table.rules
	}
	first := rules()
	for range 10 {
		if diff := cmp.Diff(first, rules()); diff != "" {
			t.Fatalf("the rules differ (-first +this):\n%s", diff)
		}
	}
}

//go:build linux

package supervisor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func init() { programs["ephemerals"] = ephemeralCalls }

// ephemeralCalls lets sockets have ports of the kernel's choice, more than there are one
// after the other, and then as many as there are at once.
func ephemeralCalls([]string) error {
	const many = 700
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		server, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Bind(server, sockaddrOf("127.0.0.1:80")); err != nil {
			return err
		}
		if kind == unix.SOCK_STREAM {
			if err := unix.Listen(server, 2); err != nil {
				return err
			}
		}
		for _, how := range []string{"connect", "bind", "connect all"} {
			keep := []int{}
			fmt.Println("---", kind, how)
			for i := range many {
				fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				if how == "bind" {
					err = unix.Bind(fd, sockaddrOf("0.0.0.0:0"))
				} else if err = unix.Connect(fd, sockaddrOf("127.0.0.1:80")); err == nil && kind == unix.SOCK_STREAM {
					end, _, err := unix.Accept4(server, unix.SOCK_CLOEXEC)
					if err != nil {
						return err
					}
					unix.Close(end)
				}
				name, nameless := localName(fd)
				if nameless != nil {
					return nameless
				}
				fmt.Println(i, errnoName(err), name)
				if i%100 == 0 || how == "connect all" {
					keep = append(keep, fd)
				} else {
					unix.Close(fd)
				}
				if err != nil {
					break
				}
			}
			for _, fd := range keep {
				unix.Close(fd)
			}
		}
		unix.Close(server)
	}
	return nil
}

// The ports that clients are given come back when their sockets are closed, in the same
// order in each run, and none is given twice at a time.
func TestEphemeralPorts(t *testing.T) {
	const some = 300
	run := func() string {
		cmd := program(t, "ephemerals")
		var out, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &stderr
		cmd.Env = append(environ(), cmd.Env...)
		s, err := start(cmd, Config{}, hooks{ephemerals: some})
		if err != nil {
			t.Fatal(err)
		}
		if res, err := s.Wait(); err != nil || res.ExitCode != 0 {
			t.Fatalf("%v, %v\n%s", res, err, stderr.String())
		}
		return out.String()
	}
	first := run()
	if diff := cmp.Diff(lines(first), lines(run())); diff != "" {
		t.Errorf("(-first run +second):\n%s", diff)
	}
	for _, part := range strings.Split(first, "--- ")[1:] {
		what, list, _ := strings.Cut(part, "\n")
		kept, given := map[string]bool{}, 0
		for line := range strings.Lines(list) {
			var i int
			var err, name string
			if _, scanned := fmt.Sscan(line, &i, &err, &name); scanned != nil {
				t.Fatal(scanned)
			}
			_, port, _ := strings.Cut(name, ":")
			if err != "ok" {
				break
			}
			if kept[port] {
				t.Errorf("%s: the %dth gets %s, which is in use", what, i, port)
			}
			kept[port] = i%100 == 0 || strings.HasSuffix(what, "all")
			given++
		}
		want := 700
		if strings.HasSuffix(what, "all") {
			want = some
		}
		if given != want {
			t.Errorf("%s: %d ports are given, want %d\n%s", what, given, want, list)
		}
	}
}

//go:build linux

package supervisor

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Calls that would get round the sandbox don't exist in it.
func TestRefusedCalls(t *testing.T) {
	dynamicAndStatic(t, "edges", func(t *testing.T, path string) {
		var want strings.Builder
		for _, line := range []string{"io_uring_setup", "io_uring_enter", "io_uring_register", "clone3", "clone3 of nothing", "rseq",
			"-CLONE_UNTRACED", "-CLONE_UNTRACED with more", "-CLONE_UNTRACED with rubbish above",
			"int 0x80 getpid", "int 0x80 uname", "int 0x80 time", "int 0x80 getrandom", "int 0x80 clock_gettime",
			"x32 getpid", "x32 uname", "x32 getrandom", "page call", "page call with arguments", "no such call", "call 1023", "call -1"} {
			name, untraced := strings.CutPrefix(line, "-")
			errno := unix.ENOSYS
			if untraced {
				errno = unix.EPERM
			}
			fmt.Fprintf(&want, "%s: errno %d\n", name, int(errno))
		}
		fmt.Fprintf(&want, "call 1 << 32: 1\npage call of a child: errno %d\n", int(unix.ENOSYS))
		if diff := cmp.Diff(lines(want.String()), lines(succeeds(t, Config{}, cmdC(path, "refused")))); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestBadPointers(t *testing.T) {
	dynamicAndStatic(t, "edges", func(t *testing.T, path string) {
		sameAsBare(t, Config{}, func() *exec.Cmd { return cmdC(path, "pointers") })
	})
}

// Paths of every length, at the end of what is mapped.
func TestLengthsOfPaths(t *testing.T) {
	path := compileC(t, "edges", false)
	for _, file := range []string{"/etc/passwd", "/proc/cpuinfo"} {
		sameAsBare(t, Config{}, func() *exec.Cmd { return cmdC(path, "lengths", file) })
	}
}

// A process without a free descriptor gets EMFILE, and may still execute a
// program.
func TestNoFreeDescriptor(t *testing.T) {
	dynamic, static := compileC(t, "edges", false), compileC(t, "edges", true)
	out := succeeds(t, Config{}, cmdC(dynamic, "full", static))
	want := fmt.Sprintf("/dev/null: errno %[1]d\n/proc/cpuinfo: errno %[1]d\n/dev/urandom: errno %[1]d\nuname: 0\n", int(unix.EMFILE))
	if !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "exec: status 0\n") {
		t.Errorf("got\n%swant\n%s...exec: status 0", out, want)
	}
}

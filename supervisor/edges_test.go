//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Calls that would get round the sandbox don't exist in it.
func TestRefusedCalls(t *testing.T) {
	dynamicAndStatic(t, "edges", func(t *testing.T, path string) {
		var want, want32 strings.Builder
		for _, line := range []string{"io_uring_setup", "io_uring_enter", "io_uring_register", "clone3", "clone3 of nothing", "rseq",
			"-CLONE_UNTRACED", "-CLONE_UNTRACED with more", "-CLONE_UNTRACED with rubbish above",
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
		if !hasI386(t, path) {
			t.Skip("this kernel has no calls of i386: int $0x80 is a fault")
		}
		for _, name := range []string{"getpid", "uname", "time", "getrandom", "clock_gettime"} {
			fmt.Fprintf(&want32, "int 0x80 %s: errno %d\n", name, int(unix.ENOSYS))
		}
		if diff := cmp.Diff(lines(want32.String()), lines(succeeds(t, Config{}, cmdC(path, "refused32")))); diff != "" {
			t.Errorf("calls of i386 (-want +got):\n%s", diff)
		}
	})
}

// hasI386 reports whether the machine has the system calls of i386; edges is the program of
// that name.
func hasI386(t *testing.T, edges string) bool {
	t.Helper()
	err := cmdC(edges, "refused32").Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGSEGV {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	return true
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

// An open that fails for want of a descriptor has made and emptied nothing.
func TestNoDescriptorNoFile(t *testing.T) {
	path := compileC(t, "edges", false)
	sameAsBare(t, Config{}, func() *exec.Cmd {
		cmd := cmdC(path, "emptied")
		cmd.Dir = t.TempDir()
		return cmd
	})
}

// Devices that every machine has may be made anew, by who may make devices, and work.
func TestOwnDevices(t *testing.T) {
	const script = `
umask 022
mknod null c 1 3 && echo lost >null && cat null
mknod zero c 1 5 && head -c 3 zero | od -An -tx1
mknod full c 1 7 && { echo lost >full || echo no space; } 2>/dev/null
mknod random c 1 9 && head -c 5 random | wc -c
mknod own c 5 0 && { cat own || echo no terminal; } 2>/dev/null
mknod memory c 1 1 && echo made
rm null && test ! -e null && ls -l zero memory | cut -c1-10`
	command := func() *exec.Cmd {
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Dir = t.TempDir()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd
	}
	probe := filepath.Join(t.TempDir(), "null")
	if err := unix.Mknod(probe, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skip("mknod: ", err)
	}
	if f, err := os.Open(probe); err != nil {
		t.Skip("devices don't work here: ", err)
	} else {
		f.Close()
	}
	sameAsBare(t, Config{}, command)
}

// A script is executed by its descriptor where that stays open, and not found otherwise.
func TestExecuteDescriptor(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	const script = `
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def execute(open_flags, inherit, fd_path, name, flags):
    if os.fork():
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
        return
    fd = os.open(fd_path, open_flags)
    os.set_inheritable(fd, inherit)
    os.dup2(fd, 9, inherit)
    argv = (ctypes.c_char_p * 3)(b"it", b"given", None)
    libc.syscall(322, 9, name, argv, None, flags)
    os.write(1, os.strerror(ctypes.get_errno()).encode() + b"\n")
    os._exit(1)
for inherit in True, False:
    execute(os.O_RDONLY, inherit, "dir/script", b"", 0x1000)
    execute(os.O_PATH, inherit, "dir/script", b"", 0x1000)
    execute(os.O_PATH, inherit, "dir", b"script", 0)
    execute(os.O_PATH, inherit, "dir", os.path.abspath("dir/script").encode(), 0)
    execute(os.O_RDONLY, inherit, "/bin/true", b"", 0x1000)
    execute(os.O_RDONLY, inherit, "dir", b"missing", 0)
`
	command := func() *exec.Cmd {
		cmd := exec.Command(python, "-c", script)
		cmd.Dir = t.TempDir()
		if err := os.Mkdir(cmd.Dir+"/dir", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cmd.Dir+"/dir/script", []byte("#!/bin/sh\necho ${0##*/} $*\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	if want, got := bare(t, command()), output(t, Config{}, command()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	} else {
		t.Log(got)
	}
}

// TestRarely: what is rarely done to files is as natively.
func TestRarely(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	script, err := filepath.Abs("testdata/py/rarely.py")
	if err != nil {
		t.Fatal(err)
	}
	command := func() *exec.Cmd {
		cmd := exec.Command(python, "-S", script)
		cmd.Dir = t.TempDir()
		at := func(name string) string { return filepath.Join(cmd.Dir, name) }
		err := errors.Join(os.Symlink("target", at("s1")), os.Link(at("s1"), at("s2")), os.Link(at("s1"), at("s3")),
			os.WriteFile(at("h1"), []byte("text"), 0o644), os.Link(at("h1"), at("h2")))
		if err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	bare, err := command().CombinedOutput()
	if err != nil {
		t.Fatalf("bare: %v\n%s", err, bare)
	}
	want := string(bare)
	if strings.Contains(want, "x to z, 4 EINVAL") {
		t.Skip("the file system of ", t.TempDir(), " has no RENAME_WHITEOUT")
	}
	if diff := cmp.Diff(want, output(t, Config{}, command())); diff != "" {
		t.Errorf("(-bare +sandbox):\n%s", diff)
	}
}

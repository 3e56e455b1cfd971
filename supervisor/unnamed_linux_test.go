package supervisor

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUnnamed: pipes, sockets and memory are what they are natively.
func TestUnnamed(t *testing.T) {
	t.Parallel()
	program := compileC(t, "unnamed", false)
	bare, err := exec.Command(program).CombinedOutput()
	if err != nil {
		t.Fatalf("bare: %v\n%s", err, bare)
	}
	if diff := cmp.Diff(string(bare), output(t, Config{}, exec.Command(program))); diff != "" {
		t.Errorf("(-bare +sandbox):\n%s", diff)
	}
}

// TestNoPath: without a path, stat(2) tells of what a descriptor has open, or of the working
// directory.
func TestNoPath(t *testing.T) {
	t.Parallel()
	program := compileC(t, "unnamed", false)
	bare, err := exec.Command(program, "no path").CombinedOutput()
	if err != nil {
		t.Fatalf("bare: %v\n%s", err, bare)
	}
	if strings.HasPrefix(string(bare), "-100 1000\n  fstatat(dirfds[i], none, &st, flags[j]) = -1 EFAULT") {
		t.Skip("the kernel is older than 6.11, and wants a path")
	}
	if diff := cmp.Diff(string(bare), output(t, Config{}, exec.Command(program, "no path"))); diff != "" {
		t.Errorf("(-bare +sandbox):\n%s", diff)
	}
}

// What the kernel counts for the whole host, and its time, isn't seen.
func TestUnnamedNumbers(t *testing.T) {
	t.Parallel()
	program := compileC(t, "unnamed", false)
	first := output(t, Config{}, exec.Command(program, "numbers"))
	for range 3 {
		if diff := cmp.Diff(first, output(t, Config{}, exec.Command(program, "numbers"))); diff != "" {
			t.Errorf("(-first +next):\n%s", diff)
		}
	}
	if n := strings.Count(first, "946684800.000000000"); n < 40 {
		t.Errorf("only %d times are when the clock began:\n%s", n, first)
	}
}

// A socket has one number, wherever it is told.
func TestSocketNumbers(t *testing.T) {
	t.Parallel()
	const python = `import os, socket
s = socket.create_server(("127.0.0.1", 8080))
link = os.readlink("/proc/self/fd/%d" % s.fileno())
table = [l.split()[9] for l in open("/proc/net/tcp").readlines()[1:]]
print(link == "socket:[%d]" % os.fstat(s.fileno()).st_ino, table == [link[8:-1]])
later = socket.create_server(("127.0.0.1", 8081))
table = [l.split()[9] for l in open("/proc/net/tcp").readlines()[1:]]
print(table[1] == str(os.fstat(later.fileno()).st_ino), table)`
	interpreter, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	var first string
	for i := range 2 {
		got := output(t, Config{}, exec.Command(interpreter, "-c", python))
		if !strings.HasPrefix(got, "True True\nTrue [") || i > 0 && got != first {
			t.Errorf("it says %q, and before %q", got, first)
		}
		first = got
	}
}

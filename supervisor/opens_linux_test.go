package supervisor

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor/internal/dcache"
	"golang.org/x/sys/unix"
)

// secretFile makes a file that a program may read on the host, and not in a sandbox with that
// mount.
func secretFile(t *testing.T) (path string, denied cow.Mount) {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // a path in it has to fit into a slot
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return file, cow.Mount{At: dir, Host: dir, Denied: true}
}

// TestOpened: what a program has that opens files itself is what the kernel, or the supervisor,
// would have given it, whatever happens to them meanwhile; and it seldom asks.
func TestOpened(t *testing.T) {
	path := compileC(t, "opened", false)
	cmd := func() *exec.Cmd {
		cmd := cmdC(path)
		cmd.Dir = askedFiles(t)
		if err := os.WriteFile(filepath.Join(cmd.Dir, "own"), []byte("its own"), 0o644); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	bare, err := cmd().Output()
	if err != nil {
		t.Fatal(err)
	}
	state, out := run(t, Config{}, cmd())
	if diff := cmp.Diff(lines(string(bare)), lines(out)); diff != "" {
		t.Errorf("(-bare +sandbox):\n%s", diff)
	}
	const each = 60 // MANY
	asked, all := int(state.Stats.Notifications["openat"]), each*strings.Count(string(bare), ": opens ")
	if sealWorks() && (asked > all/2 || asked == 0) {
		t.Errorf("it has asked %d times, of at least %d", asked, all)
	}
	alone := cmdC(path, "threaded")
	alone.Dir = cmd().Dir
	if asked := succeedsWith(t, Config{}, alone).Stats.Notifications["openat"]; sealWorks() && asked > 5*each {
		t.Errorf("a process whose thread has ended has asked %d times, of %d", asked, 10*each)
	}
}

// A file that is opened in the very moment at which another process begins to write to it reads
// what was written.
func TestOpenedMeanwhile(t *testing.T) {
	files := 50
	if long {
		files = 5000
	}
	cmd := cmdC(compileC(t, "opened", false), fmt.Sprint(files))
	cmd.Dir = t.TempDir()
	for i := range files {
		if err := os.WriteFile(filepath.Join(cmd.Dir, fmt.Sprint(1+i)), []byte("old"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(cmd.Dir, fmt.Sprint(1+i)), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got := output(t, Config{Spread: SpreadAll}, cmd); got != "0 are stale\n" {
		t.Error(got)
	}
}

// TestNoOtherPaths: what lets programs open the host's files by the paths that the supervisor
// has placed lets nothing else be opened, whatever they do to that memory.
func TestNoOtherPaths(t *testing.T) {
	if !sealWorks() {
		t.Skip("memory can't be sealed (Linux 6.10), and programs don't open files themselves")
	}
	secret, denied := secretFile(t)
	cfg := Config{Mounts: []cow.Mount{denied}}
	path := compileC(t, "opens", false)
	const want = `another's memory: errno 13
again: errno 13
a thread's: errno 13
to read: 0
one's own: 0
a path of one's own: errno 13
within a path: errno 2
how within how: errno 2
how behind: errno 2
how it is opened as a path: errno 2
behind the last: errno 2
written to: errno 14
made writable: errno 13
unmapped: errno 1
replaced: errno 1
replaced, in pieces: errno 1
mapped again: errno 17
moved away: errno 1
shortened: errno 1
moved there: errno 1
attached: errno 1
arranged otherwise: errno 22
dropped: errno 2
cut out: errno 13
told: errno 14
replaced where it is told: errno 1
without it for children: errno 22
in a child: errno 17
`
	if diff := cmp.Diff(want, output(t, cfg, cmdC(path, "all", secret))); diff != "" {
		t.Error(diff)
	}
	// Natively it would be opened there.
	native, err := cmdC(path, "map", secret).Output()
	if got := string(native); err != nil || got != "mapped: 0\ntold: 0\n" {
		t.Errorf("natively: %q, %v", got, err)
	}
	if got := output(t, cfg, cmdC(path, "limited", secret)); got != "mapped: errno 13\ntold: errno 13\n" {
		t.Errorf("with a limit to its address space, which has no room for the paths: %q", got)
	}
	// Filters of its own pretend that calls succeed which it is made to make.
	for what, want := range map[string]string{"maps": "", "guard": "mapped: errno 17\ntold: errno 17\n", "nothing": "mapped: errno 17\ntold: errno 17\n"} {
		state, got := run(t, cfg, cmdC(path, "filtered", secret, what))
		if got != want || state.Signal != 0 != (want == "") {
			t.Errorf("with a filter that answers %s itself: %q, signal %v, want %q", what, got, state.Signal, want)
		}
	}
}

// A call that is denied is denied as well to a program of Go, which would know the answer.
func TestDeniedCalls(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	const source = `package main

import (
	"fmt"
	"syscall"
)

func main() {
	var st syscall.Stat_t
	denied := map[string]int{}
	for range 50 {
		fd, open := syscall.Open("main.go", syscall.O_RDONLY, 0)
		_, seek := syscall.Seek(fd, 0, 1)
		syscall.Close(fd)
		for call, err := range map[string]error{"openat": open, "lseek": seek, "newfstatat": syscall.Lstat("main.go", &st)} {
			if err == syscall.EPERM {
				denied[call]++
			}
		}
	}
	fmt.Println(denied)
}
`
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command(goTool, "build", "-o", "main", "main.go")
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, call := range []string{"openat", "newfstatat", "lseek"} {
		cmd := exec.Command(filepath.Join(dir, "main"))
		cmd.Dir = dir
		if got, want := output(t, Config{DenyCalls: []string{call}}, cmd), fmt.Sprintf("map[%s:50]\n", call); got != want {
			t.Errorf("a program has %q, want %q", got, want)
		}
	}
}

// A program that has something of its own where the paths would be can't use it either, and
// nor can what it executes.
func TestPathsTaken(t *testing.T) {
	if !sealWorks() {
		t.Skip("memory can't be sealed (Linux 6.10), and programs don't open files themselves")
	}
	secret, denied := secretFile(t)
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, thereAlready(secret), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(program).Run(); err == nil || err.Error() != "exit status 253" { // minus 3
		t.Errorf("natively: %v, want descriptor 3", err)
	}
	script := fmt.Sprintf("%s; echo $?; cat /etc/passwd >/dev/null; (exec %[1]s); echo $?", program)
	if got, want := output(t, Config{Mounts: []cow.Mount{denied}}, sh(script)), fmt.Sprintf("%d\n%[1]d\n", unix.EACCES); got != want {
		t.Errorf("exit status %q, want %q", got, want)
	}
}

// thereAlready is a program that lies where the paths would be. It opens a file by one, and
// exits with the error, or minus the descriptor.
func thereAlready(file string) []byte {
	const at, how, path, code = dcache.PathsAt, dcache.PathSlot, dcache.HowSlots * dcache.PathSlot, 0x1000
	const size = 0x2000
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	head := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: at + code, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1}
	copy(head.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	put(head)
	put(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: at, Filesz: size, Memsz: size, Align: 0x1000})
	b.Write(make([]byte, path-b.Len()))
	b.WriteString(file)
	b.Write(make([]byte, code-b.Len()))
	move := func(op []byte, v uint64) { b.Write(op); put(v) }
	move([]byte{0x48, 0xb8}, dcache.Opener)       // mov rax, openat2
	move([]byte{0x48, 0xbf}, ^uint64(0))          // mov rdi, -1
	move([]byte{0x48, 0xbe}, at+path)             // mov rsi, the path
	move([]byte{0x48, 0xba}, at+how)              // mov rdx, how
	move([]byte{0x49, 0xba}, dcache.HowSize)      // mov r10, its size
	b.Write([]byte{0x0f, 0x05, 0xf7, 0xd8})       // syscall; neg eax
	b.Write([]byte{0x89, 0xc7})                   // mov edi, eax
	b.Write([]byte{0xb8, unix.SYS_EXIT, 0, 0, 0}) // mov eax, exit
	b.Write([]byte{0x0f, 0x05})                   // syscall
	b.Write(make([]byte, size-b.Len()))
	return b.Bytes()
}

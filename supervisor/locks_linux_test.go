package supervisor

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

func init() { programs["locks"] = takeLocks }

// takeLocks locks a file that it only reads, by each kind of lock, and prints what comes of
// it, where it goes on reading, and what another process meets. With an argument it is that
// process.
func takeLocks(args []string) error {
	if len(args) > 0 {
		f, err := os.OpenFile("file", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		whole := unix.Flock_t{Type: unix.F_WRLCK}
		fmt.Println("other, flock", errnoOf(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)))
		fmt.Println("other, fcntl", errnoOf(unix.FcntlFlock(f.Fd(), unix.F_SETLK, &whole)))
		return nil
	}
	other := func() error {
		cmd := exec.Command(os.Args[0], "other")
		cmd.Env = append(os.Environ(), programVar+"=locks")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return cmd.Run()
	}
	f, err := os.Open("file")
	if err != nil {
		return err
	}
	defer f.Close()
	twin, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, 100)
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(f, make([]byte, 3)); err != nil {
		return err
	}
	fd := int(f.Fd())
	read := unix.Flock_t{Type: unix.F_RDLCK}
	fmt.Println("fcntl, to write", errnoOf(unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})))
	fmt.Println("flock", errnoOf(unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)))
	if err := other(); err != nil {
		return err
	}
	fmt.Println("flock, unlocked by the twin", errnoOf(unix.Flock(twin, unix.LOCK_UN)))
	fmt.Println("fcntl, to read", errnoOf(unix.FcntlFlock(f.Fd(), unix.F_SETLK, &read)))
	if err := other(); err != nil {
		return err
	}
	rest, err := io.ReadAll(f)
	fmt.Println("the rest:", string(rest), err)
	cloexec, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	inherited, err2 := unix.FcntlInt(uintptr(twin), unix.F_GETFD, 0)
	fmt.Println("closed on exec:", cloexec, inherited, err, err2)
	return nil
}

func errnoOf(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// TestLocks: locks of a file that is only read hold in the sandbox as on the bare kernel, and
// neither wait for the host's nor are in their way. They change nothing.
func TestLocks(t *testing.T) {
	command := func() *exec.Cmd {
		cmd := program(t, "locks")
		cmd.Dir = t.TempDir()
		if err := os.WriteFile(filepath.Join(cmd.Dir, "file"), []byte("some text"), 0o666); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	want, err := command().CombinedOutput()
	if err != nil {
		t.Fatalf("bare: %v\n%s", err, want)
	}
	cmd := command()
	file, err := os.OpenFile(filepath.Join(cmd.Dir, "file"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	whole := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &whole); err != nil {
		t.Fatal(err)
	}
	state, got := run(t, Config{}, cmd)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("bare (-) and in the sandbox (+):\n%s", diff)
	}
	if len(state.Changes) > 0 {
		t.Errorf("it has changed %v", state.Changes)
	}
}

// TestLocksOfOthers: files that have lost their names, and those that can't be written to, can
// be locked, too.
func TestLocksOfOthers(t *testing.T) {
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("no flock(1)")
	}
	only := t.TempDir()
	if err := os.WriteFile(filepath.Join(only, "file"), []byte("text\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	const script = `
echo own >own; exec 8<own; rm own; flock 8 && echo own
exec 9</only/file; flock -s 9 && cat <&9; touch /only/file 2>/dev/null || echo only read`
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir = t.TempDir()
	cfg := Config{Mounts: []cow.Mount{{Host: only, At: "/only", ReadOnly: true}}}
	if got, want := succeeds(t, cfg, cmd), "own\ntext\nonly read\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestInheritedLock: a lock by a descriptor that other processes have, too, is all of
// theirs: of one that waits for its child, of some that want it at the same time, and of one
// that computes.
func TestInheritedLock(t *testing.T) {
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("no flock(1)")
	}
	const script = `
free() { flock -n "$1" true && echo free || echo taken; }
exec 7<computes 8<together 9<waits
read -r line <&9; echo "$line"
flock 9; echo $?; free waits
read -r line <&9; echo "$line"
flock -u 9; free waits
for i in 1 2 3 4; do
	flock 8 || echo failed &
done
wait; free together; flock -u 8; free together
flock 7 && echo locked >own &
while ! test -s own; do i=$((i + 1)); done # by builtins alone
wait; cat own; free computes; flock -u 7; free computes`
	command := func() *exec.Cmd {
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Dir = t.TempDir()
		for name, text := range map[string]string{"waits": "first\nsecond\n", "together": "", "computes": ""} {
			if err := os.WriteFile(filepath.Join(cmd.Dir, name), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		return cmd
	}
	want, err := command().CombinedOutput()
	if err != nil {
		t.Fatalf("bare: %v\n%s", err, want)
	}
	runs := 5
	if long {
		runs = 500
	}
	for range runs {
		if diff := cmp.Diff(string(want), succeeds(t, Config{}, command())); diff != "" {
			t.Fatalf("bare (-) and in the sandbox (+):\n%s", diff)
		}
	}
}

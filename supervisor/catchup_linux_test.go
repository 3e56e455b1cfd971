package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// TestReadWhatIsWritten: who has a file of the host's open reads what another writes to it
// later, whatever it is doing meanwhile.
func TestReadWhatIsWritten(t *testing.T) {
	path := compileC(t, "readers", true)
	command := func() *exec.Cmd {
		cmd := cmdC(path)
		cmd.Dir = t.TempDir()
		if err := os.WriteFile(filepath.Join(cmd.Dir, "file"), []byte("some text\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	want, err := command().CombinedOutput()
	if err != nil {
		t.Fatalf("bare: %v\n%s", err, want)
	}
	for _, clock := range []det.Mode{det.Virtual, det.Running} {
		if diff := cmp.Diff(string(want), succeeds(t, Config{Clock: clock}, command())); diff != "" {
			t.Errorf("clock %v: bare (-) and in the sandbox (+):\n%s", clock, diff)
		}
	}
}

func init() { programs["stopped"] = writeWhileStopped }

// writeWhileStopped writes to a file that a stopped process reads.
func writeWhileStopped([]string) error {
	cmd := exec.Command("/bin/sh", "-c", `exec 9<file; read -r line <&9; echo "$line"; kill -STOP $$; cat <&9`)
	cmd.Stdout = os.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		return fmt.Errorf("it hasn't stopped: %v %v", status, err)
	}
	for range 20 {
		if err := exec.Command("/bin/sh", "-c", "echo more >>file").Run(); err != nil {
			return err
		}
	}
	if err := cmd.Process.Signal(unix.SIGCONT); err != nil {
		return err
	}
	return cmd.Wait()
}

// TestReadAsOfOld: where it can't be given what is written, a process goes on with what there
// was, and nobody waits for it: one that is stopped, and several that share a descriptor, of
// which each line is read once.
func TestReadAsOfOld(t *testing.T) {
	file := func(cmd *exec.Cmd) *exec.Cmd {
		cmd.Dir = t.TempDir()
		if err := os.WriteFile(filepath.Join(cmd.Dir, "file"), []byte("one\ntwo\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	state, got := run(t, Config{}, file(program(t, "stopped")))
	if want := "one\ntwo\n"; got != want || state.ExitCode != 0 {
		t.Errorf("got %q, %d, want %q", got, state.ExitCode, want)
	}
	const script = `exec 8<file; (read -r line <&8; echo "$line"; (echo three >>file); read -r line <&8; echo "$line"; cat <&8); cat <&8; cat file`
	if got, want := output(t, Config{}, file(sh(script))), "one\ntwo\none\ntwo\nthree\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

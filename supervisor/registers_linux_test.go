package supervisor

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// TestRegistersAtStart: a program finds its registers as the kernel leaves them, as the command
// and when it is executed inside.
func TestRegistersAtStart(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the program consists of amd64 instructions")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "registers")
	if out, err := exec.Command("gcc", "-nostdlib", "-static", "-o", program, filepath.Join("testdata", "c", "registers.S")).CombinedOutput(); err != nil {
		t.Skipf("no C compiler: %v\n%s", err, out)
	}
	want, err := exec.Command(program).Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, cmd := range map[string]*exec.Cmd{"command": exec.Command(program), "executed": sh("exec ./registers"), "created": sh("./registers; :")} {
		cmd.Dir = dir
		if got := output(t, Config{}, cmd); !bytes.Equal([]byte(got), want) {
			t.Errorf("%s: it finds\n% x\nwant\n% x", name, got, want)
		}
	}
}

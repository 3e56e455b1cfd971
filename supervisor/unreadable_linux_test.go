package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnreadableProgram: one that may be executed but not read is refused, and nothing else ends.
func TestUnreadableProgram(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read every file")
	}
	dir := t.TempDir()
	text, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, text, 0o111); err != nil {
		t.Fatal(err)
	}
	cmd := sh("./program; echo $?")
	cmd.Dir = dir
	if _, got := run(t, Config{}, cmd); !strings.HasSuffix(got, "126\n") {
		t.Errorf("it says %q, want 126", got)
	}
	if _, err := Start(exec.Command(program), Config{}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "not read") {
		t.Errorf("started: %v", err)
	}
}

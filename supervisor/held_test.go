//go:build linux

package supervisor

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a program has open goes on as natively when it has lost its name, or another file
// has got that.
func TestHeldFiles(t *testing.T) {
	compareScript(t, "held.py", func(dir string) {
		for _, name := range []string{"a", "b", "c"} {
			if err := os.WriteFile(filepath.Join(dir, "old_"+name), []byte("text of "+name), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Corners of the calls that take paths and descriptors.
func TestFileEdges(t *testing.T) { compareScript(t, "edges.py", func(string) {}) }

// Directories that are removed while somebody is in them.
func TestGoneDirectories(t *testing.T) {
	compareScript(t, "gone.py", func(dir string) {
		if err := os.MkdirAll(filepath.Join(dir, "old", "inner"), 0o755); err != nil {
			t.Fatal(err)
		}
	})
}

// compareScript runs a program of testdata bare and on each backend, in a directory that
// prepare has filled.
func compareScript(t *testing.T, name string, prepare func(dir string)) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	script, err := filepath.Abs(filepath.Join("testdata", "py", name))
	if err != nil {
		t.Fatal(err)
	}
	command := func() *exec.Cmd {
		cmd := exec.Command(python, script)
		cmd.Dir = t.TempDir()
		prepare(cmd.Dir)
		return cmd
	}
	want := bare(t, command())
	for _, b := range []Backend{BackendSeccomp, BackendAuto} {
		if diff := cmp.Diff(lines(want), lines(output(t, Config{Backend: b}, command()))); diff != "" {
			t.Errorf("%v (-bare +sandbox):\n%s", b, diff)
		}
	}
}

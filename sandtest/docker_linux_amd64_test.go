package sandtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Under the seccomp policy of docker run programs leave the same files behind.
func TestDockersPolicy(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no C compiler: ", err)
	}
	refuse := filepath.Join(t.TempDir(), "refuse")
	tool(t, exec.Command(gcc, "-static", "-o", refuse, filepath.Join("..", "supervisor", "testdata", "c", "refuse.c")))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(refuse, "docker", self, "-test.v", "-test.run=^Test(FilePrograms|Golden.*)$")
	if testing.Short() {
		cmd.Args = append(cmd.Args, "-test.short")
	}
	cmd.Env = append(os.Environ(), "SANDTEST_ASLR=1", "SANDTEST_BACKEND=auto")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if passed := strings.Count(string(out), "--- PASS: "); passed < 6 {
		t.Errorf("%d tests have passed:\n%s", passed, out)
	}
}

package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// askedFiles makes the files that testdata/c/names.c asks about.
func askedFiles(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "work")
	for _, sub := range []string{"sub", "secret"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"one", "two", "sub/in", "secret/in", "private"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("text of "+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": "sub", "alias": "one"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"secret": 0o700, "private": 0o600} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestNames: what a program knows of files without asking is what it would be told, whatever
// happens to them meanwhile, and it doesn't ask.
func TestNames(t *testing.T) {
	for _, what := range []string{"changes", "places", "concurrent", "paths", "descriptors", "listings", "pointers", "filtered", "others"} {
		t.Run(what, func(t *testing.T) {
			if what == "others" && os.Geteuid() != 0 {
				t.Skip("only root can become somebody else")
			}
			path := compileC(t, "names", false) // a static one lies too far from the table, see callsites.go
			cmd := func() *exec.Cmd {
				cmd := cmdC(path, what)
				cmd.Dir = askedFiles(t)
				return cmd
			}
			bare, err := cmd().Output()
			if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.Exited()) {
				t.Fatal(err)
			}
			state, out := run(t, Config{}, cmd())
			if diff := cmp.Diff(lines(string(bare)), lines(out)); diff != "" {
				t.Errorf("(-bare +sandbox):\n%s", diff)
			}
			if slices.Contains([]string{"concurrent", "paths", "listings"}, what) {
				return
			}
			asked := 0
			for _, call := range []string{"newfstatat", "lstat", "stat"} {
				asked += int(state.Stats.Notifications[call])
			}
			const each = 200 // MANY
			if all := each * strings.Count(string(bare), ": lstat "); asked > all*2/3 || asked == 0 {
				t.Errorf("it has asked %d times, of at least %d", asked, all)
			}
		})
	}
}

// A limit to a process's address space counts what the sandbox maps, too, and leaves it less.
func TestAddressSpaceLimit(t *testing.T) {
	for _, kB := range []int{3000, 6000, 12000, 38000} {
		if got := output(t, Config{}, sh(fmt.Sprintf("ulimit -v %d; /bin/true; echo $?", kB))); got != "0\n" {
			t.Errorf("with %d kB /bin/true ends with %q", kB, got)
		}
	}
}

// Where a directory is seen first doesn't depend on whether a program is told of names.
func TestFirstSight(t *testing.T) {
	dir := askedFiles(t)
	if err := os.Symlink("nowhere", filepath.Join(dir, "sub/twice")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Linkat(unix.AT_FDCWD, filepath.Join(dir, "sub/twice"), unix.AT_FDCWD, filepath.Join(dir, "secret/twice"), 0); err != nil {
		t.Fatal(err)
	}
	number := func(before string) string {
		cmd := exec.Command("perl", "-e", before+` print +(lstat "secret/twice")[1], "\n"`)
		cmd.Dir = dir
		return output(t, Config{}, cmd)
	}
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip(err)
	}
	if seldom, often := number(""), number(`for (1 .. 50) { lstat "sub/in"; lstat "sub/none$_" }`); seldom != often {
		t.Errorf("a link has number %s, and %s after others in another directory of its were asked about", seldom, often)
	}
}

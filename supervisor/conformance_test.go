//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/internal/conformance"
	"golang.org/x/sys/unix"
)

// processes is how many carry out random sequences at the same time.
const processes = 4

// conform carries out the scenarios of the table, or random sequences, each in a
// directory of its own below the present one; with "together", by several processes.
func conform(args []string) error {
	unix.Umask(0)
	if args[0] == "together" {
		return conformTogether(args[1])
	}
	for _, s := range scenarios(args[0], args[1]) {
		dir, err := unix.Open(s.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		told, err := watchBelow(args[0], s.dir)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n\t%s\n", s.Name, strings.Join(conformance.Run(conformance.Bare{Dir: dir}, s.Ops), "\n\t"))
		told()
		if err := unix.Close(dir); err != nil {
			return err
		}
	}
	return nil
}

// conformTogether lets processes carry out sequences at the same time, and prints what
// they say one after the other.
func conformTogether(size string) error {
	var cmds [processes]*exec.Cmd
	var said [processes]strings.Builder
	for i := range cmds {
		cmds[i] = exec.Command("/proc/self/exe", strconv.Itoa(i), size)
		cmds[i].Stdout, cmds[i].Stderr = &said[i], os.Stderr
		if err := cmds[i].Start(); err != nil {
			return err
		}
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			return err
		}
		fmt.Print(said[i].String())
	}
	return nil
}

// watchBelow watches the directories below one, if the scenarios are to be watched, and
// returns what prints what was told. That directories are opened isn't told in a sandbox.
func watchBelow(kind, dir string) (tell func(), err error) {
	if kind != "watched" {
		return func() {}, nil
	}
	w, err := newWatcher()
	mask := uint32(unix.IN_ALL_EVENTS &^ (unix.IN_OPEN | unix.IN_ACCESS | unix.IN_CLOSE_NOWRITE))
	if os.Geteuid() != 0 {
		mask &^= unix.IN_ATTRIB // nor that a write takes away set-id bits
	}
	if err == nil {
		err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrPermission) {
				return fs.SkipDir
			}
			if err == nil && d.IsDir() {
				w.add(path, mask)
			}
			return err
		})
	}
	return func() {
		w.tell()
		unix.Close(w.fd)
	}, err
}

type placed struct {
	conformance.Scenario
	dir string
}

// scenarios are the table, or so many random sequences: all of them, together, or those
// of one of the processes.
func scenarios(kind, size string) (list []placed) {
	if kind == "table" {
		for i, s := range conformance.Table(size == "full") {
			list = append(list, placed{s, strconv.Itoa(i)})
		}
		return list
	}
	n, _ := strconv.Atoi(size)
	for seed := range uint64(n) {
		name, process := fmt.Sprint("seed ", seed), fmt.Sprint(seed%processes)
		switch kind {
		case "random", "watched":
			list = append(list, placed{conformance.Scenario{Name: name, Ops: conformance.Sequence(seed, 1000)}, strconv.FormatUint(seed, 10)})
		case "held":
			list = append(list, placed{conformance.Scenario{Name: name, Ops: conformance.SequenceHeld(seed, 1000)}, fmt.Sprintf("held/%d", seed)})
		case "together", process:
			list = append(list, placed{conformance.Scenario{Name: name, Ops: conformance.SequenceWithin(seed, 1000)}, fmt.Sprintf("%s/%d", process, seed)})
		}
	}
	return list
}

// What programs do to files returns and leaves the same in a sandbox as on the host.
// Programs beside each other do, too.
func TestConformance(t *testing.T) {
	size, seeds := "part", "20"
	switch {
	case os.Getenv("SANDTEST_LONG") != "":
		size, seeds = "full", "1000"
	case testing.Short():
		seeds = "5"
	}
	for _, tt := range [][]string{{"table", size}, {"random", seeds}, {"watched", seeds}, {"together", seeds}, {"held", seeds}} {
		t.Run(tt[0], func(t *testing.T) {
			bareDir, insideDir := t.TempDir(), t.TempDir()
			t.Cleanup(func() { // before they are removed; sequences get out of their own
				conformance.LetRemove(bareDir)
				conformance.LetRemove(insideDir)
			})
			for _, s := range scenarios(tt[0], tt[1]) {
				for _, dir := range []string{bareDir, insideDir} {
					dir = filepath.Join(dir, s.dir)
					if err := os.MkdirAll(dir, 0o755); err != nil {
						t.Fatal(err)
					}
					conformance.Sample(dir)
				}
			}
			bareCmd, cmd := program(t, "conform", tt...), program(t, "conform", tt...)
			bareCmd.Dir, cmd.Dir = bareDir, insideDir
			want := bare(t, bareCmd)
			got := output(t, Config{Work: "/work"}, cmd)
			compareOutcomes(t, want, got)
			for i, s := range scenarios(tt[0], tt[1]) {
				if i%10 == 0 {
					checkUntouched(t, filepath.Join(insideDir, s.dir))
				}
			}
		})
	}
}

// And so it does in a root of its own.
func TestConformanceRoot(t *testing.T) {
	if testing.Short() {
		t.Skip("the table once more, under another root")
	}
	bareDir, root := t.TempDir(), t.TempDir()
	t.Cleanup(func() {
		conformance.LetRemove(bareDir)
		conformance.LetRemove(root)
	})
	if debian := os.Getenv("SANDTEST_DEBIAN"); debian != "" && os.Geteuid() == 0 { // a system in a directory
		if out, err := exec.Command("cp", "-a", debian+"/.", root).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	kind := []string{"table", "part"}
	for _, s := range scenarios(kind[0], kind[1]) {
		for _, dir := range []string{bareDir, root} {
			dir = filepath.Join(dir, s.dir)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			conformance.Sample(dir)
		}
	}
	bareCmd, cmd := program(t, "conform", kind...), program(t, "conform", kind...)
	copyProgram(t, cmd.Path, root)
	bareCmd.Dir = bareDir
	cmd.Path, cmd.Args[0] = "/program", "/program"
	compareOutcomes(t, bare(t, bareCmd), output(t, Config{Root: root}, cmd))
	for i, s := range scenarios(kind[0], kind[1]) {
		if i%10 == 0 {
			checkUntouched(t, filepath.Join(root, s.dir))
		}
	}
}

// copyProgram copies a program to a root, with the libraries that it needs.
func copyProgram(t *testing.T, path, root string) {
	t.Helper()
	files := map[string]string{path: "/program"}
	if text, err := exec.Command("ldd", path).Output(); err == nil { // it is an error for a static one
		for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(string(text), -1) {
			files[lib] = lib
		}
	}
	inside, err := os.OpenRoot(root) // links in there lead nowhere else
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	for from, at := range files {
		at = strings.TrimPrefix(at, "/")
		if _, err := inside.Lstat(at); err == nil {
			continue // a library of a system that is there
		}
		text, err := os.ReadFile(from)
		if err == nil {
			err = inside.MkdirAll(filepath.Dir(at), 0o755)
		}
		if err == nil {
			err = inside.WriteFile(at, text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// compareOutcomes shows the first few scenarios that differ.
func compareOutcomes(t *testing.T, want, got string) {
	t.Helper()
	split := func(s string) (list []string) {
		for line := range strings.Lines(s) {
			if strings.HasPrefix(line, "\t") && len(list) > 0 {
				list[len(list)-1] += line
			} else {
				list = append(list, line)
			}
		}
		return list
	}
	a, b := split(want), split(got)
	if len(a) != len(b) {
		t.Errorf("%d scenarios instead of %d", len(b), len(a))
	}
	wrong := 0
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			if wrong++; wrong <= 10 {
				name, _, _ := strings.Cut(a[i], "\n")
				t.Errorf("%.200s (-bare +sandbox):\n%s", name, cmp.Diff(lines(a[i]), lines(b[i])))
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d scenarios differ", wrong, len(a))
	}
}

// checkUntouched compares a directory with what Sample makes.
func checkUntouched(t *testing.T, dir string) {
	t.Helper()
	fresh := filepath.Join(t.TempDir(), "fresh")
	if err := os.Mkdir(fresh, 0o755); err != nil {
		t.Fatal(err)
	}
	conformance.Sample(fresh)
	defer conformance.LetRemove(fresh)
	tell := func(dir string) []string {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		return conformance.Snapshot(conformance.Bare{Dir: fd})
	}
	if diff := cmp.Diff(tell(fresh), tell(dir)); diff != "" {
		t.Fatalf("the host's files have changed (-before +after):\n%s", diff)
	}
}

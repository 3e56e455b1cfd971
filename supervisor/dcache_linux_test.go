package supervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/cow"
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

// A program of Go, which has threads, asks seldom as well; and one that lists directories asks
// each once for its names, and not about what is in it.
func TestAsksSeldom(t *testing.T) {
	const files = 40 // in each directory
	dir := t.TempDir()
	for i := range 10 * files {
		sub := filepath.Join(dir, fmt.Sprint(i/files))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	asked := func(cmd *exec.Cmd) (stats, lists uint64) {
		cmd.Dir = dir
		n := succeedsWith(t, Config{}, cmd).Stats.Notifications
		return n["newfstatat"] + n["fstat"], n["getdents64"]
	}
	if stats, _ := asked(program(t, "lstats", dir)); stats == 0 || stats > 10*files/2 {
		t.Errorf("a program of Go has asked %d times about %d files", stats, 10*files)
	}
	find, err := exec.LookPath("find")
	if err != nil {
		t.Skip(err)
	}
	if stats, lists := asked(exec.Command(find, ".", "-newer", "/")); stats > 10*files/2 || lists == 0 || lists > 11+4 {
		t.Errorf("find has asked %d times about %d files in 11 directories, and %d times for names", stats, 10*files, lists)
	}
}

func succeedsWith(t *testing.T, cfg Config, cmd *exec.Cmd) *State {
	t.Helper()
	state, out := run(t, cfg, cmd)
	if state.ExitCode != 0 {
		t.Fatalf("%v: exit status %d\n%s", cmd.Args, state.ExitCode, out)
	}
	return state
}

func init() {
	programs["lstats"] = func(args []string) error {
		return filepath.WalkDir(args[0], func(path string, _ os.DirEntry, err error) error {
			if err == nil {
				_, err = os.Lstat(path)
			}
			return err
		})
	}
}

// Programs that begin alike ask little, once some have begun like that: the dynamic linker knows
// the answers, and so does the C library from its first call on.
func TestProgramsAskSeldom(t *testing.T) {
	dir := askedFiles(t)
	asked := func(programs int) (n uint64) {
		cmd := sh(fmt.Sprintf("i=0; while [ $i -lt %d ]; do cat sub/in; i=$((i+1)); done", programs))
		cmd.Dir = dir
		stats := succeedsWith(t, Config{}, cmd).Stats.Notifications
		return stats["openat"] + stats["newfstatat"] + stats["fstat"] + stats["access"]
	}
	const some, more, each = 5, 25, 3 // the first of the C library's, and the two that are written to
	if few, many := asked(some), asked(more); many > few+each*(more-some) {
		t.Errorf("%d programs have asked %d times, and %d have %d times: more than %d times each", some, few, more, many, each)
	}
}

// A program that looks for another in each directory of PATH asks about the one that has it, and
// finds what appears before that.
func TestToldPrograms(t *testing.T) {
	env, err := exec.LookPath("env")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c", "last"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	script := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho "+text+"\n"), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	script("last/tool", "last")
	script("new", "new")
	const before, after, each = 20, 5, 2 // env, and what it executes
	cmd := sh(fmt.Sprintf(`try() { i=0; while [ $i -lt $1 ]; do %s PATH=$PWD/a:$PWD/b:$PWD/c:$PWD/last tool; i=$((i+1)); done; }
		try %d; cp new b/tool; try %d`, env, before, after))
	cmd.Dir = dir
	state, out := run(t, Config{}, cmd)
	if want := strings.Repeat("last\n", before) + strings.Repeat("new\n", after); state.ExitCode != 0 || out != want {
		t.Errorf("exit status %d, %q, want %q", state.ExitCode, out, want)
	}
	const learning = 3 + 3 // the first of all, and the first that knows it
	if n := state.Stats.Stops["execve"]; n > each*(before+after)+2+2*learning {
		t.Errorf("%d programs that look for another at four places have asked %d times", before+after, n)
	}
	// One that goes on, and starts others, learns it, too.
	if perl, err := exec.LookPath("perl"); err == nil {
		const times = 40
		long := exec.Command(perl, "-e", fmt.Sprintf(`$ENV{PATH} = join ":", map { "$ENV{PWD}/$_" } qw(a b c last); for (1..%d) { stat "a/$_"; system {"tool"} "tool", "x" }`, times))
		long.Dir, long.Env = dir, append(os.Environ(), "PWD="+dir)
		if n := succeedsWith(t, Config{}, long).Stats.Stops["execve"]; n > times*2 {
			t.Errorf("a program that looks %d times for another at four places has asked %d times", times, n)
		}
	}
	again := sh(cmd.Args[2])
	again.Dir = dir
	state, _ = run(t, Config{Faults: []Fault{{Calls: []string{"execve"}, Note: true}}}, again)
	if n, all := len(state.Faults), before*(each+3)+after*(each+1); n < all {
		t.Errorf("who wants to hear of all has heard of %d, want %d", n, all)
	}
}

// What may change by other ways than the tree's is asked about, however often that is.
func TestToldElsewhere(t *testing.T) {
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, sub := range []string{"from", "to", "shown"} {
		if err := os.Mkdir(path(sub), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"from/file", "shown/file"} {
		if err := os.WriteFile(path(name), []byte("text"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(path("from/file"), path("to/twin")), os.WriteFile(path("single"), nil, 0o666)); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(path("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cfg := Config{Mounts: []cow.Mount{{At: path("to"), Host: path("to"), Through: true}, {At: path("single"), Host: path("single"), Through: true}, {At: "/mounted/file", Host: path("shown/file")}}}
	for _, tt := range []struct{ what, script, want string }{
		{"standard output", `ask("log"); syswrite STDOUT, "0123456789"; say((stat STDOUT)[7], (stat "log")[7])`, "10 10"},
		{"a name in what shows the host", `ask("from/file"); open F, "+<", "to/twin"; syswrite F, "0123456789"; say((stat F)[7], (stat "to/twin")[7], (stat "from/file")[7])`, "10 10 10"},
		{"a file that shows the host's", `ask("single"); open F, ">>", "single"; syswrite F, "0123456789"; say((stat "single")[7], (stat F)[7])`, "10 10"},
		{"a file that is mounted", `ask("shown/file"); open F, "<", "/mounted/file"; chmod 0600, "/mounted/file"; say(map { sprintf "%o", $_ & 0777 } (stat F)[2], (stat "/mounted/file")[2])`, "600 600"},
	} {
		const ask = `sub ask { for my $n (1..60) { stat $_[0]; stat "$_[0]$n"; open my $f, "<", $_[0]; stat $f } } sub say { print STDERR "@_" } `
		cmd := exec.Command(perl, "-e", ask+tt.script)
		var told strings.Builder
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, &told
		s, err := Start(cmd, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if state, err := s.Wait(); err != nil || state.ExitCode != 0 || told.String() != tt.want {
			t.Errorf("%s: %q, %+v, %v, want %q", tt.what, told.String(), state, err, tt.want)
		}
	}
}

// Who sets its ids to what they are goes on being told what it alone may see.
func TestToldWhoStays(t *testing.T) {
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip(err)
	}
	dir := askedFiles(t)
	if err := os.Chmod(filepath.Join(dir, "secret"), 0o700); err != nil {
		t.Fatal(err)
	}
	const times = 100
	cmd := exec.Command(perl, "-MPOSIX", "-e", fmt.Sprintf(`POSIX::setuid($<); POSIX::setgid($( + 0); for (1..%d) { stat "secret/in" or die }`, times))
	cmd.Dir = dir
	n := succeedsWith(t, Config{}, cmd).Stats.Notifications
	if asked := n["newfstatat"] + n["stat"]; n["setuid"] == 0 || asked > times/2 {
		t.Errorf("it has asked %d times about a file of %d, and set its id %d times", asked, times, n["setuid"])
	}
}

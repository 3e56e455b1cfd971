//go:build linux

package supervisor

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// populate makes names in a new directory: hard links to a few files, which is
// quick.
func populate(t testing.TB, names ...string) string {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "dir")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	const linksPerFile = 30_000 // ext4 has 65,000 at most
	for i, name := range names {
		file := filepath.Join(top, fmt.Sprint("file", i/linksPerFile))
		if i%linksPerFile == 0 {
			if err := os.WriteFile(file, nil, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Link(file, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// scattered returns n names of one length, in another order than their own.
func scattered(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("f%05d", i*7919%n))
	}
	return names
}

// cmdDir returns the command that runs dir.c, by the call of the given name.
func cmdDir(path, call string, args ...string) *exec.Cmd {
	cmd := cmdC(path, args...)
	if call == "getdents" {
		cmd.Env = append(cmd.Env, "LEGACY=1")
	}
	return cmd
}

// sortedAs returns the lines "INODE TYPE NAME" of a native listing in the order
// in which the sandbox must give them.
func sortedAs(native string) []string {
	list := lines(native)
	name := func(line string) string { return strings.SplitN(line, " ", 3)[2] }
	rank := func(line string) string {
		switch n := name(line); n {
		case ".\n":
			return "0"
		case "..\n":
			return "1"
		default:
			return "2" + strings.TrimSuffix(n, "\n")
		}
	}
	body := list[:len(list)-1] // the last line tells of the end
	slices.SortFunc(body, func(a, b string) int { return strings.Compare(rank(a), rank(b)) })
	return list
}

// renumber replaces the inode numbers of a listing by the order in which they are
// met: they are the sandbox's own, but equal where they natively are.
func renumber(list []string) []string {
	numbers := map[string]int{}
	var out []string
	for _, line := range list {
		f := strings.SplitN(line, " ", 3)
		if len(f) < 3 || f[0] == "end" {
			out = append(out, line)
			continue
		}
		if _, ok := numbers[f[0]]; !ok {
			numbers[f[0]] = len(numbers)
		}
		out = append(out, fmt.Sprintf("#%d %s %s", numbers[f[0]], f[1], f[2]))
	}
	return out
}

var bothCalls = []string{"getdents64", "getdents"}

// Directories and buffers of all sizes: everything is there, once and in order,
// with the inode and type it has natively.
func TestDirectoryOrder(t *testing.T) {
	path := compileC(t, "dir", false)
	odd := []string{"\xff", "\xfe\xff", "\x80", "e\u0301", "\u00e9", "z", "a b", "!", "...", ".hidden", "-", "10", "9", "A", "\x01", strings.Repeat("n", 255)}
	small := []int{24, 25, 31, 32, 40, 63, 64}
	usual := []int{280, 4096, 32768, 1 << 20, 1<<20 + 1, 5 << 20}
	for _, tt := range []struct {
		name  string
		names []string
		sizes []int
	}{
		{"empty", nil, append(small, usual...)},
		{"one", []string{"a"}, append(small, usual...)},
		{"three", []string{"c", "a", "b"}, append(small, usual...)},
		{"short names", []string{"abcd", "abc", "ab", "aaaa", "b"}, append(small, usual...)},
		{"odd names", odd, usual},
		{"1000", scattered(1000), append(small[3:], usual...)},
	} {
		dir := populate(t, tt.names...)
		want := renumber(sortedAs(bare(t, cmdC(path, "list", dir, "32768"))))
		if got := len(want); got != len(tt.names)+3 {
			t.Fatalf("%s: %d lines", tt.name, got)
		}
		for _, call := range bothCalls {
			for _, size := range tt.sizes {
				t.Run(fmt.Sprintf("%s/%s/%d", tt.name, call, size), func(t *testing.T) {
					got := succeeds(t, Config{}, cmdDir(path, call, "list", dir, fmt.Sprint(size)))
					if diff := cmp.Diff(want, renumber(lines(got))); diff != "" {
						t.Errorf("listing (-want +got):\n%s", diff)
					}
				})
			}
		}
	}
}

func TestHugeDirectory(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	path := compileC(t, "dir", false)
	dir := populate(t, scattered(n)...)
	want := strings.Join(renumber(sortedAs(bare(t, cmdC(path, "list", dir, "1048576")))), "")
	for _, size := range []string{"4096", "32768", "1048576"} {
		got := succeeds(t, Config{}, cmdDir(path, "getdents64", "list", dir, size))
		if strings.Join(renumber(lines(got)), "") != want {
			t.Errorf("buffers of %s: %d lines instead of %d, or in another order", size, len(lines(got)), len(lines(want)))
		}
	}
}

// ownNames is the list of a directory that is the sandbox's own, nil for others.
func ownNames(dir string) []string {
	var list []string
	if dir == "/proc/self" {
		list = slices.AppendSeq(slices.Collect(maps.Keys(processNames)), maps.Keys(wholeNames))
	} else if top, below, ok := strings.Cut(dir, "/sys/"); ok {
		from := settingsTemplate
		if top == "" {
			from = newSysMachine(sysKey{cpus: 1}, "0").template
		}
		list = slices.Collect(maps.Keys(from.Dir(below).Entries))
	} else {
		return nil
	}
	slices.Sort(list)
	want := []string{".\n", "..\n"}
	for _, name := range list {
		want = append(want, name+"\n")
	}
	return append(want, "end 0 0\n")
}

// File systems of the kernel's own have their own ways to keep a position.
func TestOrderOfVirtualDirectories(t *testing.T) {
	path := compileC(t, "dir", false)
	for _, dir := range []string{"/sys/class", "/sys/devices/system", "/dev", "/proc/sys/kernel", "/proc/self", "/proc/self/fd", "/sys/fs/cgroup"} {
		t.Run(dir, func(t *testing.T) {
			names := func(list []string) (names []string) {
				for _, line := range list[:len(list)-1] {
					names = append(names, strings.SplitN(line, " ", 3)[2])
				}
				return append(names, list[len(list)-1])
			}
			want := ownNames(dir)
			if want == nil {
				want = names(sortedAs(bare(t, cmdC(path, "list", dir, "32768"))))
			}
			for _, size := range []string{"280", "32768"} {
				for _, call := range bothCalls {
					got := names(lines(succeeds(t, Config{}, cmdDir(path, call, "list", dir, size))))
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s, buffers of %s (-want +got):\n%s", call, size, diff)
					}
				}
			}
			if strings.HasPrefix(dir, "/proc/self") {
				return // its inodes come and go
			}
			if got := succeeds(t, Config{}, cmdC(path, "seek", dir)); !strings.Contains(got, " 0 wrong\n") {
				t.Errorf("after lseek: %s", got)
			}
		})
	}
}

var nine = []string{"f3", "f1", "f8", "f5", "a-longer-name-than-the-others", "f2", "f7", "f4", "f6"}

// The offset after an entry leads to the next one, and 0 to the first.
func TestSeekDirectory(t *testing.T) {
	path := compileC(t, "dir", false)
	all := ". .. a-longer-name-than-the-others f1 f2 f3 f4 f5 f6 f7 f8"
	want := "11 entries, 0 wrong\nrewound: " + all + "\nthen: (0)\nthen: (0)\nrewound again: . ..\n"
	for _, call := range bothCalls {
		t.Run(call, func(t *testing.T) {
			if got := succeeds(t, Config{}, cmdDir(path, call, "seek", populate(t, nine...))); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			if got := succeeds(t, Config{}, cmdDir(path, call, "seek", populate(t, scattered(500)...))); !strings.HasPrefix(got, "502 entries, 0 wrong\n") {
				t.Errorf("of 500: %s", got)
			}
		})
	}
}

// Descriptors of one open file have one position, across dup, fork and the
// closing of any of them; a number that is used again has its own.
func TestSharedDirectory(t *testing.T) {
	path := compileC(t, "dir", false)
	want := `fd: . .. a-longer-name-than-the-others
dup: f1 f2
F_DUPFD after close: f3 f4
child: f5 f6 f7 f8
parent after child: (0)
child begins: . .. a-longer-name-than-the-others f1 f2
parent goes on: f3 f4 f5 f6
grandchild on another number: f7 f8 (0)
its parent: (0)
the first: (0)
begun: . .. a-longer-name-than-the-others
another directory on that number: . .. other (0)
the first directory anew: . .. a-longer-name-than-the-others
opened twice: . ..
the first of them: f1 f2
the second through the first's number: a-longer-name-than-the-others f1 f2 f3 f4 f5 f6 f7 f8 (0)
the second: (0)
`
	for _, call := range bothCalls {
		t.Run(call, func(t *testing.T) {
			got := succeeds(t, Config{}, cmdDir(path, call, "share", populate(t, nine...), populate(t, "other")))
			if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
				t.Errorf("listings (-want +got):\n%s", diff)
			}
		})
	}
}

// A call that fails leaves the listing where it was.
func TestDirectoryErrors(t *testing.T) {
	path := compileC(t, "dir", false)
	for _, call := range bothCalls {
		t.Run(call, func(t *testing.T) {
			// What the two calls of 24 bytes return depends on the order, and so does
			// what comes after.
			errorsOf := func(out string) (list []string) {
				for line := range strings.Lines(out) {
					if !strings.HasPrefix(line, "two of 24") && !strings.HasPrefix(line, "goes on") && !strings.HasPrefix(line, "no room") {
						list = append(list, line)
					}
				}
				return list
			}
			native := bare(t, cmdDir(path, call, "errors", populate(t, nine...), "/etc/passwd"))
			got := succeeds(t, Config{}, cmdDir(path, call, "errors", populate(t, nine...), "/etc/passwd"))
			if diff := cmp.Diff(errorsOf(native), errorsOf(got)); diff != "" {
				t.Errorf("errors (-bare +sandbox):\n%s", diff)
			}
			for _, want := range []string{
				"two of 24: . ..\nno room for a long name: errno 22\nbad buffer: errno 14\nNULL buffer: errno 14\n" +
					"goes on: a-longer-name-than-the-others f1 ",
			} {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
		})
	}
}

// Entries that come and go don't disturb those that stay.
func TestChangingDirectory(t *testing.T) {
	path := compileC(t, "dir", false)
	for _, call := range bothCalls {
		dir := populate(t, scattered(2000)...)
		want := slices.Sorted(slices.Values(scattered(2000)))
		got := strings.Fields(succeeds(t, Config{}, cmdDir(path, call, "prune", dir)))
		if diff := cmp.Diff(append(want, "end", "0"), got); diff != "" {
			t.Errorf("%s: entries seen while every other one was removed (-want +got):\n%s", call, diff)
		}
		list := cmdDir("/bin/sh", call, "-c", `"$0" prune "$1" >/dev/null; ls "$1" | wc -l`, path, dir)
		if got := succeeds(t, Config{}, list); got != "1200\n" {
			t.Errorf("%s: %q entries are left, want 1,200", call, got)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 2000 {
			t.Errorf("%s: the host's directory has %d entries, %v", call, len(left), err)
		}
	}
}

func TestRemoveAll(t *testing.T) {
	for _, script := range []string{
		`rm -rf "$1"/*`, `rm -rf "$1"/. 2>/dev/null; rm -rf "$1"`, `find "$1" -mindepth 1 -delete`, `find "$1" -name 'f*' -exec rm {} +; rm -rf "$1"`,
	} {
		t.Run(script, func(t *testing.T) {
			dir := populate(t, scattered(5000)...)
			for i := range 20 {
				sub := filepath.Join(dir, fmt.Sprint("sub", i))
				if err := os.MkdirAll(filepath.Join(sub, "deeper"), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(sub, "deeper", "file"), nil, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			cmd := sh(script + `; ls -A "$1" 2>/dev/null | wc -l`)
			cmd.Args = append(cmd.Args, "sh", dir)
			if got := succeeds(t, Config{}, cmd); got != "0\n" {
				t.Errorf("%q entries are left", got)
			}
			if left, err := os.ReadDir(dir); len(left) != 5020 || err != nil {
				t.Errorf("the host's directory has %d entries, %v", len(left), err)
			}
		})
	}
}

// Each entry goes to one of those who read an open directory at the same time.
func TestDirectoryReadTogether(t *testing.T) {
	path := compileC(t, "dir", false)
	dir := populate(t, scattered(1000)...)
	want := append([]string{".", ".."}, slices.Sorted(slices.Values(scattered(1000)))...)
	for _, who := range []string{"threads", "processes"} {
		t.Run(who, func(t *testing.T) {
			for range 5 {
				if got := strings.Fields(bare(t, cmdC(path, who, dir))); !sameNames(got, want) {
					t.Skipf("natively it isn't so: %d names", len(got))
				}
				got := strings.Fields(succeeds(t, Config{}, cmdC(path, who, dir)))
				if !sameNames(got, want) {
					t.Fatalf("%d names instead of %d: some came twice or never", len(got), len(want))
				}
			}
		})
	}
}

func sameNames(got, want []string) bool { return slices.Equal(slices.Sorted(slices.Values(got)), want) }

// A process whose first thread has ended is a process like any other.
func TestDirectoryWithoutLeader(t *testing.T) {
	path := compileC(t, "dir", false)
	dir := populate(t, "c", "a", "b")
	native := renumber(sortedAs(bare(t, cmdC(path, "list", dir, "4096"))))
	state, out := ends(t, Config{}, cmdC(path, "leaderless", dir))
	want := strings.Join(native, "") + "getrandom: 16\nuname: 0\nread: 1\nurandom: 390\n"
	if strings.Join(renumber(lines(out)), "") != want || state.ExitCode != 7 {
		t.Errorf("exit status %d, output\n%swant\n%s", state.ExitCode, out, want)
	}
}

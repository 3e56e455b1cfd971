//go:build linux

package supervisor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is mapped has the path and number by which the program finds it, in every run.
func TestMaps(t *testing.T) {
	const script = `cp /bin/cat mycat
		for f in maps smaps; do
			./mycat /proc/self/$f | grep -E '^[0-9a-f]+-.*/' | grep -v 'memfd:' | while read -r range perms offset dev ino path; do
				test "$dev $ino" = "00:64 $(stat -Lc %i "$path")" || echo "$path: $dev $ino"
				case $path in /work/mycat) echo "$perms $path";; esac
			done | sort -u
		done
		awk '/^Rss/ {sum+=$2} /^Size/ {size=$2} /^VmFlags/ && / wr / && !/ sh / {writable+=size} END {print sum == writable}' /proc/self/smaps
		test -e /proc/self/map_files || echo nowhere else`
	const want = "r--p /work/mycat\nr-xp /work/mycat\nrw-p /work/mycat\n"
	for _, b := range []Backend{BackendSeccomp, BackendAuto} {
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Dir = t.TempDir()
		if got := output(t, Config{Backend: b, Work: "/work"}, cmd); got != want+want+"1\nnowhere else\n" {
			t.Errorf("%v: got\n%s", b, got)
		}
	}
}

// A mapped file that has been removed has lost its name for the program, too.
func TestMapsDeleted(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	const script = `
import mmap, os
f = open("/work/x", "w+b"); f.write(b"x" * 5000); f.flush()
m = mmap.mmap(f.fileno(), 0)
def show(): print("".join(l for l in open("/proc/self/maps") if "/work/" in l).split("00:64")[1].split()[1:])
show()
os.rename("/work/x", "/work/x 2\n")
show()
os.unlink("/work/x 2\n")
show()
assert not [l for l in open("/proc/self/maps") if "upper" in l]
`
	cmd := exec.Command(python, "-c", script)
	cmd.Dir = t.TempDir()
	const want = "['/work/x']\n['/work/x', '2\\\\012']\n['/work/x', '2\\\\012', '(deleted)']\n"
	if got := output(t, Config{Work: "/work"}, cmd); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// So it is in a root of its own, whose dynamic linker is executed as a copy.
func TestMapsRoot(t *testing.T) {
	root := t.TempDir()
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Skip("no cat")
	}
	cat, err = filepath.EvalSymlinks(cat)
	if err != nil {
		t.Fatal(err)
	}
	copyProgram(t, cat, root)
	cmd := exec.Command("/program", "/proc/self/maps")
	for line := range strings.Lines(output(t, Config{Root: root}, cmd)) {
		path := strings.Join(strings.Fields(line)[5:], " ")
		if strings.HasPrefix(path, "/memfd:") || !strings.HasPrefix(path, "/") {
			continue
		}
		if _, err := os.Lstat(root + path); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func FuzzParseMapping(f *testing.F) {
	self, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(self)) {
		if m, ok := parseMapping(line); !ok || m.String() != line {
			f.Errorf("%q became %q, %v", line, m.String(), ok)
		}
		f.Add(line)
	}
	f.Add("0-1 rw-p 0 0:0 0 a  b \n")
	f.Add("VmFlags: rd mr mw me \n")
	f.Fuzz(func(t *testing.T, line string) {
		m, ok := parseMapping(line)
		if !ok {
			return
		}
		again, ok := parseMapping(m.String())
		if !ok || again != m {
			t.Errorf("%+v became %+v, %v", m, again, ok)
		}
	})
}

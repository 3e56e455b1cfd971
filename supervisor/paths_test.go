//go:build linux

package supervisor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
)

// resolveSelf resolves a path for this very process, which takes no tracee.
func resolveSelf(r *resolver, dirfd int32, name string, nofollow bool) (place, error) {
	c := &Call{
		Process: &Process{TGID: os.Getpid()},
		n:       seccomp.Notif{PID: uint32(os.Getpid())},
	}
	return r.resolve(c, dirfd, name, nofollow)
}

// checkResolve compares the resolver with the kernel.
func checkResolve(t *testing.T, r *resolver, name string) {
	t.Helper()
	for _, nofollow := range []bool{false, true} {
		flags := 0
		if nofollow {
			flags = unix.AT_SYMLINK_NOFOLLOW
		}
		var before, after unix.Stat_t
		want := unix.Fstatat(unix.AT_FDCWD, name, &before, flags)
		got, err := resolveSelf(r, unix.AT_FDCWD, name, nofollow)
		// What changed meanwhile proves nothing.
		if again := unix.Fstatat(unix.AT_FDCWD, name, &after, flags); again != want || before.Ino != after.Ino || before.Dev != after.Dev {
			continue
		}
		if got.ok != (want == nil) {
			t.Errorf("%q, nofollow %v: found %v (%v), by the kernel %v", name, nofollow, got.ok, err, want)
			continue
		}
		if want == nil && (got.stat.Ino != before.Ino || got.stat.Dev != before.Dev) {
			t.Errorf("%q, nofollow %v: is %d of %#x, by the kernel %d of %#x", name, nofollow, got.stat.Ino, got.stat.Dev, before.Ino, before.Dev)
		}
		if err != nil && err != want {
			t.Errorf("%q, nofollow %v: %v, by the kernel %v", name, nofollow, err, want)
		}
	}
}

var pathSeeds = []string{
	"/", ".", "..", "", "//", "/proc/self", "/proc/self/", "/proc/self/exe", "/proc/self/cwd", "/proc/self/cwd/..", "/proc/self/root/etc/hostname",
	"/proc/self/fd/0", "/proc/self/fd/9999", "/dev/fd/1", "/dev/stdin", "/proc/thread-self", "/proc/thread-self/root/proc/cpuinfo", "/proc/cpuinfo",
	"/proc/../proc/./cpuinfo", "/proc/cpuinfo/", "/proc/cpuinfo/x", "/proc/mounts", "/proc/net/dev", "/etc/hostname", "/etc/mtab", "/proc/1/root", "/proc/self/ns/net",
	"testdata", "testdata/../testdata/c", "doc.go", "doc.go/", "doc.go/..", "no-such-file", "no-such/dir/file", "/sys/devices/system/cpu/online", "/sys/class/net/lo",
	"/proc/self/root/../../proc/self/cwd/testdata", "/dev/urandom", "/dev/fd/../root/dev/random", "\xff", "a\nb", strings.Repeat("x", 255), strings.Repeat("x", 256),
	strings.Repeat("./", 2000) + "doc.go", strings.Repeat("x/", 2047), strings.Repeat("/", 4095),
}

func FuzzPath(f *testing.F) {
	for _, s := range pathSeeds {
		f.Add(s)
	}
	r := newResolver()
	f.Fuzz(func(t *testing.T, name string) {
		if len(name) >= unix.PathMax || strings.ContainsRune(name, 0) {
			return // no such path gets this far
		}
		checkResolve(t, r, name)
	})
}

// Symbolic links of all kinds.
func TestResolveLinks(t *testing.T) {
	dir := t.TempDir()
	r := newResolver()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o777); err != nil {
		t.Fatal(err)
	}
	var names []string
	link := func(target string) string {
		name := filepath.Join(dir, "link"+string(rune('a'+len(names))))
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
		return name
	}
	for _, target := range []string{"a", "a/", "a/b/..", "/", "..", ".", "/proc/self/root" + dir + "/a", "/proc/self/cwd", "/proc/thread-self/root", "dangling", "/no/such", "linkb/b"} {
		link(target)
	}
	link(names[len(names)-1])
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	names = append(names, filepath.Join(dir, "loop"))
	chain := "a"
	for i := range 45 { // the kernel follows 40
		name := filepath.Join(dir, "chain"+string(rune('A'+i)))
		if err := os.Symlink(chain, name); err != nil {
			t.Fatal(err)
		}
		chain = filepath.Base(name)
		names = append(names, name)
	}
	for _, name := range names {
		for _, prefix := range []string{"", "/proc/self/root", "/proc/self/cwd/../../../../../../../.."} {
			for _, suffix := range []string{"", "/", "/.", "/..", "/b", "/b/..", "/x"} {
				checkResolve(t, r, prefix+name+suffix)
			}
		}
	}
}

// A path relative to a descriptor.
func TestResolveDirfd(t *testing.T) {
	r := newResolver()
	dir, err := os.Open("testdata")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	file, err := os.Open("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, fd := range []int{int(dir.Fd()), int(file.Fd()), -1, 9999, unix.AT_FDCWD, -200} {
		for _, name := range []string{"c", "c/", ".", "..", "../doc.go", "/proc", "no-such", ""} {
			var st unix.Stat_t
			want := unix.Fstatat(fd, name, &st, 0)
			got, err := resolveSelf(r, int32(fd), name, false)
			if got.ok != (want == nil) || got.ok && got.stat.Ino != st.Ino || err != nil && err != want {
				t.Errorf("%q of %d: found %v, %v; by the kernel %v", name, fd, got.ok, err, want)
			}
		}
	}
}

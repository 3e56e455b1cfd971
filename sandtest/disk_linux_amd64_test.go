package sandtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/sandtest"
)

// What is written beyond the limit fails with ENOSPC, however it is written, and what is
// removed makes room.
func TestMaxDisk(t *testing.T) {
	python := pythonItself(t)
	const script = `
import os, shutil
K = 1024
def try_(name, f):
    try: r = f()
    except OSError as e: r = e.strerror
    print(name, r, sum(os.stat(n).st_size for n in os.listdir(".") if n != "big") // K)
b = b"x" * 40 * K
fd = os.open("f", os.O_CREAT | os.O_RDWR)
try_("write", lambda: os.write(fd, b))
try_("write again", lambda: os.write(fd, b))
try_("write a part", lambda: os.write(fd, b))
try_("write", lambda: os.write(fd, b))
try_("write what is there", lambda: os.pwrite(fd, b, 0))
os.ftruncate(fd, 10 * K)
try_("after ftruncate", lambda: os.pwrite(fd, b, 10 * K))
os.unlink("f"); os.close(fd)
fd = os.open("g", os.O_CREAT | os.O_RDWR)
try_("writev", lambda: os.writev(fd, [b, b]))
try_("writev too much", lambda: os.writev(fd, [b, b]))
try_("ftruncate", lambda: os.ftruncate(fd, 101 * K))
try_("truncate", lambda: os.truncate("g", 101 * K))
try_("ftruncate less", lambda: os.ftruncate(fd, 100 * K))
os.ftruncate(fd, 0)
try_("posix_fallocate", lambda: os.posix_fallocate(fd, 0, 101 * K))
try_("posix_fallocate less", lambda: os.posix_fallocate(fd, 0, 60 * K))
try_("pwrite far", lambda: os.pwrite(fd, b"x", 200 * K))
a = os.open("a", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
try_("append", lambda: os.write(a, b))
try_("append again", lambda: os.write(a, b"x"))
os.unlink("a"); os.close(a)
h = os.open("h", os.O_CREAT | os.O_WRONLY)
try_("sendfile", lambda: os.sendfile(h, fd, 0, 60 * K))
os.unlink("h"); os.close(h)
try_("copy_file_range", lambda: os.copy_file_range(fd, os.open("i", os.O_CREAT | os.O_WRONLY), 60 * K, 0))
os.unlink("i")
try_("a file of the host, too large", lambda: os.open("big", os.O_WRONLY))
try_("emptied", lambda: os.close(os.open("big", os.O_WRONLY | os.O_TRUNC)))
r, w = os.pipe()
try_("pipe", lambda: os.write(w, b))
`
	const want = `write 40960 40
write again 40960 80
write a part 20480 100
write No space left on device 100
write what is there 40960 100
after ftruncate 40960 50
writev 81920 80
writev too much No space left on device 80
ftruncate No space left on device 80
truncate No space left on device 80
ftruncate less None 100
posix_fallocate No space left on device 0
posix_fallocate less None 60
pwrite far No space left on device 60
append 40960 100
append again No space left on device 100
sendfile 40960 100
copy_file_range 40960 100
a file of the host, too large No space left on device 60
emptied None 60
pipe 40960 60
`
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, 50<<10), 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python[0], append(python[1:], "-c", script)...)
	cmd.Dir = dir
	res := sandtest.Run(t, cmd, sandtest.Options{MaxDisk: 100 << 10})
	if res.Stdout != want {
		t.Errorf("it says\n%s%s, want\n%s", res.Stdout, res.Stderr, want)
	}
	if st, err := os.Stat(filepath.Join(dir, "big")); err != nil || st.Size() != 50<<10 {
		t.Errorf("the host's file: %v, %v", st, err)
	}
}

// A copy that fits exactly ends as it does on any disk, and a file of the host counts once.
func TestMaxDiskExact(t *testing.T) {
	for _, script := range []string{
		"head -c 600 /dev/zero >f; cp f g; cat f >h",
		"for i in 1 2 3; do head -c 300 /dev/zero >>host; truncate -s 600 host; done; head -c 900 /dev/zero >f",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "host"), make([]byte, 600), 0o666); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = dir
		if res := sandtest.Run(t, cmd, sandtest.Options{MaxDisk: 1800}); res.ExitCode != 0 {
			t.Errorf("%s: exit status %d: %s", script, res.ExitCode, res.Stderr)
		}
	}
	first := sandtest.Run(t, exec.Command("sh", "-c", "head -c 1000 /dev/zero >/tmp/a"), sandtest.Options{})
	second := sandtest.Run(t, exec.Command("sh", "-c", "head -c 1000 /dev/zero >/tmp/b; wc -c </tmp/b"), sandtest.Options{On: first, MaxDisk: 1500})
	if second.Stdout != "500\n" {
		t.Errorf("upon 1,000 bytes there is room for %q %q, want 500", second.Stdout, second.Stderr)
	}
}

// What a small disk is left with, is the same as on one of the kernel's: files without a
// name take room as long as somebody has them open or mapped, and so do links and
// directories.
func TestMaxDiskNameless(t *testing.T) {
	python := pythonItself(t)
	const script = `
import errno, mmap, os
K = 1024
b = b"x" * 64 * K
def fill(fd):
    n = 0
    try:
        while True: n += os.write(fd, b)
    except OSError as e:
        return n // K, errno.errorcode[e.errno]
def left():
    fd = os.open("probe", os.O_CREAT | os.O_RDWR)
    os.unlink("probe")
    r = fill(fd)
    os.close(fd)
    s = os.statvfs(".")
    return r, s.f_blocks * s.f_bsize // K, s.f_bavail * s.f_bsize // K
def many(what, make, remove):
    n = 0
    try:
        while True:
            make(n)
            n += 1
    except OSError as e:
        print(what, n, errno.errorcode[e.errno])
    for i in range(n): remove(i)
print("empty", left())
fd = os.open("f", os.O_CREAT | os.O_RDWR)
print("to the end", fill(fd))
os.unlink("f")
print("unlinked", left())
again = os.dup(fd)
os.close(fd)
print("one descriptor left", left())
os.ftruncate(again, 64 * K)
print("shorter", left())
m = mmap.mmap(again, 64 * K)
os.close(again)
print("mapped", left())
m.close()
print("nothing", left())
fd = os.open(".", os.O_TMPFILE | os.O_RDWR)
print("temporary", fill(fd), left())
os.close(fd)
print("closed", left())
fd = os.open(".", os.O_TMPFILE | os.O_RDWR)
os.write(fd, b)
os.link("/proc/self/fd/%d" % fd, "named", src_dir_fd=fd, follow_symlinks=True)
os.close(fd)
print("named", left())
os.link("named", "other"); os.unlink("named")
print("linked", left())
os.rename("other", "third"); open("fourth", "w").close(); os.rename("fourth", "third")
print("replaced", left())
os.unlink("third")
for i in range(1100):
    fd = os.open("t", os.O_CREAT | os.O_RDWR); os.unlink("t"); os.write(fd, b"y" * 4 * K); os.close(fd)
print("one after the other", left())
many("directories", lambda n: os.mkdir("d%d" % n), lambda n: os.rmdir("d%d" % n))
many("links", lambda n: os.link("l", "l%d" % n) if n else open("l", "w").close(), lambda n: os.unlink("l%d" % n if n else "l"))
many("symbolic links", lambda n: os.symlink("x", "s%d" % n), lambda n: os.unlink("s%d" % n))
many("files", lambda n: open("f%d" % n, "w").close(), lambda n: os.unlink("f%d" % n))
fds = []
def nameless(n):
    fds.append(os.open("n", os.O_CREAT | os.O_RDWR)); os.unlink("n")
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
many("nameless", nameless, lambda n: os.close(fds[n]))
print("in the end", left())
`
	bare := exec.Command("sh", append([]string{"-ec", `mount -t tmpfs -o size=256k,nr_inodes=1281 none "$1"; cd "$1"; shift; exec "$@"`, "sh", t.TempDir()}, append(python, "-c", script)...)...)
	bare.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	want, err := bare.CombinedOutput()
	if err != nil {
		t.Skipf("no small disk to compare with: %v: %s", err, want)
	}
	cmd := exec.Command(python[0], append(python[1:], "-c", script)...)
	cmd.Dir = t.TempDir()
	res := sandtest.Run(t, cmd, sandtest.Options{MaxDisk: 256 << 10})
	if diff := cmp.Diff(string(want), res.Stdout+res.Stderr); diff != "" {
		t.Errorf("(-a tmpfs +sandbox):\n%s", diff)
	}
}

// Targets of links and attributes count as well.
func TestMaxDiskAttributes(t *testing.T) {
	python := pythonItself(t)
	const script = `
import errno, os
def many(what, make):
    n = 0
    try:
        while True:
            make(n)
            n += 1
    except OSError as e:
        print(what, n, errno.errorcode[e.errno])
open("f", "w").close()
v = b"x" * 9996
many("attributes", lambda n: os.setxattr("f", "user.%03d" % n, v[4:]))
os.setxattr("f", "user.000", b"")
many("one more", lambda n: os.setxattr("f", "user.9%02d" % n, v[4:]))
os.unlink("f")
many("targets", lambda n: os.symlink("x" * 1000, "s%d" % n))
many("directories", lambda n: os.setxattr(".", "user.%03d" % n, v[4:]))
for i in range(50): os.unlink("s%d" % i)
many("directories", lambda n: os.setxattr(".", "user.%03d" % n, v[4:]))
`
	cmd := exec.Command(python[0], append(python[1:], "-c", script)...)
	cmd.Dir = t.TempDir()
	res := sandtest.Run(t, cmd, sandtest.Options{MaxDisk: 100 * 10000})
	want := "attributes 100 ENOSPC\none more 0 ENOSPC\ntargets 1000 ENOSPC\ndirectories 0 ENOSPC\ndirectories 5 ENOSPC\n"
	if res.Stdout != want {
		t.Errorf("it says\n%s%s, want\n%s", res.Stdout, res.Stderr, want)
	}
}

package sandtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

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
try_("sendfile", lambda: os.sendfile(os.open("h", os.O_CREAT | os.O_WRONLY), fd, 0, 60 * K))
os.unlink("h")
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

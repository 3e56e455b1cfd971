package sandtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandtest/go-sandtest/sandtest"
)

// A read-only mount answers as the kernel's does: here is what each call says of one.
func TestReadOnlyMount(t *testing.T) {
	python := pythonItself(t)
	const script = `
import os
def try_(name, f):
    try: f(); print(name, "yes")
    except OSError as e: print(name, e.strerror)
m = "/mnt/data/"
try_("read", lambda: open(m + "f").read())
try_("write", lambda: open(m + "f", "r+"))
try_("truncate", lambda: os.truncate(m + "f", 0))
try_("O_TRUNC", lambda: os.open(m + "f", os.O_RDONLY | os.O_TRUNC))
try_("O_CREAT", lambda: os.open(m + "new", os.O_CREAT | os.O_WRONLY))
try_("O_CREAT of what is there", lambda: os.open(m + "f", os.O_CREAT | os.O_RDONLY))
try_("mkdir", lambda: os.mkdir(m + "new"))
try_("mkdir of what is there", lambda: os.mkdir(m + "d"))
try_("mkdir below", lambda: os.mkdir(m + "d/new"))
try_("unlink", lambda: os.unlink(m + "f"))
try_("rmdir", lambda: os.rmdir(m + "d"))
try_("rename", lambda: os.rename(m + "f", m + "g"))
try_("rename out", lambda: os.rename(m + "f", "/work/f"))
try_("link", lambda: os.link(m + "f", m + "g"))
try_("link out", lambda: os.link(m + "f", "/work/f"))
try_("symlink", lambda: os.symlink("f", m + "g"))
try_("mknod", lambda: os.mkfifo(m + "g"))
try_("chmod", lambda: os.chmod(m + "f", 0o600))
try_("chown", lambda: os.chown(m + "f", os.getuid(), os.getgid()))
try_("utime", lambda: os.utime(m + "f", (1, 1)))
try_("utime, now", lambda: os.utime(m + "f"))
try_("setxattr", lambda: os.setxattr(m + "f", "user.a", b"x"))
print("access", os.access(m + "f", os.W_OK), os.access(m + "f", os.R_OK), os.access(m + "d", os.W_OK))
fd = os.open(m + "f", os.O_RDONLY)
try_("fchmod", lambda: os.fchmod(fd, 0o600))
try_("beside", lambda: os.mkdir("/mnt/other"))
`
	const want = `read yes
write Read-only file system
truncate Read-only file system
O_TRUNC Read-only file system
O_CREAT Read-only file system
O_CREAT of what is there yes
mkdir Read-only file system
mkdir of what is there File exists
mkdir below Read-only file system
unlink Read-only file system
rmdir Read-only file system
rename Read-only file system
rename out Read-only file system
link Read-only file system
link out Invalid cross-device link
symlink Read-only file system
mknod Read-only file system
chmod Read-only file system
chown Read-only file system
utime Read-only file system
utime, now Read-only file system
setxattr Read-only file system
access False True False
fchmod Read-only file system
`
	host := t.TempDir()
	for _, err := range []error{os.WriteFile(filepath.Join(host, "f"), []byte("x"), 0o666), os.Mkdir(filepath.Join(host, "d"), 0o777)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	beside := "beside Permission denied\n" // as it says of root's directory
	if os.Geteuid() == 0 {
		beside = "beside yes\n"
	}
	cmd := exec.Command(python[0], append(python[1:], "-c", script)...)
	cmd.Dir = t.TempDir()
	res := sandtest.Run(t, cmd, sandtest.Options{Mounts: []sandtest.Mount{{Host: host, Path: "/mnt/data", ReadOnly: true}}})
	if res.Stdout != want+beside {
		t.Errorf("it says\n%s%s, want\n%s", res.Stdout, res.Stderr, want+beside)
	}
	res = sandtest.Run(t, exec.Command("sh", "-c", "echo y >>/mnt/data/f && cat /mnt/data/f"), sandtest.Options{Mounts: []sandtest.Mount{{Host: host, Path: "/mnt/data"}}})
	if res.Stdout != "xy\n" {
		t.Errorf("without ReadOnly it says %q %q", res.Stdout, res.Stderr)
	}
}

// What is denied can't be seen at whatever place it is shown.
func TestDeny(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"f": "file\n", "sub/g": "below\n", "other": "other\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, opts := range []sandtest.Options{
		{},
		{Work: sandtest.InPlace},
		{Mounts: []sandtest.Mount{{Host: dir, Path: "/mnt/there"}}},
		{Read: []string{dir, "/usr", "/bin"}},
		{Read: []string{at("f"), at("sub"), at("other"), "/usr", "/bin"}, Work: sandtest.InPlace},
		{Write: []string{dir}},
	} {
		opts.Deny = []string{at("f"), at("sub")}
		cmd := exec.Command("sh", "-c", `cat other; for d in . "$0" /mnt/there; do cat $d/f $d/sub/g; ls $d/sub; done; echo >>f; mv f moved; cat moved`, dir)
		cmd.Dir = dir
		res := sandtest.Run(t, cmd, opts)
		if res.Stdout != "other\n" {
			t.Errorf("%+v: it says %q", opts, res.Stdout)
		}
	}
	cmd := exec.Command("true")
	cmd.Dir = dir
	if _, err := sandtest.Execute(cmd, sandtest.Options{Deny: []string{dir}}); err == nil || !strings.Contains(err.Error(), "enter /work: permission denied") {
		t.Errorf("with its own directory denied: %v", err)
	}
}

// A command whose directory is the root stays there: it can't be shown in itself.
func TestInRoot(t *testing.T) {
	cmd := exec.Command("sh", "-c", "pwd; mkdir /tmp/d; rmdir /tmp/d")
	cmd.Dir = "/"
	if res := sandtest.Run(t, cmd, sandtest.Options{}); res.Stdout != "/\n" || len(res.Changes) != 0 {
		t.Errorf("it says %q %q and changes %v", res.Stdout, res.Stderr, res.Changes)
	}
	inside := &exec.Cmd{Path: "sh", Args: []string{"sh", "-c", "pwd; ls -d /work"}, Dir: "/", Env: []string{"PATH=/bin"}}
	if res := sandtest.Run(t, inside, sandtest.Options{Root: makeRoot(t)}); res.Stdout != "/\n" {
		t.Errorf("in another root it says %q %q", res.Stdout, res.Stderr)
	}
	if _, err := sandtest.Execute(exec.Command("true"), sandtest.Options{Mounts: []sandtest.Mount{{Host: "/", Path: "/mnt/all"}}}); err == nil || !strings.Contains(err.Error(), "in itself") {
		t.Errorf("the root shown in itself: %v", err)
	}
}

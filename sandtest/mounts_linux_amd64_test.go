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

// A mount is seen at its place, also where that lies in the command's directory, at a link
// or below one, and nowhere in /proc.
func TestMountPlaces(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "here"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		work, at, want string
	}{
		{"", "/work/q", "here\n"}, {"", "/work/q/r/s", "here\n"}, {"", "/work", "here\n"}, {"/w/x", "/w/x/q", "here\n"}, {"/w/x", "/w", "here\nx\n"},
		{sandtest.InPlace, "DIR/q", "here\n"}, {"", "/var/run/new", "here\n"}, {"", "/opt/new/er", "here\n"},
		{"", "/proc/x", "nothing can be mounted in it"}, {"", "/proc", "nothing can be mounted in it"}, {"", "/etc/passwd/x", "not a directory"},
	} {
		dir := t.TempDir()
		at := strings.Replace(tt.at, "DIR", dir, 1)
		cmd := exec.Command("ls", at)
		cmd.Dir = dir
		res, err := sandtest.Execute(cmd, sandtest.Options{Work: tt.work, Mounts: []sandtest.Mount{{Host: data, Path: at}}})
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("at %s: %v, want %q", tt.at, err, tt.want)
			}
			continue
		}
		if res.Stdout != tt.want {
			t.Errorf("at %s: %q %q, want %q", tt.at, res.Stdout, res.Stderr, tt.want)
		}
		if err := res.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The paths of the options are paths in Root, and so are the links that they lead through.
func TestRootLinks(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	for _, dir := range []string{"run", "var", "etc", "bin"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip(err)
	}
	tool(t, exec.Command("cp", busybox, filepath.Join(root, "bin/busybox")))
	for link, target := range map[string]string{"var/run": "/run", "lost": outside, "lib64": "/etc"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/bin/busybox", "sh", "-c", "echo text >/var/run/x; busybox ls /lib64 /")
	cmd.Env = []string{"PATH=/bin"}
	res := sandtest.Run(t, cmd, sandtest.Options{Root: root, Read: []string{"/bin"}, Write: []string{"/var/run"}})
	if want := "/:\nbin\ndev\netc\nlib64\nproc\nsys\ntmp\nvar\nwork\n\n/lib64:\n"; res.Stdout != want {
		t.Errorf("it prints %q %q, want %q", res.Stdout, res.Stderr, want)
	}
	if text, err := os.ReadFile(filepath.Join(root, "run/x")); string(text) != "text\n" {
		t.Errorf("in the root there is %q, %v", text, err)
	}
	for _, opts := range []sandtest.Options{{Write: []string{"/lost"}}, {Read: []string{"/lost"}}, {Deny: []string{"/lost"}}} {
		opts.Root = root
		if _, err := sandtest.Execute(exec.Command("/bin/busybox", "true"), opts); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("%+v leads out of the root: %v", opts, err)
		}
	}
}

// A directory that the command was given leads to nothing that it isn't to see.
func TestInheritedDirectory(t *testing.T) {
	given := t.TempDir()
	if err := os.WriteFile(filepath.Join(given, "f"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, opts := range []sandtest.Options{
		{Read: []string{"/usr", "/bin"}}, {Root: t.TempDir(), Mounts: []sandtest.Mount{{Host: "/usr", Path: "/usr"}, {Host: "/bin", Path: "/bin"}, {Host: "/lib", Path: "/lib"}, {Host: "/lib64", Path: "/lib64"}}},
	} {
		for _, dir := range []string{given, "/etc", "/"} {
			f, err := os.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd := exec.Command("/bin/sh", "-c", `for p in .. ../.. ../../etc ../etc/passwd . f passwd etc; do
				ls -d /proc/self/fd/3/$p && echo "sees $p"; head -c 5 /proc/self/fd/3/$p && echo "reads $p"; touch /proc/self/fd/3/$p/new && echo "writes $p"; done`)
			cmd.ExtraFiles = []*os.File{f}
			res := sandtest.Run(t, cmd, opts)
			if strings.Contains(res.Stdout, "s ") || res.Signal != 0 {
				t.Errorf("%+v, given %s: %q, %s", opts, dir, res.Stdout, res.Stderr)
			}
		}
	}
}

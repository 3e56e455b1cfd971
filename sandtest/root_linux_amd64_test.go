package sandtest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sandtest/go-sandtest/sandtest"
)

// makeRoot makes a root with programs of the host's and what they need, and one whose
// dynamic linker exists in there alone.
func makeRoot(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc isn't there")
	}
	root := t.TempDir()
	put := func(host, at string) {
		text, err := os.ReadFile(host)
		if err == nil {
			err = os.MkdirAll(filepath.Join(root, filepath.Dir(at)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, at), text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	linker := ""
	for _, name := range []string{"sh", "ls", "cat", "readlink", "stat", "touch", "mkdir", "mv", "find"} {
		program, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("%s isn't there", name)
		}
		put(program, "bin/"+name)
		for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(tool(t, exec.Command("ldd", program)), -1) {
			put(lib, lib)
			if strings.Contains(lib, "/ld-linux") {
				linker = lib
			}
		}
	}
	put(linker, "own/ld.so")
	source := filepath.Join(t.TempDir(), "p.c")
	if err := os.WriteFile(source, []byte(`#include <stdio.h>
#include <sys/auxv.h>
int main(int n, char **v) { printf("%s %d %s\n", v[0], n, (char *)getauxval(AT_EXECFN)); return 0; }`), 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, exec.Command("gcc", "-o", filepath.Join(root, "bin/own"), "-Wl,--dynamic-linker=/own/ld.so", source))
	for _, err := range []error{
		os.MkdirAll(filepath.Join(root, "etc"), 0o755),
		os.WriteFile(filepath.Join(root, "etc/secret"), []byte("inside\n"), 0o644),
		os.WriteFile(filepath.Join(root, "bin/script"), []byte("#!/bin/sh -e\necho script $0 $@\n"), 0o755),
		os.Symlink("/etc/secret", filepath.Join(root, "link")),
		os.Symlink("../../../../../etc/secret", filepath.Join(root, "etc/up")),
		os.Chmod(root, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// A command sees a directory as its root, and nothing outside.
func TestRoot(t *testing.T) {
	root := makeRoot(t)
	work := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("outside\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"root", []string{"sh", "-c", "cd /; echo *; pwd; cd ..; pwd"}, "bin dev etc lib lib64 link own proc sys tmp usr work\n/\n/\n"},
		{"links", []string{"cat", "/link", "/etc/up", "/../../etc/secret"}, "inside\ninside\ninside\n"},
		{"proc", []string{"readlink", "/proc/self/exe", "/proc/self/root", "/proc/self/cwd", "/proc/1/../self/root"}, "/bin/readlink\n/\n/work\n"},
		{"through proc", []string{"sh", "-c", "cat /proc/self/root/etc/secret; cat /proc/self/cwd/../etc/secret"}, "inside\ninside\n"},
		{"outside", []string{"sh", "-c", "cat " + outside + " /proc/self/root" + outside + " 2>/dev/null || echo nothing"}, "nothing\n"},
		{"the linker's own", []string{"own", "a"}, "own 2 /bin/own\n"},
		{"the linker's own, executed", []string{"sh", "-c", "exec own a b"}, "own 3 /bin/own\n"},
		{"by its path", []string{"/bin/own"}, "/bin/own 1 /bin/own\n"},
		{"script", []string{"script", "a", "b"}, "script /bin/script a b\n"},
		{"script, executed", []string{"sh", "-c", "script a"}, "script /bin/script a\n"},
		{"writing", []string{"sh", "-c", "echo x >>/etc/secret; mkdir /new; mv /etc/secret /new/moved; cat /new/moved; find /new"}, "inside\nx\n/new\n/new/moved\n"},
		{"its directory", []string{"sh", "-c", "pwd; touch f; echo *"}, "/work\nf\n"},
		{"statfs and times", []string{"sh", "-c", "stat -f -c %T /; touch -d @5 /etc/t; stat -c '%Y %u' /etc/t"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := &exec.Cmd{Path: tt.args[0], Args: tt.args, Dir: work, Env: []string{"PATH=/bin"}}
			res := sandtest.Run(t, cmd, sandtest.Options{Root: root})
			want := tt.want
			if tt.name == "root" { // the machine's libraries may lie elsewhere
				want, res.Stdout = "link own proc", strings.Join(regexp.MustCompile("link own proc").FindAllString(res.Stdout, -1), " ")
			}
			if tt.name == "statfs and times" {
				want = res.Stdout[:strings.IndexByte(res.Stdout, '\n')+1] + fmt.Sprintf("5 %d\n", os.Geteuid())
			}
			if res.Stdout != want {
				t.Errorf("it says %q %q, want %q", res.Stdout, res.Stderr, want)
			}
			if cmd.Path != tt.args[0] || cmd.Args[0] != tt.args[0] {
				t.Errorf("cmd was changed: %q %q", cmd.Path, cmd.Args)
			}
		})
	}
	if text, err := os.ReadFile(filepath.Join(root, "etc/secret")); err != nil || string(text) != "inside\n" {
		t.Errorf("the root was changed: %q, %v", text, err)
	}
}

// Paths of Read, Write and Deny are those in the root.
func TestRootPaths(t *testing.T) {
	root := makeRoot(t)
	command := func(script string) *exec.Cmd {
		return &exec.Cmd{Path: "sh", Args: []string{"sh", "-c", script}, Dir: t.TempDir(), Env: []string{"PATH=/bin"}}
	}
	res := sandtest.Run(t, command("cat /etc/secret; cat /link; own"), sandtest.Options{Root: root, Deny: []string{"/etc"}})
	if want := "own 1 /bin/own\n"; res.Stdout != want {
		t.Errorf("with Deny it says %q %q, want %q", res.Stdout, res.Stderr, want)
	}
	res = sandtest.Run(t, command("cat /etc/secret; cat /own/ld.so >/dev/null"), sandtest.Options{Root: root, Read: []string{"/bin", "/etc"}})
	if res.Stdout != "inside\n" || !strings.Contains(res.Stderr, "/own/ld.so: No such file") {
		t.Errorf("with Read it says %q %q", res.Stdout, res.Stderr)
	}
	res = sandtest.Run(t, command("echo for real >/etc/written"), sandtest.Options{Root: root, Write: []string{"/etc"}})
	if text, err := os.ReadFile(filepath.Join(root, "etc/written")); err != nil || string(text) != "for real\n" {
		t.Errorf("with Write it has written %q, %v; %s", text, err, res.Stderr)
	}
	for _, tt := range []struct {
		opts sandtest.Options
		cmd  *exec.Cmd
		want string
	}{
		{sandtest.Options{Root: root}, &exec.Cmd{Path: "none", Args: []string{"none"}, Env: []string{"PATH=/bin"}}, "find in PATH in " + root + " none: no such file"},
		{sandtest.Options{Root: root}, &exec.Cmd{Path: "/etc/secret", Args: []string{"/etc/secret"}}, "exec in " + root + " /etc/secret: permission denied"},
		{sandtest.Options{Root: root + "/none"}, exec.Command("true"), "Root: lstat"},
		{sandtest.Options{Root: root + "/etc/secret"}, exec.Command("true"), "not a directory"},
		{sandtest.Options{Root: root, Deny: []string{"etc"}}, exec.Command("true"), "no absolute path"},
	} {
		if _, err := sandtest.Execute(tt.cmd, tt.opts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.cmd.Args, err, tt.want)
		}
	}
}

// A whole system in a directory: busybox with its links.
func TestRootBusybox(t *testing.T) {
	busybox := "/bin/busybox"
	if out, err := exec.Command("ldd", busybox).CombinedOutput(); err == nil {
		t.Skipf("busybox isn't there, or not static: %s", out)
	} else if _, err := os.Stat(busybox); err != nil {
		t.Skip(err)
	}
	root := t.TempDir()
	tool(t, exec.Command("sh", "-c", `set -e; cd "$1"; mkdir -p bin etc var; cp /bin/busybox bin; for p in $(bin/busybox --list); do ln -s busybox bin/$p 2>/dev/null || :; done
		echo root:x:0:0:root:/:/bin/sh >etc/passwd; echo nobody:x:65534:65534::/:/bin/sh >>etc/passwd; chmod 755 .`, "sh", root))
	const script = `id -un >/dev/null && echo known; hostname; date; cd /var; mkdir d; echo text >d/f; tar cf a.tar d; tar tf a.tar; rm -r d; tar xf a.tar; cat d/f
		sed -i s/text/other/ d/f; grep -r other d; find / -xdev -name f; ls -l /bin/sh | sed 's/.*bin/bin/'; vi --help 2>&1 | head -n 1 | cut -c1-7; sleep 1000; date +%H:%M
		chroot / true 2>&1 | head -n 1; (cd /; for i in 1 2 3; do cd ..; done; pwd); awk 'BEGIN { srand(); print int(rand() * 0) }'; which ls`
	cmd := &exec.Cmd{Path: "sh", Args: []string{"sh", "-c", script}, Dir: t.TempDir(), Env: []string{"PATH=/bin"}}
	res := sandtest.Run(t, cmd, sandtest.Options{Root: root})
	const want = "known\nsandtest\nSat Jan  1 00:00:00 UTC 2000\nd/\nd/f\ntext\nd/f:other\n/var/d/f\nbin/sh -> busybox\nBusyBox\n00:16\n" +
		"chroot: can't change root directory to '/': Operation not permitted\n/\n0\n/bin/ls\n"
	if res.Stdout != want {
		t.Errorf("it says\n%s%s, want\n%s", res.Stdout, res.Stderr, want)
	}
}

// debianRoot returns a Debian system in a directory: the one that SANDTEST_DEBIAN names, or
// with SANDTEST_LONG one that is made for the test, which takes a minute and root.
func debianRoot(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("SANDTEST_DEBIAN"); dir != "" {
		return dir
	}
	debootstrap, err := exec.LookPath("debootstrap")
	if os.Getenv("SANDTEST_LONG") == "" || os.Geteuid() != 0 || err != nil {
		t.Skip("SANDTEST_DEBIAN names no Debian root; with SANDTEST_LONG, as root, debootstrap makes one")
	}
	root := filepath.Join(t.TempDir(), "debian")
	tool(t, exec.Command(debootstrap, "--variant=minbase", "--include=python3-minimal,gcc,libc6-dev", "bookworm", root))
	return root
}

// Debian's own tools work in a Debian root, the same each time, and leave it alone.
func TestRootDebian(t *testing.T) {
	root := debianRoot(t)
	const script = `dpkg -l | grep -c ^ii; dpkg -s bash | grep ^Status; apt list --installed 2>/dev/null | grep -c installed; apt-cache policy bash | head -n 2
		printf '#include <stdio.h>\nint main() { puts("compiled"); }' >/tmp/a.c; gcc -o /tmp/a /tmp/a.c && /tmp/a
		python3 -c 'import os; print(sorted(os.listdir("/"))); print(os.path.realpath("/bin/sh"))'
		perl -e 'print join(",", map { sprintf "%.3f", rand } 1..3), "\n"'; cat /etc/os-release | head -n 1; echo new >/var/tmp/new; cat /var/tmp/new`
	run := func() *sandtest.Result {
		cmd := &exec.Cmd{Path: "sh", Args: []string{"sh", "-c", script}, Dir: t.TempDir(), Env: []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}}
		return sandtest.Run(t, cmd, sandtest.Options{Root: root})
	}
	first := run()
	for _, want := range []string{"Status: install ok installed\n", "bash:\n  Installed: 5", "compiled\n", "'work']", "new\n", "/usr/bin/dash\n", "PRETTY_NAME=\"Debian"} {
		if !strings.Contains(first.Stdout, want) {
			t.Errorf("%q isn't in\n%s%s", want, first.Stdout, first.Stderr)
		}
	}
	if second := run(); second.Stdout != first.Stdout || second.Stderr != first.Stderr {
		t.Errorf("the second time it says\n%s%s\nand not\n%s%s", second.Stdout, second.Stderr, first.Stdout, first.Stderr)
	}
	if _, err := os.Stat(filepath.Join(root, "var/tmp/new")); err == nil {
		t.Error("the root was written to")
	}
}

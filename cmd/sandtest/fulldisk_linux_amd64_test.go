package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// onSmallDisk runs the command, after prepare, with its directory, the layer and what it keeps
// on a file system of a few megabytes and inodes.
func onSmallDisk(t *testing.T, options, prepare string, args ...string) outcome {
	t.Helper()
	ns := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	at := t.TempDir()
	const small = `mount -t tmpfs -o "$1" none "$2"; cd "$2"; mkdir tmp cache work; export TMPDIR="$2/tmp" XDG_CACHE_HOME="$2/cache"; cd work; eval "$3"; shift 3; `
	probe := exec.Command("sh", "-ec", small, "sh", options, at, "")
	probe.SysProcAttr = ns
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("there is no small disk to be had: %v: %s", err, out)
	}
	self := sandtestCommand(t, args...)
	cmd := exec.Command("sh", append([]string{"-ec", small + `"$@"; echo "status $?"; ls`, "sh", options, at, prepare}, self.Args...)...)
	cmd.Args[2] = strings.Replace(cmd.Args[2], `"$@"; echo`, `set +e; "$@"; echo`, 1)
	cmd.Env, cmd.SysProcAttr = self.Env, ns
	return runCommand(t, cmd)
}

// A disk that is full is the program's to see, and what is there by then is as it was.
func TestFullDisk(t *testing.T) {
	t.Run("a file of the sandbox's own", func(t *testing.T) {
		o := onSmallDisk(t, "size=2m", "", "run", "--diff", "sh", "-c",
			`head -c 5000000 /dev/zero >big 2>/dev/null || echo full; cat /etc/hosts >/dev/null 2>&1; rm big; grep -c localhost /etc/hosts`)
		o.check(t, 0, "full\n2\nstatus 0\n")
	})
	t.Run("changes are kept", func(t *testing.T) {
		o := onSmallDisk(t, "size=3m", "head -c 1200000 /dev/zero >../ballast", "run", "--changes", "keep=kept", "sh", "-c", "head -c 1500000 /dev/zero >new")
		if !strings.Contains(o.stdout, "status 125\n") || !strings.Contains(o.stderr, "no space left") {
			t.Fatalf("output %q, standard error %s", o.stdout, o.stderr)
		}
		// What is there in part isn't in the way of the next try.
		o = onSmallDisk(t, "size=3m", `head -c 1200000 /dev/zero >../ballast
			"$4" run --changes keep=kept sh -c "head -c 1500000 /dev/zero >new" 2>/dev/null || rm ../ballast`, "run", "--changes", "keep=kept", "true")
		o.check(t, 0, "status 0\nkept\n")
	})
	t.Run("too few inodes for a commit", func(t *testing.T) {
		o := onSmallDisk(t, "size=4m,nr_inodes=100", "echo text >there", "run", "--changes", "commit", "sh", "-c", "rm there; mkdir d; for n in $(seq 100); do mkdir d/$n; done")
		o.check(t, 0, "status 125\nthere\n", "inodes are needed", "no space left")
	})
}

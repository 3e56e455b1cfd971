package supervisor

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a supervisor that was killed has left of System V is removed, and only that.
func TestLeftSystemV(t *testing.T) {
	if exec.Command("perl", "-MIPC::SysV", "-e", "1").Run() != nil {
		t.Skip("perl, or its IPC::SysV, isn't there")
	}
	tmp := t.TempDir()
	if err := os.Chmod(tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	const script = `use IPC::SysV qw(:all); $| = 1; semget(7, 4, IPC_CREAT|0600); semget(IPC_PRIVATE, 1, 0600); msgget(7, IPC_CREAT|0600); msgget(8, IPC_CREAT|0600);
		my $m = msgget(9, IPC_CREAT|0600); msgctl($m, IPC_RMID, 0); print "made\n"; <STDIN>`
	supervisor := program(t, "supervise", "/usr/bin/env", "perl", "-e", script)
	supervisor.Env = append(supervisor.Env, "TMPDIR="+tmp)
	// What it reads is never written: a sleep would end at once.
	if _, err := supervisor.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := supervisor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	killed := false
	kill := func() {
		if !killed {
			_ = supervisor.Process.Kill()
			_ = supervisor.Wait()
		}
		killed = true
	}
	defer kill()
	if line != "made\n" {
		t.Fatalf("%q, %v", line, err)
	}
	var noted []string
	for _, dir := range layersOf(t, tmp, supervisor.Process.Pid) {
		if at := filepath.Join(dir, leftFile); exists(at) {
			noted = append(noted, at)
		}
	}
	if len(noted) != 1 {
		t.Fatalf("%q are noted", noted)
	}
	text, err := os.Open(noted[0])
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	var keys []leftKey
	for {
		var k leftKey
		if n, _ := fmt.Fscanln(text, &k.kind, &k.key); n != 2 {
			break
		}
		keys = append(keys, k)
	}
	left := func() (n int) {
		for _, k := range keys {
			if _, err := systemVGet(k.kind, k.key, 0, 0); err == nil {
				n++
			}
		}
		return n
	}
	if len(keys) != 5 || left() != 4 {
		t.Fatalf("%d of %v are left, want 4 of 5", left(), keys)
	}
	other, err := systemVGet(messageQueue, unix.IPC_PRIVATE, 0, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	kill()
	for began := time.Now(); left() > 0 || exists(noted[0]); runtime.Gosched() {
		if time.Since(began) > ending {
			t.Fatalf("%d are left", left())
		}
	}
	if err := systemVControl(messageQueue, other, unix.IPC_RMID, nil); err != nil {
		t.Errorf("another one: %v", err)
	}
}

// Where nobody has swept, who removes the directory does it.
func TestRemoveLeft(t *testing.T) {
	dir := t.TempDir()
	const key = 0x5a17e57
	text := ""
	for _, kind := range []systemVKind{semaphores, messageQueue} {
		if _, err := systemVGet(kind, key, 1, unix.IPC_CREAT|unix.IPC_EXCL|0o600); err != nil {
			t.Skip(err)
		}
		text += fmt.Sprintln(int(kind), key)
	}
	if err := os.WriteFile(filepath.Join(dir, leftFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	removeLeft(dir)
	for _, kind := range []systemVKind{semaphores, messageQueue} {
		if _, err := systemVGet(kind, key, 0, 0); err != unix.ENOENT {
			t.Errorf("kind %d: %v, want ENOENT", kind, err)
		}
	}
}

//go:build linux

package supervisor

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// systemVScript uses each kind, and says what it gets.
const systemVScript = `
use IPC::SysV qw(:all);
my $k = $ARGV[0];
my $s = shmget($k, 4096, IPC_CREAT|IPC_EXCL|0600); print defined $s ? "segment\n" : "no segment: $!\n";
print defined shmget($k, 4096, IPC_CREAT|IPC_EXCL|0600) ? "a second\n" : "a second: $!\n";
print shmget($k, 10, 0) == $s ? "the same\n" : "another\n";
print defined shmget($k, 8192, 0) ? "a larger\n" : "a larger: $!\n";
print defined shmget($k + 1, 10, 0) ? "without IPC_CREAT\n" : "without IPC_CREAT: $!\n";
shmwrite($s, "hello", 0, 5) or print "write: $!\n";
if (!fork) { shmread($s, $b, 0, 5); print "child reads $b\n"; exit } wait;
my $st = ""; shmctl($s, IPC_STAT, $st) or print "stat: $!\n";
my ($key, $uid, $mode, $size, $changed, $attached) = unpack("i I x12 I x24 Q x16 Q x8 Q", $st);
print "key ", $key == $k, " uid ", $uid == $<, " mode $mode size $size changed ", $changed > 9e8, " attached $attached\n";
shmctl($s, IPC_RMID, 0) or print "remove: $!\n";
print defined shmget($k, 10, 0) ? "still there\n" : "removed: $!\n";
shmread($s, $b, 0, 5) or print "read: $!\n";
my $q = semget($k, 2, IPC_CREAT|0600);
print defined semget($k, 3, 0) ? "a larger set\n" : "a larger set: $!\n";
if (!fork) { select undef, undef, undef, 0.05; semop($q, pack("s3", 0, 1, 0)); exit }
semop($q, pack("s3", 0, -1, 0)) and print "semaphore\n"; wait;
print semctl($q, 0, GETVAL, 0) + 0, "\n";
semctl($q, 0, IPC_RMID, 0) or print "remove: $!\n";
semop($q, pack("s3", 0, 1, 0)) or print "removed: $!\n";
my $m = msgget(IPC_PRIVATE, 0600);
msgsnd($m, pack("l! a*", 7, "message"), 0) or print "send: $!\n";
msgrcv($m, $b, 100, 0, 0); print unpack("x8 a*", $b), "\n";
msgctl($m, IPC_RMID, 0) or print "remove: $!\n";
print defined semop(12345, pack("s3", 0, 1, 0)) ? "not ours\n" : "not ours: $!\n";
`

// System V's objects behave as the kernel's do, are the sandbox's own, and are gone with
// it.
func TestSystemV(t *testing.T) {
	if exec.Command("perl", "-MIPC::SysV", "-e", "1").Run() != nil {
		t.Skip("perl, or its IPC::SysV, isn't there")
	}
	key := strconv.Itoa(os.Getpid()<<4 + 1) // nobody else's
	native, err := exec.Command("perl", "-e", systemVScript, key).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, native)
	}
	if _, out := run(t, Config{}, exec.Command("perl", "-e", systemVScript, key)); out != string(native) {
		t.Errorf("in the sandbox:\n%s\nnatively:\n%s", out, native)
	}
	const leave = `use IPC::SysV qw(:all); my $k = $ARGV[0];
		print shmget($k, 4096, IPC_CREAT|0600), " ", semget($k, 4, IPC_CREAT|0600), " ", msgget($k, IPC_CREAT|0600)`
	_, first := run(t, Config{}, exec.Command("perl", "-e", leave, key))
	if _, second := run(t, Config{}, exec.Command("perl", "-e", leave, key)); first != second || len(strings.Fields(first)) != 3 {
		t.Errorf("the numbers are %q and %q, want three, the same", first, second)
	}
	for _, file := range []string{"shm", "sem", "msg"} {
		all, err := os.ReadFile("/proc/sysvipc/" + file)
		if err != nil {
			t.Skip(err)
		}
		for line := range strings.Lines(string(all)) {
			if f := strings.Fields(line); f[0] == key {
				t.Errorf("%s of the host: %s", file, line)
			}
		}
		if n := strings.Count(string(all), " "+strconv.Itoa(os.Getpid())+" "); n != 0 {
			t.Errorf("%d %s are left of the supervisor:\n%s", n, file, all)
		}
	}
}

// A program that lets nobody look into it is served as any other.
func TestNotDumpable(t *testing.T) {
	if exec.Command("perl", "-e", "1").Run() != nil {
		t.Skip("perl isn't there")
	}
	const script = `print syscall(157, 4, 0) , syscall(157, 3), syscall(157, 4, 2), -e "/etc/passwd" ? 1 : 0; system("cat /proc/sys/kernel/ostype"); print syscall(157, 4, 1), syscall(157, 3), "\n"` // prctl
	if _, out := run(t, Config{}, exec.Command("perl", "-e", "$| = 1; "+script)); out != "00-11Linux\n01\n" {
		t.Errorf("it says %q", out)
	}
}

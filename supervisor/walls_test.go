//go:build linux

package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// attempts are calls that would get round the sandbox, and what they must fail
// with.
var attempts = []struct {
	name string
	nr   uintptr
	args [6]uintptr
	want unix.Errno
}{
	{"mount", unix.SYS_MOUNT, [6]uintptr{}, unix.EPERM},
	{"umount2", unix.SYS_UMOUNT2, [6]uintptr{}, unix.EPERM},
	{"pivot_root", unix.SYS_PIVOT_ROOT, [6]uintptr{}, unix.EPERM},
	{"chroot", unix.SYS_CHROOT, [6]uintptr{}, unix.EPERM},
	{"fsopen", unix.SYS_FSOPEN, [6]uintptr{}, unix.EPERM},
	{"fsmount", unix.SYS_FSMOUNT, [6]uintptr{}, unix.EPERM},
	{"move_mount", unix.SYS_MOVE_MOUNT, [6]uintptr{}, unix.EPERM},
	{"open_tree", unix.SYS_OPEN_TREE, [6]uintptr{}, unix.EPERM},
	{"mount_setattr", unix.SYS_MOUNT_SETATTR, [6]uintptr{}, unix.EPERM},
	{"setns", unix.SYS_SETNS, [6]uintptr{}, unix.EPERM},
	{"unshare(CLONE_NEWUSER)", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_NEWUSER}, unix.EPERM},
	{"unshare(CLONE_NEWNS|CLONE_FS)", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_NEWNS | unix.CLONE_FS}, unix.EPERM},
	{"unshare(CLONE_NEWNET)", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_NEWNET}, unix.EPERM},
	{"clone(CLONE_NEWUSER)", unix.SYS_CLONE, [6]uintptr{unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD)}, unix.EPERM},
	{"clone(CLONE_NEWPID)", unix.SYS_CLONE, [6]uintptr{unix.CLONE_NEWPID | uintptr(unix.SIGCHLD)}, unix.EPERM},
	{"clone3", unix.SYS_CLONE3, [6]uintptr{}, unix.ENOSYS},
	{"ptrace", unix.SYS_PTRACE, [6]uintptr{unix.PTRACE_TRACEME}, unix.EPERM},
	{"process_vm_readv", unix.SYS_PROCESS_VM_READV, [6]uintptr{1}, unix.EPERM},
	{"process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, [6]uintptr{1}, unix.EPERM},
	{"pidfd_getfd", unix.SYS_PIDFD_GETFD, [6]uintptr{}, unix.EPERM},
	{"kcmp", unix.SYS_KCMP, [6]uintptr{1, 1}, unix.EPERM},
	{"bpf", unix.SYS_BPF, [6]uintptr{}, unix.EPERM},
	{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [6]uintptr{}, unix.EPERM},
	{"memfd_secret", unix.SYS_MEMFD_SECRET, [6]uintptr{}, unix.ENOSYS},
	{"pkey_alloc", unix.SYS_PKEY_ALLOC, [6]uintptr{}, unix.ENOSYS},
	{"pkey_mprotect", unix.SYS_PKEY_MPROTECT, [6]uintptr{0, 0, 0, ^uintptr(0)}, unix.ENOSYS},
	{"get_mempolicy", unix.SYS_GET_MEMPOLICY, [6]uintptr{}, unix.ENOSYS},
	{"set_mempolicy", unix.SYS_SET_MEMPOLICY, [6]uintptr{}, unix.ENOSYS},
	{"mbind", unix.SYS_MBIND, [6]uintptr{}, unix.ENOSYS},
	{"futex_wake", 454, [6]uintptr{}, unix.ENOSYS},
	{"map_shadow_stack", 453, [6]uintptr{}, unix.ENOSYS},
	{"process_mrelease", unix.SYS_PROCESS_MRELEASE, [6]uintptr{}, unix.ENOSYS},
	{"statmount", 457, [6]uintptr{}, unix.ENOSYS},
	{"lsm_list_modules", 461, [6]uintptr{}, unix.ENOSYS},
	{"mseal", sysMseal, [6]uintptr{}, unix.ENOSYS},
	{"landlock_create_ruleset", unix.SYS_LANDLOCK_CREATE_RULESET, [6]uintptr{0, 0, 1}, unix.ENOSYS},
	{"landlock_restrict_self", unix.SYS_LANDLOCK_RESTRICT_SELF, [6]uintptr{}, unix.ENOSYS},
	{"prctl(PR_SET_VMA)", unix.SYS_PRCTL, [6]uintptr{unix.PR_SET_VMA}, unix.EINVAL},
	{"prctl(PR_GET_SPECULATION_CTRL)", unix.SYS_PRCTL, [6]uintptr{unix.PR_GET_SPECULATION_CTRL}, unix.EINVAL},
	{"userfaultfd", unix.SYS_USERFAULTFD, [6]uintptr{}, unix.ENOSYS},
	{"kexec_load", unix.SYS_KEXEC_LOAD, [6]uintptr{}, unix.EPERM},
	{"init_module", unix.SYS_INIT_MODULE, [6]uintptr{}, unix.EPERM},
	{"finit_module", unix.SYS_FINIT_MODULE, [6]uintptr{}, unix.EPERM},
	{"delete_module", unix.SYS_DELETE_MODULE, [6]uintptr{}, unix.EPERM},
	{"reboot", unix.SYS_REBOOT, [6]uintptr{}, unix.EPERM},
	{"swapon", unix.SYS_SWAPON, [6]uintptr{}, unix.EPERM},
	{"swapoff", unix.SYS_SWAPOFF, [6]uintptr{}, unix.EPERM},
	{"keyctl", unix.SYS_KEYCTL, [6]uintptr{}, unix.ENOSYS},
	{"add_key", unix.SYS_ADD_KEY, [6]uintptr{}, unix.ENOSYS},
	{"request_key", unix.SYS_REQUEST_KEY, [6]uintptr{}, unix.ENOSYS},
	{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, [6]uintptr{}, unix.EPERM},
	{"name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT, [6]uintptr{}, unix.EOPNOTSUPP},
	{"quotactl", unix.SYS_QUOTACTL, [6]uintptr{}, unix.EPERM},
	{"acct", unix.SYS_ACCT, [6]uintptr{}, unix.EPERM},
	{"syslog", unix.SYS_SYSLOG, [6]uintptr{3}, unix.EPERM},
	{"fanotify_init", unix.SYS_FANOTIFY_INIT, [6]uintptr{}, unix.EPERM},
	{"io_uring_setup", unix.SYS_IO_URING_SETUP, [6]uintptr{}, unix.ENOSYS},
	{"io_uring_enter", unix.SYS_IO_URING_ENTER, [6]uintptr{}, unix.ENOSYS},
	{"personality(READ_IMPLIES_EXEC)", unix.SYS_PERSONALITY, [6]uintptr{0x0400000}, unix.EPERM},
	{"socket(AF_PACKET)", unix.SYS_SOCKET, [6]uintptr{unix.AF_PACKET, unix.SOCK_RAW}, unix.EAFNOSUPPORT},
	{"socket(AF_ALG)", unix.SYS_SOCKET, [6]uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET}, unix.EAFNOSUPPORT},
	{"socket(AF_VSOCK)", unix.SYS_SOCKET, [6]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EAFNOSUPPORT},
	{"socket(AF_INET, SOCK_RAW)", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET, unix.SOCK_RAW | unix.SOCK_CLOEXEC, 1}, unix.EPERM},
	{"socket(AF_INET6, SOCK_RAW)", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET6, unix.SOCK_RAW, 58}, unix.EPERM},
	{"ioctl(TIOCSTI)", unix.SYS_IOCTL, [6]uintptr{0, unix.TIOCSTI}, unix.EPERM},
	{"ioctl(TIOCLINUX)", unix.SYS_IOCTL, [6]uintptr{0, unix.TIOCLINUX}, unix.EPERM},
	{"sethostname", unix.SYS_SETHOSTNAME, [6]uintptr{}, unix.EPERM},
	{"setdomainname", unix.SYS_SETDOMAINNAME, [6]uintptr{}, unix.EPERM},
	{"clock_settime", unix.SYS_CLOCK_SETTIME, [6]uintptr{}, unix.EPERM},
	{"settimeofday", unix.SYS_SETTIMEOFDAY, [6]uintptr{}, unix.EPERM},
}

func attempt([]string) error {
	for _, a := range attempts {
		_, _, errno := unix.RawSyscall6(a.nr, a.args[0], a.args[1], a.args[2], a.args[3], a.args[4], a.args[5])
		fmt.Printf("%s: %d\n", a.name, int(errno))
	}
	return nil
}

// What would get round the sandbox fails as it does for who isn't allowed to.
func TestAttempts(t *testing.T) {
	var want strings.Builder
	for _, a := range attempts {
		fmt.Fprintf(&want, "%s: %d\n", a.name, int(a.want))
	}
	if diff := cmp.Diff(lines(want.String()), lines(output(t, Config{}, program(t, "attempt")))); diff != "" {
		t.Errorf("errno of each (-want +got):\n%s", diff)
	}
}

// Should the view have a hole, Landlock stands behind it: here a feature of the test's
// lets the kernel open, make and remove files as the program says.
func TestLandlock(t *testing.T) {
	if landlockABI() == 0 {
		t.Skip("this kernel has no Landlock")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("host\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	hole := hooks{features: []func(*Sandbox) feature{func(*Sandbox) feature {
		f := feature{name: "hole"}
		for _, name := range []string{"openat", "unlink", "unlinkat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "symlink", "symlinkat", "truncate", "newfstatat", "access", "faccessat2"} {
			f.calls = append(f.calls, call{name: name, notify: func(*Call) Answer { return Continue() }})
		}
		return f
	}}}
	cmd := sh(`cat "$1/file"; for what in 'echo x >>"$1/file"' 'rm "$1/file"' 'mkdir "$1/dir"' 'mv "$1/file" "$1/moved"' 'ln -s x "$1/link"' 'truncate -s 0 "$1/file"' ': >"$1/new"'; do
		(eval "$what") 2>/dev/null && echo "$what works"; done; echo end`)
	cmd.Args = append(cmd.Args, "sh", dir)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	s, err := start(cmd, Config{}, hole)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := s.Wait(); err != nil || state.Stats.Landlock != landlockABI() {
		t.Fatalf("%v, %+v", err, state)
	}
	if out.String() != "host\nend\n" {
		t.Errorf("output %q", out.String())
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 || list[0].Name() != "file" {
		t.Errorf("the host's directory holds %v, %v", list, err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "host\n" {
		t.Errorf("the host's file holds %q, %v", text, err)
	}
}

func TestMinLandlock(t *testing.T) {
	_, err := Start(sh("true"), Config{MinLandlock: 1000})
	if err == nil || !strings.Contains(err.Error(), "MinLandlock is 1000") {
		t.Errorf("Start: %v, want an error about Landlock", err)
	}
	if abi := landlockABI(); abi > 0 {
		output(t, Config{MinLandlock: abi}, sh("true"))
	}
}

// What each version takes away.
func TestLandlockRules(t *testing.T) {
	for _, tt := range []struct {
		abi    int
		refer  bool
		trunc  bool
		ioctl  bool
		scoped uint64
	}{{0, false, false, false, 0}, {1, false, false, false, 0}, {2, true, false, false, 0}, {3, true, true, false, 0}, {4, true, true, false, 0}, {5, true, true, true, 0}, {6, true, true, true, 3}, {7, true, true, true, 3}} {
		got := landlockRules(tt.abi, NetLoopback)
		has := func(right uint64) bool { return got.HandledAccessFS&right != 0 }
		if has(unix.LANDLOCK_ACCESS_FS_WRITE_FILE) != (tt.abi > 0) || has(unix.LANDLOCK_ACCESS_FS_REFER) != tt.refer || has(unix.LANDLOCK_ACCESS_FS_TRUNCATE) != tt.trunc ||
			has(unix.LANDLOCK_ACCESS_FS_IOCTL_DEV) != tt.ioctl || (got.HandledAccessNet == 3) != (tt.abi >= 4) || landlockRules(tt.abi, NetHost).HandledAccessNet != 0 || got.Scoped != tt.scoped || has(unix.LANDLOCK_ACCESS_FS_READ_FILE) {
			t.Errorf("ABI %d: %+v", tt.abi, got)
		}
	}
}

// A process of the host is none of the sandbox's business.
func TestOtherProcesses(t *testing.T) {
	me := os.Getpid()
	script := fmt.Sprintf(`ls /proc | grep -x %[1]d; cat /proc/%[1]d/comm 2>&1; ls /proc/self/root/proc/%[1]d 2>&1 | head -1; test -e /proc/1 || echo no init; ls /proc | grep -c '^[0-9]'`, me)
	want := fmt.Sprintf("cat: /proc/%[1]d/comm: No such file or directory\nls: cannot access '/proc/self/root/proc/%[1]d': No such file or directory\nno init\n3\n", me)
	if got := output(t, Config{}, sh(script)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if landlockABI() >= 6 {
		if state, out := run(t, Config{}, sh(fmt.Sprintf("kill -0 %d", me))); state.ExitCode == 0 {
			t.Errorf("a signal reaches the host: %s", out)
		}
	}
}

// Message queues are the sandbox's own, and gone at its end.
func TestQueues(t *testing.T) {
	before, _ := os.ReadDir("/dev/mqueue")
	path := compileC(t, "queue", false)
	for range 2 {
		want := "mq_open: 0\nmq_open again: 0\nexclusive: 17\nmissing: 2\nreceived: hello\nunlink: 0\nunlink again: 2\nleft behind: 0\n"
		if got := output(t, Config{}, cmdC(path)); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
	if after, _ := os.ReadDir("/dev/mqueue"); len(after) != len(before) {
		t.Errorf("%d queues are left, before there were %d", len(after), len(before))
	}
}

// Calls can be denied, and of those that are refused some allowed; core files and huge
// pages are off.
func TestCalls(t *testing.T) {
	if exec.Command("perl", "-e", "1").Run() != nil {
		t.Skip("perl isn't there")
	}
	const script = `print syscall(186) > 0 ? "gettid " : "$! "; print syscall(250, 0, -3, 0) >= 0 ? "keyctl\n" : "$!\n"` // KEYCTL_GET_KEYRING_ID
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "gettid Function not implemented\n"},
		{Config{DenyCalls: []string{"gettid"}}, "Operation not permitted Function not implemented\n"},
		// Which the sandbox wants itself, as a notification and as a stop.
		{Config{DenyCalls: []string{"mkdir", "clock_nanosleep", "uname"}}, "gettid Function not implemented\n"},
	} {
		if _, out := run(t, tt.cfg, exec.Command("perl", "-e", script)); out != tt.want {
			t.Errorf("with %q denied it says %q, want %q", tt.cfg.DenyCalls, out, tt.want)
		}
	}
	if _, out := run(t, Config{AllowCalls: []string{"keyctl"}}, exec.Command("perl", "-e", script)); strings.Contains(out, "not implemented") {
		t.Errorf("with keyctl allowed it says %q", out)
	}
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{AllowCalls: []string{"mount"}}, `AllowCalls: "mount" can't be allowed`},
		{Config{DenyCalls: []string{"monut"}}, `no system call "monut"`},
		{Config{DenyCalls: []string{"execve"}}, "nothing runs without execve"},
		{Config{DenyCalls: []string{"uname", "mmap"}}, `DenyCalls: "mmap" can't be denied`},
		{Config{DenyCalls: []string{"close"}}, `DenyCalls: "close" can't be denied`},
		{Config{DenyCalls: []string{"prctl"}}, `DenyCalls: "prctl" can't be denied`},
		{Config{DenyCalls: []string{"mseal"}}, `DenyCalls: "mseal" can't be denied`},
	} {
		if _, err := Start(exec.Command("true"), tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	_, out := run(t, Config{NoHugePages: true}, sh("ulimit -c; ulimit -Hc; ulimit -c unlimited 2>/dev/null || echo no; grep THP_enabled /proc/self/status"))
	if !strings.HasPrefix(out, "0\n0\nno\n") || !strings.Contains(out, "THP_enabled:\t0") {
		t.Errorf("core files and huge pages: %q", out)
	}
	if _, out := run(t, Config{}, sh("grep THP_enabled /proc/self/status")); strings.Contains(out, "\t0") {
		t.Errorf("huge pages are off unasked: %q", out)
	}
}

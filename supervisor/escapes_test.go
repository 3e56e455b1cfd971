//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tsc"
	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/internal/marked"
)

// An escape is an attempt of testdata/c/escape.c, and what must come of it. Where that is
// "ok", the attempt ends in the sandbox's own layer, or does nothing.
type escape struct{ name, want string }

// escapes fail the same way for everybody.
var escapes = []escape{
	{"a denied file", "EACCES"},
	{"a denied file, dots", "EACCES"},
	{"a denied file, more dots than directories", "EACCES"},
	{"a denied file, /proc/self/root", "EACCES"},
	{"a denied file, /proc/self/cwd", "EACCES"},
	{"a denied file, thread's root", "EACCES"},
	{"a denied file, symbolic link", "EACCES"},
	{"a denied file, link through root", "EACCES"},
	{"a denied file, O_PATH", "EACCES"},
	{"a denied directory, O_PATH", "EACCES"},
	{"a denied file, at a descriptor", "EACCES"},
	{"a denied file, descriptor and dots", "EACCES"},
	{"a denied file, at a given directory", "EACCES"},
	{"a denied file, given directory and dots", "EACCES"},
	{"a denied file, /proc/self/fd", "EACCES"},
	{"a denied file, fchdir", "EACCES"},
	{"a denied file, linkat", "EACCES"},
	{"a denied file, its directory moved", "EACCES"},
	{"a denied file, fchmodat", "EACCES"},
	{"a denied file, execve", "EACCES"},
	{"a denied file, interpreter", "EACCES"},
	{"a denied file, link", "EACCES"},
	{"a denied file, in memory", "EACCES"},
	{"a denied file, not dumpable", "EACCES"},
	{"a denied directory, rename", "EACCES"},
	{"a denied directory, exchange", "EACCES"},
	{"a denied directory, list", "EACCES"},
	{"a denied directory, enter", "EACCES"},
	{"a denied directory, rmdir", "EACCES"},
	{"a denied directory that was given, openat", "EACCES"},
	{"a denied directory that was given, O_PATH", "EACCES"},
	{"a denied directory that was given, itself", "EACCES"},
	{"a denied directory that was given, dots", "EACCES"},
	{"a denied directory that was given, statx", "EACCES"},
	{"a denied directory that was given, linkat", "EACCES"},
	{"a denied directory that was given, renameat", "EACCES"},
	{"a denied directory that was given, new file", "EACCES"},
	{"a denied directory that was given, execveat", "EACCES"},
	{"a denied directory that was given, fchdir", "EACCES"},
	{"a denied directory that was given, magic link", "EACCES"},
	{"a denied directory that was given, the link itself", "EACCES"},
	{"a denied directory that was given, attributes", "EACCES"},
	{"openat2, beneath", "EXDEV"},
	{"openat2, beneath by a link", "EXDEV"},
	{"openat2, in a root", "ENOENT"},
	{"openat2, no magic links", "ELOOP"},

	{"another's root", "ENOENT"},
	{"another's directory", "ENOENT"},
	{"another's descriptors", "ENOENT"},
	{"another's memory", "ENOENT"},
	{"another's task", "ENOENT"},
	{"another's oom_score_adj", "ENOENT"},
	{"the first's root", "ENOENT"},
	{"the supervisor's memory", "ENOENT"},
	{"the supervisor's descriptors", "ENOENT"},
	{"the supervisor's environment", "ENOENT"},

	{"out of a writable tree, link", "ok"},
	{"out of a writable tree, new link", "ok"},
	{"out of a writable tree, dots", "ok"},
	{"out of a writable tree, unlink", "ok"},
	{"out of a writable tree, new file", "ok"},
	{"into a writable tree, rename", "EXDEV"},
	{"into a writable tree, exchange", "EXDEV"},
	{"into a writable tree, link", "EXDEV"},
	{"into a writable tree, linkat by descriptor", "EXDEV"},
	{"into a writable tree, linkat by magic link", "EXDEV"},
	{"into a writable tree, given descriptor", "EXDEV"},
	{"into a writable tree, given descriptor by magic link", "EXDEV"},

	{"write", "EBADF"},
	{"pwritev2", "EBADF"},
	{"ftruncate", "EINVAL"},
	{"fallocate", "EBADF"},
	{"copy_file_range", "EBADF"},
	{"splice", "EBADF"},
	{"FICLONE", "EBADF"},
	{"mmap", "EACCES"},
	{"mprotect", "EACCES"},
	{"/proc/self/mem", "EIO"},
	{"MADV_REMOVE", "EACCES"},
	{"reopen", "ok"},
	{"reopen, truncate", "ok"},
	{"reopen, O_PATH", "ok"},
	{"reopen, of a task", "ok"},
	{"reopen, /dev/fd", "ok"},
	{"reopen a given file", "EACCES"},
	{"reopen a given file, truncate", "EACCES"},
	{"ftruncate a given file", "EINVAL"},
	{"truncate a given file", "EPERM"},
	{"chmod a given file", "ok"},
	{"chmod a given file by magic link", "EPERM"},
	{"chown a given file", "ok"},
	{"the times of a given file", "ok"},
	{"fsetxattr of a given file", "ENOTSUP"},
	{"reopen a file that was sent", "EACCES"},
	{"chmod a file that was sent", "ok"},
	{"fchmod", "ok"},
	{"fchmodat2", "ok"},
	{"fchown", "ok"},
	{"fchownat", "ok"},
	{"futimens", "ok"},
	{"truncate", "ok"},
	{"fsetxattr", "ok"},
	{"fremovexattr", "ENODATA"},
	{"shared memory's file", "ok"},
	{"a FIFO", "ok"},
	{"inotify_add_watch", "ok"},
	{"open_by_handle_at", "EPERM"},
	{"setxattrat", "ENOSYS"},
	{"getxattrat", "ENOSYS"},
	{"listxattrat", "ENOSYS"},
	{"removexattrat", "ENOSYS"},
	{"file_getattr", "ENOSYS"},
	{"file_setattr", "ENOSYS"},
	{"FS_IOC_SETFLAGS", "ENOTTY"},
	{"FS_IOC_SETFLAGS of a given file", "ENOTTY"},
	{"FS_IOC_SETFLAGS, rubbish above", "ENOTTY"},
	{"FS_IOC_FSSETXATTR", "ENOTTY"},
	{"FS_IOC_SETVERSION", "ENOTTY"},
	{"FS_IOC_GETFLAGS", "ENOTTY"},
	{"FIBMAP", "ENOTTY"},
	{"FS_IOC_FIEMAP", "ENOTTY"},
	{"FS_IOC_FIEMAP of a given directory", "ENOTTY"},
	{"F_SETLEASE", "EINVAL"},
	{"F_NOTIFY", "EINVAL"},
	{"F_SET_RW_HINT", "EINVAL"},
	{"cachestat", "ENOSYS"},
	{"ustat", "ENOSYS"},

	{"/proc/sys/vm/drop_caches", "ENOENT"},
	{"/proc/sysrq-trigger", "ENOENT"},
	{"/proc/kcore", "ENOENT"},
	{"/proc/kmsg", "ENOENT"},
	{"/proc/self/ns", "EPERM"},
	{"devices to read", "EACCES"},
	{"devices to write", "EACCES"},

	{"kill", "ESRCH"},
	{"kill a group", "EPERM"},
	{"kill the supervisor", "ESRCH"},
	{"tkill", "ESRCH"},
	{"tgkill the supervisor", "ESRCH"},
	{"rt_sigqueueinfo", "ESRCH"},
	{"rt_tgsigqueueinfo", "ESRCH"},
	{"pidfd_send_signal", "ESRCH"},
	{"pidfd_send_signal, 0", "ESRCH"},
	{"F_SETOWN", "ESRCH"},
	{"F_SETOWN_EX", "EINVAL"},
	{"SIGEV_THREAD_ID", "EINVAL"},
	{"PTRACE_ATTACH", "EPERM"},
	{"PTRACE_SEIZE", "EPERM"},
	{"process_vm_readv", "EPERM"},
	{"process_vm_writev", "EPERM"},
	{"process_madvise", "EPERM"},
	{"pidfd_getfd", "EPERM"},
	{"get_robust_list", "ESRCH"},
	{"get_robust_list of the supervisor", "ESRCH"},
	{"pidfd_open", "ESRCH"},
	{"prlimit64", "ESRCH"},
	{"prlimit64 of the supervisor", "ESRCH"},
	{"prlimit64, to read", "ESRCH"},
	{"setpriority", "ESRCH"},
	{"setpriority of the supervisor", "ESRCH"},
	{"setpriority, PRIO_PGRP", "EPERM"},
	{"setpriority, PRIO_USER", "EPERM"},
	{"getpriority", "ESRCH"},
	{"getpriority, PRIO_USER", "EPERM"},
	{"ioprio_set", "ESRCH"},
	{"ioprio_set, a group", "EPERM"},
	{"ioprio_set, a user", "EPERM"},
	{"ioprio_get", "ESRCH"},
	{"sched_setscheduler", "ESRCH"},
	{"sched_setparam", "ESRCH"},
	{"sched_setattr", "ESRCH"},
	{"sched_getscheduler", "ESRCH"},
	{"sched_getattr", "ESRCH"},
	{"sched_getparam", "ESRCH"},
	{"sched_rr_get_interval", "ESRCH"},
	{"PR_SCHED_CORE", "EINVAL"},
	{"migrate_pages", "EPERM"},
	{"move_pages", "EPERM"},
	{"getpgid", "ESRCH"},
	{"getsid", "ESRCH"},
	{"setpgid", "ESRCH"},
	{"setpgid, into a group", "EPERM"},
	{"sched_setaffinity", "ESRCH"},

	{"CLONE_NEWIPC", "EPERM"},
	{"CLONE_NEWUTS", "EPERM"},
	{"CLONE_NEWCGROUP", "EPERM"},
	{"CLONE_NEWTIME", "EPERM"},
	{"clone(CLONE_NEWTIME)", "EPERM"},
	{"clone(CLONE_NEWNS)", "EPERM"},
	{"clone(CLONE_NEWNET), rubbish above", "EPERM"},
	{"clone3(CLONE_NEWUSER)", "ENOSYS"},
	{"setns, pidfd", "EPERM"},
	{"chroot", "EPERM"},
	{"mount, bind", "EPERM"},
	{"mount, tmpfs", "EPERM"},
	{"fsopen", "EPERM"},
	{"open_tree", "EPERM"},
	{"open_tree_attr", "ENOSYS"},
	{"fspick", "EPERM"},
	{"move_mount", "EPERM"},
	{"statmount", "ENOSYS"},

	{"seccomp, allow all", "EPERM"},
	{"seccomp, trace", "EACCES"},
	{"seccomp, listener", "EBUSY"},
	{"seccomp, without a listener", "ENOSYS"},
	{"seccomp, system-call dispatch", "EPERM"},
	{"no_new_privs", "EINVAL"},
	{"no_new_privs is set", "ok"},
	{"x32, open", "ENOSYS"},
	{"x32, ptrace", "ENOSYS"},
	{"descriptors", "ok"},
	{"iopl", "EPERM"},
	{"ioperm", "EPERM"},
	{"io_uring_register", "ENOSYS"},
	{"kexec_file_load", "EPERM"},
	{"quotactl_fd", "EPERM"},
	{"vhangup", "EPERM"},
	{"sysfs", "ENOSYS"},
	{"lsm_get_self_attr", "ENOSYS"},
	{"lsm_list_modules", "ENOSYS"},
	{"a call that is to come", "ENOSYS"},
	{"capabilities", "ok"},
	{"capset", "EPERM"},

	{"the page, mprotect", "EACCES"},
	{"the page, /proc/self/mem", "EIO"},
	{"the page, MADV_REMOVE", "EACCES"},

	{"TCP", "ECONNREFUSED"},
	{"TCP, another address", "ENETUNREACH"},
	{"TCP, all addresses", "ECONNREFUSED"},
	{"TCP, 127.0.0.2", "ECONNREFUSED"},
	{"TCP, MSG_FASTOPEN", "EINVAL"},
	{"TCP, TCP_FASTOPEN_CONNECT", "ECONNREFUSED"},
	{"UDP", "ECONNREFUSED"},
	{"UDP, another address", "ENETUNREACH"},
	{"UDP, bind to another address", "EADDRNOTAVAIL"},
	{"UDP, IP_FREEBIND", "EADDRNOTAVAIL"},
	{"UDP, by another interface", "ENODEV"},
	{"UDP, by another interface, sendmmsg", "ENODEV"},
	{"UDP, from the host's address", "ENETUNREACH"},
	{"UDP, by the interface that there is", "ok"},
	{"UDP, IP_TRANSPARENT", "EPERM"},
	{"MPTCP", "EPROTONOSUPPORT"},
	{"SCTP", "ESOCKTNOSUPPORT"},
	{"ICMP", "EACCES"},
	{"SO_BINDTODEVICE", "ENETUNREACH"},
	{"SO_BINDTOIFINDEX", "EPERM"},
	{"SO_PEERPIDFD", "ENOPROTOOPT"},
	{"IP_OPTIONS", "EPERM"},
	{"IPT_SO_SET_REPLACE", "EPERM"},
	{"IPT_SO_SET_ADD_COUNTERS", "EPERM"},
	{"a route", "EPERM"},
	{"SIOCADDRT", "EPERM"},
	{"SIOCDELRT", "EPERM"},
	{"SIOCSIFFLAGS", "EPERM"},
	{"SIOCSIFMTU", "ENODEV"},
	{"SIOCBRADDBR", "EPERM"},
	{"NETLINK_AUDIT", "EPROTONOSUPPORT"},
	{"NETLINK_KOBJECT_UEVENT", "EPROTONOSUPPORT"},
	{"NETLINK_NETFILTER", "EPROTONOSUPPORT"},
	{"NETLINK_SOCK_DIAG", "ENOENT"},
	{"AF_XDP", "EAFNOSUPPORT"},
	{"AF_KEY", "EAFNOSUPPORT"},
	{"AF_CAN", "EAFNOSUPPORT"},
	{"AF_BLUETOOTH", "EAFNOSUPPORT"},
	{"AF_TIPC", "EAFNOSUPPORT"},
	{"AF_TIPC, a pair", "EAFNOSUPPORT"},
	{"AF_SMC", "EAFNOSUPPORT"},
	{"AF_VSOCK, rubbish above", "EAFNOSUPPORT"},
	{"abstract socket", "ECONNREFUSED"},
	{"abstract socket, datagram", "ECONNREFUSED"},
	{"socket", "ECONNREFUSED"},
	{"socket, by a symbolic link", "ECONNREFUSED"},
	{"socket, by a hard link", "ECONNREFUSED"},
	{"socket, /proc/self/root", "ECONNREFUSED"},
	{"socket, O_PATH", "ECONNREFUSED"},
	{"socket, moved", "ECONNREFUSED"},
	{"socket, bind", "EADDRINUSE"},
	{"socket, sendto", "ECONNREFUSED"},
	{"socket, sendmsg", "ECONNREFUSED"},
	{"socket, sendmmsg", "ECONNREFUSED"},
	{"message queue", "ENOENT"},
	{"message queue, mq_unlink", "ENOENT"},
	{"shmget", "ENOENT"},
	{"shmat", "EINVAL"},
	{"shmctl", "EINVAL"},
	{"shmctl, SHM_STAT", "EINVAL"},
	{"semget", "ENOENT"},
	{"semop", "EINVAL"},
	{"semctl", "EINVAL"},
	{"semctl, GETVAL", "EINVAL"},
	{"msgget", "ENOENT"},
	{"msgsnd", "EINVAL"},
	{"msgrcv", "EINVAL"},
	{"msgctl", "EINVAL"},
}

// escapes6 need IPv6.
var escapes6 = []escape{
	{"TCP, mapped", "ECONNREFUSED"},
	{"TCP, another address mapped", "ENETUNREACH"},
	{"TCP, ::1", "ECONNREFUSED"},
	{"UDP, mapped", "ECONNREFUSED"},
	{"IP6T_SO_SET_REPLACE", "EPERM"},
}

// sealed ones fail where memory can be sealed. Elsewhere a program does itself harm, and has
// the kernel for a clock.
var sealed = []string{"the page, unmapped", "the page, replaced", "the page, no access", "the page, moved"}

// inNamespaces are those that fail in another way where the sandbox has a namespace of
// processes: the supervisor isn't there, and the command's parent is process 1.
var inNamespaces = map[string]string{
	"kill a group":                      "ESRCH",
	"kill the supervisor":               "EPERM",
	"tgkill the supervisor":             "EPERM",
	"F_SETOWN_EX":                       "ESRCH",
	"F_SETOWN, a group":                 "ESRCH",
	"get_robust_list of the supervisor": "EPERM",
	"prlimit64 of the supervisor":       "EPERM",
	"prlimit64, to read":                "EPERM",
	"setpriority of the supervisor":     "EPERM",
	"getsid":                            "ok", // of process 1, which is in no session of the sandbox's
}

// privileged ones fail in another way, or only in the layer, for who has capabilities.
var privileged = []struct{ name, want, root string }{
	{"/proc/sys/kernel/core_pattern", "EACCES", "EROFS"},
	{"/proc/sys/kernel/hostname", "EACCES", "EROFS"},
	{"/proc/self/../sys", "EACCES", "EROFS"},
	{"/sys/kernel", "ENOENT", "ENOENT"},
	{"/sys/fs/cgroup", "EROFS", "EROFS"},
	{"mknod, memory", "EPERM", "ENXIO"},
	{"mknod, kernel log", "EPERM", "ENXIO"},
	{"mknod, disk", "EPERM", "ENXIO"},
	{"mknod, loop device", "EPERM", "ENXIO"},
	{"mknod, terminal", "EPERM", "ENXIO"},
	{"the page, reopened", "ENOENT", "ENOENT"},
	{"the interpreter, reopened", "ENOENT", "ENOENT"},
}

// An outsider is what there is on the host that nobody in a sandbox may touch: files,
// sockets, a process.
type outsider struct {
	dir, key, address string
	tcp, udp          int
	sockets           []deadliner
	fifo              *os.File
	systemV           [len(systemVCalls)]int32
	given             []*os.File // what a command is given
	process           *exec.Cmd
	input             *os.File // ends the process when it is closed
}

// A deadliner is a socket that can be waited for.
type deadliner interface{ SetDeadline(time.Time) error }

func (o *outsider) at(name string) string { return filepath.Join(o.dir, name) }

func newOutsider(t *testing.T) *outsider {
	t.Helper()
	o := &outsider{key: fmt.Sprint("sandtest-escape-", os.Getpid()), address: "192.0.2.1"}
	for _, prepare := range []func(*testing.T) error{o.makeFiles, o.listen, o.run, o.makeSystemV} {
		if err := prepare(t); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func (o *outsider) makeFiles(t *testing.T) (err error) {
	if o.dir, err = os.MkdirTemp("", "host"); err != nil { // short enough for a socket's path
		return err
	}
	t.Cleanup(func() { os.RemoveAll(o.dir) })
	for _, name := range []string{"denied", "parent/denied", "sub/denied", "open/directory"} {
		err = errors.Join(err, os.MkdirAll(o.at(name), 0o755))
	}
	for name, text := range map[string]string{
		"file": "host\n", "given": "host\n", "sent": "host\n", "open/file": "open\n", "sub/denied/secret": "open\n", "sub/new": "host\n",
		"denied/secret": "secret\n", "parent/denied/secret": "secret\n",
	} {
		err = errors.Join(err, os.WriteFile(o.at(name), []byte(text), 0o755))
	}
	shm := filepath.Join("/dev/shm", o.key)
	t.Cleanup(func() { os.Remove(shm) })
	err = errors.Join(err, os.WriteFile(shm, []byte("host\n"), 0o644), os.Symlink("../file", o.at("open/out")), os.Symlink("../sub", o.at("open/away")),
		unix.Mkfifo(o.at("fifo"), 0o666))
	open := func(name string, flags int) *os.File {
		f, e := os.OpenFile(o.at(name), flags, 0)
		t.Cleanup(func() { f.Close() })
		err = errors.Join(err, e)
		return f
	}
	o.fifo = open("fifo", os.O_RDWR|unix.O_NONBLOCK)
	o.given = []*os.File{open("given", os.O_RDONLY), open("parent", os.O_RDONLY), open("denied", os.O_RDONLY)}
	queue, e := mqOpen(o.key, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o666, nil)
	if e == nil {
		t.Cleanup(func() { unix.Close(queue); _ = mqUnlink(o.key) })
	}
	return errors.Join(err, e)
}

// listen opens sockets at all addresses, of which address is one besides the loopback
// interface's, and at the two kinds of names.
func (o *outsider) listen(t *testing.T) error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			o.address = ip.IP.String()
		}
	}
	for _, at := range []struct{ network, address string }{{"tcp", ":0"}, {"unix", o.at("socket")}, {"unix", "@" + o.key}} {
		l, err := net.Listen(at.network, at.address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		o.sockets = append(o.sockets, l.(deadliner))
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			o.tcp = a.Port
		}
	}
	for _, at := range []struct{ network, address string }{{"udp", ":0"}, {"unixgram", o.at("datagram")}, {"unixgram", "@" + o.key + "-datagram"}} {
		c, err := net.ListenPacket(at.network, at.address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.Close() })
		o.sockets = append(o.sockets, c)
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
			o.udp = a.Port
		}
	}
	return nil
}

// run starts a process that waits, in a group of its own.
func (o *outsider) run(t *testing.T) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	o.process, o.input = exec.Command("cat"), w
	o.process.Stdin = r
	o.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := o.process.Start(); err != nil {
		w.Close()
		return err
	}
	t.Cleanup(func() {
		w.Close()
		_ = o.process.Wait() // a test that gets to its end has done so
	})
	return nil
}

// makeSystemV makes what has the process's id for a key.
func (o *outsider) makeSystemV(t *testing.T) error {
	for kind, nr := range []uintptr{sharedMemory: unix.SYS_SHMGET, semaphores: unix.SYS_SEMGET, messageQueue: unix.SYS_MSGGET} {
		const flags = unix.IPC_CREAT | unix.IPC_EXCL | 0o666
		args := [3]uintptr{uintptr(o.process.Process.Pid), 1, flags}
		args[systemVCalls[kind].flags] = flags
		id, _, errno := unix.RawSyscall(nr, args[0], args[1], args[2])
		if errno != 0 {
			return fmt.Errorf("%s: %w", systemVCalls[kind].get, errno)
		}
		o.systemV[kind] = int32(id)
		t.Cleanup(func() { _ = systemVControl(systemVKind(kind), int32(id), unix.IPC_RMID, nil) }) // a test that has failed is told so
	}
	return nil
}

// config denies some of the files, and lets what is written to others through. Threads run at
// the same time.
func (o *outsider) config() Config {
	mount := func(name string, m cow.Mount) cow.Mount {
		m.At, m.Host = o.at(name), o.at(name)
		return m
	}
	return Config{Spread: SpreadAll, Mounts: []cow.Mount{
		mount("denied", cow.Mount{Denied: true}), mount("parent/denied", cow.Mount{Denied: true}), mount("open", cow.Mount{Through: true}),
	}}
}

// command is one that makes an attempt. What it is given is closed in the end.
func (o *outsider) command(t *testing.T, path, name string, more ...string) (cmd *exec.Cmd, end func()) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	outside, inside := os.NewFile(uintptr(pair[0]), "outside"), os.NewFile(uintptr(pair[1]), "inside")
	sent, err := os.Open(o.at("sent"))
	if err != nil {
		t.Fatal(err)
	}
	defer sent.Close()
	if err := unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(int(sent.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	ids := strings.Trim(strings.ReplaceAll(fmt.Sprint(o.systemV), " ", ","), "[]")
	args := []string{name, o.dir, strconv.Itoa(o.process.Process.Pid), strconv.Itoa(o.tcp), strconv.Itoa(o.udp), o.address, o.key, ids}
	cmd = cmdC(path, append(args, more...)...)
	cmd.Dir = o.dir
	cmd.ExtraFiles = []*os.File{o.given[0], o.given[1], inside, o.given[2]}
	return cmd, func() {
		outside.Close()
		inside.Close()
	}
}

// try makes an attempt and returns what came of it, as a name and as a number.
func (o *outsider) try(t *testing.T, path, name string, more ...string) (string, int) {
	t.Helper()
	cmd, end := o.command(t, path, name, more...)
	defer end()
	_, out := run(t, o.config(), cmd)
	n, err := strconv.Atoi(strings.TrimSuffix(out, "\n"))
	switch {
	case err != nil:
		return fmt.Sprintf("output %q", out), -1
	case n < 0:
		return errnoName(unix.Errno(-n)), n
	}
	return "ok", n
}

// state describes everything that must not change.
func (o *outsider) state() (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(o.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == o.at("open") {
			return fs.SkipDir
		}
		return describeFile(&b, path)
	})
	err = errors.Join(err, describeFile(&b, filepath.Join("/dev/shm", o.key)))
	for kind, id := range o.systemV {
		st, e := systemVStat(systemVKind(kind), id)
		fmt.Fprintf(&b, "%s: %x\n", systemVCalls[kind].get, st)
		err = errors.Join(err, e)
	}
	return b.String(), errors.Join(err, describeProcess(&b, o.process.Process.Pid), describeProcess(&b, os.Getpid()))
}

// describeFile tells of a file what a change would change, first of all its ctime.
func describeFile(b *strings.Builder, path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	var text []byte
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		var err error
		if text, err = os.ReadFile(path); err != nil {
			return err
		}
	}
	fmt.Fprintf(b, "%s: mode %#o, owner %d:%d, %d links, changed %d, text %q\n", path, st.Mode, st.Uid, st.Gid, st.Nlink, st.Ctim.Nano(), text)
	return nil
}

// describeProcess tells of a process what others may change.
func describeProcess(b *strings.Builder, pid int) error {
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, pid)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "%d: nice %d\n", pid, nice)
	for _, name := range []string{"limits", "oom_score_adj"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "%d: %s %s\n", pid, name, text)
	}
	return nil
}

// untouched checks at the end that nothing has reached the host.
func (o *outsider) untouched(t *testing.T) {
	t.Helper()
	for _, s := range o.sockets {
		if err := s.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		switch s := s.(type) {
		case net.Listener:
			if c, err := s.Accept(); err == nil {
				t.Errorf("%v was connected to", s.Addr())
				c.Close()
			}
		case net.PacketConn:
			b := make([]byte, 16)
			if n, _, err := s.ReadFrom(b); err == nil {
				t.Errorf("%v has heard %q", s.LocalAddr(), b[:n])
			}
		}
	}
	if n, err := unix.Read(int(o.fifo.Fd()), make([]byte, 16)); err != unix.EAGAIN {
		t.Errorf("%d bytes, %v came through the FIFO", n, err)
	}
	queue, err := mqOpen(o.key, unix.O_RDWR, 0, nil)
	if err != nil {
		t.Errorf("the message queue: %v", err)
	} else {
		unix.Close(queue)
	}
	o.input.Close()
	if err := o.process.Wait(); err != nil {
		t.Errorf("the process: %v", err)
	}
}

// allEscapes are those that can be judged on this machine.
func allEscapes(t *testing.T) []escape {
	list := slices.Clone(escapes)
	if fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Logf("no attempts by IPv6: %v", err)
	} else {
		unix.Close(fd)
		list = append(list, escapes6...)
	}
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	if landlockABI() > 0 && pattern[0] != '|' { // there the host is told of every crash
		list = append(list, escape{"core dump", "ok"})
	}
	if hasI386(t, compileC(t, "edges", false)) {
		list = append(list, escape{"int 0x80, open", "ENOSYS"}, escape{"int 0x80, kill", "ENOSYS"}, escape{"int 0x80, socketcall", "ENOSYS"})
	} else {
		t.Log("no attempts by int $0x80, which is a fault here")
	}
	if tsc.Obeyed() {
		list = append(list, escape{"PR_SET_TSC", "ok"})
	} else {
		t.Log("no attempt to read the counter: ", errTSC)
	}
	group := "EPERM"
	if landlockABI() >= scopesSignals {
		group = "ok" // no signal comes of it
	}
	list = append(list, escape{"F_SETOWN, a group", group})
	for _, name := range sealed {
		want := "ok"
		if sealWorks() {
			want = "EPERM"
		}
		list = append(list, escape{name, want})
	}
	if hasNamespaces(t) {
		for i, e := range list {
			if want, ok := inNamespaces[e.name]; ok {
				list[i].want = want
			}
		}
	}
	for _, p := range privileged {
		if os.Geteuid() == 0 {
			p.want = p.root
		}
		list = append(list, escape{p.name, p.want})
	}
	return list
}

// Whatever a program tries, it doesn't get out: neither to the host's files, processes,
// sockets and settings nor to what it is denied.
func TestEscapes(t *testing.T) {
	path := compileC(t, "escape", false)
	o := newOutsider(t)
	before, err := o.state()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range allEscapes(t) {
		if got, n := o.try(t, path, e.name); got != e.want {
			t.Errorf("%s: %s (%d), want %s", e.name, got, n, e.want)
		}
		after, err := o.state()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(lines(before), lines(after)); diff != "" {
			t.Errorf("%s has changed the host (-before +after):\n%s", e.name, diff)
			before = after
		}
	}
	o.untouched(t)
}

// A process of which the supervisor is the parent (CLONE_PARENT) ends with the sandbox.
func TestEscapeBySibling(t *testing.T) {
	path := compileC(t, "escape", false)
	o := newOutsider(t)
	mark := marked.New()
	cmd, end := o.command(t, path, "clone(CLONE_PARENT)")
	defer end()
	cmd.Env = append(cmd.Env, string(mark))
	if _, out := run(t, o.config(), cmd); out == "" || out[0] == '-' || out[0] == '0' {
		t.Fatalf("clone(CLONE_PARENT): %q", out)
	}
	if left := mark.Alive(); len(left) > 0 {
		t.Errorf("%v have outlived their sandbox", left)
	}
	o.untouched(t)
}

// unchanged does something that must not change the host.
func (o *outsider) unchanged(t *testing.T, do func()) {
	t.Helper()
	before, err := o.state()
	if err != nil {
		t.Fatal(err)
	}
	do()
	after, err := o.state()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines(before), lines(after)); diff != "" {
		t.Errorf("the host has changed (-before +after):\n%s", diff)
	}
	o.untouched(t)
}

// What a path, a descriptor or an address means may change while it is used: nobody gets
// to read what is denied, to write out of a writable tree, or to meet the host's sockets.
func TestEscapeRaces(t *testing.T) {
	path := compileC(t, "escape", false)
	times := count(3000, 100_000)
	for _, name := range []string{"paths", "links", "descriptors", "trees", "names", "kinds", "places", "handles"} {
		t.Run(name, func(t *testing.T) {
			o := newOutsider(t)
			o.unchanged(t, func() {
				if got, n := o.try(t, path, name, times); got != "ok" || n != 0 {
					t.Errorf("%s (%d), want ok and nothing reached", got, n)
				}
			})
		})
	}
}

// Two sandboxes that write to the same tree don't help each other out of it.
func TestEscapeTogether(t *testing.T) {
	path := compileC(t, "escape", false)
	times := count(3000, 100_000)
	o := newOutsider(t)
	o.unchanged(t, func() {
		var out strings.Builder
		cmd, end := o.command(t, path, "exchanges", times)
		defer end()
		cmd.Stdout, cmd.Stderr = &out, &out
		first, err := Start(cmd, o.config())
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer time.AfterFunc(2*time.Minute, first.Kill).Stop()
		if got, n := o.try(t, path, "makes", times); got != "ok" || n != 0 {
			t.Errorf("%s (%d), want ok", got, n)
		}
		if _, err := first.Wait(); err != nil || out.String() != "0\n" {
			t.Errorf("the other sandbox: %q, %v", out.String(), err)
		}
	})
}

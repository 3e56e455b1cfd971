//go:build linux

package supervisor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// refused fails calls that would get round the sandbox, in the filter itself.
//
// Source: calls that hide work from the filter (io_uring), processes from the
// tracer (CLONE_UNTRACED), flags from both (clone3), or that tell what another
// call is virtualised to hide (rseq: the CPU number); that not every kernel from 5.14 on
// has, or not on every processor (keys and policies of memory, futexes of 6.7, seals, shadow
// stacks), or that would have no effect (a Landlock of the program's own: files are opened by
// the supervisor); that change the machine, its mounts, its modules or its power; that ask
// drivers and file systems for more than reading and writing; that make namespaces, in which
// paths and ids mean something else; that look into other processes or the kernel.
// Eliminated, with the errno upon which C libraries and runtimes fall back, or that those get
// who aren't root.
func refused(s *Sandbox) feature {
	const some = 128 // calls
	f := feature{name: "refused", calls: make([]call, 0, some)}
	for _, group := range refusedCalls {
		for _, name := range group.names {
			if !slices.Contains(s.cfg.AllowCalls, name) {
				f.calls = append(f.calls, call{name: name, errno: group.errno})
			}
		}
	}
	for _, name := range s.cfg.DenyCalls {
		f.calls = append(f.calls, call{name: name, errno: unix.EPERM})
	}
	f.calls = append(f.calls, []call{
		{name: "clone", errno: unix.EPERM, anyOf: flagged(0, unix.CLONE_UNTRACED, newNamespaces...)},
		{name: "unshare", errno: unix.EPERM, anyOf: flagged(0, newNamespaces[0], newNamespaces[1:]...)},
		{name: "personality", errno: unix.EPERM, conds: []seccomp.Cond{
			{Arg: 0, Mask: 1<<32 - 1, Value: 1<<32 - 1, Not: true}, // the question which it is
			{Arg: 0, Mask: 1<<32 - 1, Value: 0, Not: true},
			{Arg: 0, Mask: 1<<32 - 1, Value: noRandomize, Not: true},
		}},
		{name: "mseal", errno: unix.ENOSYS, conds: []seccomp.Cond{isNot(markArg, callMark)}},
		{name: "landlock_restrict_self", errno: unix.ENOSYS, conds: []seccomp.Cond{isNot(markArg, callMark)}},
		{name: "prctl", errno: unix.EINVAL, anyOf: anyIs(0, uncommonPrctls...)},
		{name: "arch_prctl", errno: unix.EINVAL, conds: []seccomp.Cond{{Arg: 0, Mask: 0xfffff000, Value: shadowStackOptions}}},
		{name: "arch_prctl", errno: unix.ENODEV, anyOf: anyIs(0, archGetCPUID, archSetCPUID)},
		{name: "ioctl", errno: unix.EPERM, anyOf: [][]seccomp.Cond{is(1, unix.TIOCSTI), is(1, unix.TIOCLINUX)}},
		{name: "ioctl", errno: unix.ENOTTY, conds: []seccomp.Cond{
			{Arg: 1, Mask: ioctlGroup, Value: terminalIoctls, Not: true}, {Arg: 1, Mask: 0xffffff00, Value: firstSocketIoctl, Not: true},
			isNot(1, unix.FICLONE), isNot(1, unix.FICLONERANGE), isNot(1, unix.FIDEDUPERANGE),
		}},
		{name: "fcntl", errno: unix.EINVAL, anyOf: [][]seccomp.Cond{
			is(1, unix.F_SETLEASE), is(1, unix.F_NOTIFY), is(1, unix.F_SET_RW_HINT), is(1, unix.F_SET_FILE_RW_HINT),
		}},
		{name: "setsockopt", errno: unix.EPERM, anyOf: [][]seccomp.Cond{
			option(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX), option(unix.IPPROTO_IP, unix.IP_OPTIONS), option(unix.IPPROTO_IPV6, unix.IPV6_2292PKTOPTIONS),
			append(is(1, unix.IPPROTO_IP), seccomp.Cond{Arg: 2, Mask: 1<<32 - firstTableOption, Not: true}), // of firewalls
			option(unix.IPPROTO_IPV6, firstTableOption), option(unix.IPPROTO_IPV6, firstTableOption+1),
		}},
		{name: "socket", errno: unix.EAFNOSUPPORT, conds: []seccomp.Cond{
			isNot(0, unix.AF_UNIX), isNot(0, unix.AF_INET), isNot(0, unix.AF_INET6), isNot(0, unix.AF_NETLINK),
		}},
		{name: "socketpair", errno: unix.EAFNOSUPPORT, conds: []seccomp.Cond{
			isNot(0, unix.AF_UNIX), isNot(0, unix.AF_INET), isNot(0, unix.AF_INET6), isNot(0, unix.AF_NETLINK),
		}},
		{name: "socket", errno: unix.EPERM, anyOf: [][]seccomp.Cond{rawSocket(unix.AF_INET), rawSocket(unix.AF_INET6)}},
	}...)
	f.calls = append(f.calls, // what is written is thrown away, or synced when it is committed
		call{name: "sync", notify: func(*Call) Answer { return Return(0) }},
		call{name: "syncfs", notify: func(c *Call) Answer {
			err := c.lookupFD(c.Int(0), forIO, func(*cow.File, *cow.Cred) error { return nil })
			if o := isOutside(err); o != nil {
				unix.Close(o.fd)
				return Return(0)
			}
			return c.done(err)
		}})
	return f
}

// What ioctl is asked for. Those of terminals, and those that every descriptor has
// (FIONREAD, FIONBIO, FIOCLEX), are 0x54xx in their lower half. Cloning wants a
// descriptor for writing, so its target is the layer's. All else is about the host's
// file systems and devices: what it changes there needs no right to write, and what it
// tells is the host's.
const (
	ioctlGroup     = 0xff00
	terminalIoctls = 0x5400
)

// firstTableOption is the first option of IPv4's and IPv6's packet filters
// (linux/netfilter_ipv4/ip_tables.h).
const firstTableOption = 64

// allowable are the refused calls that Config.AllowCalls may give back: what they do ends
// with the program, or at its user's rights.
var allowable = []string{
	"userfaultfd", "add_key", "request_key", "keyctl", "perf_event_open", "cachestat", "sysfs", "ustat", "lsm_get_self_attr", "lsm_list_modules",
}

// preparing are the calls that each program makes for the supervisor under the filter,
// before its first instruction, on one kernel or another.
var preparing = []string{"mmap", "mseal", "close", "prctl", "capset", "landlock_restrict_self"}

// checkCalls explains names of calls that can't be meant.
func checkCalls(cfg *Config) error {
	for _, name := range cfg.DenyCalls {
		if _, ok := seccomp.Number(name); !ok {
			return fmt.Errorf("supervisor: DenyCalls: there is no system call %q", name)
		}
		if name == "execve" || name == "exit_group" || name == "rt_sigreturn" {
			return fmt.Errorf("supervisor: DenyCalls: nothing runs without %s", name)
		}
		if slices.Contains(preparing, name) {
			return fmt.Errorf("supervisor: DenyCalls: %q can't be denied: programs are prepared with it, when the filter is there already; "+
				"OnSyscall and Faults can fail those that programs make", name)
		}
	}
	for _, name := range cfg.AllowCalls {
		if !slices.Contains(allowable, name) {
			return fmt.Errorf("supervisor: AllowCalls: %q can't be allowed: want one of %s", name, strings.Join(allowable, ", "))
		}
	}
	return nil
}

var refusedCalls = []struct {
	errno unix.Errno
	names []string
}{
	{unix.ENOSYS, []string{"io_uring_setup", "io_uring_enter", "io_uring_register", "clone3", "rseq", "statmount", "listmount", "userfaultfd", "add_key", "request_key", "keyctl",
		"cachestat", "sysfs", "ustat", "uselib", "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules",
		"memfd_secret", "pkey_alloc", "pkey_free", "pkey_mprotect", "mbind", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node",
		"futex_wait", "futex_wake", "futex_requeue", "map_shadow_stack", "process_mrelease",
		"landlock_create_ruleset", "landlock_add_rule"}},
	{unix.EPERM, []string{
		"sethostname", "setdomainname",
		"mount", "umount2", "pivot_root", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr", "setns",
		"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
		"bpf", "perf_event_open", "fanotify_init", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot",
		"swapon", "swapoff", "quotactl", "quotactl_fd", "acct", "syslog", "iopl", "ioperm", "vhangup", "lookup_dcookie", "nfsservctl",
		"migrate_pages", "move_pages",
	}},
}

const noRandomize = 0x0040000 // ADDR_NO_RANDOMIZE

var newNamespaces = []uint64{
	unix.CLONE_NEWNS, unix.CLONE_NEWTIME, unix.CLONE_NEWUSER, unix.CLONE_NEWPID, unix.CLONE_NEWNET, unix.CLONE_NEWIPC, unix.CLONE_NEWUTS, unix.CLONE_NEWCGROUP,
}

// The supervisor has programs call what they themselves may not. Such a call carries a mark
// in an argument that the kernel doesn't look at.
const (
	markArg  = 5
	callMark = 0x5a17d0b5
)

// Options of prctl(2) that came after Linux 5.14, or that the kernel or the processor may
// not have (linux/prctl.h).
var uncommonPrctls = []uint64{
	unix.PR_GET_SPECULATION_CTRL, unix.PR_SET_SPECULATION_CTRL, unix.PR_SET_VMA, prSetMDWE, prGetMDWE, prSetMemoryMerge, prGetMemoryMerge, prGetAuxv,
}

const (
	prSetMDWE        = 65
	prGetMDWE        = 66
	prSetMemoryMerge = 67
	prGetMemoryMerge = 68
	prGetAuxv        = 0x41555856
)

// Options of arch_prctl(2) (asm/prctl.h).
const (
	archGetCPUID       = 0x1011
	archSetCPUID       = 0x1012
	shadowStackOptions = 0x5000 // the first of them
)

// flagged selects calls that have any of the flags in an argument.
func flagged(arg int, flag uint64, more ...uint64) (anyOf [][]seccomp.Cond) {
	for _, f := range append([]uint64{flag}, more...) {
		anyOf = append(anyOf, []seccomp.Cond{{Arg: arg, Mask: f, Value: f}})
	}
	return anyOf
}

// is and isNot compare an int argument, whose upper half is rubbish.
func is(arg int, v uint64) []seccomp.Cond {
	return []seccomp.Cond{{Arg: arg, Mask: 1<<32 - 1, Value: v}}
}

func isNot(arg int, v uint64) seccomp.Cond {
	return seccomp.Cond{Arg: arg, Mask: 1<<32 - 1, Value: v, Not: true}
}

// anyIs selects calls of which an int argument is one of several.
func anyIs(arg int, values ...uint64) (anyOf [][]seccomp.Cond) {
	for _, v := range values {
		anyOf = append(anyOf, is(arg, v))
	}
	return anyOf
}

// rawSocket selects the creation of a raw socket of a family.
func rawSocket(family uint64) []seccomp.Cond {
	return append(is(0, family), seccomp.Cond{Arg: 1, Mask: sockTypeMask, Value: unix.SOCK_RAW})
}

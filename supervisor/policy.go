package supervisor

import (
	"syscall"

	"github.com/sandtest/go-sandtest/det"
)

// An Event is a system call that [Config.OnSyscall] is asked about, before it is made.
// What it tells is what is used if the call is allowed, whatever another thread does to
// the program's memory meanwhile.
type Event struct {
	// Name is the call's, as strace shows it, and Category what it is about.
	Name     string
	Category Category
	// PID and Parent are process ids as programs know them (see [Backend]); Parent is 0 for
	// the command.
	PID, Parent int
	// Lineage is the process's name, and Thread the number of its thread, from 1.
	Lineage det.Lineage
	Thread  int
	// Program is the path of the program that the process has executed, as the command sees
	// it: an absolute one, whose last element is what it was called by.
	Program string
	// Path is the first path that the call names, as the command sees it, with links
	// followed; the path of the file of its first descriptor, if it names none. To is the
	// second one (rename, link). The Unix socket to which a call connects, binds or sends
	// has a path, too, or is @NAME if its name is abstract (unix(7)).
	Path, To string
	// Host and Port are where a call connects, binds, or sends to: an address, as the
	// command sees it. One of IPv4 is written as such also where a socket of IPv6 uses it.
	Host string
	Port uint16
	// Size is how many bytes the call maps, reads or writes, 0 if it doesn't.
	Size uint64
	// Argv are the arguments of a program that is to be executed.
	Argv []string
	// Denied says that the call will fail, whatever the verdict, because the sandbox refuses
	// it: the call itself, what Deny or the rules hide, an address outside, a change of what is
	// mounted read-only. Errors that it would have anywhere, such as a missing file or right,
	// aren't foreseen.
	Denied bool
	// Rules change what the sandbox may do from now on.
	Rules *Rules
}

// A Verdict is what becomes of a call.
type Verdict struct {
	errno syscall.Errno
	audit bool
}

// The verdicts. The zero Verdict is Allow.
var (
	// Allow lets the call be made, as far as the sandbox's walls do.
	Allow = Verdict{}
	// Deny fails it with EPERM.
	Deny = Verdict{errno: syscall.EPERM}
	// Audit allows it and lists it in State.Audit.
	Audit = Verdict{audit: true}
)

// DenyWith fails the call with an error; 0 is EPERM.
func DenyWith(errno syscall.Errno) Verdict {
	if errno == 0 {
		return Deny
	}
	return Verdict{errno: errno}
}

// policyEvents are the calls that Config.OnSyscall is asked about besides Config.Events.
var policyEvents = []string{
	"open", "openat", "openat2", "creat", "execve", "execveat", "connect", "bind", "sendto", "sendmsg", "sendmmsg", "clone", "fork", "vfork", "mmap",
	"unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "rename", "renameat", "renameat2",
}

package sandtest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// defaultFaults are the calls that may fail on any machine, and how.
func defaultFaults() []Fault {
	return []Fault{
		{Calls: []string{"open", "openat", "creat", "openat2", "pipe", "pipe2", "socket", "dup", "memfd_create"}, Error: unix.EMFILE},
		{Calls: []string{"read", "pread64", "readv", "preadv", "fsync", "fdatasync", "getdents64", "copy_file_range", "sendfile"}, Error: unix.EIO},
		{Calls: []string{"write", "pwrite64", "writev", "pwritev", "ftruncate", "fallocate", "mkdir", "mkdirat", "rename", "renameat", "renameat2",
			"link", "linkat", "symlink", "symlinkat"}, Error: unix.ENOSPC},
		{Calls: []string{"unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "utimensat", "chdir"}, Error: unix.EACCES},
		{Calls: []string{"mmap", "mremap"}, Error: unix.ENOMEM},
		{Calls: []string{"fork", "vfork", "clone", "execve"}, Error: unix.EAGAIN},
		{Calls: []string{"connect"}, Error: unix.ECONNREFUSED},
		{Calls: []string{"bind"}, Error: unix.EADDRINUSE},
		{Calls: []string{"sendto", "sendmsg", "recvfrom", "recvmsg"}, Error: unix.ECONNRESET},
	}
}

// effectOf names what a fault does.
func effectOf(f *Fault) string {
	switch {
	case f.Error != 0:
		return unix.ErrnoName(f.Error)
	case f.Short != 0:
		return fmt.Sprintf("short=%d", f.Short)
	case f.Delay != 0:
		return fmt.Sprintf("delay=%v", f.Delay)
	case f.Signal != 0:
		return SignalName(f.Signal)
	case f.Kill:
		return "kill"
	}
	return "note"
}

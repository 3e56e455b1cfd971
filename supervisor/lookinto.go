//go:build linux

package supervisor

import (
	"path"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// Who may look into a process of the sandbox by /proc.
//
// Source: the supervisor opens what is in /proc for programs, and may look into each of
// them. Eliminated: it decides as the kernel would for the program (proc(5), and "Ptrace
// access mode checking" of ptrace(2)): by the file's mode and owner, and where a file tells
// or changes what a process keeps to itself, by the ids and capabilities of both, and
// whether the process lets others look into it at all (PR_SET_DUMPABLE). The sandbox's root
// may, as long as he has all that a sandbox leaves him.
//
// Nobody may write to another process's memory, as ptrace(2) and process_vm_writev(2) are
// refused: it may be made to execute calls just now.

// guardedDirs are directories of /proc/PID whose entries are the process's own affair, and
// guardedFiles files.
var (
	guardedDirs  = map[string]bool{"fd": true, "fdinfo": true}
	guardedFiles = map[string]bool{
		"environ": true, "auxv": true, "mem": true, "maps": true, "smaps": true, "smaps_rollup": true, "numa_maps": true, "pagemap": true,
		"io": true, "stack": true, "syscall": true, "personality": true, "clear_refs": true, "wchan": true,
	}
)

// mayOpen decides about the open of what is outside of the tree.
func (v *view) mayOpen(th *thread, o *outside, flags int) error {
	var want uint32
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		want = unix.R_OK
	case unix.O_WRONLY:
		want = unix.W_OK
	default:
		want = unix.R_OK | unix.W_OK
	}
	if flags&unix.O_TRUNC != 0 {
		want |= unix.W_OK
	}
	switch {
	case o.path == "":
		return v.mayUseUnnamed(th, o.fd, want, true)
	case o.link:
		return nil
	}
	if other := v.threadOf(o.path); want&unix.W_OK != 0 && path.Base(o.path) == "mem" && other != nil && other.proc != th.proc {
		return unix.EACCES
	}
	return v.mayUse(th, o.path, o.fd, want)
}

// mayAccess answers access(2).
func (v *view) mayAccess(th *thread, o *outside, mode uint32, effective bool) error {
	if o.path == "" {
		if err := v.mayUseUnnamed(th, o.fd, mode, effective); err != nil {
			return err
		}
		return unix.Faccessat(unix.AT_FDCWD, fdName(o.fd), mode, unix.AT_EACCESS)
	}
	if o.link {
		return nil
	}
	own, err := v.creds(th)
	if err != nil {
		return err
	}
	return v.mayUseAs(th, own.who(effective), o.path, o.fd, mode)
}

// mayUseUnnamed decides whether a thread may do something to a file without a name. What the
// command was given is the kernel's to decide.
func (v *view) mayUseUnnamed(th *thread, fd int, want uint32, effective bool) error {
	n, err := v.s.unnamed(fd)
	if n == nil || err != nil {
		return err
	}
	own, err := v.creds(th)
	if err != nil {
		return err
	}
	return allows(want)(own.who(effective), &n.st)
}

// who are the ids that count: the effective ones, or those that a thread really has.
func (c *credentials) who(effective bool) *cow.Cred {
	if effective {
		return c.fs
	}
	return c.real
}

// mayUse decides whether a thread may do something to a file in /proc.
func (v *view) mayUse(th *thread, at string, fd int, want uint32) error {
	own, err := v.creds(th)
	if err != nil {
		return err
	}
	return v.mayUseAs(th, own.fs, at, fd, want)
}

func (v *view) mayUseAs(th *thread, who *cow.Cred, at string, fd int, want uint32) error {
	other, name := v.threadOf(at), path.Base(at)
	if other != nil && other.proc == th.proc && guardedDirs[name] {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if other != nil && st.Mode != unix.S_IFDIR|0o555 { // task_dump_owner, fs/proc/base.c
		whose, err := v.creds(other)
		if err != nil {
			return nil // it has ended, and there is nothing to be seen
		}
		if st.Uid, st.Gid = 0, 0; v.isOpen(other, whose) {
			st.Uid, st.Gid = whose.uids[1], whose.gids[1]
		}
	}
	if !who.Allowed(st.Mode, st.Uid, st.Gid, want) {
		return unix.EACCES
	}
	if guardedFiles[name] || guardedDirs[name] {
		return v.mayLookInto(th, at)
	}
	return nil
}

// isOpen reports whether a process lets others look into it: it hasn't said no, nor has it
// changed its ids since it has executed its program without saying yes.
func (v *view) isOpen(th *thread, c *credentials) bool {
	switch {
	case th.proc.hidden.Load():
		return false
	case th.proc.open.Load():
		return true
	}
	var st unix.Stat_t
	return unix.Stat(th.taskDir()+"/environ", &st) != nil || st.Uid == c.uids[1]
}

// mayLookInto decides whether a thread may look into the process that a path in /proc
// tells about (__ptrace_may_access, kernel/ptrace.c).
func (v *view) mayLookInto(th *thread, at string) error {
	other := v.threadOf(at)
	if other == nil || other.proc == th.proc {
		return nil
	}
	own, err := v.creds(th)
	if err != nil {
		return err
	}
	whose, err := v.creds(other)
	if err != nil {
		return nil // it has ended
	}
	uid, gid := [3]uint32{own.fs.UID, own.fs.UID, own.fs.UID}, [3]uint32{own.fs.GID, own.fs.GID, own.fs.GID}
	switch {
	case own.effective&(1<<unix.CAP_SYS_PTRACE) != 0 || own.effective&keptCapabilities == keptCapabilities:
		return nil
	case uid != whose.uids || gid != whose.gids, whose.permitted&^own.effective != 0, !v.isOpen(other, whose):
		return unix.EACCES
	}
	return nil
}

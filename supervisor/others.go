//go:build linux

package supervisor

import (
	"strconv"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// others keeps the sandbox from processes that aren't its own.
//
// Source: processes of the same user, which may be sent signals, and whose limits,
// priorities and groups may be read and set. Eliminated: they don't exist (ESRCH). In a
// namespace of its own (namespaces.go) they have no number; elsewhere it is judged here. A
// process id is in a register, so what is judged is what the kernel looks at. Process 1,
// which isn't a program's, keeps its limits and priorities (EPERM). All
// processes at once, or a user's, are nobody's to deal with (EPERM), unless it is a
// signal and Landlock lets it reach the sandbox's own alone (ABI 6).
//
// What remains: descriptors of processes (pidfd) that the command was given. Before ABI
// 6, a group that isn't led by a process of the sandbox, such as the one that it was
// started in, can't be sent signals.
func others(s *Sandbox) feature {
	f := feature{name: "others", calls: []call{{name: "prctl", errno: unix.EINVAL, conds: is(0, unix.PR_SCHED_CORE)}}}
	if s.spaces != nil {
		f.calls = append(f.calls, s.withoutInit()...)
	}
	if s.spaces == nil || s.tracing != nil { // a trace shows them with namespaces, too
		f.calls = append(f.calls, s.withoutOthers()...)
	}
	// Priorities: of a process, a group, or a user's processes.
	for _, who := range []struct {
		call  string
		first int32
	}{{"setpriority", unix.PRIO_PROCESS}, {"getpriority", unix.PRIO_PROCESS}, {"ioprio_set", ioprioProcess}, {"ioprio_get", ioprioProcess}} {
		f.calls = append(f.calls, call{name: who.call, notify: func(c *Call) Answer {
			switch kind := c.Int(0) - who.first; {
			case kind == 0 && s.spaces != nil && c.Int(1) == initPID:
				return Errno(unix.EPERM)
			case kind == 0:
				return s.mustBeOurs(c.Int(1))
			case kind == 1 || kind == 2:
				return Errno(unix.EPERM)
			}
			return Errno(unix.EINVAL)
		}})
	}
	return f
}

// withoutOthers are the calls that name processes, where there is no namespace in which
// those of others have no number.
func (s *Sandbox) withoutOthers() []call {
	list := []call{
		{name: "kill", notify: func(c *Call) Answer { return s.kill(c, c.Int(0)) }},
		{name: "fcntl", notify: func(c *Call) Answer { return s.kill(c, c.Int(2)) }, conds: is(1, unix.F_SETOWN)},
	}
	if s.spaces == nil {
		list = append(list, call{name: "fcntl", errno: unix.EINVAL, conds: is(1, fSetOwnEx)})
	}
	for _, name := range []string{
		"tkill", "rt_sigqueueinfo", "pidfd_open", "prlimit64", "sched_setscheduler", "sched_getscheduler", "sched_setparam", "sched_getparam",
		"sched_setattr", "sched_getattr", "sched_rr_get_interval", "getpgid", "getsid", "get_robust_list",
	} {
		list = append(list, call{name: name, notify: func(c *Call) Answer { return s.mustBeOurs(c.Int(0)) }, conds: []seccomp.Cond{isNot(0, 0)}})
	}
	for _, name := range []string{"tgkill", "rt_tgsigqueueinfo", "setpgid"} {
		list = append(list, call{name: name, notify: func(c *Call) Answer {
			if a := s.mustBeOurs(c.Int(0)); a.kind != answerGoOn {
				return a
			}
			if c.Name() == "setpgid" {
				return s.mustBeOurGroup(c.Int(1))
			}
			return s.mustBeOurs(c.Int(1))
		}})
	}
	return list
}

// withoutInit are the calls that could harm process 1, and with it the sandbox, where there
// is one.
func (s *Sandbox) withoutInit() (list []call) {
	for _, name := range []string{"prlimit64", "sched_setscheduler", "sched_setparam", "sched_setattr"} {
		list = append(list, call{name: name, errno: unix.EPERM, conds: is(0, initPID)})
	}
	list = append(list, call{name: "setpgid", errno: unix.EPERM, conds: is(1, initPID)}) // whose group others may be in
	if s.landlockABI < scopesSignals {
		// The group that the command was started in may be that of the supervisor.
		list = append(list, call{name: "kill", notify: func(c *Call) Answer { return s.kill(c, c.Int(0)) }, conds: is(0, 0)})
	}
	return list
}

const (
	fSetOwnEx     = 15 // F_SETOWN_EX, linux/fcntl.h
	ioprioProcess = 1  // IOPRIO_WHO_PROCESS, linux/ioprio.h
)

// mustBeOurs refuses a process that isn't the sandbox's; 0 is the caller.
func (s *Sandbox) mustBeOurs(pid int32) Answer {
	if pid < 0 {
		return goOn // the kernel says what is wrong with it
	}
	if pid == 0 || s.spaces != nil || s.isOurs(int(pid)) {
		return goOn
	}
	return Errno(unix.ESRCH)
}

// mustBeOurGroup refuses a group to which no process of the sandbox belongs, as the kernel
// does with one of another session; 0 is a new one.
func (s *Sandbox) mustBeOurGroup(pgid int32) Answer {
	if pgid <= 0 || s.spaces != nil || s.isOurs(int(pgid)) {
		return goOn
	}
	for _, pid := range s.threads.processes() {
		if group, err := unix.Getpgid(pid); err == nil && group == int(pgid) {
			return goOn
		}
	}
	return Errno(unix.EPERM)
}

// isOurs reports whether a number is that of a thread of the sandbox, or of a process of
// it that has ended and nobody has waited for.
func (s *Sandbox) isOurs(pid int) bool {
	if s.threads.get(pid) != nil {
		return true
	}
	state, err := status(pid, "State:")
	if err != nil || state == "" || state[0] != 'Z' {
		return false
	}
	parent, err := status(pid, "PPid:")
	if err != nil {
		return false
	}
	ppid, err := strconv.Atoi(parent)
	return err == nil && s.threads.get(ppid) != nil
}

// scopesSignals is the ABI of Landlock from which on signals end at the sandbox.
const scopesSignals = 6

// kill judges whom a signal would reach.
func (s *Sandbox) kill(c *Call, pid int32) Answer {
	switch {
	case pid > 0:
		return s.mustBeOurs(pid)
	case s.landlockABI >= scopesSignals || s.spaces != nil && pid != 0: // all are in its namespace
		return goOn
	case pid == -1:
		return Errno(unix.EPERM)
	}
	group := -int(pid)
	if group == 0 {
		var err error
		if group, err = unix.Getpgid(c.Process.TGID); err != nil {
			return Errno(unix.EINTR) // it is being killed
		}
	}
	if s.isOurs(group) {
		return goOn
	}
	return Errno(unix.EPERM)
}

//go:build linux

package supervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// Where the machine allows it, a sandbox has namespaces of its own (namespaces(7)): of
// processes, whose numbers then are small and the same in every run, and of mounts, for
// the /proc that belongs to those processes.
//
// The command as os/exec has started it stands before its first instruction. It is made
// to create a process in new namespaces, which is their init; that one creates another,
// which is the command. The first stays behind and stands for the command towards
// os/exec: signals that it is sent are the command's, and when it is killed so is that.
// Neither it nor init ever runs an instruction of the program; both wait for ever, and
// what they had open is closed. Init ignores SIGCHLD, so that the kernel reaps orphans.
//
// Without a privilege the namespaces belong to a user namespace in which the user is who
// he was (user_namespaces(7)); the capabilities over it that the command then has are
// taken away before it runs (capabilities.go).
type namespaces struct {
	s      *Sandbox
	deputy int // the process that stands for the command, 0 when it has ended
	init   int // process 1 of the sandbox, by the host's number; 0 when it has ended
	pids   int // the namespace of processes
	proc   int // the root of its /proc

	user  bool   // there is a user namespace
	uid   uint32 // whom alone that knows
	gid   uint32
	had   uint64 // the command's capabilities before
	leads bool   // the command leads a group of processes
}

func noNamespacesYet(s *Sandbox) *namespaces { return &namespaces{s: s, pids: -1, proc: -1} }

// initPID is init's number in the sandbox. No program finds it in /proc.
const initPID = 1

// A namespaceError says why a sandbox can't have namespaces.
type namespaceError struct {
	what string
	err  error
}

func (e *namespaceError) Error() string { return "namespaces: " + e.what + ": " + e.err.Error() }

func (e *namespaceError) Unwrap() error { return e.err }

// enterNamespaces moves the command, which stands at its first instruction as pid, into
// namespaces of its own, and returns the number that it then has. An error leaves pid as
// it was.
func (t *tracer) enterNamespaces(pid int) (inside int, err error) {
	if err := mustBe64(pid); err != nil {
		return 0, err
	}
	n := t.s.spaces
	n.deputy = pid
	outer, err := tracee.Begin(pid, 0)
	if err != nil {
		return 0, err
	}
	command, err := t.makeNamespaces(n, outer)
	if err != nil {
		n.close()
		_, undone := outer.End()
		return 0, errors.Join(err, undone)
	}
	if err := n.standIn(outer); err != nil {
		return 0, err
	}
	_, err = command.End()
	return command.TID(), err
}

// makeNamespaces makes them, and the two processes in them. It leaves nothing of them
// when it fails.
func (t *tracer) makeNamespaces(n *namespaces, outer *tracee.Remote) (command *tracee.Remote, err error) {
	had, err := capabilitiesOf(n.deputy)
	if err != nil {
		return nil, err
	}
	n.had = had.effective
	if user := n.had&(1<<unix.CAP_SYS_ADMIN) == 0; user != n.user {
		<-t.s.ahead.made // which looks at it
		n.user = user
	}
	flags := uint64(unix.CLONE_NEWPID | unix.CLONE_NEWNS)
	if n.user {
		flags |= unix.CLONE_NEWUSER
	}
	first, err := outer.Clone(flags)
	if first != nil {
		n.init = first.TID()
		defer func() {
			if err != nil {
				if command != nil {
					t.killAndReap(command.TID())
				}
				t.killAndReap(n.init)
				n.init = 0
			}
		}()
	}
	if err != nil {
		return nil, &namespaceError{"make them", err}
	}
	if err := n.mapUser(); err != nil {
		return nil, err
	}
	if err := n.mount(first); err != nil {
		return nil, err
	}
	if err := n.countFrom(first, t.s.cfg.FirstPID); err != nil {
		return nil, err
	}
	if command, err = first.Clone(0); err != nil {
		return command, &namespaceError{"create process 2", err}
	}
	if err = n.takePlace(outer, command); err != nil {
		return command, err
	}
	return command, n.becomeInit(first)
}

func (t *tracer) killAndReap(pid int) {
	_ = unix.Kill(pid, unix.SIGKILL) // we alone reap it, so the pid is its own
	t.reap(pid)
}

// mapUser lets the user be in the namespace who he is outside (user_namespaces(7)).
func (n *namespaces) mapUser() error {
	if !n.user {
		return nil
	}
	dir := "/proc/" + strconv.Itoa(n.init)
	for _, id := range []struct {
		field, file string
		known       *uint32
	}{{"Uid:", "/uid_map", &n.uid}, {"Gid:", "/gid_map", &n.gid}} {
		list, err := status(n.deputy, id.field)
		if err != nil {
			return err
		}
		var real, effective, saved uint32
		if _, err := fmt.Sscan(list, &real, &effective, &saved); err != nil {
			return err
		}
		if real != effective || saved != effective {
			return &namespaceError{"map the user", fmt.Errorf("the real, effective and saved ids differ: %s", list)}
		}
		*id.known = effective
		if id.file == "/gid_map" {
			// Who isn't privileged must promise this before.
			if err := os.WriteFile(dir+"/setgroups", []byte("deny"), 0); err != nil {
				return &namespaceError{"forbid setgroups", err}
			}
		}
		if err := os.WriteFile(dir+id.file, fmt.Appendf(nil, "%d %d 1", effective, effective), 0); err != nil {
			return &namespaceError{"map the user", err}
		}
	}
	return nil
}

// mount gives the sandbox the /proc of its processes.
func (n *namespaces) mount(first *tracee.Remote) error {
	at, clean, err := place(first, []byte("proc\x00/proc\x00/\x00"))
	if err != nil {
		return err
	}
	proc, dir, root := at, at+5, at+11
	calls := first.List()
	calls.Add("mount(MS_REC|MS_SLAVE)", unix.SYS_MOUNT, 0, root, 0, unix.MS_REC|unix.MS_SLAVE, 0)
	calls.Add("mount(proc)", unix.SYS_MOUNT, proc, dir, proc, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	if err := calls.Run(); err != nil {
		return &namespaceError{"make /proc", err}
	}
	if err := clean(); err != nil {
		return err
	}
	of := "/proc/" + strconv.Itoa(n.init)
	if n.proc, err = unix.Open(of+"/root/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return &namespaceError{"open its /proc", err}
	}
	if n.pids, err = unix.Open(of+"/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return &namespaceError{"open it", err}
	}
	return nil
}

// place writes data where the list of calls won't be, and returns a function that clears
// it: the stack of a new program is zero.
func place(r *tracee.Remote, data []byte) (at uint64, clean func() error, err error) {
	const listRoom = 4096
	at = (r.SP() - listRoom - uint64(len(data))) &^ 15
	write := func(what string, data []byte) error {
		if _, err := tracee.WriteMem(r.TID(), at, data); err != nil {
			return fmt.Errorf("%s arguments of calls: %w", what, err)
		}
		return nil
	}
	return at, func() error { return write("clear", make([]byte, len(data))) }, write("place", data)
}

// countFrom lets the next process be number first (proc_sys_kernel(5), ns_last_pid).
func (n *namespaces) countFrom(init *tracee.Remote, first int) error {
	if first <= initPID+1 {
		return nil
	}
	const file = "/proc/sys/kernel/ns_last_pid\x00"
	last := strconv.Itoa(first - 1)
	at, clean, err := place(init, []byte(file+last))
	if err != nil {
		return err
	}
	calls := init.List()
	open := calls.Add("open", unix.SYS_OPENAT, 1<<64-1, at, unix.O_WRONLY) // init closes it with the rest
	write := calls.Add("write", unix.SYS_WRITE, 0, at+uint64(len(file)), uint64(len(last)))
	open.Feed(write, 0)
	if err := calls.Run(); err != nil {
		return fmt.Errorf("let process ids begin with %d (needs CONFIG_CHECKPOINT_RESTORE): %s: %w", first, file[:len(file)-1], err)
	}
	return clean()
}

// becomeInit lets the first process wait for ever.
func (n *namespaces) becomeInit(first *tracee.Remote) error {
	// struct sigaction of the kernel's: the handler, flags, restorer and mask.
	const sigIgn = 1
	action := make([]byte, 32)
	binary.NativeEndian.PutUint64(action, sigIgn)
	at, _, err := place(first, action)
	if err != nil {
		return err
	}
	calls := first.List()
	calls.Add("rt_sigaction(SIGCHLD)", unix.SYS_RT_SIGACTION, uint64(unix.SIGCHLD), at, 0, 8)
	calls.Add("close_range", unix.SYS_CLOSE_RANGE, 0, 1<<32-1, 0)
	calls.Add("setpgid", unix.SYS_SETPGID, 0, 0)
	if err := calls.Run(); err != nil {
		return &namespaceError{"prepare process 1", err}
	}
	return first.Park(^uint64(0))
}

// takePlace makes the command the leader of a group of processes, or of a session, if
// os/exec has made it one, with the terminal that it has got.
func (n *namespaces) takePlace(outer, command *tracee.Remote) error {
	sid, err := unix.Getsid(n.deputy)
	if err != nil {
		return fmt.Errorf("getsid(%d): %w", n.deputy, err)
	}
	pgid, err := unix.Getpgid(n.deputy)
	if err != nil {
		return fmt.Errorf("getpgid(%d): %w", n.deputy, err)
	}
	n.leads = pgid == n.deputy
	switch attr := n.s.cmd.SysProcAttr; {
	case sid == n.deputy:
		return n.leadSession(outer, command, attr)
	case n.leads:
		return n.leadGroup(outer, command, attr)
	}
	return nil
}

// leadSession gives the command a session, and it the terminal of the other one.
func (n *namespaces) leadSession(outer, command *tracee.Remote, attr *syscall.SysProcAttr) error {
	calls := command.List()
	calls.Add("setsid", unix.SYS_SETSID)
	if err := calls.Run(); err != nil {
		return &namespaceError{"make the command the leader of a session", err}
	}
	if attr == nil || !attr.Setctty {
		return nil
	}
	// It must be nobody's before.
	give, take := outer.List(), command.List()
	give.Add("ioctl(TIOCNOTTY)", unix.SYS_IOCTL, uint64(attr.Ctty), unix.TIOCNOTTY)
	take.Add("ioctl(TIOCSCTTY)", unix.SYS_IOCTL, uint64(attr.Ctty), unix.TIOCSCTTY, 0)
	if err := give.Run(); err != nil {
		return fmt.Errorf("give up the terminal: %w", err)
	}
	if err := take.Run(); err != nil {
		return fmt.Errorf("make the terminal the command's: %w", err)
	}
	return nil
}

// leadGroup gives the command a group of processes, which is in the foreground if the
// other one was put there.
func (n *namespaces) leadGroup(outer, command *tracee.Remote, attr *syscall.SysProcAttr) error {
	calls := command.List()
	calls.Add("setpgid", unix.SYS_SETPGID, 0, 0)
	if err := calls.Run(); err != nil {
		return &namespaceError{"make the command the leader of a group", err}
	}
	if attr == nil || !attr.Foreground {
		return nil
	}
	at, _, err := place(outer, append(binary.NativeEndian.AppendUint64(nil, uint64(command.TID())), "/dev/tty\x00"...))
	if err != nil {
		return err
	}
	calls = outer.List()
	open := calls.Add("open the terminal", unix.SYS_OPENAT, 1<<64-1, at+8, unix.O_RDWR|unix.O_CLOEXEC)
	put := calls.Add("ioctl(TIOCSPGRP)", unix.SYS_IOCTL, 0, unix.TIOCSPGRP, at)
	open.Feed(put, 0)
	if err := calls.Run(); err != nil {
		return fmt.Errorf("put the command into the foreground: %w", err)
	}
	return nil // what it has opened it closes with the rest
}

// standIn lets the process that os/exec knows wait for signals. If the group of processes
// isn't its own, it leaves it to the command: what a terminal sends that group, the
// command is sent itself.
func (n *namespaces) standIn(outer *tracee.Remote) error {
	calls := outer.List()
	calls.Add("close_range", unix.SYS_CLOSE_RANGE, 0, 1<<32-1, 0)
	if !n.leads {
		calls.Add("setpgid", unix.SYS_SETPGID, 0, uint64(n.init))
	}
	if err := calls.Run(); err != nil {
		return fmt.Errorf("prepare the process that stands for the command: %w", err)
	}
	return outer.Park(0)
}

// handles handles what a process that isn't the sandbox's own has come to, and reports
// whether it is one.
func (n *namespaces) handles(t *tracer, tid int, ws unix.WaitStatus) bool {
	if n == nil || tid != n.deputy && tid != n.init {
		return false
	}
	switch {
	case !ws.Stopped():
		n.ended(t, tid)
		return true
	case tid == n.deputy && tracee.Event(ws) == 0:
		n.forward(t, ws.StopSignal())
	}
	_ = tracee.Cont(tid, 0) // it fails only when it was killed
	return true
}

// killed reports whether what stands for the command has been killed.
func (n *namespaces) killed() bool { return n != nil && isZombie(n.deputy) }

// ended notes that one of the two is no more: its number may be another's from now on.
func (n *namespaces) ended(t *tracer, tid int) {
	if tid == n.init {
		n.init = 0
		return
	}
	n.deputy = 0
	if !t.ended {
		t.s.killWith(unix.SIGKILL)
	}
}

// forward sends the command a signal that was sent to what stands for it, and its group if
// it leads one: the sender may have meant that.
func (n *namespaces) forward(t *tracer, sig unix.Signal) {
	info, err := tracee.GetSiginfo(n.deputy)
	switch {
	case err != nil || info.Code >= tracee.SIKernel || sig == unix.SIGCHLD && info.Code > 0:
		return // a terminal's, of which the command has one itself
	case info.Code == 0 && int(info.PID) == n.deputy:
		return // from giving up the terminal
	case t.ended:
		return
	}
	if n.leads && unix.Kill(-t.root.TGID, sig) == nil {
		return
	}
	_ = t.root.signal(sig) // it fails only when it has ended
}

// end kills what is left of the namespaces when the command has ended.
func (n *namespaces) end() {
	if n == nil {
		return
	}
	for _, pid := range []int{n.init, n.deputy} {
		if pid != 0 {
			_ = unix.Kill(pid, unix.SIGKILL) // the tracer alone reaps them
		}
	}
}

func (n *namespaces) close() {
	if n == nil {
		return
	}
	for _, fd := range []int{n.pids, n.proc} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	n.pids, n.proc = -1, -1
}

//go:build linux

package supervisor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// How the namespaces of a sandbox are made, see namespaces.go.

// A namespaceError says why a sandbox can't have namespaces.
type namespaceError struct {
	what string
	err  error
}

func (e *namespaceError) Error() string { return "namespaces: " + e.what + ": " + e.err.Error() }

func (e *namespaceError) Unwrap() error { return e.err }

// cannot explains an error, unless it is that the command was killed, which says nothing
// about namespaces.
func cannot(what string, err error) error {
	if err == nil || errors.Is(err, tracee.ErrGone) {
		return err
	}
	return &namespaceError{what, err}
}

// errOwnNamespaces is why a command has no namespaces of the sandbox's making.
var errOwnNamespaces = errors.New("SysProcAttr.Cloneflags gives the command some of its own already")

// A spaceMaker moves a command into new namespaces.
type spaceMaker struct {
	t      *tracer
	n      *namespaces
	family *tracee.Family

	outer, first, command *tracee.Remote // the deputy, init, and the command; nil until it is there
}

// enterNamespaces moves the command, which stands at its first instruction as pid, into
// namespaces of its own, and returns the number that it then has. Upon a namespaceError pid
// stands as it did; upon another error it can't go on, and neither can what inside is then.
func (t *tracer) enterNamespaces(pid int) (inside int, err error) {
	if err := mustBe64(pid); err != nil {
		return 0, err
	}
	if attr := t.s.cmd.SysProcAttr; attr.Cloneflags&(unix.CLONE_NEWPID|unix.CLONE_NEWUSER) != 0 {
		return 0, &namespaceError{"make them", errOwnNamespaces}
	}
	if t.s.lending != nil {
		return 0, errLendsInNamespaces
	}
	m := &spaceMaker{t: t, n: t.s.spaces, family: t.family}
	m.n.deputy = pid
	defer m.closeAll()
	if m.outer, err = tracee.BeginIn(m.family, pid, 0); err != nil {
		return 0, err
	}
	if err := m.make(); err != nil {
		return 0, m.undo(err)
	}
	return m.command.TID(), m.part()
}

func (m *spaceMaker) closeAll() {
	for _, r := range []*tracee.Remote{m.outer, m.first, m.command} {
		if r != nil {
			r.Close()
		}
	}
}

// undo leaves the command as it was.
func (m *spaceMaker) undo(why error) error {
	inside := 0
	if m.command != nil {
		inside = m.command.TID()
	}
	m.family.Kill(inside, m.n.init)
	m.n.init = 0
	m.n.close()
	deferred, err := m.outer.End()
	m.resend(deferred)
	if err != nil {
		return err // the command itself can't go on
	}
	return why
}

// resend keeps signals for the command.
func (m *spaceMaker) resend(deferred []int32) {
	for _, sig := range deferred {
		m.t.sent = append(m.t.sent, unix.Signal(sig))
	}
}

// make makes the namespaces, and the two processes in them.
func (m *spaceMaker) make() (err error) {
	if err := m.judgeUser(); err != nil {
		return err
	}
	if m.first, err = m.cloneFirst(); err != nil {
		return err
	}
	m.n.init = m.first.TID()
	if err := m.mapUser(); err != nil {
		return err
	}
	if err := m.mount(); err != nil {
		return err
	}
	if err := m.countFrom(m.t.s.cfg.FirstPID); err != nil {
		return err
	}
	if m.command, err = m.first.Clone(0); err != nil {
		return cannot("create process 2", err)
	}
	return m.takePlace()
}

// part lets the deputy and init wait for ever, and puts the command where it stood.
func (m *spaceMaker) part() error {
	if err := m.becomeInit(); err != nil {
		return fmt.Errorf("prepare process 1: %w", err)
	}
	if err := m.standIn(); err != nil {
		return fmt.Errorf("prepare the process that stands for the command: %w", err)
	}
	m.resend(m.outer.Deferred())
	deferred, err := m.command.End()
	m.resend(deferred)
	return err
}

// becomeInit lets the first process wait for ever, and leave nothing behind of those that it
// is to wait for. It has a group of its own.
func (m *spaceMaker) becomeInit() error {
	const sigIgn, action = 1, 32 // struct sigaction of the kernel's
	data := make([]byte, action, action+len(standbyName))
	binary.NativeEndian.PutUint64(data, sigIgn)
	at, err := m.disguise(m.first, append(data, standbyName...))
	if err != nil {
		return err
	}
	if !m.n.leads {
		if err := unix.Setpgid(m.n.init, m.n.init); err != nil { // our child, which has executed nothing
			return fmt.Errorf("setpgid: %w", gone(err))
		}
	}
	calls := m.first.List()
	calls.Add("rt_sigaction(SIGCHLD)", unix.SYS_RT_SIGACTION, uint64(unix.SIGCHLD), at, 0, 8)
	calls.Add("prctl(PR_SET_NAME)", unix.SYS_PRCTL, unix.PR_SET_NAME, at+action)
	calls.Add("close_range", unix.SYS_CLOSE_RANGE, 0, 1<<32-1, 0)
	return calls.Park(^uint64(0))
}

// standIn lets the process that os/exec knows wait for signals. If the group of processes
// isn't its own, it leaves it to the command: what a terminal sends that group, the
// command is sent itself.
func (m *spaceMaker) standIn() error {
	at, err := m.disguise(m.outer, []byte(standbyName))
	if err != nil {
		return err
	}
	calls := m.outer.List()
	calls.Add("prctl(PR_SET_NAME)", unix.SYS_PRCTL, unix.PR_SET_NAME, at)
	if !m.n.leads {
		calls.Add("setpgid", unix.SYS_SETPGID, 0, uint64(m.n.init))
	}
	calls.Add("close_range", unix.SYS_CLOSE_RANGE, 0, 1<<32-1, 0)
	return calls.Park(0)
}

// judgeUser finds out whether it takes a user namespace.
func (m *spaceMaker) judgeUser() error {
	had, err := capabilitiesOf(m.n.deputy)
	if err != nil {
		return err
	}
	m.n.had = had.effective
	m.n.user = m.n.had&(1<<unix.CAP_SYS_ADMIN) == 0
	return nil
}

// spacesMade remembers whether namespaces of a kind could be made in this process: one
// sandbox is like the other then.
var spacesMade struct {
	sync.Mutex
	ever  map[spaceKind]bool
	never map[spaceKind]error
}

// A spaceKind is what namespaces come together: of a user or not, of the network or not.
type spaceKind struct{ user, net bool }

// spacesExhausted returns why there were no more namespaces when the first were to be made.
func spacesExhausted(user bool) error { return spaceKind{user: user}.exhausted() }

// netspacesExhausted returns why there were none of the network.
func netspacesExhausted(user bool) error { return spaceKind{user, true}.exhausted() }

func (k spaceKind) exhausted() error {
	spacesMade.Lock()
	defer spacesMade.Unlock()
	return spacesMade.never[k]
}

// note notes whether such could be made, nil if they could.
func (k spaceKind) note(err error) {
	spacesMade.Lock()
	defer spacesMade.Unlock()
	if spacesMade.ever == nil {
		spacesMade.ever, spacesMade.never = map[spaceKind]bool{}, map[spaceKind]error{}
	}
	if err == nil {
		spacesMade.ever[k] = true
		delete(spacesMade.never, k)
	} else {
		spacesMade.never[k] = err
	}
}

func (k spaceKind) ever() bool {
	spacesMade.Lock()
	defer spacesMade.Unlock()
	return spacesMade.ever[k]
}

// cloneFirst creates the first process. It is a child of the supervisor's, not of the
// deputy, which might run on as the command: that has none. Where there can be no network it
// goes without.
func (m *spaceMaker) cloneFirst() (*tracee.Remote, error) {
	if m.n.hasNet {
		r, err := m.cloneInto(spaceKind{m.n.user, true})
		var missing *namespaceError
		if !errors.As(err, &missing) {
			return r, err
		}
		<-m.t.s.ahead.made // which looks at it
		m.n.hasNet, m.n.noNet = false, err
	}
	return m.cloneInto(spaceKind{user: m.n.user})
}

func (m *spaceMaker) cloneInto(kind spaceKind) (*tracee.Remote, error) {
	flags := uint64(unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_PARENT)
	if kind.user {
		flags |= unix.CLONE_NEWUSER
	}
	if kind.net {
		flags |= unix.CLONE_NEWNET
	}
	ever := kind.ever()
	// The kernel frees namespaces late, so that there may be too many for a moment.
	const longPatience = 10 * time.Second
	patience := 100 * time.Millisecond
	if ever {
		patience = longPatience
	}
	for deadline := kernelClock() + patience; ; time.Sleep(time.Millisecond) {
		r, err := m.outer.Clone(flags)
		short := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOMEM)
		switch {
		case short && kernelClock() < deadline:
			continue
		case short && !ever && kind.ever(): // another sandbox has had more luck
			ever, deadline = true, deadline+longPatience
			continue
		case short && ever:
			return nil, fmt.Errorf("make namespaces, of which there were enough before: %w: raise user.max_pid_namespaces and its like, or run fewer sandboxes at once", err)
		case err == nil || short || kind.net && !errors.Is(err, tracee.ErrGone):
			kind.note(cannot("make them", err))
		}
		return r, cannot("make them", err)
	}
}

// mapUser lets the user be in the namespace who he is outside (user_namespaces(7)). Who has
// the privilege lets all others be so, too.
func (m *spaceMaker) mapUser() error {
	if !m.n.user {
		return nil
	}
	if mayMapAll() {
		return m.mapAll()
	}
	return m.mapSingle()
}

// mayMapAll reports whether the supervisor may let a namespace know all users.
func mayMapAll() bool {
	own, err := capabilitiesOf(0)
	const privilege = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return err == nil && own.effective&privilege == privilege
}

func (m *spaceMaker) mapAll() error {
	for _, file := range []string{"/uid_map", "/gid_map"} {
		own, err := readKernelFile("/proc/self" + file)
		if err != nil {
			return cannot("map users", err)
		}
		var b bytes.Buffer
		for line := range strings.Lines(string(own)) {
			f := strings.Fields(line)
			if len(f) != 3 {
				return &namespaceError{"map users", fmt.Errorf("/proc/self%s has the line %q", file, line)}
			}
			fmt.Fprintf(&b, "%s %s %s\n", f[0], f[0], f[2])
		}
		if err := os.WriteFile("/proc/"+strconv.Itoa(m.n.init)+file, b.Bytes(), 0); err != nil {
			return cannot("map users", err)
		}
	}
	return nil
}

func (m *spaceMaker) mapSingle() error {
	dir := "/proc/" + strconv.Itoa(m.n.init)
	for _, id := range []struct {
		field, file string
		known       *uint32
	}{{"Uid:", "/uid_map", &m.n.uid}, {"Gid:", "/gid_map", &m.n.gid}} {
		list, err := status(m.n.deputy, id.field)
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
				return cannot("forbid setgroups", err)
			}
		}
		if err := os.WriteFile(dir+id.file, fmt.Appendf(nil, "%d %d 1", effective, effective), 0); err != nil {
			return cannot("map the user", err)
		}
	}
	return nil
}

// mount gives the sandbox the /proc of its processes.
func (m *spaceMaker) mount() error {
	n, first := m.n, m.first
	at, clean, err := place(first, []byte("proc\x00/proc\x00/\x00"))
	if err != nil {
		return err
	}
	proc, dir, root := at, at+5, at+11
	calls := first.List()
	calls.Add("mount(MS_REC|MS_SLAVE)", unix.SYS_MOUNT, 0, root, 0, unix.MS_REC|unix.MS_SLAVE, 0)
	calls.Add("mount(proc)", unix.SYS_MOUNT, proc, dir, proc, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	if err := calls.Run(); err != nil {
		return cannot("make /proc", err)
	}
	if err := clean(); err != nil {
		return err
	}
	of := "/proc/" + strconv.Itoa(n.init)
	if n.proc, err = unix.Open(of+"/root/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return cannot("open its /proc", err)
	}
	if n.hasNet {
		var st unix.Stat_t
		if err = unix.Stat(of+"/ns/net", &st); err != nil {
			return cannot("look at its network", err)
		}
		n.net, n.tables = idOf(&st), of+"/net/"
	}
	if n.pids, err = unix.Open(of+"/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return cannot("open it", err)
	}
	return nil
}

// countFrom lets the next process be number first (proc_sys_kernel(5), ns_last_pid).
func (m *spaceMaker) countFrom(first int) error {
	if first <= initPID+1 {
		return nil
	}
	const file = "/proc/sys/kernel/ns_last_pid\x00"
	last := strconv.Itoa(first - 1)
	at, clean, err := place(m.first, []byte(file+last))
	if err != nil {
		return err
	}
	calls := m.first.List()
	open := calls.Add("open", unix.SYS_OPENAT, 1<<64-1, at, unix.O_WRONLY)
	write := calls.Add("write", unix.SYS_WRITE, 0, at+uint64(len(file)), uint64(len(last)))
	open.Feed(write, 0)
	open.Feed(calls.Add("close", unix.SYS_CLOSE), 0)
	if err := calls.Run(); err != nil {
		return fmt.Errorf("let process ids begin with %d (needs CONFIG_CHECKPOINT_RESTORE): %s: %w", first, file[:len(file)-1], err)
	}
	return clean()
}

// takePlace makes the command the leader of a group of processes, or of a session, if
// os/exec has made it one, with the terminal that it has got.
func (m *spaceMaker) takePlace() error {
	n := m.n
	sid, err := unix.Getsid(n.deputy)
	if err != nil {
		return fmt.Errorf("getsid(%d): %w", n.deputy, gone(err))
	}
	if n.group, err = unix.Getpgid(n.deputy); err != nil {
		return fmt.Errorf("getpgid(%d): %w", n.deputy, gone(err))
	}
	n.leads = n.group == n.deputy
	switch attr := n.s.cmd.SysProcAttr; {
	case sid == n.deputy:
		return m.leadSession(attr)
	case n.leads:
		return m.leadGroup(attr)
	}
	return nil
}

func gone(err error) error {
	if err == unix.ESRCH {
		return tracee.ErrGone
	}
	return err
}

// leadSession gives the command a session, and it the terminal of the other one.
func (m *spaceMaker) leadSession(attr *syscall.SysProcAttr) error {
	calls := m.command.List()
	calls.Add("setsid", unix.SYS_SETSID)
	if err := calls.Run(); err != nil {
		return cannot("make the command the leader of a session", err)
	}
	if !attr.Setctty {
		return nil
	}
	// It must be nobody's before.
	give, take := m.outer.List(), m.command.List()
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
func (m *spaceMaker) leadGroup(attr *syscall.SysProcAttr) error {
	calls := m.command.List()
	calls.Add("setpgid", unix.SYS_SETPGID, 0, 0)
	if err := calls.Run(); err != nil {
		return cannot("make the command the leader of a group", err)
	}
	if !attr.Foreground {
		return nil
	}
	at, _, err := place(m.outer, append(binary.NativeEndian.AppendUint64(nil, uint64(m.command.TID())), "/dev/tty\x00"...))
	if err != nil {
		return err
	}
	calls = m.outer.List()
	open := calls.Add("open the terminal", unix.SYS_OPENAT, 1<<64-1, at+8, unix.O_RDWR|unix.O_CLOEXEC)
	put := calls.Add("ioctl(TIOCSPGRP)", unix.SYS_IOCTL, 0, unix.TIOCSPGRP, at)
	open.Feed(put, 0)
	if err := calls.Run(); err != nil {
		return fmt.Errorf("put the command into the foreground: %w", err)
	}
	return nil // what it has opened it closes with the rest
}

// standbyName is what a process that stands by is called, as a C string.
const standbyName = "sandtest\x00"

// disguise lets a process not look like the command to who looks for that by name or
// arguments, as pkill does: it would be sent a signal more than once. It also places data
// that ends with the name, for the call that sets it.
func (m *spaceMaker) disguise(r *tracee.Remote, data []byte) (at uint64, err error) {
	if at, _, err = place(r, data); err != nil {
		return 0, err
	}
	first, size, err := tracee.Arguments(r.TID(), r.SP())
	if err != nil {
		return 0, fmt.Errorf("find its arguments: %w", err)
	}
	const most = 1 << 20 // more is nobody's name
	if size > most {
		return at, nil
	}
	if _, err := tracee.WriteMem(r.TID(), first, append([]byte(standbyName), make([]byte, size)...)[:size]); err != nil {
		return 0, fmt.Errorf("overwrite its arguments: %w", gone(err))
	}
	return at, nil
}

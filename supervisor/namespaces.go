//go:build linux

package supervisor

import (
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// Where the machine allows it, a sandbox has namespaces of its own (namespaces(7)): of
// processes, whose numbers then are small and the same in every run, of mounts, for
// the /proc that belongs to those processes, and of the network (netspace.go).
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
	deputy int    // the process that stands for the command, 0 when it has ended
	init   int    // process 1 of the sandbox, by the host's number; 0 when it has ended
	pids   int    // the namespace of processes
	proc   int    // the root of its /proc
	hasNet bool   // there is a namespace of the network, as far as that is known beforehand
	noNet  error  // why not
	net    fileID // its name
	tables string // the directory with what the kernel tells of it (proc_pid_net(5))

	user     bool   // there is a user namespace
	single   bool   // which knows one user and one group alone, as far as that is known beforehand
	uid, gid uint32 // these
	had      uint64 // the command's capabilities before
	leads    bool   // the command leads a group of processes
	group    int    // that in which it was started
}

// knowsOne reports whether the namespace knows one user alone.
func (n *namespaces) knowsOne() bool { return n.user && !mayMapAll() }

func noNamespacesYet(s *Sandbox) *namespaces { return &namespaces{s: s, pids: -1, proc: -1} }

// initPID is init's number in the sandbox. No program finds it in /proc.
const initPID = 1

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

//go:build linux

package supervisor

import (
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Process ids have two sides. The supervisor, and ptrace with it, knows a thread by the
// host's number; a program knows it by that of the sandbox, where the sandbox has
// numbers of its own (namespaces.go), else by the host's too. The two meet here alone:
// what a program passes or is told is a number of the sandbox's.

// inner returns the number by which programs know a thread, 0 if it is gone.
func (s *Sandbox) inner(th *thread) int {
	if s.spaces == nil {
		return th.tid
	}
	return innerNumber(&th.inner, s.spaces, th.tid)
}

// innerOf returns the number by which programs know a process, 0 if it is gone.
func (s *Sandbox) innerOf(p *Process) int {
	if s.spaces == nil {
		return p.TGID
	}
	return innerNumber(&p.inner, s.spaces, p.TGID)
}

func innerNumber(known *atomic.Int32, in *namespaces, tid int) int {
	if n := known.Load(); n != 0 {
		return int(n)
	}
	n := in.inner(tid)
	known.Store(int32(n))
	return n
}

// threadBy returns the thread that a program means by a number, nil if there is none.
func (s *Sandbox) threadBy(number int) *thread { return s.threads.get(s.outer(number)) }

// outer returns the host's number for one of the sandbox's, 0 if there is none.
func (s *Sandbox) outer(number int) int {
	if s.spaces == nil {
		return number
	}
	return s.spaces.outer(number)
}

// ownPID is how programs see the supervisor as the sender of a signal.
func (s *Sandbox) ownPID() int {
	if s.spaces != nil {
		return 0
	}
	return unix.Getpid()
}

// How a namespace's numbers are asked for (ioctl_nsfs(2), Linux 6.11).
const (
	nsGetPIDFrom = 0x8004b706
	nsGetPIDIn   = 0x8004b708
)

// inner returns the number of one of the host's threads, 0 if it has none.
func (n *namespaces) inner(tid int) int {
	if got, ok := n.ask(nsGetPIDIn, tid); ok {
		return got
	}
	list, err := status(tid, "NSpid:") // proc_pid_status(5), Linux 4.1
	if err != nil {
		return 0
	}
	_, last := cutLast(list, "\t")
	number, _ := strconv.Atoi(last)
	return number
}

// outer returns the host's number of a thread, 0 if there is none of that number.
func (n *namespaces) outer(number int) int {
	if number <= 0 {
		return 0
	}
	if got, ok := n.ask(nsGetPIDFrom, number); ok {
		return got
	}
	for _, th := range n.s.threads.appendAll(nil) {
		if n.s.inner(th) == number {
			return th.tid
		}
	}
	return 0
}

// ask lets the kernel translate a number. ok is false where it can't.
func (n *namespaces) ask(how uintptr, number int) (got int, ok bool) {
	r, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(n.pids), how, uintptr(number))
	switch e {
	case 0:
		return int(r), true
	case unix.ESRCH:
		return 0, true
	}
	return 0, false
}

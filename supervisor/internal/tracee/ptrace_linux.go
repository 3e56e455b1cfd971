package tracee

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Options are what a sandbox asks of ptrace: every exec, fork, vfork and clone
// stops, children are attached before their first instruction, filter stops are
// reported, and every tracee dies with the tracer (PTRACE_O_EXITKILL).
const Options = unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
	unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL

// SyscallStop is the signal that marks a system-call stop under
// PTRACE_O_TRACESYSGOOD.
const SyscallStop = unix.SIGTRAP | 0x80

// Wait waits for the next stop or end of a tracee or child of this thread.
// ECHILD means that none is left.
func Wait() (tid int, ws unix.WaitStatus, err error) { return WaitFor(-1) }

// WaitFor waits for one thread, or for any with -1.
func WaitFor(tid int) (int, unix.WaitStatus, error) { return wait(tid, 0, nil) }

func wait(tid, flags int, used *unix.Rusage) (int, unix.WaitStatus, error) {
	var ws unix.WaitStatus
	for {
		got, err := unix.Wait4(tid, &ws, unix.WALL|unix.WNOTHREAD|flags, used)
		if err == unix.EINTR {
			continue
		}
		return got, ws, err
	}
}

// OnOwnThread runs f on an OS thread that has no children and will get none but
// f's, so that Wait speaks of f's alone. A thread of Go's pool may have started
// processes for others; it is kept out of the way meanwhile. The main thread is
// none either: it inherits the children of threads that end.
func OnOwnThread(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// With WNOWAIT nothing is consumed.
	err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL|unix.WNOTHREAD, nil)
	if err == unix.ECHILD && unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		OnOwnThread(f)
	}()
	<-done
}

// Event returns the PTRACE_EVENT_* of a stop, or 0.
func Event(ws unix.WaitStatus) int { return int(ws>>16) & 0xff }

// Cont resumes a stopped thread, delivering sig unless it is 0.
func Cont(tid int, sig unix.Signal) error { return resume(unix.PTRACE_CONT, tid, sig) }

// ContToSyscall resumes a stopped thread until its next system-call stop.
func ContToSyscall(tid int, sig unix.Signal) error { return resume(unix.PTRACE_SYSCALL, tid, sig) }

// Listen leaves a thread in its group-stop while events go on being reported.
func Listen(tid int) error { return resume(unix.PTRACE_LISTEN, tid, 0) }

// Detach lets a thread go, delivering sig unless it is 0.
func Detach(tid int, sig unix.Signal) error { return resume(unix.PTRACE_DETACH, tid, sig) }

// Seize attaches to a process without stopping it (Linux 3.4).
func Seize(pid int) error {
	if err := ptrace(unix.PTRACE_SEIZE, pid, 0, Options); err != nil {
		return fmt.Errorf("ptrace(PTRACE_SEIZE): %w", err)
	}
	return nil
}

// EventMsg returns the number that belongs to an event stop: the new thread, the
// former tid, or a filter's data.
func EventMsg(tid int) (int, error) {
	msg, err := unix.PtraceGetEventMsg(tid)
	return int(msg), err
}

func resume(req, tid int, sig unix.Signal) error { return ptrace(req, tid, 0, uintptr(sig)) }

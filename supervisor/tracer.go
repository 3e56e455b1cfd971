//go:build linux

package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// A tracer owns the tree of processes. All its methods run on one locked OS
// thread, which is the one ptrace knows.
type tracer struct {
	s       *Sandbox
	root    *Process
	procs   map[int]*Process        // by tgid
	early   map[int]unix.WaitStatus // stops of threads whose creation isn't reported yet
	places  places
	dead    []int // processes that have ended, with a limit to them
	forking int   // threads that are being made, with a limit to them
	held    []heldThread
	events  tracee.Events
	used    unix.Rusage // by what has ended
	state   State
	ended   bool // the command has ended; everything else is killed

	sent   []unix.Signal  // to the command before it was armed
	family *tracee.Family // of the command, until it is
}

// run handles stops until no tracee is left.
func (t *tracer) run() {
	t.frozen() // before it has begun
	unheard := t.family.Unheard()
	t.family = nil
	for tid, ws := range unheard {
		t.handle(tid, ws)
	}
	for {
		tid, ws, err := t.events.Next(&t.used)
		if err != nil {
			if err != unix.ECHILD {
				t.s.fail(fmt.Errorf("supervisor: wait for the sandbox: %w", err))
			}
			return
		}
		t.handle(tid, ws)
		t.frozen()
	}
}

func (t *tracer) handle(tid int, ws unix.WaitStatus) {
	if t.s.spaces.handles(t, tid, ws) {
		return
	}
	th := t.s.threads.get(tid)
	switch {
	case th == nil && ws.Stopped():
		t.early[tid] = ws
		t.killIfEnding(tid)
	case th == nil:
		if _, ok := t.early[tid]; ok {
			t.early[tid] = ws
		}
	case !ws.Stopped():
		t.exited(th, ws)
	default:
		t.stopped(th, ws)
	}
}

func (t *tracer) stopped(th *thread, ws unix.WaitStatus) {
	switch tracee.Event(ws) {
	case unix.PTRACE_EVENT_FORK, unix.PTRACE_EVENT_VFORK, unix.PTRACE_EVENT_CLONE:
		t.created(th, tracee.Event(ws) == unix.PTRACE_EVENT_VFORK)
		t.resume(th, 0)
	case unix.PTRACE_EVENT_EXEC:
		t.execed(th)
	case unix.PTRACE_EVENT_SECCOMP:
		t.filterStop(th)
	case unix.PTRACE_EVENT_STOP:
		switch ws.StopSignal() {
		case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
			th.listening.Store(true)
			th.proc.stopped = true
			_ = tracee.Listen(th.tid) // fails only when the thread was killed
		default:
			t.resume(th, 0)
		}
	default:
		if ws.StopSignal() == tracee.SyscallStop {
			t.syscallStop(th)
			return
		}
		t.signal(th, ws.StopSignal())
	}
}

// resume lets a stopped thread go on. That fails only when it was killed
// meanwhile, which its exit will tell.
func (t *tracer) resume(th *thread, sig unix.Signal) {
	if t.holds(th, sig) {
		return
	}
	th.listening.Store(false)
	if th.onExit != nil {
		_ = tracee.ContToSyscall(th.tid, sig)
		return
	}
	_ = tracee.Cont(th.tid, sig)
}

// created handles the creation of a process or thread by th.
func (t *tracer) created(th *thread, vfork bool) {
	tid, err := tracee.EventMsg(th.tid)
	if err != nil {
		return // killed; what it created is adopted, see exited
	}
	regs, err := tracee.GetRegs(th.tid)
	if err != nil {
		return
	}
	nr := uint32(regs.Nr())
	shares := sharing{memory: vfork, waits: vfork}
	if nr == unix.SYS_CLONE {
		flags := regs.Arg(0)
		shares.process, shares.fs, shares.memory = flags&unix.CLONE_THREAD != 0, flags&unix.CLONE_FS != 0, flags&unix.CLONE_VM != 0
	}
	t.forked(th)
	t.adopt(tid, th, shares)
	if vfork && !shares.process {
		th.vfork.Store(t.procs[tid])
	}
}

// sharing is what a new thread has in common with who creates it (clone(2)).
type sharing struct {
	process bool // it is another thread of it
	fs      bool // its working directory and umask
	memory  bool
	waits   bool // the other waits until it has executed a program, or ended
}

// adopt enters a new thread into the books and lets it run if it waits already.
func (t *tracer) adopt(tid int, by *thread, shares sharing) {
	now := t.s.clock.elapsed()
	p := by.proc
	if !shares.process {
		p = newProcess(tid, by.proc, now)
		t.procs[tid] = p
		t.s.counts.processes.Add(1)
		if t.s.policy != nil {
			t.s.innerOf(p) // which is asked for when it is gone, too
		}
	}
	th := p.newThread(tid, now)
	th.affinity.inherit(&by.affinity)
	th.batch.Store(by.batch.Load())
	th.creds.Store(by.creds.Load())
	if fs := by.fs.Load(); shares.fs {
		th.fs.Store(fs)
	} else {
		th.fs.Store(fs.copy())
	}
	t.s.dcache.created(th, by, shares)
	t.s.threads.add(th)
	if !shares.process {
		t.s.tracing.note(th, "started")
	}
	t.killIfEnding(tid)
	if ws, ok := t.early[tid]; ok {
		delete(t.early, tid)
		t.handle(tid, ws)
	}
}

// exited handles the end of a thread.
func (t *tracer) exited(th *thread, ws unix.WaitStatus) {
	t.s.threads.remove(th.tid)
	t.s.leave(th)
	th.leaveRoom()
	t.forgetLent(th)
	t.giveAllBack(th)
	th.takesNothing()
	t.forked(th)
	if ws.Signaled() {
		t.adoptOrphans(th)
	}
	if th.tid != th.proc.TGID {
		return
	}
	// The leader's end is reported after that of all its threads.
	t.s.tracing.note(th, ended(ws))
	th.proc.bury(&t.used, &t.s.usedByDead)
	delete(t.procs, th.tid)
	th.proc.end()
	if t.s.processLimit() > 0 {
		t.dead = append(t.dead, th.tid)
	}
	if t.s.agenda != nil {
		t.s.agenda.removeAll(th.proc)
	}
	if th.proc != t.root {
		return
	}
	t.state.ExitCode = ws.ExitStatus()
	if ws.Signaled() {
		t.state.ExitCode, t.state.Signal = -1, syscall.Signal(ws.Signal())
	}
	t.ended = true
	t.killRest()
}

// ended says how a process has ended.
func ended(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "killed by " + unix.SignalName(ws.Signal())
	}
	return "exited with " + strconv.Itoa(ws.ExitStatus())
}

// adoptOrphans takes on threads whose creator was killed before its stop could
// report them.
func (t *tracer) adoptOrphans(by *thread) {
	creator := by.proc
	for tid := range t.early {
		tgid, err := tgidOf(tid)
		if err != nil {
			delete(t.early, tid)
			continue
		}
		if tgid == creator.TGID || t.s.threads.get(tgid) == nil && tgid == tid && !t.parentLives(tid, creator) {
			t.adopt(tid, by, sharing{process: tgid != tid, fs: tgid != tid, memory: true})
		}
	}
}

// parentLives reports whether an early thread still has a parent other than
// creator in the sandbox, which will report it.
func (t *tracer) parentLives(tid int, creator *Process) bool {
	ppid, err := statusField(tid, "PPid:")
	return err == nil && ppid != creator.TGID && t.procs[ppid] != nil
}

func tgidOf(tid int) (int, error) { return statusField(tid, "Tgid:") }

func statusField(tid int, name string) (int, error) {
	v, err := status(tid, name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(v)
}

func statusMask(tid int, name string) (uint64, error) {
	v, err := status(tid, name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(v, 16, 64)
}

// status returns a field of /proc/TID/status (proc_pid_status(5)).
func status(tid int, name string) (string, error) {
	text, err := readKernelFile("/proc/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("no %s in /proc/%d/status", name, tid)
}

// killRest ends whatever is left once the command has ended.
func (t *tracer) killRest() {
	for _, p := range t.procs {
		t.state.Leaked = append(t.state.Leaked, LeakedProcess{p.Lineage, commandLine(p.TGID)})
	}
	sort.Slice(t.state.Leaked, func(i, j int) bool {
		return compareLineage(t.state.Leaked[i].Lineage, t.state.Leaked[j].Lineage) < 0
	})
	for tgid := range t.procs {
		_ = unix.Kill(tgid, unix.SIGKILL) // we alone reap it, so the pid is its own
	}
	for tid := range t.early {
		_ = unix.Kill(tid, unix.SIGKILL)
	}
	t.s.spaces.end()
}

func (t *tracer) killIfEnding(tid int) {
	if t.ended {
		_ = unix.Kill(tid, unix.SIGKILL)
	}
}

func commandLine(pid int) []string {
	raw, err := readKernelFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(raw) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(raw, []byte{0})), "\x00")
}

// compareLineage orders names by their numbers: 0.2 before 0.10.
func compareLineage(a, b det.Lineage) int {
	x, y := strings.Split(string(a), "."), strings.Split(string(b), ".")
	for i := range min(len(x), len(y)) {
		if d := len(x[i]) - len(y[i]); d != 0 {
			return d
		}
		if d := strings.Compare(x[i], y[i]); d != 0 {
			return d
		}
	}
	return len(x) - len(y)
}

// execed handles PTRACE_EVENT_EXEC: the new program is loaded. The thread is still inside
// execve, and its result register will be written once more, when it goes on to make calls
// for the supervisor; these don't need it.
func (t *tracer) execed(th *thread) {
	caller := th
	if old, err := tracee.EventMsg(th.tid); err == nil && old != th.tid {
		if other := t.s.threads.get(old); other != nil {
			caller = other
		}
		t.s.threads.remove(old) // it goes on under its leader's number
	}
	p := th.proc
	want := caller.executes
	caller.executes = executed{}
	th.execName = caller.execName
	th.argv, th.script = caller.argv, caller.script
	if path := caller.execPath; path != "" {
		p.program.Store(&path)
	}
	caller.traced.returned(0)
	caller.traced, th.traced = nil, nil
	caller.leaveSlot()
	t.forgetLent(caller)
	t.forgetLent(th)
	t.giveAllBack(caller)
	th.takesNothing()
	th.creds.Store(nil)
	// Who else shared it, shares it no more (unshare_fs_struct, fs/exec.c).
	th.fs.Store(caller.fs.Load().copy())
	p.execs++
	p.released.Store(true)
	t.s.counts.execs.Add(1)
	t.s.dropTimers(p)
	th.leaveRoom()
	p.rooms = new(rooms)
	p.callAt.Store(0)
	t.s.leave(th)   // the wait of the leader whose number it has taken
	th.onExit = nil // for a call that fails
	t.prepare(th, want)
	t.resume(th, 0)
}

// prepare prepares the program that a thread has executed.
func (t *tracer) prepare(th *thread, want executed) {
	pid, lineage := th.proc.TGID, th.proc.Lineage
	if want.file != "" {
		if ok, err := want.isExecuted(pid); err == nil && !ok {
			t.s.fail(fmt.Errorf("supervisor: process %s executes %s, and was to execute %s: somebody has put a link into its path meanwhile", lineage, exeOf(pid), want.file))
			return
		}
	}
	if err := t.near(th.tid, func() error { return t.load(th) }); err != nil {
		t.s.fail(fmt.Errorf("supervisor: prepare %s in process %s: %w", exeOf(pid), lineage, err))
	}
}

func exeOf(pid int) string {
	name, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return "a program"
	}
	return name
}

//go:build linux

package supervisor

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// start starts the command on the tracer's thread and arms it: it returns with
// the command standing before its first instruction, under the filter.
func (t *tracer) start() error {
	cmd := t.s.cmd
	attr := syscall.SysProcAttr{}
	plain := cmd.SysProcAttr == nil
	if !plain {
		attr = *cmd.SysProcAttr
	}
	if attr.Ptrace {
		return errors.New("supervisor: SysProcAttr.Ptrace is set: the sandbox itself must be the tracer")
	}
	if attr.Chroot != "" {
		return fmt.Errorf("supervisor: SysProcAttr.Chroot is %q: a sandbox has a root of its own", attr.Chroot)
	}
	if unix.Access(cmd.Path, unix.X_OK) == nil && unix.Access(cmd.Path, unix.R_OK) == unix.EACCES {
		return fmt.Errorf("supervisor: it may be executed but not read, and such a program can't be prepared: %w",
			&os.PathError{Op: "fork/exec", Path: cmd.Path, Err: unix.EACCES})
	}
	userDeathSignal := attr.Pdeathsig
	attr.Ptrace = true
	// Until it is seized, the command dies with this thread by this signal.
	attr.Pdeathsig = unix.SIGKILL
	defer func(old *syscall.SysProcAttr) { cmd.SysProcAttr = old }(cmd.SysProcAttr)
	cmd.SysProcAttr = &attr

	restore, err := t.setPersonality()
	if err != nil {
		return err
	}
	asGiven, err := t.s.beginLending(cmd)
	if err != nil {
		restore()
		return err
	}
	tracee.QuietStops()
	t.place()
	t.s.copied = new(copying)
	t.s.copied.watch(cmd)
	t.s.placement.forbidTSC()
	err = cmd.Start()
	restore()
	asGiven()
	if t.s.commandPath != "" {
		cmd.Path, cmd.Args, cmd.Err = t.s.asGiven.path, t.s.asGiven.args, t.s.asGiven.err
	}
	if err != nil {
		t.s.copied.restore()
		return explainStart(cmd, err, plain)
	}
	pid := cmd.Process.Pid
	t.family = tracee.NewFamily()
	inside, err := t.takeOver(pid)
	if err == nil {
		err = t.prepareRoot(pid, inside, userDeathSignal)
	}
	t.placed(inside)
	if err == nil {
		t.s.placement.takeTurns(inside)
		err = t.makeNice(inside)
	}
	if err != nil {
		t.giveUp(pid, inside)
		waited := cmd.Wait() // closes its pipes; the process itself is gone
		t.s.copied.restore()
		if errors.Is(err, tracee.ErrGone) && (errors.Is(waited, context.Canceled) || errors.Is(waited, context.DeadlineExceeded)) {
			return waited // os/exec has killed it
		}
		var own *ownTrouble
		if errors.As(err, &own) {
			return own.error
		}
		return fmt.Errorf("supervisor: arm %s: %w", cmd.Path, explainRefusal(err))
	}
	return nil
}

// giveUp ends a command that has not run yet.
func (t *tracer) giveUp(pid, inside int) {
	init := 0
	if n := t.s.spaces; n != nil {
		init = n.init
	}
	t.family.KillAll(inside, init, pid)
}

// aslrVar is the environment variable that has all sandboxes leave address randomisation on.
const aslrVar = "SANDTEST_ASLR"

// setPersonality switches address randomisation off for what this thread starts.
func (t *tracer) setPersonality() (restore func(), err error) {
	if t.s.cfg.ASLR || os.Getenv(aslrVar) != "" {
		return func() {}, nil
	}
	const query, noRandomize = 0xffffffff, 0x0040000
	old, _, e := unix.RawSyscall(unix.SYS_PERSONALITY, query, 0, 0)
	if e == 0 {
		_, _, e = unix.RawSyscall(unix.SYS_PERSONALITY, old|noRandomize, 0, 0)
	}
	if e != 0 {
		return nil, fmt.Errorf("supervisor: personality(ADDR_NO_RANDOMIZE): %w: a seccomp policy around this process forbids to switch "+
			"address randomisation off (a container needs one that allows personality); or leave it on, with the ASLR option or %s=1 in the environment", e, aslrVar)
	}
	return func() { unix.RawSyscall(unix.SYS_PERSONALITY, old, 0, 0) }, nil
}

// explainStart says what to do about a refusal that may be ptrace's, and tells a
// missing directory from a missing program, which os/exec does where it is given
// no attributes.
func explainStart(cmd *exec.Cmd, err error, plain bool) error {
	if plain && cmd.Dir != "" {
		if _, missing := os.Stat(cmd.Dir + "/."); missing != nil {
			return &os.PathError{Op: "chdir", Path: cmd.Dir, Err: errors.Unwrap(missing)}
		}
	}
	if errors.Is(err, unix.EPERM) {
		if tracer, e := statusField(unix.Getpid(), "TracerPid:"); e == nil && tracer != 0 {
			return fmt.Errorf("supervisor: start %s: %w: this process is itself traced (by pid %d), and a process has one tracer: "+
				"run it without strace or a debugger that follows children", cmd.Path, err, tracer)
		}
		if e := probePtrace(); e != nil {
			return fmt.Errorf("supervisor: start %s: %w: %v", cmd.Path, err, e)
		}
	}
	if errors.Is(err, unix.ENOENT) {
		if name := interpreterOf(cmd.Path); name != "" && unix.Access(name, unix.F_OK) == unix.ENOENT {
			return fmt.Errorf("%w (it is there, but not its interpreter, %s)", err, name)
		}
	}
	return err
}

// interpreterOf returns by what a program of the host's is executed, empty if it is by itself.
func interpreterOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, scriptHead)
	n, _ := f.ReadAt(head, 0)
	if name, _, ok, err := parseScript(head[:n]); ok && err == nil {
		return name
	}
	program, err := elf.NewFile(f)
	if err != nil {
		return ""
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz <= unix.PathMax {
			name := make([]byte, p.Filesz)
			if _, err := p.ReadAt(name, 0); err == nil {
				return string(bytes.TrimRight(name, "\x00"))
			}
		}
	}
	return ""
}

// takeOver turns the stop at exec that os/exec arranged into a seized tracee,
// which unlike the former can be stopped and continued by job control, and moves it
// into namespaces of its own. It returns the number that the command then has.
func (t *tracer) takeOver(pid int) (inside int, err error) {
	if ws, err := t.family.Wait(pid); err != nil || !ws.Stopped() {
		return 0, fmt.Errorf("wait for the command to stop at its start: %w", cmp.Or(err, tracee.ErrGone))
	}
	if err := tracee.Detach(pid, unix.SIGSTOP); err != nil {
		return 0, fmt.Errorf("detach to seize: %w", err)
	}
	if err := tracee.Seize(pid); err != nil {
		return 0, err
	}
	// A stopped process is woken by SIGCONT; the stop that announces it is at the
	// edge of user mode.
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		return 0, fmt.Errorf("continue the command: %w", err)
	}
	for {
		ws, err := t.family.Wait(pid)
		if err != nil || !ws.Stopped() {
			return 0, fmt.Errorf("wait for the command: %w", cmp.Or(err, tracee.ErrGone))
		}
		if tracee.Event(ws) == 0 {
			if ws.StopSignal() == unix.SIGCONT {
				break
			}
			t.sent = append(t.sent, ws.StopSignal())
		}
		if err := tracee.Cont(pid, 0); err != nil {
			return 0, fmt.Errorf("continue the command: %w", err)
		}
	}
	return t.chooseBackend(pid)
}

// chooseBackend moves the command into namespaces if it is to have some.
func (t *tracer) chooseBackend(pid int) (inside int, err error) {
	if t.s.spaces == nil {
		return pid, nil
	}
	inside, err = t.enterNamespaces(pid)
	var missing *namespaceError
	switch {
	case !errors.As(err, &missing):
		return inside, err
	case t.s.cfg.Backend == BackendNamespaces:
		return 0, &ownTrouble{fmt.Errorf("supervisor: Backend is namespaces, and there can be none: %w: "+
			"allow unprivileged user namespaces, or use the backend seccomp, or auto", err)}
	}
	<-t.s.ahead.made // which looks at it
	t.s.spaces, t.s.withoutSpaces = nil, err
	return pid, nil
}

// prepareRoot enters the command into the books, and arms it.
func (t *tracer) prepareRoot(outer, pid int, deathSignal syscall.Signal) (err error) {
	if err := t.s.takeAhead(); err != nil {
		return &ownTrouble{err}
	}
	t.root = newProcess(pid, nil, 0)
	t.procs[pid] = t.root
	t.s.root = t.root
	t.root.supervisor, t.root.fail = t.s.ownPID(), t.s.fail
	if err := t.root.pin(); err != nil {
		return err
	}
	th := t.root.newThread(pid, 0)
	if err := t.s.view.enter(th); err != nil {
		return &ownTrouble{fmt.Errorf("supervisor: arm %s: %w", t.s.cmd.Path, err)}
	}
	t.s.threads.add(th)
	t.s.counts.processes.Add(1)
	t.s.counts.execs.Add(1)
	t.root.execs = 1
	program := t.s.commandProgram(th)
	th.execName = t.s.commandPath
	t.root.program.Store(&program)
	t.s.tracing.note(th, "started "+strconv.Quote(program)+" as "+fmt.Sprintf("%q", t.s.cmd.Args))
	defer func() {
		for _, sig := range t.sent {
			_ = unix.Kill(pid, sig) // it is delivered when the command runs
		}
	}()
	return t.arm(th, deathSignal)
}

// commandProgram returns the path of the command's program as the sandbox knows it.
func (s *Sandbox) commandProgram(th *thread) string {
	name := cmp.Or(s.commandPath, s.cmd.Path)
	if s.commandPath == "" && filepath.IsAbs(name) { // one of the host
		if inner, ok := s.view.tree.Inner(name); ok {
			return inner
		}
		return name
	}
	e := event{s: s, th: th, sig: signatureOf(unix.SYS_EXECVE)}
	return e.programPath(unix.AT_FDCWD, name)
}

// arm makes the command put itself under the filter, then prepares its program.
func (t *tracer) arm(th *thread, deathSignal syscall.Signal) error {
	im, err := t.newImage(th)
	if err != nil {
		return err
	}
	defer im.sys.Close()
	calls := im.sys.List()
	calls.Add("prctl(PR_SET_PDEATHSIG)", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uint64(deathSignal))
	calls.Add("prctl(PR_SET_NO_NEW_PRIVS)", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	if t.s.cfg.NoHugePages {
		calls.Add("prctl(PR_SET_THP_DISABLE)", unix.SYS_PRCTL, unix.PR_SET_THP_DISABLE, 1)
	}
	t.s.forbidTSC(calls)
	calls.Add("umask", unix.SYS_UMASK, uint64(t.s.cfg.Umask))
	if err := t.installFilter(im, calls); err != nil {
		return err
	}
	return im.finish()
}

// installFilter makes the command execute calls, then install the filter, and
// takes the listener away from it.
func (t *tracer) installFilter(im *image, calls *tracee.List) error {
	data, err := newScratch(im.sys)
	if err != nil {
		return err
	}
	limits, err := t.s.limitsAtStart()
	if err != nil {
		return err
	}
	for _, l := range limits {
		limit := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, l.Cur), l.Max)
		calls.Add(l.name, unix.SYS_SETRLIMIT, uint64(l.resource), data.add(limit))
	}
	for _, f := range t.s.table.features {
		if f.enter != nil {
			if err := f.enter(&entering{th: im.th, calls: calls, data: data}); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
	prog := t.s.ahead.filter
	at := data.addFilter(prog)
	if err := data.place(); err != nil {
		return err
	}
	flags := uint64(seccomp.FlagNewListener)
	if kernelAtLeast(5, 19) {
		flags |= seccomp.FlagWaitKillable
	}
	install := calls.Add("seccomp(SECCOMP_SET_MODE_FILTER)", unix.SYS_SECCOMP, seccomp.SetModeFilter, flags, at)
	listener, fd, err := t.takeListener(im, func() (int, error) {
		if err := calls.Run(); err != nil {
			return -1, err
		}
		return int(install.Result()), data.clear()
	})
	if err != nil {
		return err
	}
	t.s.listen(listener)
	im.listener = int64(fd)
	return nil
}

// takeListener has the filter installed, which returns the listener's number in the command, and
// takes that.
func (t *tracer) takeListener(im *image, install func() (int, error)) (listener, fd int, err error) {
	if t.s.lending != nil {
		return t.lendListener(im, install)
	}
	if fd, err = install(); err == nil {
		listener, err = t.root.fd(t.root.TGID, int32(fd))
	}
	return listener, fd, err
}

// A scratch is memory of a program for what a list of calls is given, beside the list.
type scratch struct {
	room *tracee.Scratch
	data []byte
}

// Room at the stack pointer: for a list of calls, and for what it is given. The kernel gives a
// new program 128 KiB (setup_arg_pages, fs/exec.c).
const (
	listRoom    = 8 << 10
	scratchRoom = 32 << 10
)

func newScratch(r *tracee.Remote) (*scratch, error) {
	room, err := r.Scratch(listRoom, scratchRoom)
	return &scratch{room: room}, err
}

// add notes data that is to be placed, and returns where.
func (s *scratch) add(data []byte) (at uint64) {
	at = s.room.At + uint64(len(s.data))
	s.data = append(s.data, data...)
	s.data = append(s.data, make([]byte, -len(s.data)&15)...)
	return at
}

// addFilter notes a filter, and returns where what seccomp(2) is given is to be: a struct
// sock_fprog.
func (s *scratch) addFilter(prog []byte) (at uint64) {
	const instruction = 8
	fprog := binary.LittleEndian.AppendUint64(nil, uint64(len(prog)/instruction))
	return s.add(binary.LittleEndian.AppendUint64(fprog, s.add(prog)))
}

func (s *scratch) place() error { return s.room.Write(s.data) }

// clear leaves the memory as it was.
func (s *scratch) clear() error { return s.room.GiveBack() }

// place writes data where the list of calls won't be, and returns a function that leaves that
// as it was.
func place(r *tracee.Remote, data []byte) (at uint64, clean func() error, err error) {
	room, err := r.Scratch(listRoom, uint64(len(data)))
	if err == nil {
		err = room.Write(data)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("arguments of calls: %w", err)
	}
	return room.At, room.GiveBack, nil
}

// assembled remembers what rules assemble to: a pure function, and the same for
// most sandboxes of a process.
var assembled struct {
	sync.Mutex
	last []assembly // the one used last comes first
}

type assembly struct {
	rules []seccomp.Rule
	prog  []byte
}

const mostAssembled = 16

func filterProgram(rules []seccomp.Rule) ([]byte, error) {
	assembled.Lock()
	defer assembled.Unlock()
	for i, a := range assembled.last {
		if slices.EqualFunc(a.rules, rules, sameRule) {
			copy(assembled.last[1:i+1], assembled.last)
			assembled.last[0] = a
			return a.prog, nil
		}
	}
	raw, err := seccomp.Assemble(seccomp.Native, rules)
	if err != nil {
		return nil, err
	}
	prog := make([]byte, 0, 8*len(raw))
	for _, in := range raw {
		prog = binary.LittleEndian.AppendUint16(prog, in.Op)
		prog = append(prog, in.Jt, in.Jf)
		prog = binary.LittleEndian.AppendUint32(prog, in.K)
	}
	assembled.last = slices.Insert(assembled.last[:min(len(assembled.last), mostAssembled-1)], 0, assembly{rules, prog})
	return prog, nil
}

func sameRule(a, b seccomp.Rule) bool {
	return a.Nr == b.Nr && a.Action == b.Action && slices.Equal(a.Conds, b.Conds)
}

// An ownTrouble is an error that has nothing to do with what the kernel permits.
type ownTrouble struct{ error }

func (e *ownTrouble) Unwrap() error { return e.error }

// explainRefusal says what to do where the kernel refuses what arming needs.
func explainRefusal(err error) error {
	hint := ""
	var own *ownTrouble
	switch {
	case errors.As(err, &own):
	case errors.Is(err, unix.EBUSY):
		hint = ": a filter with a listener is in force already; a sandbox can't be nested in another"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSYS):
		hint = ": a seccomp policy around this process forbids it, or the kernel has none of it; allow it in the container's policy"
	}
	return fmt.Errorf("%w%s", err, hint)
}

// newImage looks at a program that has just been loaded.
func (t *tracer) newImage(th *thread) (*image, error) {
	if err := mustBe64(th.tid); err != nil {
		return nil, err
	}
	var err error
	im := &image{t: t, th: th, listener: -1}
	if im.auxv, err = tracee.ReadAuxv(th.tid); err != nil {
		return nil, fmt.Errorf("read the auxiliary vector: %w", err)
	}
	im.vdso = t.s.vdso.find(th.tid, im.auxv)
	if im.sys, err = tracee.BeginIn(t.family, th.tid, im.vdso.text); err != nil {
		return nil, err
	}
	return im, nil
}

// mustBe64 refuses a program that makes system calls nobody here knows.
func mustBe64(tid int) error {
	regs, err := tracee.GetRegs(tid)
	if err == nil && regs.Compat() {
		err = errors.New("it is a 32-bit program, and the sandbox serves 64-bit system calls only")
	}
	return err
}

// load prepares a program that was started by execve.
func (t *tracer) load(th *thread) error {
	im, err := t.newImage(th)
	if err == nil {
		defer im.sys.Close()
		im.sys.Returns(0)
		err = im.finish()
	}
	if _, stopped := tracee.GetRegs(th.tid); stopped == unix.ESRCH {
		return nil // killed meanwhile, which is what made it fail
	}
	return err
}

// finish lets the features prepare the program, and puts it back at its first
// instruction.
func (im *image) finish() error {
	im.th.arming.Store(true)
	for _, f := range im.t.s.table.features {
		if f.load == nil {
			continue
		}
		if err := f.load(im); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	im.th.arming.Store(false)
	deferred, err := im.sys.End()
	for _, sig := range deferred {
		_ = tracee.Queue(im.th.proc.TGID, im.th.tid, sig)
	}
	return err
}

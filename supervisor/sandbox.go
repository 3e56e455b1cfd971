//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/supervisor/internal/tsc"
	"golang.org/x/sys/unix"
)

// A Sandbox is one command under supervision. Two sandboxes share nothing.
type Sandbox struct {
	cfg   Config
	cmd   *exec.Cmd
	table *table
	clock *clock
	page  *clockPage
	vdso  vdsoPlan

	view         *view
	root         *Process    // the command, once it is armed
	loopbacks    *loopbacks  // nil unless a part of the host's loopback interface is the sandbox's
	netspace     *netspace   // nil unless it has one of its own
	controls     atomic.Bool // control messages are to be looked at
	watching     atomic.Bool // files are (inotify.go)
	allowed      destinations
	netlinks     netlinkSockets
	feeds        feeds // of random devices
	standIns     standIns
	numbers      unnamedNumbers
	terminals    terminalSet
	memory       memory
	systemV      *systemVObjects
	dirLocks     [64]sync.Mutex // see dirOrder
	threads      threads
	receivers    *receivers // nil until the command is armed
	counts       counts
	handovers    handovers
	placement    placement
	agenda       *agenda   // nil unless the clock is virtual
	tracing      *traceLog // nil unless Config.Trace is set
	injected     *injections
	freezing     atomic.Pointer[freezing] // nil unless it is frozen, or is about to be
	freezeMu     sync.Mutex               // held by who has frozen it
	frozenByUser atomic.Bool
	usedByDead   cpuAccount
	policy       *policy // nil unless Config.OnSyscall is set

	dcache *dcaching // nil unless programs are told about files

	ahead         *ahead
	spaces        *namespaces // nil with the backend seccomp
	withoutSpaces error       // why there are none, if they were wanted

	hostLimits [rlimits]unix.Rlimit // of who has started the sandbox

	landlockABI int // what stands behind the view, 0 for nothing

	given  map[string]bool // what the command had open at its start
	waited atomic.Bool     // somebody waits for its end, and nobody is to send it a signal any more

	socketTimeouts atomic.Bool // a socket has one
	commandPath    string      // as the sandbox knows it, if cmd.Path isn't that
	asGiven        struct {
		path string
		args []string
		err  error
	}
	outOfMemory atomic.Bool // that is why everything was killed
	powerLost   atomic.Bool // a fault has killed

	timerfdMu   sync.Mutex
	timerfds    map[int64]*timerFD
	timerfdNext int64

	hooks hooks

	began time.Time
	empty chan struct{} // closed when there is no process any more
	done  chan struct{} // closed when nothing of the command is left
	state State         // valid after done

	waitOnce sync.Once
	waitErr  error // what os/exec says at the end
	copied   *copying
	lending  *lending // nil where descriptors can be taken

	errMu  sync.Mutex
	err    error
	failed chan struct{} // closed when err is set
}

// Start starts cmd in a sandbox. cmd keeps the meaning it has for os/exec (Env,
// Dir, Stdin, ExtraFiles, context...), but is waited for with [Sandbox.Wait].
//
// Errors: what [os/exec.Cmd.Start] reports for a command that can't be started
// (exec.ErrNotFound, fs.ErrNotExist, fs.ErrPermission), and an explanation where
// ptrace or seccomp are not permitted. Nothing is left running then.
func Start(cmd *exec.Cmd, cfg Config) (*Sandbox, error) {
	s, err := start(cmd, cfg, hooks{})
	return s, explainShortage(err)
}

// A shortage is an error because this process, or the machine, has no descriptor left.
type shortage struct{ error }

func (e *shortage) Unwrap() error { return e.error }

func isShortage(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }

// explainShortage says what to do about one, if it hasn't been said.
func explainShortage(err error) error {
	var said *shortage
	if !isShortage(err) || errors.As(err, &said) {
		return err
	}
	return &shortage{fmt.Errorf("%w: a sandbox needs some thirty descriptors, and four more for each thread: raise the limit (ulimit -n; the machine's is fs.file-max), or run fewer at once", err)}
}

// hooks are what tests change about a sandbox.
type hooks struct {
	receive  func(*receivers)         // instead of serveCalls
	features []func(*Sandbox) feature // asked before all others

	ephemerals uint32 // how many ports there are for clients
}

func start(cmd *exec.Cmd, cfg Config, h hooks) (*Sandbox, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkFaults(cfg.Faults); err != nil {
		return nil, err
	}
	if err := errors.Join(checkEvents(&cfg), checkHandlers(cfg.Handlers), checkCalls(&cfg)); err != nil {
		return nil, err
	}
	s := &Sandbox{cfg: cfg, cmd: cmd, hooks: h, empty: make(chan struct{}), done: make(chan struct{}), failed: make(chan struct{}), began: time.Now()}
	s.threads.m = map[int]*thread{}
	s.placement.noTSC = s.ownTSC() && tsc.Dear()
	if s.landlockABI = landlockABI(); s.landlockABI < cfg.MinLandlock {
		return nil, fmt.Errorf("supervisor: MinLandlock is %d, and this kernel has Landlock ABI %d (0 is none): "+
			"a newer kernel is needed, or one with landlock in its lsm= list", cfg.MinLandlock, s.landlockABI)
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if err := s.findCommand(); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	s.makeAhead()
	started := make(chan error)
	go tracee.OnOwnThread(func() {
		growStack()
		s.trace(started)
	})
	if err := <-started; err != nil {
		<-s.done
		if s.err != nil {
			return nil, s.err
		}
		return nil, err
	}
	return s, nil
}

// prepare makes what doesn't need the command yet.
func (s *Sandbox) prepare() (err error) {
	if s.page, err = newClockPage(s.cfg.Clock); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	if s.clock, err = newClock(s.cfg, s.page); err == nil {
		if s.cfg.Trace {
			s.tracing = &traceLog{s: s, clock: s.clock}
		}
		if err = s.planVDSO(); err == nil {
			if s.cfg.Clock == det.Virtual {
				s.agenda = newAgenda(s.clock.virtual, s.cfg.MaxVirtual)
			}
			if err = s.planNetwork(); err != nil {
				_ = s.page.close()
				return err
			}
			s.memory.s = s
			s.view, err = newView(s)
			s.terminals.s = s
		}
	}
	if err != nil {
		_ = s.page.close()
	}
	return err
}

// abandon throws away what prepare has made.
func (s *Sandbox) abandon() error {
	return errors.Join(s.view.discard(), s.page.close())
}

// trace is the tracer's thread, from before the command starts until nothing of
// it is left.
func (s *Sandbox) trace(started chan<- error) {
	defer close(s.done)
	t := &tracer{s: s, procs: map[int]*Process{}, early: map[int]unix.WaitStatus{}}
	defer t.leave()
	err := t.start()
	if err == nil {
		close(started)
		var d *detector
		if s.agenda != nil || s.netspace != nil {
			s.given = givenFiles(t.root.TGID)
		}
		if s.netspace != nil {
			s.netspace.mixed.Store(anySocket(s.given) || len(s.cfg.Handlers) > 0) // a handler may inject one
		}
		if s.agenda != nil {
			d = s.detect()
		}
		t.resume(s.threads.get(t.root.TGID), 0)
		t.run()
		close(s.empty)
		if d != nil {
			d.end()
			t.state.Deadlock = d.deadlock
		}
	}
	s.placement.allowTSC()
	if s.receivers != nil {
		s.receivers.wg.Wait()
		s.receivers.lull.close()
		_ = s.receivers.listener.Close()
	}
	s.lending.close()
	for _, t := range s.timerfds {
		t.forget()
	}
	s.ahead.close()
	s.closeFeatures()
	s.spaces.close()
	if err != nil {
		if t.root != nil {
			t.root.end()
		}
		_ = s.view.discard()
		started <- err
		return
	}
	t.state.Changes = s.state.Changes
	s.state = t.state
	s.state.ClockStart, s.state.Clock = s.clock.start, s.clock.end()
	s.state.Stats = s.counts.stats()
	s.state.OutOfMemory = s.outOfMemory.Load()
	s.state.Audit = s.policy.audits()
	s.state.Faults = s.injected.hits()
	s.state.Trace = s.tracing.entries()
	s.state.Stats.Backend = BackendSeccomp.String()
	if s.spaces != nil {
		s.state.Stats.Backend = BackendNamespaces.String()
	}
	if s.withoutSpaces != nil {
		s.state.Stats.NoNamespaces = s.withoutSpaces.Error()
	}
	if s.netspace == nil && s.spaces != nil && s.cfg.Net == NetLoopback {
		s.state.Stats.NoNetspace = s.spaces.noNet.Error()
	}
	if s.wantsTSC() && !s.ownTSC() {
		s.state.Stats.HostTSC = errTSC.Error()
	}
	s.state.Stats.Landlock = s.landlockABI
	s.state.Stats.Real = time.Since(s.began)
}

// closeFeatures releases what the features hold.
func (s *Sandbox) closeFeatures() {
	if s.table == nil { // it hasn't come to that
		_ = s.page.close()
		return
	}
	for _, f := range slices.Backward(s.table.features) {
		if f.close != nil {
			if err := f.close(); err != nil {
				s.fail(fmt.Errorf("supervisor: feature %s: %w", f.name, err))
			}
		}
	}
}

// listen begins to serve the notifications of a listener.
func (s *Sandbox) listen(fd int) {
	l := seccomp.NewListener(fd, !kernelAtLeast(6, 11))
	_ = l.SyncWakeUp() // an older kernel is slower, no more
	s.receivers = &receivers{s: s, listener: l, loop: (*receivers).serveCalls}
	if s.agenda == nil {
		s.receivers.lull.watch(l)
	}
	if s.hooks.receive != nil {
		s.receivers.loop = s.hooks.receive
	}
	s.receivers.start()
}

// Wait waits until the command has ended, kills what it left behind, and
// returns how it ended. An error means that the sandbox failed: the state tells
// nothing then. An error of the copying of standard input or output comes
// with a valid state. It may be called more than once, and by several goroutines.
func (s *Sandbox) Wait() (*State, error) {
	s.waited.Store(true)
	if s.agenda != nil {
		s.agenda.bell.ring()
	}
	<-s.done
	s.waitOnce.Do(func() {
		s.waitErr = s.cmd.Wait()
		if !errors.Is(s.waitErr, exec.ErrWaitDelay) {
			s.copied.restore()
		}
	})
	err := s.waitErr
	var exit *exec.ExitError
	if errors.Is(err, unix.ECHILD) || errors.As(err, &exit) {
		err = s.copied.error() // the tracer has consumed the status
	}
	s.errMu.Lock()
	defer s.errMu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	return &s.state, err
}

// Layer returns the files of the sandbox, for what is to become of them after the
// end if Config.KeepLayer is set.
func (s *Sandbox) Layer() *cow.Tree { return s.view.tree }

// Discard removes what was written in a sandbox whose Config.KeepLayer is set. It
// waits for the end. It may be called more than once.
func (s *Sandbox) Discard() error {
	<-s.done
	return s.view.discard()
}

// Done is closed when nothing of the command is left.
func (s *Sandbox) Done() <-chan struct{} { return s.done }

// Kill ends the command and everything it started with SIGKILL. It returns at
// once; Wait tells when it is done.
func (s *Sandbox) Kill() { s.killWith(unix.SIGKILL) }

// Signal sends a signal to the command.
func (s *Sandbox) Signal(sig unix.Signal) error {
	if s.root != nil {
		return s.root.signal(sig)
	}
	return s.cmd.Process.Signal(sig)
}

// killWith sends the command a signal; when it has ended, the tracer kills the
// rest.
func (s *Sandbox) killWith(sig unix.Signal) {
	switch p := s.cmd.Process; {
	case s.root != nil:
		_ = s.root.signal(sig) // an error means that it has ended
	case p != nil:
		_ = p.Signal(sig)
	}
	if sig == unix.SIGKILL {
		s.thaw()
	}
}

// fail records the first error of the sandbox itself and ends the command.
func (s *Sandbox) fail(err error) {
	s.errMu.Lock()
	if s.err == nil {
		s.err = explainShortage(err)
		close(s.failed)
	}
	s.errMu.Unlock()
	s.Kill()
}

// hasFailed reports whether the sandbox itself has failed.
func (s *Sandbox) hasFailed() bool {
	select {
	case <-s.failed:
		return true
	default:
		return false
	}
}

// counts are the statistics of a sandbox.
type counts struct {
	notified, stopped [maxCall]atomic.Uint64
	processes, execs  atomic.Int64
	signals           atomic.Int64
}

// maxCall is above every system-call number.
const maxCall = 1024

func (c *counts) notify(nr int) {
	if nr >= 0 && nr < maxCall {
		c.notified[nr].Add(1)
	}
}

func (c *counts) stop(nr int) {
	if nr >= 0 && nr < maxCall {
		c.stopped[nr].Add(1)
	}
}

func (c *counts) stats() Stats {
	byName := func(list *[maxCall]atomic.Uint64) map[string]uint64 {
		m := map[string]uint64{}
		for nr := range list {
			if n := list[nr].Load(); n > 0 {
				m[seccomp.Name(uint32(nr))] = n
			}
		}
		return m
	}
	return Stats{
		Notifications: byName(&c.notified),
		Stops:         byName(&c.stopped),
		Processes:     int(c.processes.Load()),
		Execs:         int(c.execs.Load()),
		Signals:       int(c.signals.Load()),
	}
}

package sandtest

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor"
)

// Run runs cmd in a sandbox and returns what it did.
//
// cmd keeps the meaning it has for os/exec: Path, Args, Dir, Stdin, ExtraFiles
// and the context of exec.CommandContext. Stdout and Stderr are captured where
// they are nil. Env is [Environ] where it is nil. cmd.ProcessState stays nil; the
// Result has what it would say, but for an error of cmd.Cancel's, which nobody hears of.
// As with os/exec, descriptors of this process that aren't closed by exec(3) are the
// command's as well.
//
// A command that fails, is killed or times out does not fail t: that is for the
// test to judge. t fails at once if the sandbox can't be set up or the command
// can't be started, and is skipped where the platform has no sandbox.
func Run(t testing.TB, cmd *exec.Cmd, opts Options) *Result {
	t.Helper()
	return Start(t, cmd, opts).Wait()
}

// Start starts cmd in a sandbox, as [Run] does, and returns without waiting. When
// the test ends, whatever of it is left is killed.
func Start(t testing.TB, cmd *exec.Cmd, opts Options) *Process {
	t.Helper()
	p, err := start(cmd, opts, testDeadline(t))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("sandtest: %v", err)
	}
	if err != nil {
		t.Fatalf("sandtest: run %v: %v", cmd.Args, err)
	}
	p.t = t
	t.Cleanup(func() {
		p.Kill()
		<-p.sandbox.Done()
		_, _ = p.Result() // the test has seen the error, or didn't want to
		if err := p.sandbox.Discard(); err != nil {
			t.Errorf("sandtest: throw away what the command wrote: %v", err)
		}
	})
	return p
}

// Execute runs cmd in a sandbox outside of a test. Its error is what makes [Run]
// fail: the sandbox can't be set up, the command can't be started, or a value
// couldn't be virtualised. Where the platform has no sandbox, it is
// [errors.ErrUnsupported]. The result must be closed.
func Execute(cmd *exec.Cmd, opts Options) (*Result, error) {
	p, err := Begin(cmd, opts)
	if err != nil {
		return nil, err
	}
	return p.Result()
}

// Begin starts cmd in a sandbox outside of a test, and returns without waiting.
// Its errors are those of [Execute]; [Process.Result] must be called, and its result
// closed.
func Begin(cmd *exec.Cmd, opts Options) (*Process, error) {
	return start(cmd, opts, time.Time{})
}

// A Process is a command that runs in a sandbox.
type Process struct {
	t              testing.TB
	sandbox        *supervisor.Sandbox
	stdout, stderr *bytes.Buffer // nil if not captured
	timer          *time.Timer   // nil without a limit
	timedOut       atomic.Bool
	output         outputLimit
	dir            string
	started        chan struct{} // closed once sandbox is set, or never will be

	result *Result
	err    error
	waited chan struct{} // holds a token while nobody waits
}

// checkCommit refuses a directory that a commit has changed in part: nothing that reads it
// says anything.
func checkCommit(dir string) error {
	unfinished, err := cow.Unfinished(dir)
	if err == nil && unfinished {
		err = fmt.Errorf("%s is changed in part: a commit was killed there; to finish it, run: sandtest run --dir %s --changes commit -- true", dir, dir)
	}
	return err
}

func start(cmd *exec.Cmd, opts Options, deadline time.Time) (*Process, error) {
	p := &Process{waited: make(chan struct{}, 1), started: make(chan struct{})}
	p.waited <- struct{}{}
	p.output.left.Store(opts.MaxOutput)
	if p.output.limited = opts.MaxOutput > 0; p.output.limited {
		p.output.exceed = func() {
			if <-p.started; p.sandbox != nil {
				p.sandbox.Kill()
			}
		}
	}
	defer close(p.started)
	if cmd.Stdout == nil {
		p.stdout = new(bytes.Buffer)
		cmd.Stdout = p.output.writer(p.stdout)
	}
	if cmd.Stderr == nil {
		p.stderr = new(bytes.Buffer)
		cmd.Stderr = p.output.writer(p.stderr)
	}
	if cmd.Env == nil {
		cmd.Env = Environ()
	}
	cfg := opts.config()
	if err := opts.files(cmd, &cfg); err != nil {
		return nil, err
	}
	if opts.adjust != nil {
		opts.adjust(&cfg)
	}
	var err error
	if p.dir, err = filepath.Abs(cmd.Dir); err != nil {
		return nil, err
	}
	if err := checkCommit(p.dir); err != nil {
		return nil, err
	}
	if p.sandbox, err = supervisor.Start(cmd, cfg); err != nil {
		return nil, err
	}
	if limit, ok := opts.limit(deadline); ok {
		p.timer = time.AfterFunc(limit, func() {
			select {
			case <-p.sandbox.Done(): // in time, and nobody has asked yet
			default:
				p.timedOut.Store(true)
				p.sandbox.Kill()
			}
		})
	}
	return p, nil
}

// limit returns how long a command may take.
func (o Options) limit(deadline time.Time) (time.Duration, bool) {
	limit := o.Timeout
	if limit == 0 {
		limit = DefaultTimeout
		if left := time.Until(deadline); !deadline.IsZero() && left < limit {
			limit = max(left, 0)
		}
	}
	return limit, limit >= 0
}

// testDeadline returns when a test must have cleaned up: a twentieth of what is
// left, at most 5 s, before the test binary gives up.
func testDeadline(t testing.TB) time.Time {
	d, ok := t.(interface{ Deadline() (time.Time, bool) })
	if !ok {
		return time.Time{}
	}
	deadline, ok := d.Deadline()
	if !ok {
		return time.Time{}
	}
	return deadline.Add(-min(time.Until(deadline)/20, 5*time.Second))
}

// Wait waits until the command has ended, and returns what it did. It may be
// called more than once. It fails the test if the sandbox failed. A process that
// [Begin] has started belongs to no test; ask for its Result.
func (p *Process) Wait() *Result {
	p.t.Helper()
	res, err := p.Result()
	if err != nil {
		p.t.Fatalf("sandtest: %v", err)
	}
	return res
}

// Result waits as Wait does, and returns the error instead of failing a test.
func (p *Process) Result() (*Result, error) {
	<-p.waited
	defer func() { p.waited <- struct{}{} }()
	if p.result != nil || p.err != nil {
		return p.result, p.err
	}
	state, err := p.sandbox.Wait()
	if p.timer != nil {
		p.timer.Stop()
	}
	if err != nil {
		p.err = errors.Join(err, p.sandbox.Discard())
		return nil, p.err
	}
	p.result = &Result{
		ExitCode: state.ExitCode,
		Signal:   state.Signal,
		TimedOut: p.timedOut.Load(),
		Deadlock: state.Deadlock,

		OutOfMemory: state.OutOfMemory,
		OutputLimit: p.output.exceeded.Load(),
		ClockStart:  state.ClockStart,
		Clock:       state.Clock,
		Leaked:      state.Leaked,
		Changes:     state.Changes,
		Audit:       state.Audit,
		Faults:      state.Faults,
		Trace:       state.Trace,
		sandbox:     p.sandbox,
		dir:         p.dir,
		Stats:       state.Stats,
	}
	if p.stdout != nil {
		p.result.Stdout = p.stdout.String()
	}
	if p.stderr != nil {
		p.result.Stderr = p.stderr.String()
	}
	return p.result, nil
}

// Port returns where a test reaches a port of [Options.Publish], as HOST:PORT for
// net.Dial. It is known from the start on; as long as nobody listens there, a connection
// is refused. A port that isn't published fails the test.
func (p *Process) Port(port uint16) string {
	p.t.Helper()
	at, err := p.Address(port)
	if err != nil {
		p.t.Fatalf("sandtest: %v", err)
	}
	return at
}

// Address returns what Port does, and the error instead of failing a test.
func (p *Process) Address(port uint16) (string, error) {
	at, err := p.sandbox.Address(port)
	if err != nil {
		return "", err
	}
	return at.String(), nil
}

// Freeze stops the command and everything it started at once, until Thaw. Meanwhile
// neither their files nor their memory change, and the virtual clock stands still. The
// error is [os.ErrProcessDone] when the command has ended; to freeze what is frozen is
// one, too.
func (p *Process) Freeze() error { return p.sandbox.Freeze() }

// Thaw lets everything go on as if it had never been stopped. Without Freeze it does
// nothing.
func (p *Process) Thaw() { p.sandbox.Thaw() }

// Changes lists the files that differ from the host's so far. It tells a state that there
// really was while everything is frozen.
func (p *Process) Changes() (cow.Changes, error) { return p.sandbox.Layer().Changes() }

// Snapshot writes what was written so far to a directory that is empty or doesn't exist.
// The command must be frozen, or have ended: that it runs is an error. [Options.Lower]
// starts from it.
func (p *Process) Snapshot(dir string) error { return p.sandbox.Snapshot(dir) }

// Kill ends the command and everything it started.
func (p *Process) Kill() { p.sandbox.Kill() }

// Signal sends a signal to the command. The error is [os.ErrProcessDone] when it
// has ended.
func (p *Process) Signal(sig syscall.Signal) error { return p.sandbox.Signal(sig) }

// Done is closed when nothing of the command is left.
func (p *Process) Done() <-chan struct{} { return p.sandbox.Done() }

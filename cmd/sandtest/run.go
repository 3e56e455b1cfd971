package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	units "github.com/docker/go-units"
	"github.com/sandtest/go-sandtest/internal/runflags"
	"github.com/sandtest/go-sandtest/sandtest"
)

const runAbout = `Runs COMMAND in a sandbox in which nothing differs from run to run. The exit
status is the command's own, 128+N when signal N ended it, 124 on timeout or
deadlock, 125 when the sandbox fails, 126 when the command can't be executed,
127 when it isn't found. COMMAND has standard input, output and error, and no
other descriptor of the caller's.

Flags:
`

func runMain(args []string) int {
	var f runFlags
	flags := newFlagSet("run [flags] [--] COMMAND [ARG...]")
	f.Register(flags)
	if status, done := parse(flags, runAbout, args); done {
		return status
	}
	if flags.NArg() == 0 {
		return fail(exitSandbox, errors.New("no command given; sandtest run --help tells how"))
	}
	if f.Opts.Timeout == 0 {
		f.Opts.Timeout = -1 // no limit
	}
	res, err := f.run(flags.Args())
	if err != nil {
		return fail(startStatus(err), err)
	}
	defer res.Close()
	if err := f.Settle(res, os.Stderr); err != nil {
		return fail(exitSandbox, err)
	}
	switch {
	case res.TimedOut:
		return fail(exitTimeout, fmt.Errorf("%s timed out after %v and was killed", flags.Arg(0), f.Opts.Timeout))
	case res.OutOfMemory:
		return fail(exitSignal+int(res.Signal), fmt.Errorf("%s was killed: with what it started it used more memory than %s (--memory)", flags.Arg(0), units.BytesSize(float64(f.Opts.Memory))))
	case res.Deadlock != nil:
		return fail(exitTimeout, deadlocked(flags.Arg(0), res))
	case res.Signal != 0:
		return exitSignal + int(res.Signal)
	}
	return res.ExitCode
}

// deadlocked says what everything waits for.
func deadlocked(name string, res *sandtest.Result) error {
	text := fmt.Sprintf("%s was killed at %s: everything waits, and there is nothing that could end it", name, res.Clock.Format(time.RFC3339Nano))
	for _, th := range res.Deadlock {
		text += "\n\t" + th.String()
	}
	return errors.New(text)
}

// runFlags are the flags of run.
type runFlags struct{ runflags.Flags }

func (f *runFlags) run(args []string) (*sandtest.Result, error) {
	if f.Dir != "" {
		if _, err := os.Stat(f.Dir + "/."); err != nil { // it can be entered
			return nil, fmt.Errorf("--dir: %w", err)
		}
	}
	if err := f.Prepare(f.Dir); err != nil {
		return nil, err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = f.Dir
	cmd.Env = f.Environ()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := watchSignals()
	defer signals.stop()
	p, err := sandtest.Begin(cmd, f.Opts)
	if err != nil {
		return nil, err
	}
	signals.pass(p)
	for _, port := range f.Opts.Publish {
		at, err := p.Address(port)
		if err != nil {
			p.Kill()
			_, _ = p.Result()
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "sandtest: port %d is at %s\n", port, at)
	}
	return p.Result()
}

// startStatus is the exit status for a command that didn't run: that it isn't there, or can't be
// executed, is told apart from what keeps the sandbox from running it.
func startStatus(err error) int {
	var exe *exec.Error
	var path *fs.PathError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return exitNotFound
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE): // the sandbox's own, even where they are the fork's
		return exitSandbox
	case !errors.As(err, &exe) && !(errors.As(err, &path) && isExecution(path.Op)), errors.Is(err, syscall.EPERM):
		return exitSandbox
	case errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	}
	return exitNotExecutable
}

// isExecution reports whether an operation is that of executing the command: of os/exec, or in
// another root.
func isExecution(op string) bool { return op == "fork/exec" || strings.HasPrefix(op, "exec in ") }

func fail(status int, err error) int {
	fmt.Fprintf(os.Stderr, "sandtest: %s\n", strings.TrimPrefix(err.Error(), "sandtest: "))
	return status
}

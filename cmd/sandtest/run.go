package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/sandtest"
	"github.com/sandtest/go-sandtest/supervisor"
)

const runAbout = `Runs COMMAND in a sandbox in which nothing differs from run to run. The exit
status is the command's own, 128+N when signal N ended it, 124 on timeout or
deadlock, 125 when the sandbox fails, 126 when the command can't be executed,
127 when it isn't found.

Flags:
`

func runMain(args []string) int {
	var f runFlags
	flags := newFlagSet("run [flags] [--] COMMAND [ARG...]")
	f.register(flags)
	if status, done := parse(flags, runAbout, args); done {
		return status
	}
	if flags.NArg() == 0 {
		return fail(exitSandbox, errors.New("no command given; sandtest run --help tells how"))
	}
	if f.opts.Timeout == 0 {
		f.opts.Timeout = -1 // no limit
	}
	res, err := f.run(flags.Args())
	if err != nil {
		return fail(startStatus(err), err)
	}
	defer res.Close()
	if err := f.settle(res); err != nil {
		return fail(exitSandbox, err)
	}
	if f.json != "" {
		if err := writeJSON(f.json, res); err != nil {
			return fail(exitSandbox, fmt.Errorf("write the result: %w", err))
		}
	}
	switch {
	case res.TimedOut:
		return fail(exitTimeout, fmt.Errorf("%s timed out after %v and was killed", flags.Arg(0), f.opts.Timeout))
	case res.Deadlock != nil:
		return fail(exitTimeout, deadlocked(flags.Arg(0), res))
	case res.Signal != 0:
		return exitSignal + int(res.Signal)
	}
	return res.ExitCode
}

// settle shows what the command changed, and does with it what was asked for.
func (f *runFlags) settle(res *sandtest.Result) error {
	if f.diff {
		if err := showDiff(os.Stderr, res, isTerminal(os.Stderr)); err != nil {
			return err
		}
	}
	switch {
	case f.changes.commit:
		return res.Commit()
	case f.changes.keep != "":
		return res.Keep(f.changes.keep)
	}
	return nil
}

// deadlocked says what everything waits for.
func deadlocked(name string, res *sandtest.Result) error {
	text := fmt.Sprintf("%s was killed at %s: everything waits, and there is nothing that could end it", name, res.Clock.Format(time.RFC3339Nano))
	for _, th := range res.Deadlock {
		text += "\n\t" + th.String()
	}
	return errors.New(text)
}

func (f *runFlags) run(args []string) (*sandtest.Result, error) {
	if f.dir != "" {
		if _, err := os.Stat(f.dir + "/."); err != nil { // it can be entered
			return nil, fmt.Errorf("--dir: %w", notStart{err})
		}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = f.dir
	cmd.Env = f.environ()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := watchSignals()
	defer signals.stop()
	p, err := sandtest.Begin(cmd, f.opts)
	if err != nil {
		return nil, err
	}
	signals.pass(p)
	return p.Result()
}

// notStart hides what an error is from errors.Is: a missing directory isn't a
// missing command.
type notStart struct{ err error }

func (e notStart) Error() string { return e.err.Error() }

// startStatus is the exit status for a command that didn't run.
func startStatus(err error) int {
	var exe *exec.Error
	var path *fs.PathError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return exitNotFound
	case !errors.As(err, &exe) && !errors.As(err, &path):
		return exitSandbox
	case errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	}
	return exitNotExecutable
}

func fail(status int, err error) int {
	fmt.Fprintf(os.Stderr, "sandtest: %v\n", err)
	return status
}

// jsonResult is what --json writes. Its names are an interface.
type jsonResult struct {
	ExitCode   int                        `json:"exit_code"`
	Signal     string                     `json:"signal"` // such as SIGKILL, or empty
	Changes    []jsonChange               `json:"changes"`
	ClockStart time.Time                  `json:"clock_start"`
	ClockEnd   time.Time                  `json:"clock_end"`
	Leaked     []jsonLeaked               `json:"leaked"`
	Deadlock   []supervisor.BlockedThread `json:"deadlock,omitempty"`
	Backend    string                     `json:"backend"`
	Stats      supervisor.Stats           `json:"stats"`
}

type jsonLeaked struct {
	Lineage det.Lineage `json:"lineage"`
	Args    []string    `json:"args"`
}

type jsonChange struct {
	Kind   string `json:"kind"` // A, M or D
	Path   string `json:"path"`
	Mode   string `json:"mode"` // as ls shows it
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"` // of a regular file that is there
	Target string `json:"target,omitempty"` // of a symbolic link
}

func jsonChanges(res *sandtest.Result) ([]jsonChange, error) {
	list := []jsonChange{}
	for i := range res.Changes {
		c := &res.Changes[i]
		out := jsonChange{Kind: string(rune(c.Kind)), Path: c.Path, Mode: cow.ModeString(c.Mode), Size: c.Size, Target: c.Target}
		if c.Regular() {
			f, err := c.Open()
			if err != nil {
				return nil, err
			}
			h := sha256.New()
			_, err = io.Copy(h, f)
			f.Close()
			if err != nil {
				return nil, err
			}
			out.SHA256 = hex.EncodeToString(h.Sum(nil))
		}
		list = append(list, out)
	}
	return list, nil
}

func writeJSON(file string, res *sandtest.Result) (err error) {
	out := jsonResult{
		ExitCode:   res.ExitCode,
		Signal:     signalName(res.Signal),
		ClockStart: res.ClockStart,
		ClockEnd:   res.Clock,
		Leaked:     []jsonLeaked{},
		Deadlock:   res.Deadlock,
		Backend:    "seccomp",
		Stats:      res.Stats,
	}
	if out.Changes, err = jsonChanges(res); err != nil {
		return err
	}
	for _, l := range res.Leaked {
		out.Leaked = append(out.Leaked, jsonLeaked{l.Lineage, l.Args})
	}
	var w io.Writer = os.Stdout
	if file != "-" {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		w = f
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

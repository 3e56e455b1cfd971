// Package script runs programs of a testscript scenario in sandboxes.
//
//	func TestScripts(t *testing.T) {
//		testscript.Run(t, script.Params(testscript.Params{
//			Dir:           "testdata/script",
//			UpdateScripts: *update,
//		}, sandtest.Options{}))
//	}
//
// It adds two commands to those of testscript:
//
//   - sandbox [flags] PROGRAM [ARG...] runs a program in a sandbox, with the script's
//     environment and in its current directory. The flags are those of sandtest run;
//     paths in them begin at that directory, --inherit-env is an error, and --publish sets
//     PORT_80, say, to the address of port 80. Standard output and error go where those of
//     exec go, so "stdout RE", "stderr RE", "cmp stdout FILE" and updating scripts work;
//     "! sandbox" expects a failure. What the program writes is committed to the script's
//     directory unless --changes says otherwise.
//   - changes [FILE] compares the changes of the last sandbox with a file, or without
//     one with nothing. A file of the script is rewritten when scripts are updated, if the
//     commands come from [Params]. changes -l lists the changes on standard output.
//
// The program sees the directory of the script, $WORK, at /work, and its variables
// name that.
//
// With -set, sandbox keeps its flags for the rest of the script instead of running
// anything. A last argument & or &name& lets the program run in the background; it is
// waited for by "sandbox -wait [name]", which does what wait does for those of exec, and
// killed at the script's end. The command wait itself knows exec's alone: testscript
// neither lets others add to its list nor take the place of its commands.
//
// A script fails if a program in it deadlocks or takes longer than its --timeout,
// whatever is expected of it.
package script

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sandtest/go-sandtest/internal/runflags"
	"github.com/sandtest/go-sandtest/sandtest"
)

// Commands returns the commands sandbox and changes, for
// [testscript.Params.Cmds]; see also [Params]. opts are what flags start from; their Timeout is 10
// minutes unless set.
func Commands(opts sandtest.Options) map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return newCommands(opts).table()
}

// A script is what the commands remember about one.
type script struct {
	defaults   []string // flags
	last       *sandtest.Result
	background []*job
	expected   map[string]string // what files of the archive are to be, by their names there
}

// A job is a program that runs in the background.
type job struct {
	name           string
	neg            bool
	args           []string
	flags          *runflags.Flags
	process        *sandtest.Process
	stdout, stderr *bytes.Buffer
}

var ampersand = regexp.MustCompile(`^&(?:([a-zA-Z_0-9]+)&)?$`)

const usage = "usage: sandbox [flags] program [args...] [&|&name&], sandbox -set [flags], sandbox -wait [name]"

func (c *commands) sandbox(ts *testscript.TestScript, neg bool, args []string) {
	s := c.of(ts)
	switch {
	case len(args) == 0:
		ts.Fatalf(usage)
	case args[0] == "-set" || args[0] == "--set":
		if neg {
			ts.Fatalf("unsupported: ! sandbox -set")
		}
		_, fs := c.newFlags()
		if err := fs.Parse(args[1:]); err != nil || fs.NArg() > 0 {
			ts.Fatalf("sandbox -set: %v", cause(err, fs))
		}
		s.defaults = append(s.defaults, args[1:]...)
	case args[0] == "-wait" || args[0] == "--wait":
		if neg {
			ts.Fatalf("unsupported: ! sandbox -wait")
		}
		c.wait(ts, s, args[1:])
	default:
		c.run(ts, s, neg, args)
	}
}

func cause(err error, fs *flag.FlagSet) error {
	if err == nil {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return err
}

// newFlags returns flags as they stand at the beginning.
func (c *commands) newFlags() (*runflags.Flags, *flag.FlagSet) {
	f := &runflags.Flags{Changes: runflags.Changes{Commit: true}}
	fs := flag.NewFlagSet("sandbox", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	f.Register(fs)
	work := c.opts.Work
	f.Opts = c.opts
	if work == "" {
		f.Opts.Work = sandtest.DefaultWork
	}
	if f.Opts.Timeout == 0 {
		f.Opts.Timeout = sandtest.DefaultTimeout
	}
	return f, fs
}

func (c *commands) run(ts *testscript.TestScript, s *script, neg bool, args []string) {
	name, background := "", false
	if m := ampersand.FindStringSubmatch(args[len(args)-1]); m != nil {
		background, name = true, m[1]
		args = args[:len(args)-1]
	}
	f, fs := c.newFlags()
	err := fs.Parse(slices.Concat(s.defaults, args))
	switch {
	case err != nil:
		ts.Fatalf("sandbox: %v", err)
	case fs.NArg() == 0:
		ts.Fatalf(usage)
	case name != "" && slices.ContainsFunc(s.background, func(j *job) bool { return j.name == name }):
		ts.Fatalf("duplicate background process name %q", name)
	}
	if f.InheritEnv {
		ts.Fatalf("sandbox: -inherit-env: the environment is the script's: use env")
	}
	fromScript(ts, f)
	j := &job{name: name, neg: neg, args: fs.Args(), flags: f, stdout: new(bytes.Buffer), stderr: new(bytes.Buffer)}
	if err := j.start(ts); err != nil {
		if !neg {
			ts.Fatalf("sandbox: %v", err)
		}
		fmt.Fprintf(ts.Stderr(), "sandbox: %v\n", err)
		return
	}
	if background {
		s.background = append(s.background, j)
		return
	}
	c.finish(ts, s, j)
}

// fromScript lets the paths of flags begin at the script's directory.
func fromScript(ts *testscript.TestScript, f *runflags.Flags) {
	f.Changes.Below = ts.Getenv("WORK")
	o := &f.Opts
	o.Mounts, o.Read, o.Write, o.Deny = slices.Clone(o.Mounts), slices.Clone(o.Read), slices.Clone(o.Write), slices.Clone(o.Deny)
	paths := []*string{&f.Changes.Snapshot, &f.Changes.Keep, &f.Opts.Lower, &f.Opts.Root, &f.Trace}
	if f.JSON != "-" {
		paths = append(paths, &f.JSON)
	}
	for i := range f.Opts.Mounts {
		paths = append(paths, &f.Opts.Mounts[i].Host)
	}
	if f.Opts.Root == "" { // otherwise they are paths in there
		for _, list := range [][]string{f.Opts.Read, f.Opts.Write, f.Opts.Deny} {
			for i := range list {
				paths = append(paths, &list[i])
			}
		}
	}
	for _, p := range paths {
		if *p != "" {
			*p = ts.MkAbs(*p)
		}
	}
	if f.Opts.Timeout == 0 {
		f.Opts.Timeout = -1 // no limit
	}
}

// start starts a program as testscript's exec would.
func (j *job) start(ts *testscript.TestScript) error {
	program, err := lookPath(ts, j.args[0])
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{Path: program, Args: j.args, Dir: ts.MkAbs(j.flags.Dir), Stdout: j.stdout, Stderr: j.stderr}
	if cmd.Env, err = j.world(ts, cmd.Dir); err != nil {
		return err
	}
	// A script is found by the path that its interpreter is given.
	if rel, err := filepath.Rel(cmd.Dir, program); err == nil && j.flags.Opts.Root == "" && strings.HasPrefix(program, ts.Getenv("WORK")+"/") {
		cmd.Path = "." + string(filepath.Separator) + rel
	}
	if err := j.flags.Prepare(cmd.Dir); err != nil {
		return err
	}
	if j.process, err = sandtest.Begin(cmd, j.flags.Opts); err != nil {
		return err
	}
	for _, port := range j.flags.Opts.Publish {
		at, err := j.process.Address(port)
		if err != nil {
			return err
		}
		ts.Setenv(fmt.Sprintf("PORT_%d", port), at)
	}
	return nil
}

// lookPath finds a program by the script's PATH.
func lookPath(ts *testscript.TestScript, name string) (string, error) {
	if strings.Contains(name, "/") {
		return ts.MkAbs(name), nil
	}
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(ts.MkAbs(dir), name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// finish waits for a program and passes on what it did.
func (c *commands) finish(ts *testscript.TestScript, s *script, j *job) {
	res, err := j.process.Result()
	if err != nil {
		ts.Fatalf("sandbox: %v", err)
	}
	if s.last != nil {
		_ = s.last.Close()
	}
	s.last = res
	_, _ = ts.Stdout().Write(j.stdout.Bytes())
	_, _ = ts.Stderr().Write(j.stderr.Bytes())
	j.flags.Stdout = ts.Stdout()
	if err := j.flags.Settle(res, ts.Stderr()); err != nil {
		ts.Fatalf("sandbox: %v", err)
	}
	problem := verdict(res, j.flags)
	switch {
	case problem == nil && j.neg:
		ts.Fatalf("unexpected command success")
	case errors.Is(problem, errStatus) && j.neg:
	case errors.Is(problem, errStatus):
		ts.Logf("[%v]", problem)
		ts.Fatalf("unexpected command failure")
	case problem != nil:
		ts.Fatalf("sandbox: %s: %v", j.args[0], problem)
	}
}

// errStatus is the failure that a program may be expected to end with.
var errStatus = errors.New("exit status")

// verdict says how a program failed, if it did.
func verdict(res *sandtest.Result, f *runflags.Flags) error {
	switch {
	case res.TimedOut:
		return fmt.Errorf("timed out after %v", f.Opts.Timeout)
	case res.OutOfMemory:
		return fmt.Errorf("%w: killed for using more memory than there is (-memory)", errStatus)
	case res.Deadlock != nil:
		text := "everything waits, and there is nothing that could end it"
		for _, th := range res.Deadlock {
			text += "\n\t" + th.String()
		}
		return errors.New(text)
	case res.Signal != 0:
		return fmt.Errorf("%w: signal %s", errStatus, sandtest.SignalName(res.Signal))
	case res.ExitCode != 0:
		return fmt.Errorf("%w %d", errStatus, res.ExitCode)
	}
	return nil
}

// wait waits for one program in the background, or for all.
func (c *commands) wait(ts *testscript.TestScript, s *script, args []string) {
	if len(args) > 1 {
		ts.Fatalf(usage)
	}
	jobs := s.background
	if len(args) == 1 {
		i := slices.IndexFunc(jobs, func(j *job) bool { return j.name == args[0] })
		if i < 0 {
			ts.Fatalf("unknown background process %q", args[0])
		}
		jobs = []*job{jobs[i]}
	}
	for _, j := range slices.Clone(jobs) {
		s.background = slices.DeleteFunc(s.background, func(other *job) bool { return other == j })
		c.finish(ts, s, j)
	}
}

func (c *commands) changes(ts *testscript.TestScript, neg bool, args []string) {
	s := c.of(ts)
	switch {
	case neg:
		ts.Fatalf("unsupported: ! changes")
	case len(args) > 1:
		ts.Fatalf("usage: changes [file]")
	case s.last == nil:
		ts.Fatalf("changes: no sandbox has run yet")
	}
	got := s.last.Changes.String()
	if slices.Equal(args, []string{"-l"}) {
		_, _ = io.WriteString(ts.Stdout(), got)
		return
	}
	if len(args) == 0 {
		if got != "" {
			ts.Logf("%s", got)
			ts.Fatalf("the sandbox has changed files")
		}
		return
	}
	file := args[0]
	if want := ts.ReadFile(file); want != got && !c.expects(ts, s, file, got) {
		ts.Logf("%s", diff.Diff(file, []byte(want), "changes", []byte(got)))
		ts.Fatalf("the changes differ from %s", file)
	}
}

package sandtest

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/sandtest/go-sandtest/supervisor"
)

// Sweep lets every call of a command that may fail do so, one in each run, and asks
// check what came of it. First cmd runs without a fault, as the subtest "none", and its
// calls are counted; then once for each of them, in parallel, as a subtest that is
// named after the call:
//
//	p0.1:17 write /work/db@4096 ENOSPC
//
// is the 17th call of process 0.1, a write to /work/db at 4,096 bytes. So -run repeats
// just that one: what means something else there, in a path, is an underscore. Every run begins with the same files, and the same calls are made up to
// the one that fails. The calls of the dynamic linker are left out.
//
// Which calls are to fail and how is what opts.Faults say; of those First, Last, Step and
// Share choose among the calls of each process. Without any, these fail, each with an
// error that it may have on any machine: opening, reading, writing, syncing, renaming
// and removing files, memory, new processes, and connections. With
// [Fault.Kill] a process ends at each call in turn, and [Options.On] runs what is to
// recover from that:
//
//	sandtest.Sweep(t, cmd, opts, func(t *testing.T, res *sandtest.Result) {
//		again := sandtest.Run(t, exec.Command("./app", "check"), sandtest.Options{On: res})
//		...
//	})
//
// A test that is to end soon sweeps a part: with Step 10, each tenth call.
func Sweep(t *testing.T, cmd *exec.Cmd, opts Options, check func(t *testing.T, res *Result)) {
	t.Helper()
	sw := &sweep{cmd: *cmd, opts: opts, check: check}
	if len(sw.opts.Faults) == 0 {
		sw.opts.Faults = defaultFaults()
	}
	if cmd.Stdin != nil {
		stdin, err := io.ReadAll(cmd.Stdin)
		if err != nil {
			t.Fatalf("sandtest: sweep: read standard input: %v", err)
		}
		sw.stdin = stdin
	}
	var points []supervisor.FaultHit
	// The same name as in every run, so that -run finds the calls without it.
	ran := t.Run("none", func(t *testing.T) { points = sw.count(t) })
	if points == nil && ran && !t.Failed() { // not among what -run asks for
		points = sw.count(t)
	}
	names := sw.names(points)
	for i, point := range points {
		if !point.Loader {
			t.Run(names[i], func(t *testing.T) {
				t.Parallel()
				sw.run(t, point)
			})
		}
	}
}

type sweep struct {
	cmd   exec.Cmd
	stdin []byte
	opts  Options
	check func(*testing.T, *Result)
}

// command returns the command anew: an exec.Cmd runs once.
func (sw *sweep) command() *exec.Cmd {
	cmd := &exec.Cmd{Path: sw.cmd.Path, Args: sw.cmd.Args, Env: sw.cmd.Env, Dir: sw.cmd.Dir, ExtraFiles: sw.cmd.ExtraFiles, Err: sw.cmd.Err}
	if sw.cmd.Stdin != nil {
		cmd.Stdin = bytes.NewReader(sw.stdin)
	}
	return cmd
}

// count runs the command without a fault and returns the calls that may fail.
func (sw *sweep) count(t *testing.T) []supervisor.FaultHit {
	opts := sw.opts
	opts.Faults = slices.Clone(opts.Faults)
	for i := range opts.Faults {
		f := &opts.Faults[i]
		f.Error, f.Short, f.Delay, f.Signal, f.Kill, f.Note = 0, 0, 0, 0, false, true
	}
	res := Run(t, sw.command(), opts)
	sw.check(t, res)
	if len(res.Faults) == 0 {
		t.Fatalf("sandtest: sweep: %v makes no call that is to fail", sw.cmd.Args)
	}
	return res.Faults
}

// run lets one call fail.
func (sw *sweep) run(t *testing.T, point supervisor.FaultHit) {
	opts := sw.opts
	f := opts.Faults[point.Fault]
	f.Process, f.First, f.Last, f.Step, f.Share = point.Process, point.N, point.N, 1, 0
	opts.Faults = []Fault{f}
	res := Run(t, sw.command(), opts)
	if len(res.Faults) != 1 {
		t.Fatalf("sandtest: sweep: the call wasn't made: the command doesn't do the same in every run (threads that race?)")
	}
	if got := res.Faults[0].Text; got != point.Text {
		t.Fatalf("sandtest: sweep: the call was %s, and %s before: the command doesn't do the same in every run (threads that race?)", got, point.Text)
	}
	sw.check(t, res)
}

// names returns what the subtests are called. Each, as a pattern for -run, matches itself
// alone: that is compared between slashes, with any part of a name, so what comes before
// the first slash is unique and has an end on both sides. Where several faults hit a call,
// the later ones have their place in the list there, from 1.
func (sw *sweep) names(points []supervisor.FaultHit) []string {
	names := make([]string, len(points))
	taken := map[string]bool{}
	for i, point := range points {
		which := fmt.Sprintf("p%s:%d", point.Process, point.N)
		if taken[which+" "+point.Call] {
			which += fmt.Sprintf(":%d", point.Fault+1)
		}
		taken[which+" "+point.Call] = true
		names[i] = which + " " + sw.name(point)
	}
	return names
}

// name says what is called, and what becomes of it.
func (sw *sweep) name(point supervisor.FaultHit) string {
	text := point.Call
	switch {
	case point.Path != "" && point.FD == "file":
		text += fmt.Sprintf(" %s@%d", plain(point.Path), point.Offset)
	case point.Path != "":
		text += " " + plain(point.Path)
	case point.FD != "":
		text += " " + point.FD
	}
	return text + " " + effectOf(&sw.opts.Faults[point.Fault])
}

// plain returns a path without what is special to a regular expression, to a shell, or to
// package testing. A point matches itself.
func plain(path string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("./_-,:=@%", r) {
			return r
		}
		return '_'
	}, path)
}

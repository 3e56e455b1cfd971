package sandtest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/internal/compare"
)

// A Check says how a command is checked for being reproducible. The zero Check varies
// everything, once.
type Check struct {
	// Runs is how often the command is run, at least 2, which is the default.
	Runs int

	// Vary is what differs in every run but the first, see [ParseVariations]. Empty means
	// everything.
	Vary []string

	// Frozen runs the command in the same world each time, and varies nothing.
	Frozen bool

	// Outputs limits what counts to files that match one of these patterns (path.Match,
	// for the path below the command's directory or the last part of it, for a directory
	// above it, or for an absolute path). Empty means everything that the command has
	// changed in its directory, and what it wrote to standard output.
	Outputs []string

	// Stderr compares standard error, too.
	Stderr bool

	// Progress, if not nil, is told of each run that begins, in a line: "run 1 of 2: the
	// first world". Finding causes takes more runs, so many as the ones before show.
	Progress func(line string)
}

// A Report is what a check has found.
type Report struct {
	// Reproducible is the verdict: every run had the same outputs.
	Reproducible bool
	// Runs is how often the command was run, causes included.
	Runs int
	// Outputs are those of the first run, sorted by path.
	Outputs []Output
	// Differences are the outputs that weren't the same, sorted by path.
	Differences []Difference
}

// An Output is something that a command has made: a file, named by its path below the
// command's directory, or [Stdout], [Stderr], [ExitStatus]; a file that is named as one
// of those is ./stdout.
type Output struct {
	Path   string `json:"path"`
	Mode   string `json:"mode,omitempty"` // as ls shows it; empty for what isn't a file
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	Target string `json:"target,omitempty"` // of a symbolic link
	Value  string `json:"value,omitempty"`  // of what isn't a file

	open func() (io.ReadCloser, error)
}

// Outputs that aren't files.
const (
	Stdout     = "stdout"
	Stderr     = "stderr"
	ExitStatus = "exit status"
)

// A Difference is an output that wasn't the same in every run.
type Difference struct {
	// Path is the output's.
	Path string `json:"path"`
	// Causes are the variations that each by itself make it differ; if only several
	// together do, they are one cause, joined by "+". [Race] is what differs in the same
	// world, too.
	Causes []Cause `json:"causes"`
}

// Race is the cause of what differs although nothing is varied: what runs at the same time,
// and process ids where they are the host's (see [BackendSeccomp]).
const Race = "race"

// A Cause is a variation with what it changes.
type Cause struct {
	Variation string   `json:"variation"`
	Where     []string `json:"where"`          // the places that differ, a line each
	Diffs     []string `json:"-"`              // how each of Where differs, empty where its line says it all
	Diff      string   `json:"diff,omitempty"` // the first of them that isn't empty
	Hint      string   `json:"hint,omitempty"` // what usually helps
}

// CheckReproducible runs a command several times, each time from the same files, in
// worlds that differ in everything that a build must not depend on, and compares what
// comes out. For what differs it finds out which single variation makes it differ.
//
// Errors: those of [Execute], a command that fails in the first world already or is
// ended by a limit, an unknown variation.
func CheckReproducible(cmd *exec.Cmd, opts Options, check Check) (*Report, error) {
	c := &checkedCommand{cmd: cmd, opts: opts, Check: check, report: &Report{}}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	defer c.close()
	return c.report, c.check()
}

// Reproducible fails t unless a command is reproducible, and says what makes it
// differ.
func Reproducible(t testing.TB, cmd *exec.Cmd, opts Options) {
	t.Helper()
	report, err := CheckReproducible(cmd, opts, Check{})
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		t.Skipf("sandtest: %v", err)
	case err != nil:
		t.Fatalf("sandtest: %v", err)
	case !report.Reproducible:
		t.Errorf("sandtest: %v isn't reproducible:\n%s", cmd.Args, report)
	}
}

// String returns the report as text.
func (r *Report) String() string {
	var b strings.Builder
	if r.Reproducible {
		fmt.Fprintf(&b, "reproducible: %d runs, %d outputs the same\n", r.Runs, len(r.Outputs))
		return b.String()
	}
	fmt.Fprintf(&b, "not reproducible: %d of %d outputs differ\n", len(r.Differences), max(len(r.Outputs), len(r.Differences)))
	for _, d := range r.Differences {
		for _, cause := range d.Causes {
			for i, where := range cause.Where {
				const most = 5
				if i == most {
					fmt.Fprintf(&b, "%s: %s: and %d more\n", cause.Variation, d.Path, len(cause.Where)-most)
					break
				}
				fmt.Fprintf(&b, "%s: %s: %s\n", cause.Variation, d.Path, where)
			}
			for line := range strings.Lines(shortened(cause.Diff)) {
				b.WriteString("    " + strings.TrimSuffix(line, "\n") + "\n")
			}
			if cause.Hint != "" {
				b.WriteString("    hint: " + cause.Hint + "\n")
			}
		}
	}
	return b.String()
}

// shortened leaves out all but the first lines of a text.
func shortened(text string) string {
	const most = 12
	lines := strings.SplitAfter(text, "\n")
	if len(lines) <= most+1 {
		return text
	}
	return strings.Join(lines[:most], "") + fmt.Sprintf("... %d lines more\n", len(lines)-most-1)
}

// A checkedCommand is a check that is under way.
type checkedCommand struct {
	Check
	cmd    *exec.Cmd
	opts   Options
	stdin  []byte
	report *Report

	base  *outcome
	found map[string]map[string]*Cause // by output and variation
	order map[string][]string          // the variations of each, as they were found
}

func (c *checkedCommand) prepare() (err error) {
	if c.Runs == 0 {
		c.Runs = 2
	}
	if c.Runs < 2 {
		return fmt.Errorf("sandtest: Runs is %d: want at least 2", c.Runs)
	}
	if c.Vary, err = ParseVariations(strings.Join(c.Vary, ",")); err != nil {
		return fmt.Errorf("sandtest: %w", err)
	}
	for _, p := range c.Outputs {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("sandtest: Outputs: %q: %w", p, err)
		}
	}
	if c.cmd.Stdin != nil {
		if c.stdin, err = io.ReadAll(c.cmd.Stdin); err != nil {
			return fmt.Errorf("sandtest: read standard input: %w", err)
		}
	}
	c.found, c.order = map[string]map[string]*Cause{}, map[string][]string{}
	return nil
}

// clone returns a command that hasn't been started.
func (c *checkedCommand) clone() *exec.Cmd {
	cmd := &exec.Cmd{Path: c.cmd.Path, Args: c.cmd.Args, Dir: c.cmd.Dir, Env: slices.Clone(c.cmd.Env), Err: c.cmd.Err}
	if c.cmd.Env == nil {
		cmd.Env = Environ()
	}
	if c.stdin != nil {
		cmd.Stdin = bytes.NewReader(c.stdin)
	}
	return cmd
}

// An outcome is one run with its outputs.
type outcome struct {
	res     *Result
	outputs map[string]*Output
}

func (o *outcome) close() {
	if o != nil {
		_ = o.res.Close() // what can't be removed stays in the temporary directory
	}
}

func (c *checkedCommand) close() { c.base.close() }

func (c *checkedCommand) say(format string, args ...any) {
	if c.Progress != nil {
		c.Progress(fmt.Sprintf(format, args...))
	}
}

// A trial is a run that is to be made.
type trial struct {
	world
	why string // in a few words
}

// runAll makes runs, several at a time: they have nothing in common. The outcomes are in
// the order of the trials.
func (c *checkedCommand) runAll(trials ...trial) ([]*outcome, error) {
	list, errs := make([]*outcome, len(trials)), make([]error, len(trials))
	var wg sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	planned := c.report.Runs + len(trials)
	for i, t := range trials {
		free <- struct{}{}
		c.report.Runs++
		c.say("run %d of %d: %s", c.report.Runs, planned, t.why)
		wg.Go(func() {
			list[i], errs[i] = c.run(t)
			<-free
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		for _, o := range list {
			o.close()
		}
		for _, err := range errs {
			if err != nil {
				return nil, err // the first of them says it
			}
		}
	}
	return list, nil
}

// run runs the command once.
func (c *checkedCommand) run(t trial) (*outcome, error) {
	cmd, opts := c.in(t.world)
	defer disturb(opts.disturbance)()
	res, err := Execute(cmd, opts)
	if err != nil {
		return nil, err
	}
	o := &outcome{res: res}
	switch {
	case res.TimedOut:
		err = errors.New("it timed out")
	case res.OutOfMemory:
		err = errors.New("it used more memory than there is")
	case res.Deadlock != nil:
		err = errors.New("everything in it waited for something else")
	default:
		o.outputs, err = c.collect(res, opts)
	}
	if err != nil {
		o.close()
		return nil, fmt.Errorf("sandtest: %s: %w", t.why, err)
	}
	return o, nil
}

// collect lists what a run has made.
func (c *checkedCommand) collect(res *Result, opts Options) (map[string]*Output, error) {
	status := strconv.Itoa(res.ExitCode)
	if res.Signal != 0 {
		status = SignalName(res.Signal)
	}
	list := map[string]*Output{ExitStatus: {Path: ExitStatus, Value: status}}
	text := func(name, s string) {
		sum := sha256.Sum256([]byte(s))
		list[name] = &Output{Path: name, Size: int64(len(s)), SHA256: hex.EncodeToString(sum[:]), open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }}
	}
	if len(c.Outputs) == 0 {
		text(Stdout, res.Stdout)
	}
	if c.Stderr {
		text(Stderr, res.Stderr)
	}
	work := opts.Work
	switch work {
	case "":
		work = DefaultWork
	case InPlace:
		work = res.dir
	}
	for i := range res.Changes {
		ch := &res.Changes[i]
		name, within := strings.CutPrefix(ch.Path, work+"/")
		if !c.counts(name, within) {
			continue
		}
		if name == Stdout || name == Stderr || name == ExitStatus {
			name = "./" + name // a file of that name
		}
		out := &Output{Path: name, Mode: cow.ModeString(ch.Mode), Size: ch.Size, Target: ch.Target}
		if ch.Kind == cow.Deleted {
			out.Mode, out.Value = "", "deleted"
		}
		if strings.HasPrefix(out.Mode, "d") {
			out.Size = 0
		}
		if ch.Regular() {
			sum, err := ch.SHA256()
			if err != nil {
				return nil, err
			}
			out.SHA256 = sum
			out.open = func() (io.ReadCloser, error) { return ch.Open() }
		}
		list[name] = out
	}
	return list, nil
}

// counts reports whether a file is one of those that are compared.
func (c *checkedCommand) counts(name string, within bool) bool {
	if len(c.Outputs) == 0 {
		return within
	}
	return slices.ContainsFunc(c.Outputs, func(p string) bool {
		whole, _ := path.Match(p, name)
		last, _ := path.Match(p, path.Base(name))
		return whole || last || strings.HasPrefix(name, strings.TrimSuffix(p, "/")+"/")
	})
}

// differing lists the outputs that two runs don't have in common.
func differing(a, b *outcome) (list []string) {
	for name, x := range a.outputs {
		if y := b.outputs[name]; y == nil || !same(x, y) {
			list = append(list, name)
		}
	}
	for name := range b.outputs {
		if a.outputs[name] == nil {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func same(a, b *Output) bool {
	return a.Mode == b.Mode && a.Size == b.Size && a.SHA256 == b.SHA256 && a.Target == b.Target && a.Value == b.Value
}

// check does it all.
func (c *checkedCommand) check() (err error) {
	trials := []trial{{world{}, "the first world"}}
	for n := 1; n < c.Runs; n++ {
		if c.Frozen {
			trials = append(trials, trial{world{nil, n}, "the same world"})
		} else {
			trials = append(trials, trial{world{c.Vary, n}, "another world"})
		}
	}
	outcomes, err := c.runAll(trials...)
	if err != nil {
		return err
	}
	c.base = outcomes[0]
	others := outcomes[1:]
	defer func() {
		for _, o := range others {
			o.close()
		}
	}()
	if code := c.base.res.ExitCode; code != 0 {
		return fmt.Errorf("sandtest: %v fails in the first world already: %s", c.cmd.Args, failure(c.base.res))
	}
	for _, name := range sortedOutputs(c.base.outputs) {
		c.report.Outputs = append(c.report.Outputs, *c.base.outputs[name])
	}
	suspects := map[string]int{} // the number of the run in which an output first differed
	for i, o := range others {
		for _, name := range differing(c.base, o) {
			if _, ok := suspects[name]; !ok {
				suspects[name] = i + 1
			}
			if c.Frozen {
				c.blame(name, Race, o)
			}
		}
	}
	if c.report.Reproducible = len(suspects) == 0; c.report.Reproducible {
		return nil
	}
	if !c.Frozen {
		if err := c.findCauses(suspects); err != nil {
			return err
		}
	}
	for _, name := range sortedOutputs(suspects) {
		d := Difference{Path: name}
		for _, v := range c.order[name] {
			d.Causes = append(d.Causes, *c.found[name][v])
		}
		c.report.Differences = append(c.report.Differences, d)
	}
	return nil
}

func sortedOutputs[V any](m map[string]V) (list []string) {
	for name := range m {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// findCauses runs the command with ever fewer variations.
func (c *checkedCommand) findCauses(suspects map[string]int) error {
	again, err := c.runAll(trial{world{}, "the first world again"})
	if err != nil {
		return err
	}
	control := again[0]
	racing := differing(c.base, control)
	for _, name := range racing {
		if _, ok := suspects[name]; !ok {
			suspects[name] = 0
		}
		c.blame(name, Race, control)
	}
	control.close()
	byRun := map[int][]string{}
	for name, n := range suspects {
		if !slices.Contains(racing, name) {
			byRun[n] = append(byRun[n], name)
		}
	}
	for n := 1; n < c.Runs; n++ {
		if names := byRun[n]; len(names) > 0 {
			if err := c.divide(names, c.Vary, n, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// divide finds which of some variations, that together make outputs differ, each do.
// whole, if not nil, is a run with all of them.
func (c *checkedCommand) divide(names, varied []string, n int, whole *outcome) error {
	if len(varied) == 1 {
		if whole == nil {
			list, err := c.runAll(trial{world{varied, n}, varied[0]})
			if err != nil {
				return err
			}
			whole = list[0]
			defer whole.close()
		}
		for _, name := range names {
			c.blame(name, varied[0], whole)
		}
		return nil
	}
	explained := map[string]bool{}
	half := len(varied) / 2
	parts := [][]string{varied[:half], varied[half:]}
	list, err := c.runAll(trial{world{parts[0], n}, strings.Join(parts[0], ", ")}, trial{world{parts[1], n}, strings.Join(parts[1], ", ")})
	if err != nil {
		return err
	}
	defer func() {
		for _, o := range list {
			o.close()
		}
	}()
	for i, part := range parts {
		o := list[i]
		var found []string
		for _, name := range differing(c.base, o) {
			if slices.Contains(names, name) {
				found = append(found, name)
				explained[name] = true
			}
		}
		if len(found) > 0 {
			if err := c.divide(found, part, n, o); err != nil {
				return err
			}
		}
	}
	// What neither half does by itself takes both.
	var together []string
	for _, name := range names {
		if !explained[name] {
			together = append(together, name)
		}
	}
	if len(together) == 0 {
		return nil
	}
	o := whole
	if o == nil {
		all, err := c.runAll(trial{world{varied, n}, "all of " + strings.Join(varied, ", ")})
		if err != nil {
			return err
		}
		o = all[0]
		defer o.close()
	}
	for _, name := range together {
		c.blame(name, strings.Join(varied, "+"), o)
	}
	return nil
}

// blame notes that a variation makes an output differ, as a run in which it does shows.
func (c *checkedCommand) blame(name, variation string, o *outcome) {
	if c.found[name] == nil {
		c.found[name] = map[string]*Cause{}
	}
	if c.found[name][variation] != nil {
		return
	}
	cause := &Cause{Variation: variation}
	list := describe(name, c.base.outputs[name], o.outputs[name])
	for _, d := range list {
		if name == ExitStatus {
			d.Text = failure(o.res)
		}
		cause.Where = append(cause.Where, d.String())
		cause.Diffs = append(cause.Diffs, d.Text)
		cause.Diff = cmp.Or(cause.Diff, d.Text)
	}
	cause.Hint = hint(variation, name, list)
	c.found[name][variation] = cause
	c.order[name] = append(c.order[name], variation)
}

// failure says how a command failed, with the end of what it said.
func failure(res *Result) string {
	text := fmt.Sprintf("exit status %d", res.ExitCode)
	if res.Signal != 0 {
		text = "signal " + SignalName(res.Signal)
	}
	const most = 2000
	tail := res.Stderr[max(len(res.Stderr)-most, 0):]
	return strings.TrimRight(text+"\n"+tail, "\n") + "\n"
}

// largestCompared is up to which size files are opened to say how they differ.
const largestCompared = 64 << 20

// describe says how two outputs differ; a missing one is nil.
func describe(name string, a, b *Output) (list []compare.Difference) {
	there := func(o *Output) string {
		switch {
		case o == nil:
			return "missing"
		case o.Value != "":
			return o.Value
		}
		return "there"
	}
	value := func(place, x, y string) {
		if x != y {
			list = append(list, compare.Difference{Where: []string{place}, A: x, B: y})
		}
	}
	if a == nil || b == nil || a.Value != b.Value {
		return []compare.Difference{{A: there(a), B: there(b)}}
	}
	value(compare.Mode, a.Mode, b.Mode)
	value("target", a.Target, b.Target)
	if a.SHA256 == b.SHA256 {
		return list
	}
	if a.open == nil || b.open == nil {
		return append(list, compare.Difference{Where: []string{"content"}, A: fmt.Sprintf("%d bytes", a.Size), B: fmt.Sprintf("%d bytes", b.Size)})
	}
	if max(a.Size, b.Size) > largestCompared {
		d, err := describeLarge(a, b)
		if err != nil {
			d = compare.Difference{Where: []string{"content"}, A: err.Error()}
		}
		return append(list, d)
	}
	x, errA := contentOf(a)
	y, errB := contentOf(b)
	if err := errors.Join(errA, errB); err != nil {
		return append(list, compare.Difference{Where: []string{"content"}, A: err.Error()})
	}
	return append(list, compare.Files(x, y, name)...)
}

func describeLarge(a, b *Output) (d compare.Difference, err error) {
	x, err := a.open()
	if err != nil {
		return d, err
	}
	defer x.Close()
	y, err := b.open()
	if err != nil {
		return d, err
	}
	defer y.Close()
	return compare.Large(x, y)
}

func contentOf(o *Output) ([]byte, error) {
	r, err := o.open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

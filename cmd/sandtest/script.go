package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sandtest/go-sandtest/internal/runflags"
	"github.com/sandtest/go-sandtest/sandtest/script"
)

// scriptMain runs scenarios. The exit status is 1 if one of them fails.
func scriptMain(args []string) int {
	var f runflags.Flags
	flags := flag.NewFlagSet("sandtest script", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	update := flags.Bool("update", false, "rewrite what a cmp or changes in the scenarios expects, where it differs")
	verbose := flags.Bool("v", false, "show what every scenario does")
	work := flags.Bool("work", false, "keep the scenarios' directories, and tell where they are")
	f.RegisterSandbox(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("Usage: sandtest script [flags] FILE.txtar...\n\nRuns testscript scenarios in which sandbox runs programs in sandboxes. What is\nset here is what sandbox starts from.\n\nFlags:")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return 0
	case err != nil:
		return fail(exitSandbox, err)
	case flags.NArg() == 0:
		return fail(exitSandbox, errors.New("no scenario given; sandtest script --help tells how"))
	}
	for _, file := range flags.Args() {
		if _, err := os.Stat(file); err != nil {
			return fail(exitSandbox, err)
		}
	}
	if f.Opts.Timeout == 0 {
		f.Opts.Timeout = -1 // no limit
	}
	t := &scenario{verbose: *verbose || *work, out: os.Stdout}
	testscript.RunT(t, script.Params(testscript.Params{
		Files:         flags.Args(),
		UpdateScripts: *update,
		TestWork:      *work,
	}, f.Opts))
	if t.failed {
		return 1
	}
	return 0
}

// A scenario is one run of a script, or all of them.
type scenario struct {
	name    string
	verbose bool
	out     io.Writer

	mu      sync.Mutex
	log     bytes.Buffer
	failed  bool
	skipped bool
}

var _ testscript.T = (*scenario)(nil)

func (t *scenario) Verbose() bool { return t.verbose }

// Parallel does nothing: one script after the other makes the order of what they say
// the same every time.
func (t *scenario) Parallel() {}

func (t *scenario) Log(args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintln(&t.log, args...)
}

func (t *scenario) Skip(args ...any) {
	t.Log(args...)
	t.skipped = true
	runtime.Goexit()
}

func (t *scenario) Fatal(args ...any) {
	t.Log(args...)
	t.FailNow()
}

func (t *scenario) FailNow() {
	t.failed = true
	runtime.Goexit()
}

// Run runs a script to its end and says how it went.
func (t *scenario) Run(name string, run func(testscript.T)) {
	one := &scenario{name: name, verbose: t.verbose}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(one)
	}()
	<-done
	verdict := "ok  "
	switch {
	case one.failed:
		verdict, t.failed = "FAIL", true
	case one.skipped:
		verdict = "skip"
	}
	fmt.Fprintln(t.out, verdict, name)
	if one.failed || one.skipped || t.verbose {
		for line := range strings.Lines(stable(one.log.String())) {
			fmt.Fprint(t.out, "     ", line)
		}
	}
}

// took is how long a part of a script took, by the host's clock.
var took = regexp.MustCompile(`(?m)^(#.*) \([0-9.]+s\)$`)

func stable(log string) string {
	log = took.ReplaceAllString(log, "$1")
	if log != "" && !strings.HasSuffix(log, "\n") {
		log += "\n"
	}
	return log
}

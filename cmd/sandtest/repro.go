package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/sandtest/go-sandtest/internal/report"
	"github.com/sandtest/go-sandtest/internal/runflags"
	"github.com/sandtest/go-sandtest/sandtest"
)

// reproFlags are the flags of repro.
type reproFlags struct {
	runflags.Flags
	check   sandtest.Check
	vary    string
	save    string
	against string
	html    string

	options []string // that were given, as --NAME=VALUE, but for those about reports
}

func (f *reproFlags) register(fs *flag.FlagSet) {
	f.Register(fs)
	fs.IntVar(&f.check.Runs, "runs", 2, "how often, `N`, the command is run")
	fs.StringVar(&f.vary, "vary", "all", "what differs between the worlds, `LIST`: all, or names as in time,path or all,-umask")
	fs.BoolVar(&f.check.Frozen, "fix", false, "run in the same world each time: is the sandbox enough to make the command reproducible?")
	fs.Func("output", "count only files that match `GLOB`, a path below the command's directory or its last part; may be repeated", func(s string) error {
		f.check.Outputs = append(f.check.Outputs, s)
		return nil
	})
	fs.BoolVar(&f.check.Stderr, "stderr", false, "compare standard error, too")
	fs.StringVar(&f.save, "save", "", "write what came out to `FILE`, for --against")
	fs.StringVar(&f.against, "against", "", "compare what comes out with `FILE`, which --save has written, maybe on another machine")
	fs.StringVar(&f.html, "html", "", "write a page about what differs and why to `FILE`, - for standard output")
}

// reproMain checks whether a command is reproducible. The exit status is 0 if it is and
// 1 if it isn't.
func reproMain(args []string) int {
	var f reproFlags
	flags := flag.NewFlagSet("sandtest repro", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	f.register(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("Usage: sandtest repro [flags] [--] COMMAND [ARG...]\n\nRuns a command in worlds that differ in everything that a build must not depend on, and\ncompares what comes out. The exit status is 0 if that is the same, 1 if not.\n\nVariations:")
		for _, v := range sandtest.Variations() {
			fmt.Printf("  %-12s %s\n", v[0], v[1])
		}
		fmt.Println("\nFlags:")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return 0
	case err != nil:
		return fail(exitSandbox, err)
	case flags.NArg() == 0:
		return fail(exitSandbox, errors.New("no command given; sandtest repro --help tells how"))
	case f.Diff || f.Changes != (runflags.Changes{}):
		return fail(exitSandbox, errors.New("--diff and --changes are flags of sandtest run: repro throws every run's files away"))
	}
	f.options = given(flags, args[:len(args)-flags.NArg()])
	return f.main(flags.Args())
}

func (f *reproFlags) main(args []string) int {
	var err error
	if f.check.Vary, err = sandtest.ParseVariations(f.vary); err != nil {
		return fail(exitSandbox, fmt.Errorf("--vary: %w", err))
	}
	if f.Opts.Timeout == 0 {
		f.Opts.Timeout = -1 // no limit
	}
	var want *manifest
	if f.against != "" {
		if want, err = readManifest(f.against); err != nil {
			return fail(exitSandbox, err)
		}
	}
	going := startProgress(os.Stderr)
	f.check.Progress = going.say
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = f.Dir, f.Environ()
	report, err := sandtest.CheckReproducible(cmd, f.Opts, f.check)
	going.end()
	if err != nil {
		return fail(startStatus(err), err)
	}
	fmt.Print(report)
	if f.check.Frozen && report.Reproducible {
		fmt.Println("in one world, that of the sandbox: sandtest run makes it so")
	}
	status := 0
	if !report.Reproducible {
		status = 1
	}
	compared := f.compare(want, args, report)
	if err := f.write(args, report, compared); err != nil {
		return fail(exitSandbox, err)
	}
	if compared != nil {
		fmt.Print(compared)
		if !compared.Same {
			status = 1
		}
	}
	return status
}

// write saves what is to be saved.
func (f *reproFlags) write(args []string, found *sandtest.Report, compared *report.Against) error {
	if f.JSON != "" {
		text, err := json.MarshalIndent(jsonReport{found.Reproducible, found.Runs, found.Outputs, found.Differences, compared}, "", "  ")
		if err == nil {
			err = writeText(f.JSON, append(text, '\n'))
		}
		if err != nil {
			return fmt.Errorf("--json: %w", err)
		}
	}
	if f.html != "" {
		if err := f.writeHTML(args, found, compared); err != nil {
			return fmt.Errorf("--html: %w", err)
		}
	}
	if f.save == "" {
		return nil
	}
	m := manifest{Version: manifestVersion, Command: args, Options: f.options, Outputs: found.Outputs}
	text, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = writeText(f.save, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	return nil
}

func (f *reproFlags) writeHTML(args []string, found *sandtest.Report, compared *report.Against) error {
	page := report.Page{Command: args, Report: found, Against: compared}
	if !f.check.Frozen {
		page.Vary = f.check.Vary
	}
	text, err := page.HTML()
	if err != nil {
		return err
	}
	return writeText(f.html, text)
}

func writeText(file string, text []byte) error {
	if file == "-" {
		_, err := os.Stdout.Write(text)
		return err
	}
	return os.WriteFile(file, text, 0o666)
}

// jsonReport is what --json writes. Its names are an interface.
type jsonReport struct {
	Reproducible bool                  `json:"reproducible"`
	Runs         int                   `json:"runs"`
	Outputs      []sandtest.Output     `json:"outputs"`
	Differences  []sandtest.Difference `json:"differences"`
	Against      *report.Against       `json:"against,omitempty"`
}

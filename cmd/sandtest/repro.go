package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

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
	began := time.Now()
	f.check.Progress = func(line string) {
		fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(began).Seconds(), line)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = f.Dir, f.Environ()
	report, err := sandtest.CheckReproducible(cmd, f.Opts, f.check)
	if err != nil {
		return fail(startStatus(err), err)
	}
	fmt.Print(report)
	if f.check.Frozen && report.Reproducible {
		fmt.Println("in one world, that of the sandbox: sandtest run makes it so")
	}
	if err := f.write(args, report); err != nil {
		return fail(exitSandbox, err)
	}
	status := 0
	if !report.Reproducible {
		status = 1
	}
	if want != nil {
		if text := want.compare(report.Outputs); text != "" {
			fmt.Printf("differs from %s:\n%s", f.against, text)
			return 1
		}
		fmt.Printf("the same as in %s\n", f.against)
	}
	return status
}

// write saves what is to be saved.
func (f *reproFlags) write(args []string, report *sandtest.Report) error {
	if f.JSON != "" {
		text, err := json.MarshalIndent(jsonReport{report.Reproducible, report.Runs, report.Outputs, report.Differences}, "", "  ")
		if err == nil {
			err = writeText(f.JSON, append(text, '\n'))
		}
		if err != nil {
			return fmt.Errorf("--json: %w", err)
		}
	}
	if f.html != "" {
		if err := f.writeHTML(args, report); err != nil {
			return fmt.Errorf("--html: %w", err)
		}
	}
	if f.save == "" {
		return nil
	}
	m := manifest{Version: manifestVersion, Command: args, Outputs: report.Outputs}
	text, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = writeText(f.save, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	return nil
}

func (f *reproFlags) writeHTML(args []string, found *sandtest.Report) error {
	page := report.Page{Command: args, Report: found}
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
}

// A manifest is what a command made, to be compared on another machine.
type manifest struct {
	Version int               `json:"version"`
	Command []string          `json:"command"`
	Outputs []sandtest.Output `json:"outputs"` // sorted by path
}

const manifestVersion = 1

func readManifest(file string) (*manifest, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--against: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("--against: %s: %w", file, err)
	}
	if m.Version != manifestVersion {
		return nil, fmt.Errorf("--against: %s is of version %d, and this sandtest knows version %d: make it anew with --save", file, m.Version, manifestVersion)
	}
	return &m, nil
}

// compare says which outputs differ from those of the manifest, a line each.
func (m *manifest) compare(outputs []sandtest.Output) string {
	var b strings.Builder
	here := map[string]sandtest.Output{}
	for _, o := range outputs {
		here[o.Path] = o
	}
	for _, want := range m.Outputs {
		got, ok := here[want.Path]
		delete(here, want.Path)
		switch {
		case !ok:
			fmt.Fprintf(&b, "%s: missing here\n", want.Path)
		case got.SHA256 != want.SHA256 || got.Size != want.Size:
			fmt.Fprintf(&b, "%s: sha256 %.12s of %d bytes there, %.12s of %d bytes here\n", want.Path, want.SHA256, want.Size, got.SHA256, got.Size)
		case got.Mode != want.Mode:
			fmt.Fprintf(&b, "%s: mode %s there, %s here\n", want.Path, want.Mode, got.Mode)
		case got.Target != want.Target || got.Value != want.Value:
			fmt.Fprintf(&b, "%s: %s there, %s here\n", want.Path, want.Target+want.Value, got.Target+got.Value)
		}
	}
	for _, o := range outputs {
		if _, ok := here[o.Path]; ok {
			fmt.Fprintf(&b, "%s: only here\n", o.Path)
		}
	}
	return b.String()
}

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	units "github.com/docker/go-units"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/sandtest"
)

// A runFlags holds the flags of sandtest run.
type runFlags struct {
	opts       sandtest.Options
	dir        string
	env        []string
	inheritEnv bool
	json       string
	changes    changesMode
	diff       bool
}

// A changesMode is what becomes of what the command wrote.
type changesMode struct {
	commit bool
	keep   string // a directory
}

func parseChanges(s string) (changesMode, error) {
	switch dir, keep := strings.CutPrefix(s, "keep="); {
	case keep && dir != "":
		return changesMode{keep: dir}, nil
	case s == "commit":
		return changesMode{commit: true}, nil
	case s == "discard":
		return changesMode{}, nil
	}
	return changesMode{}, errors.New("want discard, commit or keep=DIR")
}

// register declares the flags. Each is one line here; package flag takes them
// with one dash or two.
func (f *runFlags) register(fs *flag.FlagSet) {
	fs.Func("time", "`T` at which the clock starts: RFC 3339, a date, or @SECONDS (default 2000-01-01T00:00:00Z)", func(s string) (err error) {
		f.opts.Time, err = det.ParseTime(s)
		return err
	})
	fs.Func("clock", "`MODE` of the clock: virtual, running or host (default virtual)", func(s string) (err error) {
		f.opts.Clock, err = det.ParseMode(s)
		return err
	})
	fs.DurationVar(&f.opts.MaxVirtual, "max-virtual", 0, "how far, `D`, the virtual clock may move (default 100 years)")
	fs.BoolVar(&f.opts.SetClock, "set-clock", false, "let the command set the virtual clock (date -s)")
	fs.BoolVar(&f.opts.HostTSC, "host-tsc", false, "leave the CPU's time-stamp counter alone: faster on some machines")
	fs.Uint64Var(&f.opts.Seed, "seed", 0, "seed `N` of all random bytes (default 0)")
	fs.Func("hostname", "`NAME` of the machine (default sandtest)", func(s string) error {
		f.opts.Hostname = s
		return det.Identity{Hostname: s, CPUs: 1, Memory: 1 << 30}.Check()
	})
	fs.Func("cpus", "number `N` of CPUs that are reported (default 1)", func(s string) error {
		if _, err := fmt.Sscanf(s+"\n", "%d\n", &f.opts.CPUs); err != nil {
			return fmt.Errorf("want a number")
		}
		return det.Identity{Hostname: "x", CPUs: f.opts.CPUs, Memory: 1 << 30}.Check()
	})
	fs.Func("memory", "`SIZE` of memory that is reported, such as 512M or 4GiB (default 4GiB)", func(s string) (err error) {
		if f.opts.Memory, err = units.RAMInBytes(s); err != nil {
			return fmt.Errorf("want a size such as 512M or 4GiB")
		}
		return det.Identity{Hostname: "x", CPUs: 1, Memory: f.opts.Memory}.Check()
	})
	fs.BoolVar(&f.opts.ASLR, "aslr", false, "leave address space randomisation on")
	f.opts.Work = sandtest.DefaultWork
	fs.Func("work", "`PATH` at which the command sees its directory, empty to leave it where it is (default /work)", func(s string) error {
		if f.opts.Work = s; s == "" {
			f.opts.Work = sandtest.InPlace
		}
		return nil
	})
	fs.Func("mount", "show `HOST:PATH`, the host's HOST at PATH; may be repeated", func(s string) error {
		host, path, _ := strings.Cut(s, ":")
		if host == "" {
			return errors.New("want HOST:PATH")
		}
		f.opts.Mounts = append(f.opts.Mounts, sandtest.Mount{Host: host, Path: path})
		return nil
	})
	fs.Var((*list)(&f.opts.Read), "read", "show only `PATH`, and what programs need to be loaded; may be repeated (default everything)")
	fs.Var((*list)(&f.opts.Write), "write", "let the command write in `PATH` of the host; may be repeated")
	fs.Var((*list)(&f.opts.Deny), "deny", "hide `PATH`; may be repeated")
	fs.Func("changes", "what becomes of what the command wrote, `WHAT`: discard, commit or keep=DIR (default discard)", func(s string) (err error) {
		f.changes, err = parseChanges(s)
		return err
	})
	fs.BoolVar(&f.diff, "diff", false, "show what the command changed as a diff on standard error")
	fs.StringVar(&f.dir, "dir", "", "`DIR` in which the command starts (default the present one)")
	fs.Func("env", "`K=V` set in the environment, K alone to take the host's value; may be repeated", func(s string) error {
		name, _, given := strings.Cut(s, "=")
		switch {
		case name == "":
			return fmt.Errorf("want K=V")
		case given:
			f.env = append(f.env, s)
		default:
			if v, ok := os.LookupEnv(name); ok {
				f.env = append(f.env, name+"="+v)
			}
		}
		return nil
	})
	fs.BoolVar(&f.inheritEnv, "inherit-env", false, "pass the whole environment on")
	fs.DurationVar(&f.opts.Timeout, "timeout", sandtest.DefaultTimeout, "real time `D` after which everything is ended, 0 for no limit")
	fs.StringVar(&f.json, "json", "", "write the result to `FILE` as JSON, - for standard output")
}

// A list is a flag that may be repeated.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(s string) error {
	if s == "" {
		return errors.New("want a path")
	}
	*l = append(*l, s)
	return nil
}

// environ is the environment of the command.
func (f *runFlags) environ() []string {
	env := sandtest.Environ()
	if f.inheritEnv {
		env = os.Environ()
	}
	return append(env, f.env...)
}

// newFlagSet makes a set for the command whose usage line is given.
func newFlagSet(usage string) *flag.FlagSet {
	fs := flag.NewFlagSet(usage, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // parse prints
	fs.Usage = func() {}
	return fs
}

// parse parses args. done means that there is nothing else to do than to exit
// with status: help was asked for, or the arguments are wrong.
func parse(fs *flag.FlagSet, about string, args []string) (status int, done bool) {
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		printHelp(os.Stdout, fs, about)
		return 0, true
	case err != nil:
		return fail(exitSandbox, fmt.Errorf("%w; sandtest %s --help tells the flags", err, strings.Fields(fs.Name())[0])), true
	}
	return 0, false
}

func printHelp(w io.Writer, fs *flag.FlagSet, about string) {
	fmt.Fprintf(w, "Usage: sandtest %s\n\n%s\n", fs.Name(), about)
	fs.VisitAll(func(fl *flag.Flag) {
		arg, text := flag.UnquoteUsage(fl)
		if isBool(fl) {
			arg = ""
		}
		if fl.Name == "timeout" {
			text += " (default " + strings.TrimSuffix(time.Duration(sandtest.DefaultTimeout).String(), "0s") + ")"
		}
		fmt.Fprintf(w, "    %-18s %s\n", strings.TrimSpace("--"+fl.Name+" "+arg), text)
	})
}

func isBool(fl *flag.Flag) bool {
	b, ok := fl.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

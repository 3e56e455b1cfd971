package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sandtest/go-sandtest/sandtest"
)

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

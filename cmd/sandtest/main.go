// Command sandtest runs programs in a deterministic sandbox.
//
//	sandtest run [flags] [--] COMMAND [ARG...]   run it once; the exit status is the command's
//	sandtest repro [flags] [--] COMMAND [ARG...] tell whether what it makes is reproducible, and why not
//	sandtest script [flags] FILE.txtar...        run testscript scenarios
//	sandtest doctor                              what this machine allows, and what is used instead
//
// See sandtest run --help for the flags.
package main

import (
	"fmt"
	"io"
	"os"
)

// A command is one of the things sandtest does. It returns the exit status.
type command struct {
	name, args, summary string
	run                 func(args []string) int
}

var commands = []command{
	{"run", "[flags] [--] COMMAND [ARG...]", "run a command once; the exit status is its own", runMain},
	{"repro", "[flags] [--] COMMAND [ARG...]", "tell whether what a command makes is reproducible, and why not", reproMain},
	{"script", "[flags] FILE.txtar...", "run testscript scenarios", scriptMain},
	{"doctor", "", "tell what this machine allows, and what is used instead", doctorMain},
}

// Exit statuses besides the command's own, as env(1) and timeout(1) use them.
const (
	exitTimeout       = 124
	exitSandbox       = 125
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus the signal's number
)

func main() { os.Exit(dispatch(os.Args[1:])) }

func dispatch(args []string) int {
	if err := keepDescriptors(); err != nil {
		return fail(exitSandbox, fmt.Errorf("keep the caller's descriptors from the command: %w", err))
	}
	if len(args) == 0 {
		usage(os.Stderr)
		return exitSandbox
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(os.Stdout)
		return 0
	}
	for _, c := range commands {
		if c.name == args[0] {
			return c.run(args[1:])
		}
	}
	fmt.Fprintf(os.Stderr, "sandtest: unknown command %q\n\n", args[0])
	usage(os.Stderr)
	return exitSandbox
}

func usage(w io.Writer) {
	fmt.Fprint(w, "sandtest runs programs in a deterministic sandbox.\n\nUsage:\n\n")
	for _, c := range commands {
		fmt.Fprintf(w, "    sandtest %-38s %s\n", c.name+" "+c.args, c.summary)
	}
	fmt.Fprint(w, "\nsandtest COMMAND --help tells the flags of a command.\n")
}

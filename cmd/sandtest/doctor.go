package main

import (
	"errors"
	"fmt"

	"github.com/sandtest/go-sandtest/supervisor"
)

const doctorAbout = `Tells what a sandbox needs and uses, whether this machine has it, and what is
used instead. The exit status is 1 if a sandbox can't work here.
`

func doctorMain(args []string) int {
	flags := newFlagSet("doctor")
	if status, done := parse(flags, doctorAbout, args); done {
		return status
	}
	if flags.NArg() > 0 {
		return fail(exitSandbox, errors.New("doctor takes no arguments"))
	}
	status := 0
	for _, c := range supervisor.Doctor() {
		mark := "ok"
		switch {
		case !c.OK && c.Optional:
			mark = "--"
		case !c.OK:
			mark, status = "NO", 1
		}
		fmt.Printf("%-2s  %-24s %s\n", mark, c.Name, c.Detail)
	}
	return status
}

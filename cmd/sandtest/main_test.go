package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The test binary doubles as the command: with this variable set it is sandtest.
const commandVar = "SANDTEST_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandVar) != "" {
		os.Unsetenv(commandVar)
		os.Exit(dispatch(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// sandtestCommand returns a command that runs sandtest.
func sandtestCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	// A program with the race detector in it sleeps for a second in the end, by
	// default.
	cmd.Env = append(os.Environ(), commandVar+"=1", "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	return cmd
}

// An outcome is what a run of the command did.
type outcome struct {
	status         int // -1 when a signal ended it
	stdout, stderr string
}

func runCommand(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func run(t *testing.T, args ...string) outcome {
	t.Helper()
	return runCommand(t, sandtestCommand(t, args...))
}

// check compares all of an outcome but standard error, in which it looks for
// texts; there must be nothing when none is given.
func (o outcome) check(t *testing.T, status int, stdout string, stderr ...string) {
	t.Helper()
	if o.status != status || o.stdout != stdout {
		t.Errorf("status %d, output %q, want %d, %q\nstandard error:\n%s", o.status, o.stdout, status, stdout, o.stderr)
	}
	if len(stderr) == 0 && o.stderr != "" {
		t.Errorf("standard error:\n%s", o.stderr)
	}
	for _, want := range stderr {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("standard error doesn't say %q:\n%s", want, o.stderr)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, arg := range []string{"help", "-h", "-help", "--help"} {
		o := run(t, arg)
		if o.status != 0 || o.stderr != "" {
			t.Errorf("%s: status %d, standard error %q", arg, o.status, o.stderr)
		}
		for _, c := range commands {
			if !strings.Contains(o.stdout, "sandtest "+c.name) || !strings.Contains(o.stdout, c.summary) {
				t.Errorf("%s doesn't tell about %s:\n%s", arg, c.name, o.stdout)
			}
		}
	}
	run(t).check(t, 125, "", "Usage:", "sandtest run")
	run(t, "walk").check(t, 125, "", `unknown command "walk"`, "Usage:")
	run(t, "--seed", "1", "run", "true").check(t, 125, "", `unknown command "--seed"`)
}

func TestHelp(t *testing.T) {
	var f runFlags
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	f.Register(flags)
	for _, arg := range []string{"-h", "-help", "--help"} {
		o := run(t, "run", arg)
		if o.status != 0 || o.stderr != "" {
			t.Errorf("run %s: status %d, standard error %q", arg, o.status, o.stderr)
		}
		lines := strings.Split(o.stdout, "\n")
		flags.VisitAll(func(fl *flag.Flag) {
			for _, line := range lines {
				name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
				if name == "--"+fl.Name && strings.TrimSpace(text) != "" {
					return
				}
			}
			t.Errorf("run %s doesn't tell about --%s:\n%s", arg, fl.Name, o.stdout)
		})
	}
	run(t, "doctor", "--help").check(t, 0, run(t, "doctor", "-h").stdout)
	if o := run(t, "doctor", "--help"); !strings.Contains(o.stdout, "Usage: sandtest doctor") {
		t.Errorf("doctor --help:\n%s", o.stdout)
	}
}

// Wrong arguments have status 125, and a message that names the cause. The
// command doesn't run.
func TestWrongArguments(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")
	for _, tt := range []struct {
		name   string
		flags  []string
		stderr []string
	}{
		{"unknown flag", []string{"--nope"}, []string{"-nope", "not defined", "sandtest run --help"}},
		{"time", []string{"--time", "yesterday"}, []string{"-time", "yesterday", "RFC 3339"}},
		{"time out of range", []string{"--time", "1600-01-01"}, []string{"-time", "1600", "1678 to 2262"}},
		{"clock", []string{"--clock", "sideways"}, []string{"-clock", "sideways", "virtual, running or host"}},
		{"seed", []string{"--seed", "-1"}, []string{"-seed", `"-1"`}},
		{"long host name", []string{"--hostname", strings.Repeat("h", 65)}, []string{"-hostname", "65 bytes"}},
		{"empty host name", []string{"--hostname", ""}, []string{"-hostname", "empty"}},
		{"CPUs below zero", []string{"--cpus", "-1"}, []string{"-cpus", "-1", "1 to 1024"}},
		{"no CPUs", []string{"--cpus", "0"}, []string{"-cpus", "1 to 1024"}},
		{"too many CPUs", []string{"--cpus", "1025"}, []string{"-cpus", "1 to 1024"}},
		{"CPUs with a unit", []string{"--cpus", "3x"}, []string{"-cpus", "3x", "want a number"}},
		{"CPUs with a fraction", []string{"--cpus", "1.5"}, []string{"-cpus", "1.5", "want a number"}},
		{"CPUs in words", []string{"--cpus", "1 2"}, []string{"-cpus", "want a number"}},
		{"memory", []string{"--memory", "lots"}, []string{"-memory", "lots", "want a size"}},
		{"too little memory", []string{"--memory", "1k"}, []string{"-memory", "at least 1 MiB"}},
		{"memory below zero", []string{"--memory", "-1G"}, []string{"-memory", "-1G"}},
		{"timeout", []string{"--timeout", "soon"}, []string{"-timeout", "soon"}},
		{"aslr", []string{"--aslr=maybe"}, []string{"-aslr", "maybe"}},
		{"env", []string{"--env", "=x"}, []string{"-env", "want K=V"}},
		{"missing directory", []string{"--dir", missing}, []string{"--dir", missing}},
		{"file as directory", []string{"--dir", file}, []string{"--dir", file, "not a directory"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"run"}, tt.flags...)
			run(t, append(args, "echo", "ran")...).check(t, 125, "", append(tt.stderr, "sandtest: ")...)
		})
	}
	run(t, "run").check(t, 125, "", "sandtest: ", "no command given", "sandtest run --help")
	run(t, "run", "--seed", "1").check(t, 125, "", "sandtest: ", "no command given")
	run(t, "run", "--").check(t, 125, "", "sandtest: ", "no command given")
	run(t, "run", "--time").check(t, 125, "", "sandtest: ", "-time", "needs an argument")
	run(t, "doctor", "argument").check(t, 125, "", "sandtest: ", "doctor takes no arguments")
	run(t, "doctor", "--nope").check(t, 125, "", "sandtest: ", "-nope", "sandtest doctor --help")
}

package supervisor

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sandtest/go-sandtest/det"
)

// A Fault makes system calls go wrong on purpose. It hits the calls that Calls, Path,
// FD, Program and Process all select; of those that a process makes, counted from 1 in
// each, First, Last, Step and Share say which. Exactly one of the effects must be set.
//
// Where several faults hit one call, each does what it does, in the order of the list,
// until one has ended the call. Calls that a signal has interrupted and that go on
// afterwards count twice, and so do the ones that the dynamic linker makes, which are
// the program's own.
type Fault struct {
	// Calls are the names of system calls, as strace shows them, or %file, %network,
	// %process or %memory for all of a [Category].
	Calls []string

	// Path is a pattern (path.Match) that a path the call names must match, or the path
	// of its descriptor's file, as the command sees it and with links followed; an abstract
	// Unix socket is @NAME. A pattern without a slash is compared with the last element.
	// Empty means any.
	Path string
	// FD is what the call's first descriptor must be: file, dir, pipe, socket, terminal,
	// device or other. Empty means any, or none.
	FD string
	// Program is a pattern for the name of the program that the process has executed.
	Program string
	// Process is the only process whose calls are hit.
	Process det.Lineage

	// First is the first call that is hit, Last the last, and of those between each
	// Step-th. Zero means 1, no last, and 1.
	First, Last, Step uint64
	// Share is how many of those are hit, by a draw that depends on the seed, the process
	// and the number of the call alone: more than 0, less than 1. Zero means all.
	Share float64

	// Error fails the call with an error, without making it.
	Error syscall.Errno
	// Short lets a call that transfers bytes transfer at most so many.
	Short uint64
	// Delay holds the call back for so long by the sandbox's clock, then makes it. A call
	// that is changed at a stop (execve, accept, sends to an address, timed waits) can't
	// be delayed.
	Delay time.Duration
	// Signal sends the thread a signal, then makes the call.
	Signal syscall.Signal
	// Kill ends the process with SIGKILL instead of making the call.
	Kill bool
	// Note does nothing but to list the call in State.Faults, as all do.
	Note bool
}

// A FaultHit is a call that a [Fault] has hit.
type FaultHit struct {
	// Fault is the fault's place in the list, from 0.
	Fault int
	// Process has made the call, and it is the N-th of its calls that the fault selects.
	Process det.Lineage
	N       uint64
	// Call is the call's name, Text the call with its arguments.
	Call, Text string
	// Path is what the call is about, as the command sees it, or empty: a path it names,
	// or that of its descriptor's file, in which Offset is where the descriptor stood.
	Path   string
	FD     string // what the descriptor is, see Fault.FD; empty if there is none
	Offset int64
	// Loader says that it was the dynamic linker that made the call.
	Loader bool
}

// fdKinds are the values of Fault.FD.
var fdKinds = []string{"file", "dir", "pipe", "socket", "terminal", "device", "other"}

// check explains a fault that can't be meant.
func (f *Fault) check() error {
	effects := 0
	for _, set := range []bool{f.Error != 0, f.Short != 0, f.Delay != 0, f.Signal != 0, f.Kill, f.Note} {
		if set {
			effects++
		}
	}
	switch {
	case len(f.Calls) == 0:
		return errors.New("it names no call")
	case effects != 1:
		return fmt.Errorf("it has %d effects: want one of error, short, delay, signal and kill", effects)
	case f.Delay < 0:
		return fmt.Errorf("delay is %v: want a time span that isn't negative", f.Delay)
	case !(f.Share >= 0 && f.Share < 1): // or no number
		return fmt.Errorf("share is %v: want more than 0, less than 1", f.Share)
	case f.Last != 0 && f.Last < f.First:
		return fmt.Errorf("the last call is %d, before the first, %d", f.Last, f.First)
	case f.FD != "" && !slices.Contains(fdKinds, f.FD):
		return fmt.Errorf("fd is %q: want one of %s", f.FD, strings.Join(fdKinds, ", "))
	}
	for _, pattern := range []string{f.Path, f.Program} {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	return nil
}

// hits reports whether the fault hits the n-th of the calls that it selects, but for
// Share.
func (f *Fault) hits(n uint64) bool {
	first, step := max(f.First, 1), max(f.Step, 1)
	return n >= first && (f.Last == 0 || n <= f.Last) && (n-first)%step == 0
}

// matches compares a path with the pattern.
func (f *Fault) matches(name string) bool {
	if !strings.Contains(f.Path, "/") {
		name = path.Base(name)
	}
	ok, _ := path.Match(f.Path, name) // check has seen to the pattern
	return ok
}

// ParseFault parses CALL[,CALL...][:KEY=VALUE...]. The keys are error (ENOSPC, or a
// number), short (bytes), delay (5s), signal (SIGTERM), kill (without a value), and path,
// fd, program, process, share and when: N is the N-th call, N+ that and all after it,
// N+S each S-th from there, N..M and N..M+S those up to M. A colon in a value is \:, all
// else that follows a backslash is left to the patterns.
func ParseFault(spec string) (f Fault, err error) {
	parts := splitAtColons(spec)
	if parts[0] != "" {
		f.Calls = strings.Split(parts[0], ",")
	}
	given := map[string]bool{}
	for _, part := range parts[1:] {
		key, value, valued := strings.Cut(part, "=")
		switch {
		case !slices.Contains(faultKeys, key):
			err = fmt.Errorf("want one of %s", strings.Join(faultKeys, ", "))
		case given[key]:
			err = fmt.Errorf("%s was given before", key)
		case key == "kill" && valued:
			err = errors.New("kill has no value")
		case key != "kill" && value == "":
			err = fmt.Errorf("want %s=VALUE", key)
		default:
			err = f.set(key, value)
		}
		if err != nil {
			return f, fmt.Errorf("%q: %w", part, err)
		}
		given[key] = true
	}
	return f, f.check()
}

// splitAtColons splits a specification where a colon doesn't follow a backslash.
func splitAtColons(spec string) (parts []string) {
	var b strings.Builder
	for i := 0; i < len(spec); i++ {
		switch {
		case spec[i] == ':':
			parts = append(parts, b.String())
			b.Reset()
		case spec[i] == '\\' && i+1 < len(spec):
			if i++; spec[i] != ':' {
				b.WriteByte('\\')
			}
			b.WriteByte(spec[i])
		default:
			b.WriteByte(spec[i])
		}
	}
	return append(parts, b.String())
}

// faultKeys are what a specification may set.
var faultKeys = []string{"error", "short", "delay", "signal", "kill", "path", "fd", "program", "process", "share", "when"}

func (f *Fault) set(key, value string) (err error) {
	switch key {
	case "error":
		f.Error, err = errnoNamed(value)
	case "short":
		if f.Short, err = strconv.ParseUint(value, 10, 31); err == nil && f.Short == 0 {
			err = errors.New("want at least a byte")
		}
	case "delay":
		if f.Delay, err = time.ParseDuration(value); err == nil && f.Delay == 0 {
			err = errors.New("want a time span that isn't 0")
		}
	case "signal":
		f.Signal, err = signalNamed(value)
	case "kill":
		f.Kill = true
	case "path":
		f.Path = value
	case "fd":
		f.FD = value
	case "program":
		f.Program = value
	case "process":
		f.Process = det.Lineage(value)
	case "share":
		if f.Share, err = strconv.ParseFloat(value, 64); err == nil && f.Share == 0 {
			err = errors.New("want more than 0, less than 1")
		}
	case "when":
		err = f.setWhen(value)
	}
	return err
}

func (f *Fault) setWhen(value string) (err error) {
	span, step, stepped := strings.Cut(value, "+")
	first, last, ranged := strings.Cut(span, "..")
	number := func(s string, to *uint64) {
		if err == nil {
			if *to, err = strconv.ParseUint(s, 10, 64); err == nil && *to == 0 {
				err = errors.New("calls are counted from 1")
			}
		}
	}
	number(first, &f.First)
	switch {
	case ranged:
		number(last, &f.Last)
	case !stepped:
		f.Last = f.First
	}
	if step != "" {
		number(step, &f.Step)
	}
	return err
}

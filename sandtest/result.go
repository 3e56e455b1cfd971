package sandtest

import (
	"syscall"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor"
)

// A Result is what a command did.
type Result struct {
	// ExitCode is the exit status, or -1 when a signal ended the command.
	ExitCode int

	// Signal is the signal that ended the command, or 0.
	Signal syscall.Signal

	// TimedOut says that the command was ended because of [Options.Timeout] or the
	// test's deadline.
	TimedOut bool

	// OutOfMemory says that the command was ended because of [Options.Memory].
	OutOfMemory bool

	// OutputLimit says that the command was ended because of [Options.MaxOutput].
	OutputLimit bool

	// Deadlock lists every thread of the command and of what it started, if they
	// were ended because all of them waited for each other, or for an instant beyond
	// [Options.MaxVirtual]; nil otherwise. Under the virtual clock this is found at
	// once, from when the result is waited for: until then the test may still send a
	// signal.
	Deadlock []supervisor.BlockedThread

	// Stdout and Stderr are what the command, and whatever it started, wrote
	// there. They are empty where cmd.Stdout or cmd.Stderr was set.
	Stdout, Stderr string

	// ClockStart and Clock are where the sandbox's clock stood at the start and at
	// the end.
	ClockStart, Clock time.Time

	// Leaked lists the processes that were still alive when the command had ended,
	// by lineage. They have been killed.
	Leaked []supervisor.LeakedProcess

	// Changes are the files that the command added, modified or deleted, sorted by
	// path as the command knows it. Their bytes can be read until the test ends, or
	// until Close.
	Changes cow.Changes

	// Audit lists the calls for which [Options.OnSyscall] has said [Audit], by lineage.
	Audit []supervisor.AuditEntry

	// Faults lists the calls that [Options.Faults] have hit, by lineage.
	Faults []supervisor.FaultHit

	// Trace lists what the sandbox has handled, if [Options.Trace] was set.
	Trace supervisor.Trace

	// Stats tells what the sandbox did and cost.
	Stats supervisor.Stats

	sandbox *supervisor.Sandbox
	dir     string // the command's directory on the host
}

// Commit writes the changes to the host: all of them, or none with an error. Where
// somebody else has changed a file meanwhile that is [cow.ErrHostChanged]. What the
// command left in /tmp, /dev and other places of its own is left out. What it has changed
// is dated now, as make(1) would have it, but for the times that it has set itself.
func (r *Result) Commit() error { return r.sandbox.Layer().Commit(r.Changes, r.dir) }

// CommitBelow does as Commit, with those of the changes that lie below a directory of the
// host.
func (r *Result) CommitBelow(dir string) error {
	tree := r.sandbox.Layer()
	return tree.Commit(tree.Below(r.Changes, dir), r.dir)
}

// Keep writes the changes to a directory: a file "changes" that lists them, and
// below "files" what was added or modified, at its path.
func (r *Result) Keep(dir string) error { return r.sandbox.Layer().Keep(r.Changes, dir) }

// Snapshot writes what the command has written, everywhere but below [Options.Write], to
// a directory that is empty or doesn't exist. [Options.Lower] starts from it.
func (r *Result) Snapshot(dir string) error { return r.sandbox.Layer().Snapshot(dir) }

// Close throws away what was written. [Run] and [Start] see to it at the end of the
// test, after [Execute] and [Begin] it is the caller's to do.
func (r *Result) Close() error { return r.sandbox.Discard() }

package supervisor

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/det"
)

// Spread is where a sandbox runs, whatever number of CPUs it shows.
type Spread int

const (
	SpreadAsShown Spread = iota // on one CPU if it shows one, on all otherwise
	SpreadOne                   // on one at a time
	SpreadAll                   // wherever the kernel puts it
)

// A Config says what a sandbox pins. The zero Config is the default sandbox.
type Config struct {
	// Clock is how time runs; the zero value is [det.Virtual].
	Clock det.Mode

	// Time is the instant at which the clock starts, from 1678 to 2262; the zero
	// value means 2000-01-01T00:00:00Z. It has no effect under [det.Host].
	Time time.Time

	// MaxVirtual is how far the virtual clock may move; zero means
	// [DefaultMaxVirtual]. A sandbox in which everything waits for something beyond
	// is deadlocked.
	MaxVirtual time.Duration

	// SetClock lets programs set the wall clock (clock_settime, settimeofday,
	// adjtimex), the sandbox's and nobody else's. By default that fails with EPERM.
	// Only the virtual clock can be set.
	SetClock bool

	// Backend is what the sandbox is made of; the zero value takes the best that the machine
	// allows.
	Backend Backend

	// FirstPID is the process id of the command, from 2, the default, to 1,000,000; those
	// of other processes follow. It takes CONFIG_CHECKPOINT_RESTORE, which is part of the
	// kernels of distributions, and is without effect with the backend seccomp.
	FirstPID int

	// HostTSC leaves the CPU's time-stamp counter alone, which the virtual clock
	// otherwise answers for (the instructions rdtsc and rdtscp): on some machines
	// it costs a little when others use the sandbox's CPU. Nearly no program reads it.
	HostTSC bool

	// Seed names the random streams; any two seeds give unrelated bytes.
	Seed uint64

	// Identity is the machine the sandbox claims to be. Fields left zero mean host
	// name sandtest, 1 CPU and 4 GiB of memory.
	Identity det.Identity

	// Mounts are what the command sees besides the host's root, which it sees at /,
	// and /proc, which is the kernel's.
	Mounts []cow.Mount

	// Root, if not empty, is a directory of the host that the command sees as its root: an
	// absolute path. Its program and what that needs are those in there, and so are all
	// paths; /proc is the kernel's, and /sys the host's.
	Root string

	// Work is where the command's directory is shown to it, an absolute path. Empty
	// leaves it where it is, and so does the host's root as that directory.
	Work string

	// KeepLayer keeps what was written after the end: State.Changes lists it, and
	// [Sandbox.Discard] must be called. Otherwise it is gone with the last process.
	KeepLayer bool

	// Lower is a directory with a snapshot ([cow.Tree.Snapshot]) upon which the sandbox
	// starts: what that holds is there besides the host's files.
	Lower string

	// Continue is a sandbox that has ended, with KeepLayer set, upon whose files this one
	// starts: what is written goes to the same layer, and both must be discarded. What is
	// mounted where is as it was there, and so must be the command's directory. Of two
	// sandboxes upon the same files, one must have ended before the other is started.
	Continue *Sandbox

	// MinLandlock is the ABI of Landlock (Linux 5.13 and later) that must stand behind
	// the sandbox; a kernel that has less is an error. Zero takes what there is.
	MinLandlock int

	// Net is the network; the zero value is a loopback interface of the sandbox's own.
	Net Net

	// AllowNet lists destinations outside that the command may reach besides its
	// loopback interface: HOST or HOST:PORT, where HOST is a name, an address, or a prefix
	// of addresses such as 192.0.2.0/24. Names are resolved once, at the start.
	AllowNet []string

	// Publish lists ports of servers in the sandbox that may be reached from outside,
	// see [Sandbox.Address].
	Publish []uint16

	// Limits bound what the command may use.
	Limits Limits

	// Umask is what the command starts with, whatever the supervisor's is; 0 means 022.
	Umask uint32

	// Inodes selects the inode numbers of files: each value gives other ones. The kernel's
	// own, such as those of pipes, remain.
	Inodes uint64

	// Order is how directories are listed, by name unless it says otherwise.
	Order det.Order

	// Inputs is what a file of the host that was changed later reads as; the zero value
	// means the clock's start, so that nothing lies in the future.
	Inputs time.Time

	// Spread says where the sandbox runs. By default one that shows a single CPU stays on
	// one, which is faster and lets its processes take turns.
	Spread Spread

	// Nice is added to the priority value of the command (nice(2)), which it sees: 0 to 19,
	// where 19 gets the least of a busy CPU.
	Nice int

	// OnSyscall, if not nil, is asked about calls before they are made: those that open,
	// remove, make and rename files, execute programs, make processes, map memory, and
	// connect, bind and send, and those that Events name. Each is held until it returns, but
	// for those that fail whatever it says, and exit, of which it is told beside them. It
	// is called by several goroutines at a time, one for each thread that makes a call. If
	// it takes more than 5 s of real time, the run fails: nothing is allowed because it was
	// slow. The clock stands still meanwhile.
	OnSyscall func(*Event) Verdict
	// Events are names of more system calls that OnSyscall is to be asked about.
	Events []string

	// DenyCalls are names of system calls that fail with EPERM, besides those that do so
	// anyway; those by which the sandbox prepares programs, such as mmap, are an error.
	// AllowCalls are some of those that fail anyway: they reach the kernel, which judges by
	// the user's rights; what they tell or change is the host's. Calls by which a program
	// could get out of the sandbox can't be allowed, that is an error.
	DenyCalls, AllowCalls []string

	// NoHugePages switches transparent huge pages off (prctl(2), PR_SET_THP_DISABLE), so
	// that the memory that a program has doesn't depend on whether the host had any.
	NoHugePages bool

	// Handlers answer calls that the sandbox has no answer for, in this order, see
	// [Handle]. A call that it changes at a stop can't be answered so; that is an error.
	Handlers []Handler

	// Faults are what goes wrong on purpose, see State.Faults.
	Faults []Fault

	// PowerLoss makes of a process that a fault kills (Fault.Kill) a loss of power:
	// everything ends, and of the changes to names since the last fsync of anything there
	// are the first so many; of the pages of a file since its own, some. Seed draws.
	PowerLoss bool

	// Trace notes every call that the sandbox handles, see State.Trace.
	Trace bool

	// ASLR leaves the randomisation of addresses on (personality(2),
	// ADDR_NO_RANDOMIZE). By default it is off, and a machine that forbids
	// switching it off is an error, unless the environment variable SANDTEST_ASLR, which
	// leaves it on for a whole suite, isn't empty.
	ASLR bool
}

// Limits bound what the command and everything it starts may use together. Zero
// means no limit.
type Limits struct {
	// Processes is how many processes there may be, and threads count, as for ulimit -u:
	// fork and clone fail with EAGAIN when there are so many.
	Processes int
	// OpenFiles is how many descriptors each process may have (RLIMIT_NOFILE); at
	// least 16. Without it that is 1,024, which a process may raise to 1,048,576, or to the
	// host's limit if that is less.
	OpenFiles int
	// Disk is how many bytes of files the sandbox may write: beyond, calls fail with
	// ENOSPC. A file of the host counts whole from when it is written to, and one that was
	// removed as long as it is open or mapped; so do targets of symbolic links and extended
	// attributes. There may be a file, directory or link for each KiB of it, and 1,024 more.
	// With a limit every write is a stop, and costs some 20 us more.
	Disk int64
	// CPU is how many percent of a CPU's time the processes may have: 50 is a half, 200 are
	// two CPUs. At least 1.
	CPU int
	// Memory is how many bytes of memory the processes may have, with page tables, files in
	// memory and shared memory that nobody has mapped; beyond, everything is killed, and State.OutOfMemory says so. At least 1 MiB.
	Memory int64
}

// inodes is how many files there may be beside [Limits.Disk]: without a limit, 0.
func (l Limits) inodes() int64 {
	const always, each = 1024, 1024
	if l.Disk == 0 {
		return 0
	}
	return always + l.Disk/each
}

// check explains a limit that can't be meant.
func (l Limits) check() error {
	switch {
	case l.Processes < 0:
		return fmt.Errorf("supervisor: Limits.Processes is %d: want a number of processes, or 0", l.Processes)
	case l.OpenFiles < 0 || l.OpenFiles > 0 && l.OpenFiles < 16:
		return fmt.Errorf("supervisor: Limits.OpenFiles is %d: want at least 16, or 0", l.OpenFiles)
	case l.CPU < 0:
		return fmt.Errorf("supervisor: Limits.CPU is %d: want percent, at least 1, or 0", l.CPU)
	case l.Disk < 0:
		return fmt.Errorf("supervisor: Limits.Disk is %d: want a number of bytes, or 0", l.Disk)
	case l.Memory < 0 || l.Memory > 0 && l.Memory < 1<<20:
		return fmt.Errorf("supervisor: Limits.Memory is %d: want at least 1 MiB, or 0", l.Memory)
	}
	return nil
}

// The values that zero fields of a Config stand for.
const (
	DefaultHostname = "sandtest"
	DefaultCPUs     = 1
	DefaultMemory   = 4 << 30
	// DefaultMaxVirtual is 100 years of 365 days.
	DefaultMaxVirtual = 100 * 365 * 24 * time.Hour
)

// DefaultTime is where the clock starts unless told otherwise.
var DefaultTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// DefaultUmask is what a command starts with unless told otherwise.
const DefaultUmask = 0o022

// withDefaults fills zero fields in and checks the result.
func (c Config) withDefaults() (Config, error) {
	if c.Time.IsZero() {
		c.Time = DefaultTime
	}
	if c.Umask == 0 {
		c.Umask = DefaultUmask
	}
	if c.Umask > 0o777 {
		return c, fmt.Errorf("supervisor: Umask is %#o: want at most 0777", c.Umask)
	}
	if c.Inputs.IsZero() {
		c.Inputs = c.Time
	}
	if c.Identity.Hostname == "" {
		c.Identity.Hostname = DefaultHostname
	}
	if c.Identity.CPUs == 0 {
		c.Identity.CPUs = DefaultCPUs
	}
	if c.Identity.Memory == 0 {
		c.Identity.Memory = DefaultMemory
	}
	if c.MaxVirtual == 0 {
		c.MaxVirtual = DefaultMaxVirtual
	}
	if c.MaxVirtual < 0 {
		return c, fmt.Errorf("supervisor: MaxVirtual is %v: want a time span that isn't negative", c.MaxVirtual)
	}
	if c.Clock < det.Virtual || c.Clock > det.Host {
		return c, fmt.Errorf("supervisor: unknown clock %v", c.Clock)
	}
	if c.SetClock && c.Clock != det.Virtual {
		return c, fmt.Errorf("supervisor: SetClock with the %v clock: only the virtual clock can be set", c.Clock)
	}
	if c.FirstPID != 0 && (c.FirstPID < 2 || c.FirstPID > 1e6) {
		return c, fmt.Errorf("supervisor: FirstPID is %d: want 2 to 1,000,000", c.FirstPID)
	}
	if c.Spread < SpreadAsShown || c.Spread > SpreadAll {
		return c, fmt.Errorf("supervisor: unknown spread %d", c.Spread)
	}
	if c.Nice < 0 || c.Nice > 19 {
		return c, fmt.Errorf("supervisor: Nice is %d: want 0 to 19", c.Nice)
	}
	var err error
	if c.Backend, err = c.Backend.chosen(); err != nil {
		return c, fmt.Errorf("supervisor: %w", err)
	}
	if c.Net < NetLoopback || c.Net > NetHost {
		return c, fmt.Errorf("supervisor: unknown network %v", c.Net)
	}
	if c.Net != NetLoopback && len(c.AllowNet)+len(c.Publish) > 0 {
		return c, fmt.Errorf("supervisor: AllowNet or Publish with the network %v: they are openings of the network %v", c.Net, NetLoopback)
	}
	if err := det.CheckTime(c.Time); err != nil {
		return c, fmt.Errorf("supervisor: %w", err)
	}
	if err := c.Identity.Check(); err != nil {
		return c, fmt.Errorf("supervisor: %w", err)
	}
	if err := c.Limits.check(); err != nil {
		return c, err
	}
	return c, nil
}

// A State is how a command ended.
type State struct {
	// ExitCode is the command's exit status, or -1 when a signal ended it.
	ExitCode int
	// Signal is what ended the command, or 0.
	Signal syscall.Signal
	// ClockStart and Clock are where the sandbox's clock stood at the start and at
	// the end.
	ClockStart, Clock time.Time
	// Deadlock lists all threads if the command was killed because they waited for
	// each other, or for an instant beyond Config.MaxVirtual. Only the virtual clock
	// knows.
	Deadlock []BlockedThread
	// OutOfMemory says that everything was killed because of Limits.Memory.
	OutOfMemory bool
	// Leaked lists the processes that were alive when the command ended, by
	// lineage. They have been killed.
	Leaked []LeakedProcess
	// Changes are what differs from the host's files, if Config.KeepLayer is set.
	Changes cow.Changes
	// Audit lists the calls for which Config.OnSyscall has said Audit, by lineage and
	// thread.
	Audit []AuditEntry
	// Faults lists the calls that Config.Faults have hit, by lineage, fault and number.
	Faults []FaultHit
	// Trace is what the sandbox has handled, if Config.Trace is set.
	Trace Trace
	// Stats tells what the sandbox cost.
	Stats Stats
}

// A LeakedProcess is a process that outlived the command.
type LeakedProcess struct {
	Lineage det.Lineage
	Args    []string // its argument vector, empty if it had none any more
}

// A BlockedThread is a thread of a deadlocked sandbox.
type BlockedThread struct {
	// Process is the lineage of its process, Thread its number there, from 1 in
	// the order of creation.
	Process det.Lineage `json:"process"`
	Thread  int         `json:"thread"`
	// Command is the process's argument vector.
	Command []string `json:"command"`
	// Call is what it waits in: a system call with the descriptors that it waits
	// for, as in "read(3)" or "futex".
	Call string `json:"call"`
}

// String returns the thread as one line of a report.
func (b BlockedThread) String() string {
	return fmt.Sprintf("process %s thread %d (%s): %s", b.Process, b.Thread, strings.Join(b.Command, " "), b.Call)
}

// Stats counts what a sandbox did.
type Stats struct {
	// Notifications and Stops count trapped calls by name and channel. What a program knows
	// itself, the time and much about files, is none.
	Notifications map[string]uint64 `json:"notifications"`
	Stops         map[string]uint64 `json:"stops"`
	// Processes and Execs count what was started, the command included.
	Processes int `json:"processes"`
	Execs     int `json:"execs"`
	// Signals counts signals that were held back until a trapped call had ended.
	Signals int `json:"signals_held"`
	// Backend is what the sandbox was made of, seccomp or namespaces, and where it wasn't the
	// latter although it might have been, NoNamespaces is why.
	Backend      string `json:"-"`
	NoNamespaces string `json:"no_namespaces,omitempty"`
	// NoNetspace is why a sandbox with namespaces has none of the network, but a part of the
	// host's loopback interface that stands for one.
	NoNetspace string `json:"no_netspace,omitempty"`
	// HostTSC is why programs read the host's time-stamp counter under the virtual clock,
	// although Config.HostTSC isn't set: the machine can't be kept from telling it.
	HostTSC string `json:"host_tsc,omitempty"`
	// Landlock is the ABI of Landlock that stood behind the sandbox, 0 for none.
	Landlock int `json:"landlock"`
	// Real is the time the command took by the host's clock.
	Real time.Duration `json:"real_ns"`
}

package sandtest

import (
	"os"
	"syscall"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor"
)

// Options say what differs from the default sandbox. The zero Options is the
// fully deterministic one.
type Options struct {
	// Time is the instant at which the sandbox's clock starts, from 1678 to 2262.
	// The zero value means 2000-01-01T00:00:00Z. It has no effect with the host's
	// clock.
	Time time.Time

	// Clock says how time runs: [Virtual] (the default), [Running] or [Host].
	Clock Clock

	// MaxVirtual is how far the virtual clock may move. Zero means 100 years. A
	// command that waits for an instant beyond is ended, see [Result.Deadlock].
	MaxVirtual time.Duration

	// SetClock lets the command set the clock, which is the sandbox's and nobody
	// else's. By default that fails with EPERM. Only the virtual clock can be set.
	SetClock bool

	// HostTSC leaves the CPU's time-stamp counter alone, which otherwise follows the
	// virtual clock (the instructions rdtsc and rdtscp). Nearly no program reads it,
	// and in virtual machines on AMD processors it costs some 5 us each time that a
	// program and something outside of the sandbox take turns on a CPU.
	HostTSC bool

	// Backend is what the sandbox is made of, see [supervisor.Backend]: [BackendAuto] (the
	// default), [BackendSeccomp] or [BackendNamespaces]. With the last, process ids are the
	// same in every run.
	Backend Backend

	// Seed selects the random bytes: the same seed gives every process the same
	// bytes in every run, two seeds have nothing in common. Default 0.
	Seed uint64

	// Hostname is the name of the machine, 1 to 64 bytes. Default "sandtest".
	Hostname string

	// CPUs is the number of CPUs the command sees, 1 to 1024. Default 1. It doesn't
	// limit what the command may use.
	CPUs int

	// Memory is how much memory the machine has, in bytes, at least 1 MiB. A command
	// that uses more, with everything it started, is killed, see [Result.OutOfMemory].
	// Default: 4 GiB are reported, and there is no limit.
	Memory int64

	// MaxProcesses is how many processes and threads there may be: fork fails with
	// EAGAIN when there are so many. Default: no limit.
	MaxProcesses int

	// MaxDisk is how many bytes of files the command may write: beyond, it gets ENOSPC. A
	// file of the host counts whole from when it is written to, and one that was removed as
	// long as it is open. There may be a file, directory or link for each KiB of it, and 1,024
	// more. Default: no limit.
	MaxDisk int64

	// MaxCPU is how many percent of a CPU's time the command may have, with everything it
	// started: 50 is a half. Default: no limit.
	MaxCPU int

	// MaxOpenFiles is how many descriptors each process may have, at least 16
	// (RLIMIT_NOFILE). Default: the host's limit.
	MaxOpenFiles int

	// MaxOutput is how many bytes the command may write to standard output and standard
	// error where they are captured; beyond, it is killed, see [Result.OutputLimit].
	// Default: no limit.
	MaxOutput int64

	// Work is the absolute path at which the command sees its directory (cmd.Dir).
	// Default /work. [InPlace] leaves it where it is; the host's root always stays there.
	Work string

	// Root is a directory of the host that the command sees as its root. Its program, which
	// is looked for there, and all that this needs come from in there; Read, Write and Deny
	// are paths in there, too. /proc, /dev, /tmp and the directory of the command are as
	// always. Without Root it is the host's.
	Root string

	// Mounts show files and directories of the host at other places, or where the host's
	// /tmp would be hidden. What the command writes there goes to the layer.
	Mounts []Mount

	// Read limits what of the host the command sees: these files and directories,
	// and what dynamic programs need to be loaded; everything else doesn't exist.
	// Empty means everything but the host's /tmp and /dev.
	Read []string

	// Write lists directories of the host in which the command may write for real, at
	// the same path. Everywhere else what it writes goes to a layer of its own, see
	// [Result.Changes], and what the test changes while the command runs may not be seen by
	// it.
	Write []string

	// Deny lists files and directories that the command may not see, whatever Read
	// and Write say: they fail with EACCES.
	Deny []string

	// On lets the command start upon the files that another one has left, where its clock
	// has stopped unless Time says otherwise. What is shown where is as it was for that
	// command, and the directory must be the same; [Result.Changes] then lists what both
	// have changed, and those of the first result aren't to be used any more.
	On *Result

	// Lower is a directory with a snapshot, of [Result.Snapshot], upon which the command
	// starts: what another command has written is there besides the host's files.
	Lower string

	// MinLandlock is the ABI of Landlock that must stand behind the sandbox as a second
	// wall; a kernel that has less is an error. Default 0: whatever there is, see
	// [supervisor.Stats].
	MinLandlock int

	// Net is the command's network: a loopback interface of its own ([NetLoopback], the
	// default), none at all, or the host's.
	Net Net

	// AllowNet lists destinations outside that the command may reach besides its loopback
	// interface: HOST or HOST:PORT, where HOST is a name, an address, or a prefix of
	// addresses such as 192.0.2.0/24; an address of IPv6 with a port is in brackets. Names
	// are resolved once, at the start, and stand in the command's /etc/hosts.
	AllowNet []string

	// Publish lists ports of the command's that may be reached from outside, see
	// [Process.Port].
	Publish []uint16

	// DenyCalls are system calls that fail with EPERM besides those that do so anyway,
	// AllowCalls are some of those that are allowed; see [supervisor.Config] for which.
	DenyCalls, AllowCalls []string

	// NoHugePages switches transparent huge pages off.
	NoHugePages bool

	// OnSyscall, if not nil, is asked about system calls before they are made; see
	// [supervisor.Config.OnSyscall] for which, and for how long it may take. Events names
	// more of them.
	OnSyscall func(*Event) Verdict
	Events    []string

	// Faults make calls fail on purpose, see [Result.Faults].
	Faults []Fault

	// PowerLoss makes of a process that a fault kills a loss of power: everything ends, and
	// what isn't synced may be lost. Seed draws what: of the changes to names since the last
	// fsync of anything there are the first so many, of the pages of a file since its own
	// some.
	PowerLoss bool

	// Trace notes every call that the sandbox handles, see [Result.Trace].
	Trace bool

	// ASLR leaves address space randomisation on, as does the environment variable
	// SANDTEST_ASLR, for all sandboxes, if it isn't empty. By default it is off, and a
	// machine that forbids to switch it off, as docker run's policy does, is an error.
	ASLR bool

	// Timeout ends the command and everything it started after so much real time.
	// The zero value means 10 minutes, or a little less than what is left of the
	// test's deadline if that is shorter; a negative value means no limit.
	Timeout time.Duration

	adjust      func(*supervisor.Config) // the last word, of worlds.go
	disturbance uint64                   // see disturb
}

// DefaultTimeout is the real time a command may take unless told otherwise.
const DefaultTimeout = 10 * time.Minute

// Clock says how a sandbox's clock runs.
type Clock = det.Mode

// The clocks.
const (
	// Virtual stands still while anything in the sandbox runs, and jumps to the
	// earliest deadline when everything waits: an hour of sleep takes milliseconds.
	Virtual Clock = det.Virtual
	// Running starts at Options.Time and runs at real speed.
	Running Clock = det.Running
	// Host is the host's clock, left alone.
	Host Clock = det.Host
)

// A Backend is what a sandbox is made of.
type Backend = supervisor.Backend

const (
	// BackendAuto is what SANDTEST_BACKEND in the environment names, else BackendNamespaces
	// where the machine allows it, else BackendSeccomp. [Result.Stats] says which it was.
	BackendAuto = supervisor.BackendAuto
	// BackendSeccomp works wherever ptrace and seccomp do.
	BackendSeccomp = supervisor.BackendSeccomp
	// BackendNamespaces gives the sandbox processes of its own, with ids that are the same
	// in every run. Run fails the test where the machine doesn't allow it.
	BackendNamespaces = supervisor.BackendNamespaces
)

// Net is what network a command has.
type Net = supervisor.Net

// The networks.
const (
	// NetLoopback is a loopback interface of the command's own: its servers bind any
	// port, and are reached by what it started alone.
	NetLoopback = supervisor.NetLoopback
	// NetNone is no network: sockets of the Internet fail with EAFNOSUPPORT.
	NetNone = supervisor.NetNone
	// NetHost is the host's network, left alone.
	NetHost = supervisor.NetHost
)

// An Event is a system call that [Options.OnSyscall] is asked about.
type Event = supervisor.Event

// A Verdict is what becomes of it.
type Verdict = supervisor.Verdict

// The verdicts besides [DenyWith].
var (
	Allow = supervisor.Allow // make the call, as far as the sandbox's walls allow it
	Deny  = supervisor.Deny  // fail it with EPERM
	Audit = supervisor.Audit // allow it, and list it in [Result.Audit]
)

// DenyWith fails the call with an error; 0 is EPERM.
func DenyWith(errno syscall.Errno) Verdict { return supervisor.DenyWith(errno) }

// A Fault makes system calls fail on purpose.
type Fault = supervisor.Fault

// config returns what the supervisor is to do, but for the files.
func (o Options) config() supervisor.Config {
	if o.On != nil && o.Time.IsZero() {
		o.Time = o.On.Clock
	}
	cfg := supervisor.Config{
		Clock:      o.Clock,
		Time:       o.Time,
		MaxVirtual: o.MaxVirtual,
		SetClock:   o.SetClock,
		HostTSC:    o.HostTSC,
		Backend:    o.Backend,
		Seed:       o.Seed,
		Identity: det.Identity{
			Hostname: o.Hostname,
			CPUs:     o.CPUs,
			Memory:   o.Memory,
		},
		Limits:      supervisor.Limits{Memory: o.Memory, Processes: o.MaxProcesses, OpenFiles: o.MaxOpenFiles, Disk: o.MaxDisk, CPU: o.MaxCPU},
		ASLR:        o.ASLR,
		KeepLayer:   true,
		MinLandlock: o.MinLandlock,
		Net:         o.Net,
		AllowNet:    o.AllowNet,
		Publish:     o.Publish,
		DenyCalls:   o.DenyCalls,
		AllowCalls:  o.AllowCalls,
		NoHugePages: o.NoHugePages,
		OnSyscall:   o.OnSyscall,
		Events:      o.Events,
		Faults:      o.Faults,
		PowerLoss:   o.PowerLoss,
		Trace:       o.Trace,
		Lower:       o.Lower,
	}
	if o.On != nil {
		cfg.Continue = o.On.sandbox
	}
	return cfg
}

// A Mount shows a file or directory of the host.
type Mount struct {
	Host string // where it is
	Path string // where the command sees it, an absolute path; empty means at its own
	// ReadOnly lets the command change nothing there (EROFS). A directory that is shown at
	// several places is one, and then read-only at all of them.
	ReadOnly bool
}

// InPlace as [Options.Work] shows the command its directory where it is.
const InPlace = "."

// Environ returns the environment of a command whose Env is nil: PATH from the
// host, and otherwise the same on every machine. The caller may append to it.
func Environ() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=/tmp/home",
		"TMPDIR=/tmp",
		"USER=sandtest",
		"TZ=UTC",
		"LANG=C.UTF-8",
		"TERM=dumb",
	}
}

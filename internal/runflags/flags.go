// Package runflags holds the flags of sandtest run, which other commands take as
// well, and what is done with its result.
package runflags

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	units "github.com/docker/go-units"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/sandtest"
	"github.com/sandtest/go-sandtest/supervisor"
)

// Flags are the flags of sandtest run.
type Flags struct {
	Opts       sandtest.Options
	Dir        string
	Env        []string
	InheritEnv bool
	JSON       string // a file, or - for standard output
	Changes    Changes
	Diff       bool
	Trace      string // a file

	// Stdout is where - as a file is; nil is standard output.
	Stdout io.Writer

	faults []string // as they were given
}

// Changes says what becomes of what the command wrote: it is thrown away unless
// something is set.
type Changes struct {
	Commit bool
	Below  string // a directory of the host to which that is limited
	Keep   string // a directory
	// Snapshot is a directory for what another sandbox can start from.
	Snapshot string
}

func parseChanges(s string) (Changes, error) {
	switch kind, dir, _ := strings.Cut(s, "="); {
	case kind == "keep" && dir != "":
		return Changes{Keep: dir}, nil
	case kind == "snapshot" && dir != "":
		return Changes{Snapshot: dir}, nil
	case s == "commit":
		return Changes{Commit: true}, nil
	case s == "discard":
		return Changes{}, nil
	}
	return Changes{}, errors.New("want discard, commit, keep=DIR or snapshot=DIR")
}

// Register declares the flags. Each is one line here; package flag takes them
// with one dash or two.
func (f *Flags) Register(fs *flag.FlagSet) {
	f.RegisterSandbox(fs)
	f.registerCommand(fs)
}

// RegisterSandbox declares the flags that say what a sandbox is like, whatever runs in
// it.
func (f *Flags) RegisterSandbox(fs *flag.FlagSet) {
	fs.Func("time", "`T` at which the clock starts: RFC 3339, a date, or @SECONDS (default 2000-01-01T00:00:00Z)", func(s string) (err error) {
		f.Opts.Time, err = det.ParseTime(s)
		return err
	})
	fs.Func("clock", "`MODE` of the clock: virtual, running or host (default virtual)", func(s string) (err error) {
		f.Opts.Clock, err = det.ParseMode(s)
		return err
	})
	fs.DurationVar(&f.Opts.MaxVirtual, "max-virtual", 0, "how far, `D`, the virtual clock may move (default 100 years)")
	fs.BoolVar(&f.Opts.SetClock, "set-clock", false, "let the command set the virtual clock (date -s)")
	fs.BoolVar(&f.Opts.HostTSC, "host-tsc", false, "leave the CPU's time-stamp counter alone: a little faster on some machines")
	fs.Func("backend", "`BACKEND`: auto, seccomp or namespaces (default $SANDTEST_BACKEND, or auto: namespaces where the machine allows them)", func(s string) (err error) {
		f.Opts.Backend, err = supervisor.ParseBackend(s)
		return err
	})
	fs.Func("seed", "seed `N` of all random bytes (default 0)", func(s string) (err error) {
		if f.Opts.Seed, err = strconv.ParseUint(s, 0, 64); err != nil {
			return errors.New("want a number from 0 to 18446744073709551615")
		}
		return nil
	})
	fs.Func("hostname", "`NAME` of the machine (default sandtest)", func(s string) error {
		f.Opts.Hostname = s
		return det.Identity{Hostname: s, CPUs: 1, Memory: 1 << 30}.Check()
	})
	fs.Func("cpus", "number `N` of CPUs that are reported (default 1)", func(s string) error {
		if _, err := fmt.Sscanf(s+"\n", "%d\n", &f.Opts.CPUs); err != nil {
			return fmt.Errorf("want a number")
		}
		return det.Identity{Hostname: "x", CPUs: f.Opts.CPUs, Memory: 1 << 30}.Check()
	})
	fs.Func("memory", "`SIZE` of memory, such as 512M or 4GiB: so much is reported, and more is not to be had (default: 4GiB are reported, and there is no limit)", func(s string) (err error) {
		if f.Opts.Memory, err = units.RAMInBytes(s); err != nil {
			return fmt.Errorf("want a size such as 512M or 4GiB")
		}
		if f.Opts.Memory == math.MinInt64 || f.Opts.Memory == math.MaxInt64 {
			return fmt.Errorf("want a size that 63 bits can hold")
		}
		return det.Identity{Hostname: "x", CPUs: 1, Memory: f.Opts.Memory}.Check()
	})
	fs.IntVar(&f.Opts.MaxProcesses, "max-processes", 0, "how many processes and threads, `N`, there may be (default no limit)")
	fs.Func("max-disk", "how many bytes, `SIZE`, the command may write to files, such as 64M (default no limit)", func(s string) (err error) {
		if f.Opts.MaxDisk, err = units.RAMInBytes(s); err != nil || f.Opts.MaxDisk <= 0 {
			return fmt.Errorf("want a size such as 64M")
		}
		return nil
	})
	fs.IntVar(&f.Opts.MaxCPU, "max-cpu", 0, "how many `PERCENT` of a CPU's time the command may have (default no limit)")
	fs.IntVar(&f.Opts.MaxOpenFiles, "max-open-files", 0, "how many descriptors, `N`, each process may have, at least 16 (default the host's limit)")
	fs.BoolVar(&f.Opts.ASLR, "aslr", false, "leave address space randomisation on, as does SANDTEST_ASLR in the environment")
	fs.Func("mount", "show `HOST:PATH[:ro]`, the host's HOST at PATH, with :ro not to be changed; may be repeated", func(s string) error {
		m, err := parseMount(s)
		f.Opts.Mounts = append(f.Opts.Mounts, m)
		return err
	})
	fs.StringVar(&f.Opts.Root, "chroot", "", "`DIR` that the command sees as its root; its program is looked for there")
	fs.StringVar(&f.Opts.Lower, "lower", "", "start upon the snapshot `DIR`, of --changes snapshot=DIR")
	fs.Var((*list)(&f.Opts.Read), "read", "show only `PATH`, and what programs need to be loaded; may be repeated (default everything)")
	fs.Var((*list)(&f.Opts.Write), "write", "let the command write in `PATH` of the host; may be repeated")
	fs.Var((*list)(&f.Opts.Deny), "deny", "hide `PATH`; may be repeated")
	fs.Func("net", "`NETWORK`: none, loopback (the command's own) or host (default loopback)", func(s string) (err error) {
		f.Opts.Net, err = supervisor.ParseNet(s)
		return err
	})
	fs.Var((*list)(&f.Opts.AllowNet), "allow-net", "let the command reach `HOST[:PORT]` outside: a name, an address, or a prefix of addresses; may be repeated")
	fs.Func("publish", "let the command's `PORT` be reached from outside, at an address that is told on standard error; may be repeated", func(s string) error {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return errors.New("want a port, 1 to 65535")
		}
		f.Opts.Publish = append(f.Opts.Publish, uint16(n))
		return nil
	})
	fs.Var((*list)(&f.Opts.DenyCalls), "deny-call", "fail the system call `NAME` with EPERM; may be repeated")
	fs.Var((*list)(&f.Opts.AllowCalls), "allow-call", "allow the system call `NAME`, which otherwise fails, where that is possible; may be repeated")
	fs.BoolVar(&f.Opts.NoHugePages, "no-huge-pages", false, "switch transparent huge pages off")
	fs.Func("fault", "make calls fail: `SPEC` is CALL[,CALL...][:error=E|:short=N|:delay=D|:signal=S|:kill][:when=N][:path=P][:fd=KIND][:program=P][:process=L][:share=X], as in write:path=*.db:when=3:error=ENOSPC; a colon in P is written \\:; may be repeated", func(s string) error {
		fault, err := supervisor.ParseFault(s)
		f.Opts.Faults, f.faults = append(f.Opts.Faults, fault), append(f.faults, s)
		return err
	})
	fs.BoolVar(&f.Opts.PowerLoss, "power-loss", false, "when a fault kills, lose what isn't synced, as --seed draws it")
	f.Opts.Timeout = sandtest.DefaultTimeout
	fs.Func("timeout", "real time `D` after which everything is ended, 0 for no limit", func(s string) (err error) {
		if f.Opts.Timeout, err = time.ParseDuration(s); err != nil {
			return errors.New("want a duration such as 90s or 5m, or 0")
		}
		return nil
	})
}

// registerCommand declares the flags that are a matter of one command.
func (f *Flags) registerCommand(fs *flag.FlagSet) {
	f.Opts.Work = sandtest.DefaultWork
	fs.Func("work", "`PATH` at which the command sees its directory, empty to leave it where it is (default /work)", func(s string) error {
		if f.Opts.Work = s; s == "" {
			f.Opts.Work = sandtest.InPlace
		}
		return nil
	})
	fs.Func("changes", "what becomes of what the command wrote, `WHAT`: discard, commit, keep=DIR, or snapshot=DIR for --lower (default discard)", func(s string) (err error) {
		f.Changes, err = parseChanges(s)
		return err
	})
	fs.BoolVar(&f.Diff, "diff", false, "show what the command changed as a diff on standard error")
	fs.StringVar(&f.Dir, "dir", "", "`DIR` in which the command starts (default the present one)")
	fs.Func("env", "`K=V` set in the environment, K alone to take the host's value; may be repeated", func(s string) error {
		name, _, given := strings.Cut(s, "=")
		switch {
		case name == "":
			return fmt.Errorf("want K=V")
		case given:
			f.Env = append(f.Env, s)
		default:
			if v, ok := os.LookupEnv(name); ok {
				f.Env = append(f.Env, name+"="+v)
			}
		}
		return nil
	})
	fs.BoolVar(&f.InheritEnv, "inherit-env", false, "pass the whole environment on")
	fs.Func("trace", "write every call that the sandbox handles to `FILE`: as text, or with the ending .json for Perfetto", func(s string) error {
		if s == "" {
			return errors.New("want a file")
		}
		f.Trace, f.Opts.Trace = s, true
		return nil
	})
	fs.StringVar(&f.JSON, "json", "", "write the result to `FILE` as JSON, - for standard output; path_bytes and target_bytes hold in base64 what of a name isn't UTF-8")
}

func parseMount(s string) (m sandtest.Mount, err error) {
	m.Host, m.Path, _ = strings.Cut(s, ":")
	path, how, more := strings.Cut(m.Path, ":")
	switch {
	case m.Host == "", more && how != "ro" && how != "rw":
		return m, errors.New("want HOST:PATH, HOST:PATH:ro or HOST:PATH:rw")
	case more:
		m.Path, m.ReadOnly = path, how == "ro"
	}
	return m, nil
}

// A list is a flag that may be repeated.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(s string) error {
	if s == "" {
		return errors.New("want a value")
	}
	*l = append(*l, s)
	return nil
}

// Environ is the environment of the command.
func (f *Flags) Environ() []string {
	env := sandtest.Environ()
	if f.InheritEnv {
		env = os.Environ()
	}
	return append(env, f.Env...)
}

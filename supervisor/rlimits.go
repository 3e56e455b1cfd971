//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// resourceLimits are what getrlimit(2) tells.
//
// Source: the limits of who starts the sandbox, which differ from machine to machine and
// from login to login. Normalised: at its start the command's are set to those of a usual
// login. Those that count what all of the user's processes on the host have (processes,
// pending signals) stay as they are and are shown as usual; so are core files, of which
// there are none.
//
// What remains: a hard limit of the host's that is lower than usual stays, and is shown.
func resourceLimits(s *Sandbox) feature {
	f := feature{name: "rlimits"}
	for _, c := range []struct {
		name string
		arg  int // the resource
	}{{"getrlimit", 0}, {"setrlimit", 0}, {"prlimit64", 1}} {
		f.calls = append(f.calls, call{name: c.name, notify: s.rlimit, anyOf: [][]seccomp.Cond{
			is(c.arg, unix.RLIMIT_NPROC), is(c.arg, rlimitSigPending), is(c.arg, unix.RLIMIT_CORE),
		}})
	}
	return f
}

// unlimited is RLIM_INFINITY.
const unlimited = ^uint64(0)

// The resources that package unix doesn't name (asm-generic/resource.h), and how many there
// are.
const (
	rlimitSigPending = 11
	rlimitMsgQueue   = 12
	rlimitNice       = 13
	rlimitRTPrio     = 14
	rlimitRTTime     = 15
	rlimits          = 16
)

// usualLimits are those of a usual login, in the order of /proc/PID/limits, which is that
// of their numbers.
var usualLimits = [rlimits]struct {
	name, unit string
	unix.Rlimit
}{
	unix.RLIMIT_CPU:     {"Max cpu time", "seconds", unix.Rlimit{Cur: unlimited, Max: unlimited}},
	unix.RLIMIT_FSIZE:   {"Max file size", "bytes", unix.Rlimit{Cur: unlimited, Max: unlimited}},
	unix.RLIMIT_DATA:    {"Max data size", "bytes", unix.Rlimit{Cur: unlimited, Max: unlimited}},
	unix.RLIMIT_STACK:   {"Max stack size", "bytes", unix.Rlimit{Cur: 8 << 20, Max: unlimited}},
	unix.RLIMIT_CORE:    {"Max core file size", "bytes", unix.Rlimit{}},
	unix.RLIMIT_RSS:     {"Max resident set", "bytes", unix.Rlimit{Cur: unlimited, Max: unlimited}},
	unix.RLIMIT_NPROC:   {"Max processes", "processes", unix.Rlimit{Cur: usualPending, Max: usualPending}},
	unix.RLIMIT_NOFILE:  {"Max open files", "files", unix.Rlimit{Cur: 1024, Max: 1 << 20}},
	unix.RLIMIT_MEMLOCK: {"Max locked memory", "bytes", unix.Rlimit{Cur: 8 << 20, Max: 8 << 20}},
	unix.RLIMIT_AS:      {"Max address space", "bytes", unix.Rlimit{Cur: unlimited, Max: unlimited}},
	unix.RLIMIT_LOCKS:   {"Max file locks", "locks", unix.Rlimit{Cur: unlimited, Max: unlimited}},
	rlimitSigPending:    {"Max pending signals", "signals", unix.Rlimit{Cur: usualPending, Max: usualPending}},
	rlimitMsgQueue:      {"Max msgqueue size", "bytes", unix.Rlimit{Cur: 819200, Max: 819200}},
	rlimitNice:          {"Max nice priority", "", unix.Rlimit{}},
	rlimitRTPrio:        {"Max realtime priority", "", unix.Rlimit{}},
	rlimitRTTime:        {"Max realtime timeout", "us", unix.Rlimit{Cur: unlimited, Max: unlimited}},
}

// usualPending is how many processes and pending signals a user may have, as the kernel
// derives it from 4 GiB of memory.
const usualPending = 15000

// isTranslated reports whether a limit is shown otherwise than it is.
func isTranslated(resource int) bool {
	return resource == unix.RLIMIT_NPROC || resource == rlimitSigPending || resource == unix.RLIMIT_CORE
}

// A startLimit is a limit of each process that the command sets itself before it runs.
type startLimit struct {
	name     string
	resource int
	unix.Rlimit
}

// limitsAtStart returns them. Core files are forbidden: with one byte also those that the
// kernel would hand to a program (do_coredump, fs/coredump.c), but for where the limit is
// none already, which can't be raised.
func (s *Sandbox) limitsAtStart() (list []startLimit, err error) {
	for resource, usual := range usualLimits {
		had, want := &s.hostLimits[resource], usual.Rlimit
		if err := unix.Getrlimit(resource, had); err != nil {
			return nil, fmt.Errorf("read limit %d (getrlimit): %w", resource, err)
		}
		switch {
		case resource == unix.RLIMIT_CORE:
			want = unix.Rlimit{Cur: 1, Max: 1}
		case isTranslated(resource):
			continue
		case resource == unix.RLIMIT_NOFILE && s.cfg.Limits.OpenFiles > 0:
			want = unix.Rlimit{Cur: uint64(s.cfg.Limits.OpenFiles), Max: uint64(s.cfg.Limits.OpenFiles)}
		}
		if had.Max < want.Max {
			want = unix.Rlimit{Cur: min(want.Cur, had.Max), Max: had.Max}
		}
		if want != *had || resource == unix.RLIMIT_NOFILE { // of which the Go runtime has raised ours
			list = append(list, startLimit{fmt.Sprintf("set a limit (setrlimit %d to %d and %d)", resource, want.Cur, want.Max), resource, want})
		}
	}
	return list, nil
}

// shownLimit returns a limit as programs see it, by what it is.
func (s *Sandbox) shownLimit(resource int, is unix.Rlimit) unix.Rlimit {
	usual, host := usualLimits[resource].Rlimit, s.hostLimits[resource]
	switch {
	case resource == unix.RLIMIT_CORE:
		return usual
	case !isTranslated(resource):
		return is
	}
	if is.Cur == host.Cur {
		is.Cur = usual.Cur
	}
	if is.Max == host.Max {
		is.Max = usual.Max
	}
	return is
}

// rlimit answers getrlimit, setrlimit and prlimit64 for a limit that is shown otherwise.
func (s *Sandbox) rlimit(c *Call) Answer {
	pid, resource, set, old := c.Process.TGID, int(c.Int(0)), uint64(0), uint64(0)
	switch c.Name() {
	case "getrlimit":
		old = c.Arg(1)
	case "setrlimit":
		set = c.Arg(1)
	default:
		resource, set, old = int(c.Int(1)), c.Arg(2), c.Arg(3)
		if target := int(c.Int(0)); target != 0 {
			th := s.threadBy(target)
			if th == nil {
				return Errno(unix.ESRCH)
			}
			if err := s.view.mayLimit(c.thread, th); err != nil {
				return c.done(err)
			}
			pid = th.proc.TGID
		}
	}
	var had unix.Rlimit
	if err := unix.Prlimit(pid, resource, nil, &had); err != nil {
		return c.refusedWith(err)
	}
	shown := s.shownLimit(resource, had)
	b := c.scratch(16)
	if set != 0 {
		if err := c.Read(set, b); err != nil {
			return c.failed(err)
		}
		want := unix.Rlimit{Cur: binary.NativeEndian.Uint64(b), Max: binary.NativeEndian.Uint64(b[8:])}
		switch {
		case want.Cur > want.Max:
			return Errno(unix.EINVAL)
		case want.Max > shown.Max:
			return Errno(unix.EPERM) // also for the superuser
		case want != shown && resource != unix.RLIMIT_CORE:
			real := s.realLimit(resource, want, shown, had)
			if err := unix.Prlimit(pid, resource, &real, nil); err != nil {
				return c.refusedWith(err)
			}
		}
	}
	if old == 0 {
		return Return(0)
	}
	binary.NativeEndian.PutUint64(b, shown.Cur)
	binary.NativeEndian.PutUint64(b[8:], shown.Max)
	return c.reply(old, b)
}

// realLimit is what a limit is to be so that it is shown as wanted: what doesn't change
// stays, and what is the usual again is what the host has.
func (s *Sandbox) realLimit(resource int, want, shown, had unix.Rlimit) unix.Rlimit {
	usual, host := usualLimits[resource].Rlimit, s.hostLimits[resource]
	real := want
	switch want.Cur {
	case shown.Cur:
		real.Cur = had.Cur
	case usual.Cur:
		real.Cur = host.Cur
	}
	if want.Max == shown.Max {
		real.Max = had.Max
	}
	real.Max = min(real.Max, had.Max)
	real.Cur = min(real.Cur, real.Max)
	return real
}

// mayLimit decides whether a thread may read and set the limits of another one
// (check_prlimit_permission, kernel/sys.c).
func (v *view) mayLimit(th, other *thread) error {
	own, err := v.creds(th)
	if err != nil {
		return err
	}
	whose, err := v.creds(other)
	if err != nil {
		return unix.ESRCH
	}
	uid, gid := own.uids[0], own.gids[0]
	if own.effective&keptCapabilities == keptCapabilities || whose.uids == [3]uint32{uid, uid, uid} && whose.gids == [3]uint32{gid, gid, gid} {
		return nil
	}
	return unix.EPERM
}

// limitsText is the text of /proc/PID/limits.
func (c *Call) limitsText(e *processEntry) string {
	if e.th == nil {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units")
	for resource, usual := range usualLimits {
		var is unix.Rlimit
		if unix.Prlimit(e.th.proc.TGID, resource, nil, &is) != nil {
			return "" // it has ended
		}
		is = c.s.shownLimit(resource, is)
		fmt.Fprintf(&b, "%-25s %-20s %-20s ", usual.name, limitText(is.Cur), limitText(is.Max))
		if usual.unit != "" {
			fmt.Fprintf(&b, "%-10s", usual.unit)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func limitText(n uint64) string {
	if n == unlimited {
		return "unlimited"
	}
	return fmt.Sprint(n)
}

//go:build linux

package supervisor

import (
	"errors"
	"fmt"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// landlock takes from the command, before its first instruction, the right to
// change anything on the host, whatever a race with the supervisor may achieve
// (landlock(7)).
//
// It is the second wall: the view already sends every write elsewhere. What stays
// permitted is writing to terminals and to the directory of the sandbox's own FIFOs, which
// programs open themselves; descriptors that the supervisor hands over aren't limited.
// Reading isn't either. From ABI 4 on, the command can't bind or connect a TCP socket,
// which the supervisor does for it, unless its network is the host's. From ABI 6 on, signals
// and abstract Unix sockets end at the sandbox, too.
//
// On an older kernel less is taken, on one without Landlock nothing; Stats.Landlock
// tells, and Config.MinLandlock demands.
func landlock(s *Sandbox) feature {
	if s.landlockABI == 0 {
		return feature{name: "landlock"}
	}
	return feature{name: "landlock", join: func(calls *tracee.List) {
		fd := calls.Add("be given the Landlock ruleset", pageCall, rulesetWanted)
		restrict := calls.Add("landlock_restrict_self", unix.SYS_LANDLOCK_RESTRICT_SELF, 0, 0, 0, 0, 0, callMark)
		done := calls.Add("close the ruleset", unix.SYS_CLOSE)
		fd.Feed(restrict, 0)
		fd.Feed(done, 0)
	}}
}

// rulesetWanted is the argument of the page call that asks for the ruleset.
const rulesetWanted = 1

// rulesTCP is the first version of Landlock that rules over connections.
const rulesTCP = 4

// landlockABI returns the version of Landlock that the kernel has, 0 if none.
func landlockABI() int {
	v, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return v
}

// landlockRules are what a version of Landlock can take away.
func landlockRules(abi int, net Net) (attr ll.RulesetAttr) {
	const (
		writeFile = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
		change    = writeFile | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR |
			unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
			unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	)
	if abi >= 1 {
		attr.HandledAccessFS = change
	}
	if abi >= 2 {
		attr.HandledAccessFS |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		attr.HandledAccessFS |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= rulesTCP && net != NetHost {
		attr.HandledAccessNet = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= 5 {
		attr.HandledAccessFS |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		attr.Scoped = scopeAbstractSockets | scopeSignals
	}
	return attr
}

// What ABI 6 can scope (linux/landlock.h).
const (
	scopeAbstractSockets = 1 << 0
	scopeSignals         = 1 << 1
)

// newRuleset makes the ruleset of a sandbox.
func (s *Sandbox) newRuleset() (fd int, err error) {
	attr := landlockRules(s.landlockABI, s.cfg.Net)
	if fd, err = ll.LandlockCreateRuleset(&attr, 0); err != nil {
		return -1, fmt.Errorf("landlock_create_ruleset: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	const forFiles = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	writable := []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts", s.view.small}
	for _, m := range s.cfg.Mounts {
		if m.Through {
			writable = append(writable, m.Host)
		}
	}
	for _, path := range writable {
		at, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("open %s: %w", path, err)
		}
		rule := ll.PathBeneathAttr{ParentFd: at, AllowedAccess: attr.HandledAccessFS & forFiles}
		err = ll.LandlockAddPathBeneathRule(fd, &rule, 0)
		unix.Close(at)
		if err != nil {
			return -1, fmt.Errorf("landlock_add_rule for %s: %w", path, err)
		}
	}
	return fd, nil
}

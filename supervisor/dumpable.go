//go:build linux

package supervisor

import (
	"golang.org/x/sys/unix"
)

// dumpable remembers whether a program lets others look into it (PR_SET_DUMPABLE).
//
// Source: the supervisor couldn't look into it either, and would have to end the run.
// Eliminated: the program is told that it is so, and other processes of the sandbox can't
// (lookinto.go). Nobody outside has the sandbox's memory to look at anyway: who could, could
// also trace the supervisor.
func dumpable(s *Sandbox) feature {
	return feature{name: "dumpable",
		calls: []call{
			{name: "prctl", conds: is(0, unix.PR_SET_DUMPABLE), notify: func(c *Call) Answer {
				const user = 1 // SUID_DUMP_USER
				if c.Arg(1) > user {
					return Errno(unix.EINVAL)
				}
				c.Process.hidden.Store(c.Arg(1) == 0)
				c.Process.open.Store(c.Arg(1) == user)
				return Return(0)
			}},
			{name: "prctl", conds: is(0, unix.PR_GET_DUMPABLE), notify: func(c *Call) Answer {
				if c.Process.hidden.Load() {
					return Return(0)
				}
				return Return(1)
			}},
		},
		load: func(im *image) error {
			im.th.proc.hidden.Store(false)
			im.th.proc.open.Store(false)
			return nil
		},
	}
}

//go:build linux

package supervisor

import (
	"encoding/binary"
	"runtime"

	"golang.org/x/sys/unix"
)

// foreground gives a terminal back to whom it belonged.
//
// Source: the group of processes that the command was started in, which has no number in
// the sandbox's namespace (getpgrp says 0), but to which a shell with job control returns
// the terminal at its end (tcsetpgrp(3)). Normalised: the supervisor, who is in the same
// session, puts that group into the foreground, if the kernel would let the program. It
// also does so at the end, if what was last in the foreground is gone: bash, for one, keeps
// the terminal of a group without a number.
func foreground(s *Sandbox) feature {
	f := feature{name: "foreground"}
	if s.spaces != nil {
		f.calls = []call{{name: "ioctl", notify: s.setForeground, conds: is(1, unix.TIOCSPGRP)}}
		had := false
		f.load = func(im *image) error {
			if im.th.proc == s.root && im.th.proc.execs == 1 && !s.spaces.leads {
				had = inForeground() == s.spaces.group
			}
			return nil
		}
		f.close = func() error {
			if now := inForeground(); had && now != s.spaces.group && unix.Kill(-now, 0) == unix.ESRCH {
				return putIntoForeground(s.spaces.group)
			}
			return nil
		}
	}
	return f
}

// inForeground returns the group that is in the foreground of the supervisor's terminal, 0
// for none.
func inForeground() int {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return group
}

// putIntoForeground does so with a group, if there still is one, and a terminal.
func putIntoForeground(group int) error {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	err = unprovoked(func() error { return unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group) })
	if err == unix.ESRCH || err == unix.EPERM || err == unix.ENOTTY || err == unix.EIO {
		return nil // it is gone
	}
	return err
}

func (s *Sandbox) setForeground(c *Call) Answer {
	b := c.scratch(4)
	if s.spaces.leads || c.Read(c.Arg(2), b) != nil || binary.NativeEndian.Uint32(b) != 0 {
		return goOn
	}
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return c.refusedWith(err)
	}
	defer unix.Close(fd)
	now, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	if err != nil {
		return goOn // it isn't the terminal of this session
	}
	if own, err := unix.Getpgid(c.Process.TGID); err != nil || own != now && !c.thread.withstands(unix.SIGTTOU) {
		return goOn // the kernel stops it
	}
	return c.saidBy(unprovoked(func() error { return unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, s.spaces.group) }))
}

// withstands reports whether a thread blocks a signal, or ignores it.
func (th *thread) withstands(sig unix.Signal) bool {
	for _, set := range []string{"SigBlk:", "SigIgn:"} {
		if mask, err := statusMask(th.tid, set); err == nil && mask&(1<<(sig-1)) != 0 {
			return true
		}
	}
	return false
}

// unprovoked does something for which the kernel would stop the supervisor, were it in the
// background.
func unprovoked(do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.Sigset_t
	block := unix.Sigset_t{}
	block.Val[0] = 1 << (unix.SIGTTOU - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before); err != nil {
		return err
	}
	err := do()
	if again := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err == nil {
		err = again
	}
	return err
}

//go:build linux

package supervisor

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// turns keeps threads on one CPU from interrupting each other.
//
// Source: the kernel, which lets a thread that is woken interrupt the one that wakes it, or
// not, by how long each has run. In a program of Go, for one, that decides whether a thread
// is idle when another looks for one or starts one more, and each has random numbers of its
// own. Eliminated for a sandbox that runs on one CPU: its threads are SCHED_BATCH (sched(7)),
// and who is woken goes on when the other waits, or its turn of some milliseconds is over.
// Programs see SCHED_OTHER, unless they have asked for the other themselves.
//
// What remains: the ends of turns, which come in between on a busy machine above all. A
// thread that sets SCHED_OTHER with another nice value (sched_setattr(2)) gets just that. With
// more CPUs threads run at the same time.
func turns(s *Sandbox) feature {
	f := feature{name: "turns"}
	if s.cfg.onOneCPU() {
		f.calls = []call{
			{name: "sched_getscheduler", notify: s.schedGetscheduler},
			{name: "sched_getattr", notify: s.schedGetattr},
			{name: "sched_setscheduler", notify: s.schedSetscheduler},
			{name: "sched_setattr", notify: s.schedSetattr},
		}
	}
	return f
}

const (
	resetOnFork     = 0x40000000 // SCHED_RESET_ON_FORK of a policy
	flagResetOnFork = 1          // SCHED_FLAG_RESET_ON_FORK of the attributes (linux/sched.h)
	firstSchedAttr  = 48         // SCHED_ATTR_SIZE_VER0, the size of those that there were first
)

// takeTurns has a thread, and what it starts, not interrupt others. This makes runs more
// alike; where it isn't permitted, everything works all the same.
func (p *placement) takeTurns(tid int) {
	if p.one {
		_ = setTurns(tid, 0)
	}
}

func setTurns(tid int, flags uint64) error {
	attr, err := unix.SchedGetAttr(tid, 0)
	if err == nil {
		err = unix.SchedSetAttr(tid, &unix.SchedAttr{Policy: unix.SCHED_BATCH, Flags: flags, Nice: attr.Nice}, 0)
	}
	return err
}

// scheduled finds the thread that a call means, and how it is scheduled as it is shown.
func (c *Call) scheduled() (*thread, *unix.SchedAttr, unix.Errno) {
	th := c.thread
	if number := int(c.Int(0)); number < 0 {
		return nil, nil, unix.EINVAL
	} else if number != 0 {
		if th = c.s.threadBy(number); th == nil {
			return nil, nil, unix.ESRCH
		}
	}
	attr, err := unix.SchedGetAttr(th.tid, 0)
	if err != nil {
		return nil, nil, unix.ESRCH
	}
	if attr.Policy == unix.SCHED_BATCH && !th.batch.Load() {
		attr.Policy = unix.SCHED_NORMAL
	}
	if attr.Policy == unix.SCHED_NORMAL || attr.Policy == unix.SCHED_BATCH {
		attr.Runtime = 0 // the length of its turns, which newer kernels tell
	}
	return th, attr, 0
}

func (s *Sandbox) schedGetscheduler(c *Call) Answer {
	_, attr, errno := c.scheduled()
	if errno != 0 {
		return Errno(errno)
	}
	policy := int64(attr.Policy)
	if attr.Flags&flagResetOnFork != 0 {
		policy |= resetOnFork
	}
	return Return(policy)
}

func (s *Sandbox) schedGetattr(c *Call) Answer {
	size := int(uint32(c.Arg(2)))
	if c.Arg(1) == 0 || size < firstSchedAttr || size > pageSize || uint32(c.Arg(3)) != 0 {
		return Errno(unix.EINVAL)
	}
	_, attr, errno := c.scheduled()
	if errno != 0 {
		return Errno(errno)
	}
	attr.Size = uint32(min(size, unix.SizeofSchedAttr))
	b, err := binary.Append(c.scratch(unix.SizeofSchedAttr)[:0], binary.NativeEndian, attr)
	if err != nil {
		return Fatal(err)
	}
	return c.reply(c.Arg(1), b[:attr.Size])
}

func (s *Sandbox) schedSetscheduler(c *Call) Answer {
	th, attr, errno := c.scheduled()
	if errno != 0 {
		return Errno(errno)
	}
	policy := uint32(c.Arg(1))
	if policy&^resetOnFork != unix.SCHED_NORMAL || th.proc != c.Process || attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
		th.asksFor(policy &^ resetOnFork)
		return Continue()
	}
	var priority [4]byte
	if c.Arg(2) == 0 {
		return Errno(unix.EINVAL)
	}
	if err := c.Read(c.Arg(2), priority[:]); err != nil {
		return c.failed(err)
	}
	if binary.NativeEndian.Uint32(priority[:]) != 0 {
		return Errno(unix.EINVAL)
	}
	flags := attr.Flags & flagResetOnFork
	if policy&resetOnFork != 0 {
		flags = flagResetOnFork
	} else if flags != 0 {
		return Continue() // who hasn't CAP_SYS_NICE can't take it back
	}
	if err := setTurns(th.tid, flags); err != nil {
		return c.refusedWith(err)
	}
	th.batch.Store(false)
	return Return(0)
}

// schedSetattr lets the kernel set what is asked for, unless that is what there is.
func (s *Sandbox) schedSetattr(c *Call) Answer {
	th, attr, errno := c.scheduled()
	if errno != 0 {
		return Errno(errno)
	}
	var b [firstSchedAttr]byte
	if c.Arg(1) == 0 || uint32(c.Arg(2)) != 0 || c.Read(c.Arg(1), b[:]) != nil {
		return Continue() // the kernel says what is wrong with it
	}
	size, policy := binary.NativeEndian.Uint32(b[:]), binary.NativeEndian.Uint32(b[4:])
	flags, nice := binary.NativeEndian.Uint64(b[8:]), int32(binary.NativeEndian.Uint32(b[16:]))
	if th.proc == c.Process && size == firstSchedAttr && policy == unix.SCHED_NORMAL && attr.Policy == unix.SCHED_NORMAL && flags == attr.Flags && nice == attr.Nice {
		return Return(0)
	}
	th.asksFor(policy)
	return Continue()
}

// asksFor notes a policy, which the kernel may refuse. As long as the thread has another than
// SCHED_BATCH, what it has asked for before doesn't matter.
func (th *thread) asksFor(policy uint32) {
	if policy == unix.SCHED_BATCH {
		th.batch.Store(true)
	}
}

package tracee

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A Caller makes a stopped thread execute system calls one by one, from an instruction that is
// there for that. It changes nothing but the thread's own registers, so others may run in its
// memory meanwhile, which a [Remote] wouldn't bear. The thread may stand at any stop but that of
// a group; of a call that it is about to make nothing is left, whoever wants it sets its
// registers to [Regs.CallAgain] afterwards.
type Caller struct {
	tid      int
	at       uint64 // the instruction
	saved    Regs
	mask     uint64
	deferred []int32
}

// BeginCalls prepares a thread: signals wait until End. at is where an instruction lies that
// makes a system call.
func BeginCalls(tid int, at uint64) (*Caller, error) {
	c := &Caller{tid: tid, at: at}
	var err error
	if c.saved, err = GetRegs(tid); err != nil {
		return nil, fmt.Errorf("read registers: %w", gone(err))
	}
	if c.mask, err = Sigmask(tid); err != nil {
		return nil, fmt.Errorf("read signal mask: %w", gone(err))
	}
	if err := SetSigmask(tid, ^uint64(0)); err != nil {
		return nil, fmt.Errorf("block signals: %w", gone(err))
	}
	return c, nil
}

// Call makes the thread execute call nr, and returns its result: a negative errno from -4095 on.
func (c *Caller) Call(nr int, args ...uint64) (int64, error) {
	regs := c.saved
	for i := range 6 {
		regs.SetArg(i, 0)
	}
	for i, arg := range args {
		regs.SetArg(i, arg)
	}
	regs.SetPC(c.at + CallSize)
	regs.CallAgain(nr)
	if err := regs.Store(c.tid); err != nil {
		return 0, gone(err)
	}
	for {
		ws, err := c.next()
		if err != nil {
			return 0, err
		}
		switch {
		case ws.StopSignal() == SyscallStop:
			if regs, err = GetRegs(c.tid); err != nil {
				return 0, gone(err)
			}
			if regs.Nr() == nr && regs.PC() == c.at+CallSize && !pending(regs.Result()) {
				return regs.Result(), nil
			}
		case Event(ws) == 0:
			c.deferred = append(c.deferred, int32(ws.StopSignal()))
		}
	}
}

// next lets the thread go on to its next stop.
func (c *Caller) next() (unix.WaitStatus, error) {
	if err := ContToSyscall(c.tid, 0); err != nil {
		return 0, gone(err)
	}
	_, ws, err := WaitFor(c.tid)
	if err == nil && !ws.Stopped() {
		err = ErrGone
	}
	return ws, gone(err)
}

// pending reports whether a result is none: that of a call that has just begun, or that the
// kernel will make anew.
func pending(result int64) bool {
	const first, last = 512, 516 // ERESTARTSYS, ERESTART_RESTARTBLOCK (linux/errno.h)
	return result == -int64(unix.ENOSYS) || -result >= first && -result <= last
}

// End gives the thread its registers and signals back. Those that came meanwhile are returned;
// they are to be sent again.
func (c *Caller) End() (deferred []int32, err error) {
	if err := SetSigmask(c.tid, c.mask); err != nil {
		return nil, gone(err)
	}
	return c.deferred, gone(c.saved.Store(c.tid))
}

package tracee

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrGone is the error of a thread that died while something was done to it.
var ErrGone = errors.New("the process died")

// A Remote makes a stopped thread execute system calls. Begin saves the thread's
// registers and blocks its signals, End restores both; the thread must stand at
// the edge of user mode (a signal-delivery stop or the exit of a call).
type Remote struct {
	tid      int
	saved    Regs
	mask     uint64
	insn     uint64
	original []byte // what stood at insn, if it was overwritten
	deferred []int32
}

// Begin prepares a thread. insn is the address of a system-call instruction in
// its memory; with 0 one is written at its instruction pointer until End.
func Begin(tid int, insn uint64) (*Remote, error) {
	r := &Remote{tid: tid, insn: insn}
	var err error
	if r.saved, err = GetRegs(tid); err != nil {
		return nil, fmt.Errorf("read registers: %w", gone(err))
	}
	if r.mask, err = getSigmask(tid); err != nil {
		return nil, fmt.Errorf("read signal mask: %w", gone(err))
	}
	if err := setSigmask(tid, ^uint64(0)); err != nil {
		return nil, fmt.Errorf("block signals: %w", gone(err))
	}
	if insn == 0 {
		r.insn = r.saved.PC()
		r.original = make([]byte, len(syscallInsn))
		if err := ReadMem(tid, r.insn, r.original); err != nil {
			return nil, err
		}
		if err := ForceWrite(tid, r.insn, syscallInsn); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// SP returns the thread's stack pointer; what lies below it is free for use.
func (r *Remote) SP() uint64 { return r.saved.SP() }

// Call executes one system call and returns its result; an error is the call's
// errno, or something worse.
func (r *Remote) Call(nr uintptr, args ...uint64) (uint64, error) {
	regs := r.saved
	regs.prepare(r.insn, nr, args)
	if err := regs.Store(r.tid); err != nil {
		return 0, gone(err)
	}
	if err := r.step(); err != nil {
		return 0, err
	}
	regs, err := GetRegs(r.tid)
	if err != nil {
		return 0, gone(err)
	}
	if v := regs.Result(); v < 0 && v >= -4095 {
		return 0, unix.Errno(-v)
	}
	return uint64(regs.Result()), nil
}

// step runs one instruction. All signals are blocked, so what can come between
// is a SIGSTOP, which is kept for End.
func (r *Remote) step() error {
	for {
		if err := unix.PtraceSingleStep(r.tid); err != nil {
			return gone(err)
		}
		_, ws, err := WaitFor(r.tid)
		switch {
		case err != nil:
			return gone(err)
		case !ws.Stopped():
			return ErrGone
		case ws.StopSignal() == unix.SIGTRAP && Event(ws) == 0:
			return nil
		case Event(ws) != 0:
			// A group-stop, or a trap that announces one: it is reported again.
		default:
			r.deferred = append(r.deferred, int32(ws.StopSignal()))
		}
	}
}

// End puts the thread back where it stood. Signals that came meanwhile are
// returned; they are to be sent again.
func (r *Remote) End() (deferred []int32, err error) {
	if r.original != nil {
		if err := ForceWrite(r.tid, r.insn, r.original); err != nil {
			return nil, err
		}
	}
	if err := setSigmask(r.tid, r.mask); err != nil {
		return nil, gone(err)
	}
	if err := r.saved.Store(r.tid); err != nil {
		return nil, gone(err)
	}
	return r.deferred, nil
}

func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

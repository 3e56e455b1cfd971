//go:build linux

package tracee

import "errors"

// Regs would be a thread's registers; remote system calls are missing on arm64.
type Regs struct{}

var errArch = errors.New("tracee: arm64 is not supported yet: registers and remote system calls are missing")

// GetRegs returns an error.
func GetRegs(int) (Regs, error) { return Regs{}, errArch }

// The methods exist so that the module compiles; no stop ever gets this far.
func (r *Regs) Store(int) error     { return errArch }
func (r *Regs) Nr() int             { return -1 }
func (r *Regs) SetNr(int)           {}
func (r *Regs) Result() int64       { return 0 }
func (r *Regs) SetResult(int64)     {}
func (r *Regs) PC() uint64          { return 0 }
func (r *Regs) SetPC(uint64)        {}
func (r *Regs) ReturnTo(uint64)     {}
func (r *Regs) CallAgain(int)       {}
func (r *Regs) SP() uint64          { return 0 }
func (r *Regs) Return(uint64)       {}
func (r *Regs) Compat() bool        { return false }
func (r *Regs) Arg(int) uint64      { return 0 }
func (r *Regs) Args() [6]uint64     { return [6]uint64{} }
func (r *Regs) SetArg(int, uint64)  {}
func (r *Regs) jump(uint64, uint64) {}

var runList []byte

// TextSize is 0: there are no instructions to place.
const TextSize = 0

// CallSize is how long the instruction is that makes a system call.
const CallSize = 4

// CallCode is that instruction.
var CallCode = []byte{0x01, 0x00, 0x00, 0xd4} // svc #0

// AnswerTSC returns false: there is no such counter.
func (*Regs) AnswerTSC([]byte, uint64) bool { return false }

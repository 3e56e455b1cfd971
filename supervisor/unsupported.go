//go:build !linux

package supervisor

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/sandtest/go-sandtest/cow"
)

// A Sandbox is one command under supervision. On this platform there is none.
type Sandbox struct{}

// Start returns [errors.ErrUnsupported]: a sandbox needs Linux.
func Start(*exec.Cmd, Config) (*Sandbox, error) {
	return nil, fmt.Errorf("supervisor: a sandbox needs Linux on amd64, this is %s on %s: %w", runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)
}

// The methods exist so that callers compile; there is never a Sandbox to call
// them on.
func (*Sandbox) Wait() (*State, error) { return nil, errors.ErrUnsupported }
func (*Sandbox) Done() <-chan struct{} { return nil }
func (*Sandbox) Layer() *cow.Tree      { return nil }
func (*Sandbox) Discard() error        { return errors.ErrUnsupported }
func (*Sandbox) Kill()                 {}
func (*Sandbox) Freeze() error         { return errors.ErrUnsupported }
func (*Sandbox) Thaw()                 {}
func (*Sandbox) Snapshot(string) error { return errors.ErrUnsupported }
func (*Sandbox) Address(uint16) (netip.AddrPort, error) {
	return netip.AddrPort{}, errors.ErrUnsupported
}
func (*Sandbox) Signal(syscall.Signal) error { return errors.ErrUnsupported }

// A Handler answers a system call.
type Handler struct{}

// Doctor reports that this platform has no sandbox.
func Doctor() []Check {
	_, err := Start(nil, Config{})
	return []Check{{Name: "platform", Detail: err.Error()}}
}

//go:build !linux

package supervisor

import (
	"errors"
	"syscall"
)

func errnoNamed(string) (syscall.Errno, error)   { return 0, errors.ErrUnsupported }
func signalNamed(string) (syscall.Signal, error) { return 0, errors.ErrUnsupported }

//go:build !linux

package sandtest

import "syscall"

func signalName(sig syscall.Signal) string { return sig.String() }

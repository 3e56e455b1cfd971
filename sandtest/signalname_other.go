//go:build !linux

package sandtest

import "syscall"

// SignalName returns the name of a signal, and nothing for 0.
func SignalName(sig syscall.Signal) string {
	if sig == 0 {
		return ""
	}
	return sig.String()
}

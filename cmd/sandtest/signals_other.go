//go:build !linux

package main

import (
	"os/exec"
	"syscall"
)

func passSignals(*exec.Cmd) (stop func()) { return func() {} }

func signalName(sig syscall.Signal) string { return sig.String() }

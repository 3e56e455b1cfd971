//go:build !amd64

package vdso

var syscallInsn []byte

// Code returns ErrUnsupported: the replacement functions for this architecture
// are missing. Besides them it takes a system-call instruction for Syscall.
func Code(Kind) ([]byte, map[string]int, error) { return nil, nil, ErrUnsupported }

// SlotFunctions returns nil: there is no code that would use a slot.
func SlotFunctions(Kind) []string { return nil }

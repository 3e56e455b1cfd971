//go:build !amd64

package vdso

// Code returns ErrUnsupported: the replacement functions for this architecture
// are missing.
func Code(Kind) ([]byte, map[string]int, error) { return nil, nil, ErrUnsupported }

// SlotFunctions returns nil: there is no code that would use a slot.
func SlotFunctions(Kind) []string { return nil }

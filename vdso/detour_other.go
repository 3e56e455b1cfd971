//go:build !amd64

package vdso

// Detour returns nil: the code for this architecture is missing.
func Detour() []byte { return nil }

//go:build !(linux && amd64)

package tsc

// Forbid does nothing: programs have no such counter here, or are left it.
func Forbid() {}

// Allow undoes Forbid.
func Allow() {}

//go:build !(linux && amd64)

package tsc

// Obeyed reports true: the kernel says so where there is no such thing.
func Obeyed() bool { return true }

// Dear reports false.
func Dear() bool { return false }

// Forbid does nothing: programs have no such counter here, or are left it.
func Forbid() {}

// Allow undoes Forbid.
func Allow() {}

// Package call calls machine code by its address, without cgo. It exists only
// so that the tests of package vdso can execute the replacement functions, and
// the host's own, as a C program would. It has functions on amd64 alone.
package call

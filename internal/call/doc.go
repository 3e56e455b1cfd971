// Package call calls machine code by its address, without cgo. It exists only
// for tests: those of package vdso execute the replacement functions, and the host's
// own, as a C program would, and others single instructions. It has functions on
// amd64 alone.
package call

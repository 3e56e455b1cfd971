// Package vdso replaces the clock functions of a process's vDSO (vdso(7)).
//
// The vDSO is a small ELF image that the kernel maps into every process; the C
// library, the Go runtime and others look up clock_gettime and its kin there and
// so read the host's clock without a system call. A sandbox maps one more
// region into each of its processes:
//
//	page 0  data    read-only, shared with the supervisor: the clock as it stands
//	page 1  code    read-only, executable: the replacement functions
//	page 2  slots   private: addresses of the original functions (Shifted only)
//
// and then changes the vDSO's symbol table, not its text: every symbol of a
// replaced function points into page 1. That is done before the first
// instruction of a program, so no program can have looked a symbol up before.
// The original text stays intact, which is what lets [Shifted] call it, and
// needs no disassembler. Both spellings of a symbol (__vdso_time, time) are
// entries of that table and both are changed.
//
// Replacement functions are position independent and depend on nothing but the
// region, so one code page serves every process of a sandbox.
//
// The package is pure: it computes code and the bytes to write, and leaves the
// writing to its caller. It supports amd64; elsewhere [Code] returns
// [ErrUnsupported].
package vdso

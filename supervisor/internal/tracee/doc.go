// Package tracee wraps ptrace(2): seizing a process, its stops, its registers
// and memory, and system calls that it is made to execute. It knows no policy.
//
// Except for ReadMem, WriteMem and ReadString, everything must be called on the
// OS thread that attached; the kernel answers ESRCH to any other.
package tracee

// Package det holds the deterministic sources a sandbox hands out, as pure
// code: a clock, random streams, a directory order, an identity. It makes no
// system call, so everything in it is tested and fuzzed without a sandbox.
//
// # Naming, not order
//
// A value handed to a process is a function of (seed, name, counter) and never
// of who asked first in the whole sandbox. The name of a process is its
// [Lineage]: the command is "0", and the n-th process that a process creates is
// its name plus ".n", counted from 1. Sixty processes that draw random bytes at
// once therefore each get the same bytes in every run, whatever the scheduler
// does.
//
// What naming can't cover: two threads of one process share the process's
// stream, so which of them gets which bytes depends on who draws first. A
// stream per thread was rejected because a Go program moves its goroutines
// between threads, so there a per-thread stream would turn a deterministic
// program into one that isn't.
//
// # The clock
//
// A [Clock] is an instant and the four time scales that Linux derives from it.
// It knows three modes, see [Mode]. Under [Virtual] it stands still until
// somebody moves it with [Clock.AdvanceTo].
package det

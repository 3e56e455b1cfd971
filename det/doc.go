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
//
// # Who moves the virtual clock
//
// What a program waits for. When every thread of a sandbox waits, the clock jumps
// to the earliest deadline, and that wait alone ends; what it sets off runs until
// everything waits again. Waits with the same deadline end in the order of
// lineage, then thread, then arrival. All of that is decided by names and by what
// programs ask for, so the sequence of instants is the same in every run, however
// long each step takes.
//
// Not what a language runtime does for itself. In a Go program, which is known by
// its build ID, nanosleep is only ever called by the runtime, to yield: such a
// wait ends when everything else waits and leaves the clock where it is, up to
// 100 ms for each thread at one instant; after that it counts, because the
// runtime's monitor takes a processor away from a goroutine that is stuck in a
// system call only when time has passed. The monitor's own sleep of up to a
// minute never moves the clock, it ends when something else has moved it that far.
// So the instants of a Go program are those of its timers. The threads of the JVM
// and of node wait on futexes and epoll for what programs ask them to, and are
// taken at their word.
//
// And a busy wait. A process that has read the clock 1,048,576 times at one
// instant makes it tick by a millisecond, or by a quarter of what ticks alone
// have moved it, up to the next deadline. A read by a system call counts as 256.
// That is deterministic where one thread reads; with several, who reaches the
// number first is the scheduler's choice, but when it is reached depends on all of
// them. Ticks are also what CPU time is made of: a program that computes uses
// none.
//
// What this can't cover: a program that asks the scheduler itself, spinning with
// sched_yield and no look at the clock until another thread's sleep ends; a Go
// goroutine that spins until another has run, on one CPU, because the monitor
// preempts by time that doesn't pass; and input from outside, which comes when it
// comes.
package det

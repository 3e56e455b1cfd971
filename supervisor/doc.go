// Package supervisor runs one command in one sandbox: it arms the command,
// answers its system calls, and ends it.
//
// # The model
//
// [Start] starts an ordinary [os/exec.Cmd] on a locked OS thread, the tracer,
// under ptrace. Before the command's first instruction it makes the command
// install a seccomp filter on itself and takes the filter's listener away from
// it. From then on two channels carry what the sandbox wants to know:
//
//   - notifications, for calls that the supervisor answers itself. Receivers
//     serve them beside the tracer, each call on its own.
//   - stops, for calls whose registers must change, or whose end must be seen.
//     The tracer serves them.
//
// What a sandbox does is a list of features, see features.go: each is one file
// that names the system calls it wants and how it answers each. The filter is
// derived from the features that are switched on; a call that none wants is
// never trapped and runs at the kernel's own speed.
//
// Every process and thread below the command is a tracee from its first
// instruction, so the tree is known exactly, each process is named by its
// [det.Lineage], and all of it dies with the process that supervises it, however
// that dies (PTRACE_O_EXITKILL).
//
// # What it needs
//
// Linux 5.14 on amd64, ptrace and seccomp; no privilege. Newer kernels are used
// where they help: 5.19 keeps signals from interrupting a call that is being
// answered, 6.6 makes a notification several times faster, 6.11 reports the end
// of the last process without a poll. On arm64 remote system calls and the vDSO
// functions are missing, elsewhere everything is; [Start] says so with
// [errors.ErrUnsupported].
//
// # What it can't do
//
//   - A timed wait takes real time. Under the virtual clock sleep, poll, select
//     and epoll move the clock on by what they waited, if that was more than
//     10 ms; a futex with a timeout and anything shorter leave it alone, because
//     language runtimes wait in that way for themselves.
//   - Two threads of a process that draw random bytes share one stream.
//   - clone3 fails with ENOSYS, so that flags can be judged; C libraries fall
//     back to clone. So does rseq, which would tell the CPU's number.
//   - The cpuid and rdtsc instructions tell about the host.
//   - Files other than those in synthetic.go are the host's, and so are their
//     inode numbers and times.
//   - os/exec's Cmd.ProcessState stays nil: the tracer is who learns how the
//     command ended.
package supervisor

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
// # Namespaces
//
// Where the machine allows it, the command gets a namespace of processes, one of
// mounts with the /proc of those processes, and one of the network, by remote system calls at
// its first stop and without a helper: see [Backend], and namespaces.go. What programs see is
// the same without, but for process ids.
//
// # Files
//
// A program's paths mean what the sandbox's view says, see [Config.Mounts]: a
// copy-on-write tree of package cow over the host's files, with /proc left to the
// kernel. The supervisor follows a path, opens what is there and hands the
// descriptor over; reading and writing then run at the kernel's speed. Names,
// attributes and the working directory are the tree's, kept in memory; the bytes that
// are written lie in files of a private directory below $TMPDIR, without names that mean
// anything, which is made when there are some; what has no bytes (FIFOs, sockets) lies in
// one below /dev/shm, if that is in memory. The kernel's own working directory never
// changes, and no system call takes a path of the program's to the host, but for those of
// files that each who opens them has to open himself (FIFOs, terminals, O_PATH), where the
// program is given the path of the very file.
//
// A program that asks about many files (stat(2), access(2), readlink(2), open(2) of what isn't
// there) soon knows the answers itself, as it knows the time: what names mean lies in memory
// that it can read, and its system calls begin there, see dcache.go. That takes less than a
// system call takes natively. From Linux 6.10 on it opens files and directories of the host
// that nobody has changed itself, to read: by paths that lie in that memory too, and that the
// filter lets through from there alone, see opens.go.
//
// # Network
//
// In a namespace of the network the loopback interface is the kernel's, and so are connections
// and datagrams. The supervisor binds and connects sockets, on the program's behalf, for the
// sake of the ports that are otherwise left to chance, and of the paths of Unix sockets, which
// such calls may mean as well.
//
// Otherwise, and for Config.AllowNet and Publish, sockets of the Internet are made, bound and
// connected by the supervisor on the
// host's loopback interface, where the sandbox has a network 127.X.Y.0/24 of its own. A
// port of the sandbox is one of the host's that the kernel has chosen; every address
// that a call is told, or tells, is translated. So two sandboxes listen on port 80 at
// the same time, and neither needs a privilege. Reading and writing a connection is the
// kernel's business, at its own speed. What the kernel tells of interfaces (netlink,
// ioctl, /proc/net, /sys/class/net) and of names (/etc/hosts and its like) is the
// sandbox's own.
//
// # Policy
//
// [Config.OnSyscall] is a function that is asked about calls before they are made, as
// the first of all features. Whoever answers the call is given the bytes that were
// judged, and a path must lead where it did. [Rules] change what is allowed while the
// sandbox runs; they, and [Config.Handlers], can't loosen its walls.
//
// # Faults
//
// With [Config.Faults] calls fail on purpose. Which are hit is decided by names: the
// lineage of the process, its own count of the calls, and the seed. What is read and
// written through a map of memory is no call, and no fault hits it; nor does one hit a
// clock read that the vDSO answers. With [Config.PowerLoss] what isn't synced may be lost
// when a fault kills, as it may on a file system that keeps the order of changes to names.
//
// # Traces
//
// With [Config.Trace] every call that comes on either channel is noted with its
// arguments, its answer and who gave it. Threads of one process that race for a lock
// make the traces of two runs differ; nothing else does.
//
// # Trees of processes
//
// Every process and thread below the command is a tracee from its first
// instruction, so the tree is known exactly, each process is named by its
// [det.Lineage], and all of it dies with the process that supervises it, however
// that dies (PTRACE_O_EXITKILL).
//
// # What it needs
//
// Linux 5.14 on amd64, ptrace and seccomp; no privilege. What a seccomp policy around it may
// forbid: namespaces, to compare files (kcmp(2)), to take descriptors (pidfd_getfd(2)), which
// programs lend then, see lending.go, and, with [Config.ASLR] or the environment variable
// SANDTEST_ASLR, to switch address randomisation off. The one of docker run forbids all of
// these. Newer kernels are used
// where they help: 5.19 keeps signals from interrupting a call that is being
// answered, 6.6 makes a notification several times faster, 6.11 reports the end
// of the last process without a poll. The virtual clock needs CONFIG_SCHEDSTATS,
// and where a program sets a timerfd CONFIG_CHECKPOINT_RESTORE; distributions
// have both. On arm64 remote system calls and the vDSO
// functions are missing, elsewhere everything is; [Start] says so with
// [errors.ErrUnsupported].
//
// # What it costs
//
// A call that the supervisor answers costs two switches of context and two ioctls, and what
// the answer takes: 4 us in all on a machine where a switch is a microsecond, 15 to 20 us in a
// virtual machine that is made without the processor's help. This is the least for whatever
// changes files, on both backends: a new file is that and eight system calls of the supervisor,
// some 55 us on the latter machine, where it can't be 12. The kernel's overlayfs could do without,
// but nobody would then know the instant of a change, by the sandbox's clock, and how many came
// before it, which is what file times are made of (and there a new file takes 18 us more than on
// what lies below). What a file is (its number, its times) and how directories are ordered would
// have to be asked for all the same, each time at the price of an answered call: four times what
// stat(2) takes natively. Here what only reads costs no call, as a program looks names up in
// memory and opens the host's files itself.
//
// A program that is executed costs three stops, and the preparation of its memory: half of what
// the shortest program takes natively, or as much again. So a build whose every step is three
// short programs, as gcc's are, takes half as long again or twice as long.
//
// The start of a sandbox costs three to five times what the shortest program takes, and can't
// cost less than one and a half: so long the kernel alone takes to make namespaces of processes, mounts
// and the network (clone(2)), and to translate the filter (seccomp(2)). Without namespaces a third
// of that is saved.
//
// What is asked about a file for the first time is looked up by the supervisor as well, which
// takes three to five times as long as natively: a program that looks at each of many files once,
// such as git status, takes three to five times as long as natively, and one that looks at
// directories alone takes two to three times as long. A go build of a small program, whose half a
// second goes into thousands of such looks, takes half as long again; long builds take little
// longer than natively. From the second time on it is faster than natively.
//
// # What it can't do
//
//   - The virtual clock moves when everything waits, or when a process reads it a
//     million times at one instant. A program that waits by spinning without
//     reading it (on a flag that another thread sets after a sleep, on a signal of
//     a timer) spins until the real timeout. So does a program that computes
//     until ITIMER_PROF tells it to stop.
//   - A sandbox that waits for input from outside and for time as well sees its
//     clock fly, as every virtual clock does; input comes at whatever instant it
//     has reached.
//   - The kernel's own limit to a connection attempt counts real time. recvmmsg's
//     timeout never ends the call. io_uring, which has timeouts too, is refused.
//   - A Java machine that is compiling when it ends waits for that in steps of 10
//     ms, which move the virtual clock; with -Xint, or Runtime.halt, it doesn't.
//   - A change to a file that is made while the virtual clock stands still is a
//     nanosecond later than the one before. When a program asks for such a time, the
//     wall clock is set forward to it, so that nothing lies in the future.
//   - Only the virtual clock can be set, and none be made faster or slower.
//   - Two threads of a process that draw random bytes share one stream.
//   - Threads run when the kernel lets them. On one CPU they don't interrupt each other but
//     at the end of a turn, and some programs still see that: how many threads Go's runtime
//     starts, each with random numbers of its own for maps and math/rand, differs in one run of
//     about a thousand, and on a busy machine in one of a hundred.
//   - clone3 fails with ENOSYS, so that flags can be judged; C libraries fall
//     back to clone. So does rseq, which would tell the CPU's number.
//   - The cpuid instruction tells about the host, and under the running clock
//     rdtsc does. Under the virtual clock each rdtsc costs some 45 us; on a machine whose
//     hypervisor doesn't let it fault it tells about the host (Stats.HostTSC).
//   - A file of the host's that is mapped to memory before it is first written to, by
//     whichever process, shows the host's bytes there, as with overlayfs. So does a
//     descriptor that was opened to read before, where it can't be replaced: in a process
//     with threads, or that is stopped, or waits for the writer (vfork), and where several
//     share it besides the writer. Where kcmp(2) or pidfd_getfd(2) is forbidden, as in a default
//     Docker container, none is replaced, and a lock that would want that is refused (ENOLCK).
//   - What the host changes in a directory while the sandbox runs isn't always seen: a program
//     that has asked about several of its names, or hasn't found one of them to execute, may go
//     on to be told what they meant then, and one that has created many files there finds names
//     free that the host has used since.
//     What is written through ([cow.Mount.Through]) is always seen. lseek tells another
//     position of a directory than 0 when such a program has opened it. If it blocks or ignores
//     SIGSEGV, that ends when it gives a call about a file a pointer to nothing. A program with
//     a filter of its own (seccomp(2)) that has programs which it executes not map memory (mmap,
//     mseal) gets them killed.
//   - inotify doesn't tell that a directory is opened and read, a program of the host's
//     executed, a terminal made, or that a write takes away set-id bits, and nothing of
//     /proc. Its cookies are the kernel's. A file of the host's that is watched, or read in
//     a directory of which that is to be told, is copied for it. Of files without a name, of
//     FIFOs, and with IN_EXCL_UNLINK less is told, and some of the end of what is still open
//     comes early. Handles of files are refused (EOPNOTSUPP).
//   - A position of a directory (telldir) is a number in the sorted list: once that has been
//     read to its end, it means another name if names before it come or go. The directory that
//     the command was started in can't be renamed or removed (EBUSY), as it is mounted.
//   - A connection to a destination of AllowNet comes from the host's address. Groups
//     can't be joined (ENODEV). TCP_INFO tells no times, and nothing that depends on them.
//   - When the supervising process is killed by SIGKILL, a shell removes the sandbox's
//     directories, and with ipcrm(1) its semaphores and message queues of System V. On a
//     machine without those programs they stay until the user's next sandbox.
//   - Without a namespace of the network, a process of the host that looks for the sandbox's
//     ports can send datagrams to them. Connections are turned away when they are accepted,
//     unless the port is published; until then the server's socket is ready.
//   - What lies in pipes and sockets doesn't count as memory.
//   - chroot(2) fails with EPERM. A program whose interpreter (ld.so) is another file
//     than the host's of that path, as with [Config.Root], is executed as a copy.
//   - A program that the supervisor may execute but not read can't be executed (EACCES).
//   - A limit of the host's (setrlimit(2)) that is lower than usual stays. All of a process's
//     private memory is shown as resident, and nothing else, so that it is the same in every
//     run. Settings (/proc/sys) and devices (/sys) are those of an imaginary machine, and
//     can't be changed.
//   - Process ids are the host's where the sandbox has no namespaces (see [Backend]).
//     Where it has, processes that are created at the same time have their ids in the
//     order of their creation, and the group or session that the command was started in
//     is number 0, unless it leads it (SysProcAttr). The process that os/exec knows stands
//     for the command then: a signal to it alone reaches the whole group that the command
//     leads with Setpgid, and one that is sent to all processes of a control group reaches
//     the command twice.
//   - Where core files may have no byte already (ulimit -Hc 0), a crash is told to the
//     host's handler of them if kernel.core_pattern names a program.
//   - Before Linux 6.10 (mseal) a program may map other memory over the supervisor's,
//     and then change the path of an execve, or of a file that it has to open itself,
//     until the kernel has read it.
//   - A lock on a file of the host that the command only reads (flock, fcntl) is refused
//     (ENOLCK) where the descriptor was inherited to a process that is stopped, or waits for the
//     caller (vfork). Locks on directories and devices are on the host's.
//   - A process can't write to another's memory (ptrace, process_vm_writev, /proc/PID/mem).
//   - As root it has no power over the machine (capabilities(7)): it deals with files and
//     users. Attributes of files that are root's alone (trusted.*) fail with EPERM.
//   - System calls that came after Linux 5.14, but for futex_waitv and fchmodat2, and those
//     that not every kernel has, such as memfd_secret, pkey_alloc, mbind and
//     landlock_create_ruleset, fail with ENOSYS. ioctl knows terminals, sockets and shared
//     extents (FICLONE) alone.
//   - Files of the host's that the command was given open have the host's inode numbers and
//     times. Where processes look at a pipe or a socket for the first time at once, chance
//     decides which of them its number follows from.
//   - The host's file is what tells what may be read: without root, a file of the user's own
//     that its mode closes stays closed when the program opens that (chmod), and one that may
//     be written to and not read can't be written to.
//   - /proc/PID/fd, maps and exe tell one of the names of a file that has several, which needn't
//     be that by which it was opened. /proc apart, all is one file system: nothing fails with
//     EXDEV but with --write and the directories that come with it. There are no ACLs
//     (EOPNOTSUPP), and no leases (EINVAL).
//   - A file of the host's that is later than the clock's start reads as the start. Programs
//     that remember the times of others' files don't find them so: Python compiles its library
//     anew, and as root writes that where it lies (PYTHONDONTWRITEBYTECODE).
//   - A share of the CPU (Limits.CPU) is kept on the average of some tenths of a second,
//     by stopping everything in between.
//   - A policy's callback is told of neither the environment of a program nor what is
//     sent. While it thinks about execve, a send or a new process, others wait that want
//     the tracer.
//   - os/exec's Cmd.ProcessState stays nil: the tracer is who learns how the
//     command ended.
package supervisor

// Package sandtest runs other programs from a test so that nothing differs from
// run to run: time, random numbers, directory order, host name, CPU count and
// addresses are the same on every machine, every time.
//
//	func TestReport(t *testing.T) {
//		res := sandtest.Run(t, exec.Command("./report", "--today"), sandtest.Options{})
//		if want := "Report of 2000-01-01\n"; res.Stdout != want {
//			t.Errorf("got %q, want %q", res.Stdout, want)
//		}
//	}
//
// # The model
//
// A command is an ordinary [os/exec.Cmd]. [Run] starts it in a sandbox, waits
// until it has ended, kills what it left behind, and returns what it did. [Start]
// does the same for servers, which end with the test. The program needs no
// preparation: a static Go binary, a shell script and the Java runtime are
// treated alike, and so is everything they start.
//
// A sandbox needs no root, no container and no helper. It does need Linux 5.14 or
// newer on amd64, with ptrace and seccomp permitted; elsewhere Run skips the test
// and says why.
//
// # What is pinned
//
//   - The clock starts at [Options.Time] and, by default, stands still while the
//     program computes; a sleep moves it on by exactly what was asked for.
//   - getrandom, /dev/urandom, AT_RANDOM and the kernel's UUIDs are drawn from
//     streams that are named by [Options.Seed] and the position of the process in
//     the tree of processes, so that concurrent processes don't disturb each
//     other.
//   - Directories are listed in the order of names.
//   - Files: the command sees its directory at /work, an empty /tmp, a /dev with what
//     every machine has, and otherwise the host's files. What it writes goes to a layer
//     beside them, so that the host never changes; inode numbers, times and sizes
//     of directories are the same everywhere.
//   - Network: a loopback interface of the command's own, on which its servers bind any
//     port and nobody else's are reached ([Options.Net], [Options.AllowNet]); a test
//     reaches the ports of [Options.Publish] at [Process.Port].
//   - Host name, kernel release, CPU count, memory, uptime and load are those of
//     an imaginary machine; addresses aren't randomised, the umask is 022, and
//     the environment is [Environ] unless cmd.Env is set.
//
// What is not pinned is in the comment of package supervisor.
//
// # Limits
//
// [Options.Memory], [Options.MaxProcesses], [Options.MaxOpenFiles], [Options.MaxDisk],
// [Options.MaxOutput] and [Options.Timeout] bound what a command may use, with everything
// it started. There is no limit to CPU time yet.
//
// # Policy, faults and traces
//
// [Options.OnSyscall] is asked about calls before they are made. [Options.Faults] makes
// calls fail on purpose, and [Sweep] each of them in turn. [Options.Trace] notes what the
// sandbox has handled, see [Result.Trace].
//
// # Reproducible builds
//
// [Reproducible] fails a test unless a command makes the same in worlds that differ in
// everything a build must not depend on, and says what makes it differ;
// [CheckReproducible] is the same outside of a test, and the command sandtest repro.
//
// # Changes
//
// [Result.Changes] lists what the command added, modified or deleted; [Golden]
// compares all that it did with a golden file. [Result.Commit] writes the changes to
// the host, [Result.Keep] beside it; otherwise they are gone with the test.
//
// [Result.Snapshot] writes a directory from which another command can start, with
// [Options.Lower]. [Process.Freeze] lets everything stand still, so that
// [Process.Snapshot] and [Process.Changes] tell of one moment. [Options.On] starts upon
// the files of a command that has ended.
package sandtest

package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/sandtest/go-sandtest/supervisor/internal/tsc"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// Doctor tells what this machine allows and what is used instead.
func Doctor() []Check {
	checks := []Check{platform(), ptraceCheck(), addressCheck(), vdsoCheck(), idleCheck(), timerfdCheck(), getfdCheck()}
	for _, k := range []struct {
		name         string
		major, minor int
		optional     bool
		use, instead string
	}{
		{"descriptor as an answer", 5, 14, false, "answers open atomically (SECCOMP_ADDFD_FLAG_SEND)", "synthetic files can't be opened"},
		{"killable notifications", 5, 19, true, "signals can't restart a call that was answered (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)",
			"a program that is signalled may draw random bytes twice"},
		{"synchronous wake-up", 6, 6, true, "a notification takes a few microseconds (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)", "a notification takes some ten microseconds"},
		{"sealed memory", 6, 10, true, "programs open the host's files themselves, to read (mseal)", "each open is answered by the supervisor"},
		{"end of filter in RECV", 6, 11, true, "receivers block in the ioctl itself", "receivers poll first, which costs a system call each time"},
	} {
		c := Check{Name: k.name, OK: kernelAtLeast(k.major, k.minor), Optional: k.optional, Detail: k.use}
		if !c.OK {
			c.Detail = fmt.Sprintf("needs Linux %d.%d: %s", k.major, k.minor, k.instead)
		}
		checks = append(checks, c)
	}
	ran, spaces, net := trial()
	return append(checks, counterCheck(), landlockCheck(), spaces, net, ran)
}

// getfdCheck takes a descriptor of this process's own.
func getfdCheck() Check {
	c := Check{Name: "pidfd_getfd", OK: true, Optional: true, Detail: "takes descriptors from programs"}
	if err := getfdRefused(); err != nil {
		c.OK, c.Detail = false, fmt.Sprintf("%v: programs lend their descriptors, which takes 0.1 to 0.3 ms each time, and there are no namespaces; "+
			"a seccomp policy around this process forbids it (Docker's allows it with --cap-add SYS_PTRACE)", err)
	}
	return c
}

func counterCheck() Check {
	c := Check{Name: "time-stamp counter", OK: tsc.Obeyed(), Optional: true, Detail: "rdtsc tells the virtual clock (PR_SET_TSC)"}
	if !c.OK {
		c.Detail = errTSC.Error() + ": programs that execute it read the host's counter"
	}
	return c
}

func platform() Check {
	var u unix.Utsname
	_ = unix.Uname(&u) // it fails for a bad pointer only
	c := Check{Name: "platform", OK: runtime.GOARCH == "amd64",
		Detail: fmt.Sprintf("%s %s on %s", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), runtime.GOARCH)}
	if !c.OK {
		c.Detail += ": remote system calls and vDSO functions are missing for this processor"
	}
	return c
}

func ptraceCheck() Check {
	c := Check{Name: "ptrace", OK: true, Detail: "children can be traced"}
	if scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil {
		c.Detail += ", kernel.yama.ptrace_scope is " + strings.TrimSpace(string(scope))
	}
	if err := probePtrace(); err != nil {
		c.OK, c.Detail = false, err.Error()
	}
	return c
}

func addressCheck() Check {
	c := Check{Name: "fixed addresses", OK: true, Detail: "personality(ADDR_NO_RANDOMIZE) is permitted"}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	restore, err := (&tracer{s: &Sandbox{}}).setPersonality()
	if err != nil {
		c.OK, c.Detail = false, err.Error()
		return c
	}
	restore()
	if os.Getenv(aslrVar) != "" {
		c.OK, c.Optional, c.Detail = false, true, aslrVar+" says to leave address randomisation on"
	}
	return c
}

func vdsoCheck() Check {
	c := Check{Name: "vDSO", OK: true, Optional: true, Detail: "clock reads cost no system call"}
	_, entries, err := vdso.Code(vdso.Frozen)
	if err == nil {
		var img *vdso.Image
		if img, err = vdso.Self(); err == nil {
			_, _, err = img.Redirect(0, 0, entries)
		}
	}
	if err != nil {
		c.OK, c.Detail = false, fmt.Sprintf("%v: it is hidden from programs, every clock read is a trapped call", err)
	}
	return c
}

// idleCheck tells whether it can be known when everything in a sandbox waits.
func idleCheck() Check {
	c := Check{Name: "virtual clock", OK: true, Detail: "the kernel tells how often a thread has run (CONFIG_SCHEDSTATS)"}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := openTask(nil, "/proc/thread-self")
	defer self.close()
	if self.runs() == 0 {
		c.OK, c.Detail = false, "needs a kernel with CONFIG_SCHEDSTATS: only --clock running and --clock host work"
	}
	return c
}

func timerfdCheck() Check {
	c := Check{Name: "virtual timerfd", OK: true, Optional: true, Detail: "timers that are descriptors can be let expire (TFD_IOC_SET_TICKS)"}
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err == nil {
		defer unix.Close(fd)
		err = setTicks(fd, 1)
	}
	if err != nil {
		c.OK, c.Detail = false, fmt.Sprintf("%v: needs CONFIG_CHECKPOINT_RESTORE; a program that sets one is ended", err)
	}
	return c
}

// landlockCheck tells what stands behind the view of files.
func landlockCheck() Check {
	abi := landlockABI()
	c := Check{Name: "Landlock", OK: abi > 0, Optional: true, Detail: fmt.Sprintf("ABI %d: programs have no right to change the host's files", abi)}
	switch {
	case abi == 0:
		c.Detail = "needs Linux 5.13 with landlock in its lsm= list: a race with the supervisor might reach the host's files"
	case abi < 6:
		c.Detail += "; signals and abstract sockets are limited from ABI 6 on"
	default:
		c.Detail += ", nor to signal its processes"
	}
	return c
}

// sharedLoopback is what a sandbox has instead of a network of its own.
const sharedLoopback = "a part of the host's loopback interface stands for one, and connections are dearer"

// trial runs a command, and tells whether its sandbox had namespaces, and one of the network.
func trial() (ran, spaces, net Check) {
	ran = Check{Name: "trial run", Detail: "no program named true to try it with"}
	spaces = Check{Name: "namespaces", Optional: true, Detail: "not tried"}
	net = Check{Name: "network namespace", Optional: true, Detail: "not tried"}
	path, err := exec.LookPath("true")
	if err != nil {
		return ran, spaces, net
	}
	var st *State
	s, err := Start(exec.Command(path), Config{})
	if err == nil {
		if st, err = s.Wait(); err == nil && st.ExitCode != 0 {
			err = fmt.Errorf("%s ended with status %d", path, st.ExitCode)
		}
	}
	if err != nil {
		ran.Detail = err.Error()
		return ran, spaces, net
	}
	ran.OK, ran.Detail = true, "a command ran in a sandbox"
	switch why := st.Stats.NoNamespaces; {
	case st.Stats.Backend == BackendNamespaces.String():
		spaces.OK, spaces.Detail = true, "process ids are the sandbox's own, and the same in every run"
		if net.OK, net.Detail = st.Stats.NoNetspace == "", "the loopback interface is the sandbox's own"; !net.OK {
			net.Detail = st.Stats.NoNetspace + ": " + sharedLoopback
		}
	case why != "":
		spaces.Detail = why + ": process ids are the host's"
	default:
		spaces.Detail = "SANDTEST_BACKEND says not to use them: process ids are the host's"
	}
	if !spaces.OK {
		net.Detail = "it takes the other namespaces: " + sharedLoopback
	}
	return ran, spaces, net
}

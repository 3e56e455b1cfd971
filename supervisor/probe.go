//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernelAtLeast compares the running kernel's version.
func kernelAtLeast(major, minor int) bool {
	x, y := kernelVersion()
	return x > major || x == major && y >= minor
}

// kernelVersion is 0.0 if it can't be found out.
var kernelVersion = sync.OnceValues(func() (major, minor int) {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return 0, 0
	}
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); n != 2 {
		return 0, 0
	}
	return major, minor
})

// probePtrace tries whether this process may trace a child, and explains a
// refusal.
func probePtrace() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: unix.SIGKILL}
	err = cmd.Start()
	if err == nil {
		_ = cmd.Process.Kill()
		_, _ = cmd.Process.Wait()
		return nil
	}
	if errors.Is(err, unix.EPERM) {
		hint := "a seccomp or security policy around this process forbids ptrace"
		if scope, e := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); e == nil && strings.TrimSpace(string(scope)) == "3" {
			hint = "Yama forbids ptrace for good (kernel.yama.ptrace_scope = 3)"
		}
		return fmt.Errorf("ptrace(PTRACE_TRACEME): %w: %s; allow it, or run on another machine", err, hint)
	}
	return err
}

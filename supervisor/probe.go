//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernelAtLeast compares the running kernel's version.
func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var x, y int
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &x, &y); n != 2 {
		return false
	}
	return x > major || x == major && y >= minor
}

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

package rooted

import (
	"fmt"
	"runtime"

	"github.com/sandtest/go-sandtest/supervisor/internal/tsc"
	"golang.org/x/sys/unix"
)

// Bind binds the socket fd to an address (struct sockaddr_un, unix(7)) as a process whose
// root is the directory root, and whose working directory is dir there.
//
// That process shares everything else with this one, and exists as long as it takes. Without
// CAP_SYS_CHROOT it has a user namespace, for the capability (user_namespaces(7)).
//
// Errors: what chroot(2), chdir(2) and bind(2) report, and a [CloneError] where there can be no
// such process. root and dir are paths, without zero bytes.
func Bind(fd int, addr []byte, root, dir string, privileged bool) error {
	if len(addr) == 0 {
		return unix.EINVAL
	}
	// The pointers are the child's alone, which is gone when the call returns.
	rootAt, err := unix.BytePtrFromString(root)
	if err != nil {
		return err
	}
	dirAt, err := unix.BytePtrFromString(dir)
	if err != nil {
		return err
	}
	flags := uintptr(unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_FILES)
	if !privileged {
		flags |= unix.CLONE_NEWUSER
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A handler must not run in the child: it has this thread's stack.
	var old unix.Sigset_t
	if err := tsc.BlockSignals(&old); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	pid := int(bindIn(flags, rootAt, dirAt, uintptr(fd), &addr[0], uintptr(len(addr))))
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
		return fmt.Errorf("unblock signals: %w", err)
	}
	if pid < 0 {
		return &CloneError{unix.Errno(-pid)}
	}
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(pid, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("wait for a process with another root: %w", err)
		case !ws.Exited():
			return fmt.Errorf("a process with another root was killed: %v", ws.Signal())
		case ws.ExitStatus() != 0:
			return unix.Errno(ws.ExitStatus())
		}
		return nil
	}
}

// A CloneError says why there can be no process with another root (clone(2)).
type CloneError struct{ Errno unix.Errno }

func (e *CloneError) Error() string {
	return "create a process with another root (clone): " + e.Errno.Error()
}

// bindIn creates a child with the flags of clone(2), which calls chroot, chdir and bind as
// far as they succeed, and exits with the number of the error. It returns the child's
// process id, or a negative error number.
//
//go:noescape
func bindIn(flags uintptr, root, dir *byte, fd uintptr, addr *byte, size uintptr) (pid uintptr)

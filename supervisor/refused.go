//go:build linux

package supervisor

import (
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// refused fails calls that would get round the sandbox, in the filter itself.
//
// Source: calls that hide work from the filter (io_uring), processes from the
// tracer (CLONE_UNTRACED), flags from both (clone3), or that tell what another
// call is virtualised to hide (rseq: the CPU number). Eliminated, with the errno
// upon which C libraries and runtimes fall back. Setting the host name would reach
// the host where the command is root: EPERM, as for anybody else.
func refused(*Sandbox) feature {
	return feature{name: "refused", calls: []call{
		{name: "io_uring_setup", errno: unix.ENOSYS},
		{name: "io_uring_enter", errno: unix.ENOSYS},
		{name: "io_uring_register", errno: unix.ENOSYS},
		{name: "clone3", errno: unix.ENOSYS},
		{name: "rseq", errno: unix.ENOSYS},
		{name: "clone", errno: unix.EPERM, conds: []seccomp.Cond{
			{Arg: 0, Mask: unix.CLONE_UNTRACED, Value: unix.CLONE_UNTRACED},
		}},
		{name: "sethostname", errno: unix.EPERM},
		{name: "setdomainname", errno: unix.EPERM},
	}}
}

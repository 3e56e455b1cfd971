//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"
)

// capabilities takes from a command that runs as root what only the machine's
// administrator needs (capabilities(7)).
//
// Source: root's power over the machine: its network, devices, modules, clock, limits,
// other processes. Eliminated: what is left is what root needs to deal with files and
// users of the sandbox, about as in a container, in the bounding set, so that no
// program gets the rest back. Other users have none to lose.
//
// What remains: attributes of files that are root's alone (trusted.*) fail with EPERM.
func capabilities(s *Sandbox) feature {
	return feature{name: "capabilities", load: func(im *image) error {
		if im.th.proc != im.t.root || im.th.proc.execs != 1 {
			return nil
		}
		return im.dropCapabilities()
	}}
}

// keptCapabilities are those that have nothing to do with the machine.
const keptCapabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETPCAP | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_MKNOD | 1<<unix.CAP_SETFCAP

// A capabilitySets are the capabilities of a thread.
type capabilitySets struct{ effective, permitted, inheritable uint64 }

// capabilitiesOf returns them (capget(2)).
func capabilitiesOf(tid int) (c capabilitySets, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3, Pid: int32(tid)}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return c, fmt.Errorf("read the command's capabilities (capget): %w", err)
	}
	for i, d := range data {
		c.effective |= uint64(d.Effective) << (32 * i)
		c.permitted |= uint64(d.Permitted) << (32 * i)
		c.inheritable |= uint64(d.Inheritable) << (32 * i)
	}
	return c, nil
}

func (im *image) dropCapabilities() error {
	sets, err := capabilitiesOf(im.th.tid)
	if err != nil {
		return err
	}
	kept := uint64(keptCapabilities)
	if n := im.t.s.spaces; n != nil && n.user {
		kept &= n.had // those over its own namespace it has had only to make it
	}
	if (sets.effective|sets.permitted|sets.inheritable)&^kept == 0 {
		return nil
	}
	bounding, err := statusMask(im.th.tid, "CapBnd:")
	if err != nil {
		return fmt.Errorf("read the command's capabilities: %w", err)
	}
	// struct __user_cap_header_struct and two of __user_cap_data_struct.
	b := binary.NativeEndian.AppendUint64(nil, unix.LINUX_CAPABILITY_VERSION_3)
	for _, shift := range []int{0, 32} {
		for _, set := range []uint64{sets.effective, sets.permitted, sets.inheritable} {
			b = binary.NativeEndian.AppendUint32(b, uint32(set&kept>>shift))
		}
	}
	at, clean, err := place(im.sys, b)
	if err != nil {
		return err
	}
	calls := im.sys.List()
	if sets.effective&(1<<unix.CAP_SETPCAP) != 0 {
		for rest := bounding &^ kept; rest != 0; rest &= rest - 1 {
			calls.Add("prctl(PR_CAPBSET_DROP)", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uint64(bits.TrailingZeros64(rest)))
		}
	}
	calls.Add("prctl(PR_CAP_AMBIENT_CLEAR_ALL)", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	calls.Add("capset", unix.SYS_CAPSET, at, at+8)
	if err := calls.Run(); err != nil {
		return err
	}
	im.th.creds.Store(nil)
	return clean()
}

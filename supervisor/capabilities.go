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
	return feature{name: "capabilities", enter: s.dropCapabilities}
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

// dropCapabilities also notes the command's credentials, which stand in the same text.
func (s *Sandbox) dropCapabilities(e *entering) error {
	status, err := readStatus(e.th.taskDir())
	if err != nil {
		return fmt.Errorf("read the command's capabilities: %w", err)
	}
	sets, bounding, err := status.capabilities()
	if err != nil {
		return fmt.Errorf("read the command's capabilities: %w", err)
	}
	kept := uint64(keptCapabilities)
	if n := s.spaces; n != nil && n.user {
		kept &= n.had // those over its own namespace it has had only to make it
	}
	creds, err := status.credentials(kept)
	if err != nil {
		return fmt.Errorf("read the command's credentials: %w", err)
	}
	e.th.creds.Store(creds)
	if (sets.effective|sets.permitted|sets.inheritable)&^kept == 0 {
		return nil
	}
	// struct __user_cap_header_struct and two of __user_cap_data_struct.
	b := binary.NativeEndian.AppendUint64(nil, unix.LINUX_CAPABILITY_VERSION_3)
	for _, shift := range []int{0, 32} {
		for _, set := range []uint64{sets.effective, sets.permitted, sets.inheritable} {
			b = binary.NativeEndian.AppendUint32(b, uint32(set&kept>>shift))
		}
	}
	at := e.data.add(b)
	if sets.effective&(1<<unix.CAP_SETPCAP) != 0 {
		for rest := bounding &^ kept; rest != 0; rest &= rest - 1 {
			e.calls.Add("prctl(PR_CAPBSET_DROP)", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uint64(bits.TrailingZeros64(rest)))
		}
	}
	e.calls.Add("prctl(PR_CAP_AMBIENT_CLEAR_ALL)", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	e.calls.Add("capset", unix.SYS_CAPSET, at, at+8)
	return nil
}

// capabilities are the thread's sets, and what programs may get.
func (s threadStatus) capabilities() (sets capabilitySets, bounding uint64, err error) {
	for _, set := range []struct {
		name string
		to   *uint64
	}{{"CapEff", &sets.effective}, {"CapPrm", &sets.permitted}, {"CapInh", &sets.inheritable}, {"CapBnd", &bounding}} {
		mask, err := numbers(s[set.name], 16, 1)
		if err != nil {
			return sets, 0, err
		}
		*set.to = mask[0]
	}
	return sets, bounding, nil
}

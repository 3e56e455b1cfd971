//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
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

func (im *image) dropCapabilities() error {
	var sets [3]uint64 // effective, permitted, inheritable
	for i, name := range []string{"CapEff:", "CapPrm:", "CapInh:"} {
		var err error
		if sets[i], err = statusMask(im.th.tid, name); err != nil {
			return fmt.Errorf("read the command's capabilities: %w", err)
		}
	}
	kept := uint64(keptCapabilities)
	if n := im.t.s.spaces; n != nil && n.user {
		kept &= n.had // those over its own namespace it has had only to make it
	}
	if (sets[0]|sets[1]|sets[2])&^kept == 0 {
		return nil
	}
	bounding, err := statusMask(im.th.tid, "CapBnd:")
	if err != nil {
		return fmt.Errorf("read the command's capabilities: %w", err)
	}
	// struct __user_cap_header_struct and two of __user_cap_data_struct, below the list of
	// calls.
	const version3, listRoom = 0x20080522, 4096
	b := binary.NativeEndian.AppendUint64(nil, version3)
	for _, shift := range []int{0, 32} {
		for _, set := range sets {
			b = binary.NativeEndian.AppendUint32(b, uint32(set&kept>>shift))
		}
	}
	at := (im.sys.SP() - listRoom - uint64(len(b))) &^ 15
	if _, err := tracee.WriteMem(im.th.tid, at, b); err != nil {
		return fmt.Errorf("place the capabilities: %w", err)
	}
	calls := im.sys.List()
	if sets[0]&(1<<unix.CAP_SETPCAP) != 0 {
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
	clear(b)
	_, err = tracee.WriteMem(im.th.tid, at, b)
	return err
}

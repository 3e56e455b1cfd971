//go:build linux

package supervisor

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Lists of sockets (sock_diag(7)), which are those of /proc/net (netfiles.go): of the
// Internet's the sandbox's own, and none of other families.

const (
	sockDiagByFamily = 20   // linux/sock_diag.h
	sizeOfDiagnosis  = 56   // struct inet_diag_req_v2, linux/inet_diag.h
	diagnosisOnly6   = 11   // INET_DIAG_SKV6ONLY
	mostBacklog      = 4096 // net.core.somaxconn
	mostOfAPart      = 8192 // what programs have room for at once (netlink(7))
	stateListens     = 10   // TCP_LISTEN, net/tcp_states.h
	stateUnconnected = 7    // TCP_CLOSE
)

// diagnose answers a request for a list.
func (s *Sandbox) diagnose(r *netlinkRequest) [][]byte {
	switch {
	case r.kind != sockDiagByFamily || len(r.body) < 1:
		return [][]byte{r.fail(unix.EINVAL)}
	case r.flags&unix.NLM_F_DUMP != unix.NLM_F_DUMP:
		return [][]byte{r.fail(unix.ENOENT)}
	}
	var parts [][]byte
	for _, e := range s.diagnosed(r.body) {
		m := r.message(sockDiagByFamily, true, e.diagnosis())
		if last := len(parts) - 1; last >= 0 && len(parts[last])+len(m) <= mostOfAPart {
			parts[last] = append(parts[last], m...)
		} else {
			parts = append(parts, m)
		}
	}
	return append(parts, r.message(unix.NLMSG_DONE, true, make([]byte, 4)))
}

// diagnosed returns the sockets that a struct inet_diag_req_v2 asks for, by address.
func (s *Sandbox) diagnosed(request []byte) (list []socketEntry) {
	const states = 4
	if len(request) < sizeOfDiagnosis {
		return nil
	}
	table, p := "tcp", tcp
	if request[1] == unix.IPPROTO_UDP {
		table, p = "udp", udp
	} else if request[1] != unix.IPPROTO_TCP {
		return nil
	}
	switch request[0] {
	case unix.AF_INET:
	case unix.AF_INET6:
		table += "6"
	default:
		return nil
	}
	wanted := binary.NativeEndian.Uint32(request[states:])
	list = slices.DeleteFunc(s.socketEntries(table, p), func(e socketEntry) bool { return wanted&(1<<e.stateNumber()) == 0 })
	slices.SortFunc(list, func(a, b socketEntry) int {
		return cmp.Or(cmp.Compare(a.stateNumber(), b.stateNumber()), a.local.Compare(b.local), a.remote.Compare(b.remote))
	})
	return list
}

// stateNumber is the state of a socket (net/tcp_states.h).
func (e *socketEntry) stateNumber() uint8 {
	n, _ := strconv.ParseUint(e.state, 16, 5)
	return uint8(n)
}

// diagnosis is a struct inet_diag_msg with attributes. No socket has a cookie.
func (e *socketEntry) diagnosis() []byte {
	family := uint8(unix.AF_INET)
	if e.six {
		family = unix.AF_INET6
	}
	b := []byte{family, e.stateNumber(), 0, 0}
	b = binary.BigEndian.AppendUint16(b, e.local.Port())
	b = binary.BigEndian.AppendUint16(b, e.remote.Port())
	for _, a := range []netip.Addr{e.local.Addr(), e.remote.Addr()} {
		var place [16]byte
		switch {
		case !e.six:
			copy(place[:], a.AsSlice())
		case !a.IsUnspecified():
			place = a.As16()
		}
		b = append(b, place[:]...)
	}
	b = append(append(b, word(0)...), make([]byte, 8)...) // interface and cookie
	backlog := 0
	if e.stateNumber() == stateListens {
		backlog = min(e.backlog, mostBacklog)
	}
	uid, _ := strconv.ParseUint(e.uid, 10, 32)
	inode, _ := strconv.ParseUint(e.inode, 10, 32)
	for _, v := range []uint32{0, 0, uint32(backlog), uint32(uid), uint32(inode)} {
		b = append(b, word(v)...)
	}
	if e.six && (e.stateNumber() == stateListens || e.stateNumber() == stateUnconnected) {
		only6 := byte(0)
		if e.only6 || e.local.Addr() == loopback6 {
			only6 = 1
		}
		b = attribute(b, diagnosisOnly6, only6)
	}
	return b
}

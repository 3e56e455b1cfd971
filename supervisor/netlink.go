//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// netlinks answers questions about the network's interfaces (rtnetlink(7)).
//
// Source: the host's interfaces, addresses and routes. Eliminated: a netlink socket of
// the sandbox is a pair of Unix sockets, at whose other end the supervisor answers: there
// is one interface, lo. Whatever would change it fails with EPERM. A list of sockets is
// that of the sandbox's (sockdiag.go). Other families of netlink (audit, udev...) don't
// exist.
//
// What remains: options of netlink sockets fail with EOPNOTSUPP, and no event is
// ever told.
func netlinks(s *Sandbox) feature {
	f := feature{name: "netlink"}
	if s.cfg.Net == NetHost {
		return f
	}
	n := &s.netlinks
	n.ends = map[uint64]*netlinkEnd{}
	f.calls = []call{
		{name: "socket", notify: n.socket, conds: is(0, unix.AF_NETLINK)},
		{name: "bind", notify: n.ours},
		{name: "connect", notify: n.ours},
		{name: "getsockname", notify: func(c *Call) Answer { return n.name(c, netlinkPort) }},
		{name: "getpeername", notify: func(c *Call) Answer { return n.name(c, 0) }},
	}
	f.close = n.close
	n.up = s.cfg.Net != NetNone
	n.diagnose = s.diagnose
	return f
}

// netlinkPort is the address that every netlink socket of the sandbox has.
const netlinkPort = 1

// netlinkSockets are those of a sandbox.
type netlinkSockets struct {
	up bool // so is the interface
	// diagnose answers a question about sockets.
	diagnose func(r *netlinkRequest) [][]byte
	any      atomic.Bool
	mu       sync.Mutex
	ends     map[uint64]*netlinkEnd // by the inode of the program's end
	wg       sync.WaitGroup
}

// A netlinkEnd is the supervisor's end of a socket.
type netlinkEnd struct {
	fd     int
	family int         // NETLINK_ROUTE or NETLINK_SOCK_DIAG
	busy   atomic.Bool // it answers
}

func (n *netlinkSockets) socket(c *Call) Answer {
	kind, flags := int(c.Int(1))&sockTypeMask, int(c.Int(1))&^sockTypeMask
	switch {
	case kind != unix.SOCK_RAW && kind != unix.SOCK_DGRAM:
		return Errno(unix.ESOCKTNOSUPPORT)
	case c.Int(2) != unix.NETLINK_ROUTE && c.Int(2) != unix.NETLINK_SOCK_DIAG:
		return Errno(unix.EPROTONOSUPPORT)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|flags&unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return Fatal(fmt.Errorf("make a netlink socket: %w", err))
	}
	var st unix.Stat_t
	err = unix.Fstat(pair[0], &st)
	if err == nil {
		err = unix.SetNonblock(pair[1], false)
	}
	if err != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
		return Fatal(fmt.Errorf("make a netlink socket: %w", err))
	}
	end := &netlinkEnd{fd: pair[1], family: int(c.Int(2))}
	n.mu.Lock()
	n.ends[st.Ino] = end
	n.mu.Unlock()
	n.any.Store(true)
	n.wg.Go(func() { n.serve(st.Ino, end) })
	return InjectFD(pair[0], flags&unix.SOCK_CLOEXEC != 0)
}

// has reports whether a descriptor of the supervisor's is a netlink socket.
func (n *netlinkSockets) has(fd int) bool {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ends[st.Ino] != nil
}

// of reports whether a process's descriptor is a netlink socket, which take returns one of the
// supervisor's for.
func (n *netlinkSockets) of(fd int32, take func(fd int32) (own int, err error)) bool {
	if !n.any.Load() {
		return false
	}
	own, err := take(fd)
	if err != nil {
		return false
	}
	defer unix.Close(own)
	return n.has(own)
}

func (n *netlinkSockets) ours(c *Call) Answer {
	if n.of(c.Int(0), c.fd) {
		return Return(0)
	}
	return goOn
}

func (n *netlinkSockets) name(c *Call, port uint32) Answer {
	if !n.of(c.Int(0), c.fd) {
		return goOn
	}
	return c.replyAddress(c.Arg(1), c.Arg(2), netlinkAddress(port))
}

// netlinkAddress is a struct sockaddr_nl.
func netlinkAddress(port uint32) []byte {
	b := binary.NativeEndian.AppendUint16(nil, unix.AF_NETLINK)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint32(b, port)
	return binary.NativeEndian.AppendUint32(b, 0)
}

// working reports whether a question waits for its answer.
func (n *netlinkSockets) working() bool {
	if !n.any.Load() {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, end := range n.ends {
		waiting, err := unix.IoctlGetInt(end.fd, unix.TIOCINQ)
		if err != nil || waiting > 0 || end.busy.Load() {
			return true
		}
	}
	return false
}

// serve answers until the program has closed its end.
func (n *netlinkSockets) serve(inode uint64, end *netlinkEnd) {
	buf := make([]byte, 64<<10)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(end.fd), Events: unix.POLLIN}}, -1)
		if err == unix.EINTR {
			continue
		}
		end.busy.Store(true)
		size, _, err := unix.Recvfrom(end.fd, buf, 0)
		if err != nil || size == 0 {
			break
		}
		for _, answer := range n.answers(end.family, buf[:size]) {
			// A program that doesn't read loses answers, as it would natively.
			_ = unix.Sendto(end.fd, answer, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
		}
		end.busy.Store(false)
	}
	n.mu.Lock()
	delete(n.ends, inode)
	n.mu.Unlock()
	unix.Close(end.fd)
}

func (n *netlinkSockets) close() error {
	n.mu.Lock()
	for _, end := range n.ends {
		_ = unix.Shutdown(end.fd, unix.SHUT_RDWR) // it fails only where nobody is left
	}
	n.mu.Unlock()
	n.wg.Wait()
	return nil
}

// A netlinkRequest is one message of the program's (struct nlmsghdr).
type netlinkRequest struct {
	kind, flags   uint16
	sequence, pid uint32
	body          []byte
}

// answers returns the datagrams that answer one.
func (n *netlinkSockets) answers(family int, b []byte) (list [][]byte) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			break
		}
		r := netlinkRequest{
			binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]),
			binary.NativeEndian.Uint32(b[8:]), netlinkPort, b[unix.NLMSG_HDRLEN:size],
		}
		if family == unix.NETLINK_SOCK_DIAG {
			list = append(list, n.diagnose(&r)...)
		} else {
			list = append(list, n.answer(r)...)
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return list
}

func (n *netlinkSockets) answer(r netlinkRequest) [][]byte {
	const get = 2 // the third of each four message types asks (linux/rtnetlink.h)
	if r.kind%4 != get {
		return [][]byte{r.fail(unix.EPERM)}
	}
	dump := r.flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	var parts [][]byte
	switch r.kind {
	case unix.RTM_GETLINK:
		if !dump && !r.asksForLoopback() {
			return [][]byte{r.fail(unix.ENODEV)}
		}
		parts = append(parts, r.message(unix.RTM_NEWLINK, dump, n.link()))
	case unix.RTM_GETADDR:
		for _, a := range n.addresses() {
			if len(r.body) > 0 && r.body[0] != unix.AF_UNSPEC && r.body[0] != a[0] {
				continue
			}
			parts = append(parts, r.message(unix.RTM_NEWADDR, dump, a))
		}
	case unix.RTM_GETROUTE:
		if !dump {
			return [][]byte{r.fail(unix.ENETUNREACH)}
		}
	default:
		if !dump {
			return [][]byte{r.fail(unix.EOPNOTSUPP)}
		}
	}
	if !dump {
		if r.flags&unix.NLM_F_ACK != 0 {
			parts = append(parts, r.fail(0))
		}
		return parts
	}
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	done := r.message(unix.NLMSG_DONE, true, make([]byte, 4))
	if all == nil {
		return [][]byte{done}
	}
	return [][]byte{all, done}
}

func (r *netlinkRequest) message(kind uint16, multi bool, body []byte) []byte {
	flags := uint16(0)
	if multi {
		flags = unix.NLM_F_MULTI
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, r.sequence)
	b = binary.NativeEndian.AppendUint32(b, r.pid)
	return append(b, body...)
}

// fail is the answer that a request has failed, or with 0 that it hasn't.
func (r *netlinkRequest) fail(errno unix.Errno) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(r.body)))
	b = binary.NativeEndian.AppendUint16(b, r.kind)
	b = binary.NativeEndian.AppendUint16(b, r.flags)
	b = binary.NativeEndian.AppendUint32(b, r.sequence)
	b = binary.NativeEndian.AppendUint32(b, r.pid)
	if errno != 0 {
		b = append(b, r.body...)
	}
	return r.message(unix.NLMSG_ERROR, false, b)
}

const loopbackIndex = 1

// asksForLoopback reports whether a question for one interface means lo, by its number
// or name.
func (r *netlinkRequest) asksForLoopback() bool {
	if len(r.body) < unix.SizeofIfInfomsg {
		return false
	}
	if index := binary.NativeEndian.Uint32(r.body[4:]); index != 0 {
		return index == loopbackIndex
	}
	for b := r.body[unix.SizeofIfInfomsg:]; len(b) >= unix.SizeofRtAttr; {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < unix.SizeofRtAttr || size > len(b) {
			return false
		}
		if kind == unix.IFLA_IFNAME || kind == unix.IFLA_ALT_IFNAME {
			name, _, _ := stringsCut(b[unix.SizeofRtAttr:size])
			return name == "lo"
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false
}

// attribute appends a struct rtattr.
func attribute(b []byte, kind uint16, value ...byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func word(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

const (
	loopbackMTU   = 65536
	loopbackQueue = 1000
)

// flags are those of lo.
func (n *netlinkSockets) flags() uint32 {
	if !n.up {
		return unix.IFF_LOOPBACK
	}
	return unix.IFF_LOOPBACK | unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP
}

// link is a struct ifinfomsg with attributes, as the kernel describes lo.
func (n *netlinkSockets) link() []byte {
	b := []byte{unix.AF_UNSPEC, 0}
	b = binary.NativeEndian.AppendUint16(b, unix.ARPHRD_LOOPBACK)
	b = append(append(append(b, word(loopbackIndex)...), word(n.flags())...), word(0)...)
	b = attribute(b, unix.IFLA_IFNAME, []byte("lo\x00")...)
	b = attribute(b, unix.IFLA_TXQLEN, word(loopbackQueue)...)
	b = attribute(b, unix.IFLA_OPERSTATE, 0)
	b = attribute(b, unix.IFLA_LINKMODE, 0)
	b = attribute(b, unix.IFLA_MTU, word(loopbackMTU)...)
	b = attribute(b, unix.IFLA_GROUP, word(0)...)
	b = attribute(b, unix.IFLA_PROMISCUITY, word(0)...)
	b = attribute(b, unix.IFLA_QDISC, []byte("noqueue\x00")...)
	b = attribute(b, unix.IFLA_ADDRESS, make([]byte, 6)...)
	return attribute(b, unix.IFLA_BROADCAST, make([]byte, 6)...)
}

// addresses are struct ifaddrmsg with attributes.
func (n *netlinkSockets) addresses() [][]byte {
	if !n.up {
		return nil
	}
	const permanent = unix.IFA_F_PERMANENT
	always := append(append(word(1<<32-1), word(1<<32-1)...), make([]byte, 8)...)
	four := append([]byte{unix.AF_INET, 8, permanent, unix.RT_SCOPE_HOST}, word(loopbackIndex)...)
	four = attribute(four, unix.IFA_ADDRESS, loopback4.AsSlice()...)
	four = attribute(four, unix.IFA_LOCAL, loopback4.AsSlice()...)
	four = attribute(four, unix.IFA_LABEL, []byte("lo\x00")...)
	four = attribute(four, unix.IFA_FLAGS, word(permanent)...)
	four = attribute(four, unix.IFA_CACHEINFO, always...)
	six := append([]byte{unix.AF_INET6, 128, permanent, unix.RT_SCOPE_HOST}, word(loopbackIndex)...)
	six = attribute(six, unix.IFA_ADDRESS, loopback6.AsSlice()...)
	six = attribute(six, unix.IFA_CACHEINFO, always...)
	six = attribute(six, unix.IFA_FLAGS, word(permanent)...)
	return [][]byte{four, six}
}

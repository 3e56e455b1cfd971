//go:build linux

package supervisor

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// controls lets what sockets tell besides their messages be the sandbox's.
//
// Source: the host's addresses and times in control messages (IP_PKTINFO,
// IP_RECVORIGDSTADDR, IP_RECVERR, SO_TIMESTAMP; cmsg(3)) and in options (SO_PEERNAME,
// SO_BINDTODEVICE, TCP_INFO); what firewalls know (SO_ORIGINAL_DST). Eliminated: addresses
// are replaced, by those that the sender has asked for; times are the sandbox's when the
// message is received; TCP_INFO tells what depends on the connection's ends alone, and
// other questions fail. Control messages are looked at once somebody has asked for one
// of these.
//
// What remains: to which address a datagram was sent is told of the sender's last one,
// where the socket is bound to several.
func controls(s *Sandbox) feature {
	f := feature{name: "controls"}
	if s.cfg.Clock != det.Host {
		f.calls = append(f.calls, call{name: "setsockopt", anyOf: anyOption(stampOptions), notify: s.setControl},
			call{name: "ioctl", anyOf: [][]seccomp.Cond{is(1, unix.SIOCGSTAMP), is(1, unix.SIOCGSTAMPNS)}, notify: s.lastStamp})
	}
	if s.cfg.Net != NetHost { // the number counts the host's
		f.calls = append(f.calls, call{name: "getsockopt", errno: unix.ENOPROTOOPT, conds: option(unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)})
	}
	if !s.hasOwnNetwork() {
		return f
	}
	f.calls = append(f.calls, s.ownOptions()...)
	if s.netspace != nil {
		return f
	}
	f.calls = append(f.calls,
		call{name: "setsockopt", anyOf: anyOption(addressOptions), notify: s.setControl},
		call{name: "getsockopt", conds: option(unix.SOL_SOCKET, unix.SO_PEERNAME), notify: s.tellPeer})
	return f
}

// ownOptions are questions and demands that lead to the host, or are answered otherwise, in
// whatever network the sandbox has.
func (s *Sandbox) ownOptions() []call {
	return []call{
		{name: "setsockopt", conds: option(unix.SOL_SOCKET, unix.SO_BINDTODEVICE), notify: s.bindToDevice},
		{name: "getsockopt", conds: option(unix.SOL_SOCKET, unix.SO_BINDTODEVICE), notify: s.boundDevice},
		{name: "getsockopt", conds: option(unix.IPPROTO_TCP, unix.TCP_INFO), notify: s.tellConnection},
		{name: "getsockopt", errno: unix.ENOPROTOOPT, anyOf: [][]seccomp.Cond{
			append(is(1, unix.IPPROTO_IP), seccomp.Cond{Arg: 2, Mask: 1<<32 - firstTableOption, Not: true}),
			option(unix.IPPROTO_IPV6, firstTableOption), option(unix.IPPROTO_IPV6, firstTableOption+1), option(unix.IPPROTO_IPV6, originalDestination),
			option(unix.IPPROTO_IP, unix.IP_PKTOPTIONS), option(unix.IPPROTO_IPV6, unix.IPV6_2292PKTOPTIONS),
			option(unix.IPPROTO_TCP, unix.TCP_TIMESTAMP), option(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX),
			option(unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE),
		}},
		{name: "setsockopt", errno: unix.ENOPROTOOPT, anyOf: anyOption([][2]uint64{
			{unix.IPPROTO_TCP, unix.TCP_SAVE_SYN}, {unix.IPPROTO_TCP, unix.TCP_MD5SIG}, {unix.IPPROTO_TCP, unix.TCP_MD5SIG_EXT},
			{unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE}, // see netspace.go; it came with Linux 6.3
		})},
	}
}

// originalDestination is IP6T_SO_ORIGINAL_DST (linux/netfilter_ipv6/ip6_tables.h).
const originalDestination = 80

// The options upon which control messages come that tell a time, or an address.
var (
	stampOptions = [][2]uint64{
		{unix.SOL_SOCKET, unix.SO_TIMESTAMP}, {unix.SOL_SOCKET, unix.SO_TIMESTAMPNS}, {unix.SOL_SOCKET, unix.SO_TIMESTAMPING},
		{unix.SOL_SOCKET, unix.SO_TIMESTAMP_NEW}, {unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW}, {unix.SOL_SOCKET, unix.SO_TIMESTAMPING_NEW},
	}
	addressOptions = [][2]uint64{
		{unix.IPPROTO_IP, unix.IP_PKTINFO}, {unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR}, {unix.IPPROTO_IP, unix.IP_RECVERR},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO}, {unix.IPPROTO_IPV6, unix.IPV6_2292PKTINFO}, {unix.IPPROTO_IPV6, unix.IPV6_RECVORIGDSTADDR},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVERR},
	}
)

// anyOption selects the calls of setsockopt or getsockopt for some options.
func anyOption(list [][2]uint64) (anyOf [][]seccomp.Cond) {
	for _, o := range list {
		anyOf = append(anyOf, option(o[0], o[1]))
	}
	return anyOf
}

// setControl notes that from now on control messages are to be looked at. A socket's
// errors of IPv6 are the host's of IPv4.
func (s *Sandbox) setControl(c *Call) Answer {
	s.controls.Store(true)
	if s.loopbacks == nil || c.Int(1) != unix.IPPROTO_IPV6 || c.Int(2) != unix.IPV6_RECVERR {
		return Continue()
	}
	return c.onSocket(func(k *socket) Answer {
		v := c.scratch(4)
		if c.Int(4) < 4 || c.Read(c.Arg(3), v) != nil || k.domain != unix.AF_INET6 {
			return Continue() // the kernel says what is wrong with it
		}
		err := unix.SetsockoptInt(k.fd, unix.IPPROTO_IP, unix.IP_RECVERR, int(binary.NativeEndian.Uint32(v)))
		if err != nil {
			return c.refusedWith(err)
		}
		return Continue()
	})
}

// lastStamp tells when the last message came, which nobody has noted.
func (s *Sandbox) lastStamp(*Call) Answer { return Errno(unix.ENOENT) }

// bindToDevice ties a socket to lo, which is all that it reaches anyhow.
func (s *Sandbox) bindToDevice(c *Call) Answer {
	const most = 15 // IFNAMSIZ, without the zero byte at its end
	return c.onSocket(func(*socket) Answer {
		size := c.Int(4)
		if size < 0 {
			return Errno(unix.EINVAL)
		}
		name := c.scratch(int(min(size, most)))
		if err := c.Read(c.Arg(3), name); err != nil {
			return c.failed(err)
		}
		if name, _, _ := stringsCut(name); name != "" && name != "lo" {
			return Errno(unix.ENODEV)
		}
		return Return(0)
	})
}

// boundDevice tells that a socket is tied to no interface.
func (s *Sandbox) boundDevice(c *Call) Answer {
	return c.onSocket(func(*socket) Answer { return c.reply(c.Arg(4), make([]byte, 4)) })
}

// tellPeer tells SO_PEERNAME.
func (s *Sandbox) tellPeer(c *Call) Answer {
	return c.onSocket(func(k *socket) Answer {
		s.loopbacks.mu.Lock()
		defer s.loopbacks.mu.Unlock()
		local, err := localName(k.fd)
		if err != nil {
			return c.refusedWith(err)
		}
		remote, err := k.everPeer()
		if err != nil {
			return Errno(unix.ENOTCONN)
		}
		_, far, ok := s.loopbacks.ends(k.protocol, local, remote, s.root)
		if !ok && s.loopbacks.owns(remote.Addr()) {
			return Errno(unix.ENOTCONN)
		}
		if !ok {
			far.AddrPort = remote // one that is allowed, outside
		}
		b := appendAddress(nil, k.domain, far.AddrPort)
		size := c.scratch(4)
		if err := c.Read(c.Arg(4), size); err != nil {
			return c.failed(err)
		}
		room := int(int32(binary.NativeEndian.Uint32(size)))
		if room < 0 || room > len(b) {
			return Errno(unix.EINVAL)
		}
		return c.replyOption(b)
	})
}

// tellConnection tells of TCP_INFO what the ends of the connection have agreed upon: the
// rest is times of the host's, and what depends on them. These are the places of a struct
// tcp_info that stay (linux/tcp.h).
func (s *Sandbox) tellConnection(c *Call) Answer {
	return c.onSocket(func(k *socket) Answer {
		b, err := rawOption(k.fd, unix.IPPROTO_TCP, unix.TCP_INFO, unix.SizeofTCPInfo)
		if err != nil {
			return c.refusedWith(err)
		}
		const options, mss, unacked, pathMTU = 8, 16, 24, 60
		const advertised = 84
		told := make([]byte, len(b))
		for _, part := range [][2]int{{0, options}, {mss, unacked}, {pathMTU, pathMTU + 4}, {advertised, advertised + 4}} {
			copy(told[min(part[0], len(b)):], b[min(part[0], len(b)):min(part[1], len(b))])
		}
		return c.replyOption(told)
	})
}

// A control is a control message's place in a message that was received.
type control struct{ at, room uint64 }

// translateControls replaces what the control messages of a received message tell. from
// is the host's address of who has sent it, if that is known.
func (s *Sandbox) translateControls(st *Stop, hdr uint64, m control, from netip.AddrPort) {
	var size [8]byte
	if st.Read(hdr+msgControlLn, size[:]) != nil {
		return
	}
	b := make([]byte, min(binary.NativeEndian.Uint64(size[:]), m.room, 1<<16))
	if len(b) == 0 || st.Read(m.at, b) != nil {
		return
	}
	before := slices.Clone(b)
	if s.cfg.Clock != det.Host {
		if now, err := s.clock.read(det.Realtime); err == nil {
			eachControl(b, func(level, kind uint32, data []byte) { stampControl(level, kind, data, now) })
		} else {
			s.fail(err)
			clear(b)
		}
	}
	rest := b
	if s.loopbacks != nil {
		rest = s.nameControls(st, b, from)
	}
	if !slices.Equal(before, b) { // which could be read, so it can be written
		clear(b[len(rest):])
		_, _ = tracee.WriteMem(st.th.tid, m.at, b)
		_, _ = tracee.WriteMem(st.th.tid, hdr+msgControlLn, binary.NativeEndian.AppendUint64(nil, uint64(len(rest))))
	}
}

// keepControls takes those control messages out of a list for which keep is false.
func keepControls(b []byte, keep func(level, kind uint32, data []byte) bool) []byte {
	const header = 16 // struct cmsghdr
	rest := b[:0]
	for len(b) >= header {
		n := min(binary.NativeEndian.Uint64(b), uint64(len(b)))
		if n < header {
			break
		}
		whole := min((n+7)&^7, uint64(len(b)))
		if keep(binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:]), b[header:n]) {
			rest = append(rest, b[:whole]...)
		}
		b = b[whole:]
	}
	return rest
}

// eachControl runs do on each control message of a list.
func eachControl(b []byte, do func(level, kind uint32, data []byte)) {
	keepControls(slices.Clip(b), func(level, kind uint32, data []byte) bool {
		do(level, kind, data)
		return true
	})
}

// stampControl replaces the times that a control message tells.
func stampControl(level, kind uint32, data []byte, now int64) {
	if level != unix.SOL_SOCKET {
		return
	}
	unit := int64(1)
	switch kind {
	case unix.SCM_TIMESTAMP, unix.SO_TIMESTAMP_NEW:
		unit = 1000
	case unix.SCM_TIMESTAMPNS, unix.SO_TIMESTAMPNS_NEW, unix.SCM_TIMESTAMPING, unix.SO_TIMESTAMPING_NEW:
	default:
		return
	}
	const size = 16
	for ; len(data) >= size; data = data[size:] {
		if binary.NativeEndian.Uint64(data) == 0 {
			continue // it isn't told
		}
		binary.NativeEndian.PutUint64(data, uint64(now/1e9))
		binary.NativeEndian.PutUint64(data[8:], uint64(now%1e9/unit))
	}
	clear(data) // cut off
}

// nameControls replaces the addresses that control messages tell: to which one the message
// was sent, and whose fault an error is. What the host's IPv4 tells of what is IPv6 to
// the sandbox goes.
func (s *Sandbox) nameControls(st *Stop, b []byte, from netip.AddrPort) []byte {
	k, ok, err := socketOf(st.fd(int32(st.Arg(0))))
	if err != nil || !ok {
		return b
	}
	defer k.close()
	lo := s.loopbacks
	lo.mu.Lock()
	defer lo.mu.Unlock()
	local, err := localName(k.fd)
	if err != nil || !lo.owns(local.Addr()) {
		return b
	}
	near := lo.names[k.protocol][local]
	to := near.AddrPort
	if to.Addr().IsUnspecified() {
		a := loopback4
		if n := lo.names[k.protocol][from]; n.sent.IsValid() {
			a = n.sent
		} else if near.only6 {
			a = loopback6
		}
		to = netip.AddrPortFrom(a, to.Port())
	}
	offender := loopback4
	if n, ok := lo.names[k.protocol][from]; ok {
		if offender = n.Addr(); offender.IsUnspecified() && near.sent.IsValid() {
			offender = near.sent
		}
	}
	return keepControls(b, func(level, kind uint32, data []byte) bool {
		const errorSize = 16 // struct sock_extended_err
		switch {
		case level == unix.IPPROTO_IP && kind != unix.IP_RECVERR && to.Addr().Is6():
			return false
		case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO:
			copyAddress(data, 4, to.Addr(), false)
			copyAddress(data, 8, to.Addr(), false)
		case level == unix.IPPROTO_IPV6 && (kind == unix.IPV6_PKTINFO || kind == unix.IPV6_2292PKTINFO):
			copyAddress(data, 0, to.Addr(), true)
		case level == unix.IPPROTO_IP && kind == unix.IP_ORIGDSTADDR:
			copy(data, appendAddress(nil, unix.AF_INET, to))
		case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_ORIGDSTADDR:
			copy(data, appendAddress(nil, unix.AF_INET6, to))
		case level == unix.IPPROTO_IP && kind == unix.IP_RECVERR, level == unix.IPPROTO_IPV6 && kind == unix.IPV6_RECVERR:
			if len(data) < errorSize+2 {
				return false
			}
			switch at := data[errorSize:]; familyOf(at) {
			case unix.AF_INET:
				copy(at, appendAddress(nil, unix.AF_INET, netip.AddrPortFrom(offender, 0)))
			case unix.AF_INET6:
				copy(at, appendAddress(nil, unix.AF_INET6, netip.AddrPortFrom(offender, 0)))
			}
		}
		return true
	})
}

// copyAddress writes an address where one of a family stands, if all of that is there;
// otherwise nothing stays.
func copyAddress(data []byte, at int, a netip.Addr, six bool) {
	four, sixteen := a, a.As16()
	b := sixteen[:]
	if !six {
		if !four.Is4() {
			four = loopback4
		}
		b = four.AsSlice()
	}
	if len(data) < at+len(b) {
		clear(data[min(at, len(data)):])
		return
	}
	copy(data[at:], b)
}

//go:build linux

package supervisor

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// network gives the sandbox a loopback interface of its own, and nothing else unless
// it is allowed.
//
// Source: other programs' servers, which answer or have a port already; the ports that
// the kernel chooses; whatever is behind the host's interfaces. Eliminated: the sandbox has a
// network of its own (netspace.go). Where it can't have one, sockets of the Internet are tied
// to the host's loopback interface: streams when they are bound or connected, if Landlock
// doesn't rule over them, others when they are made, by the supervisor. It binds and connects
// them on the program's behalf, to ports of the host's that stand for those of the sandbox
// (endpoints.go), so the address can't change between check and use; Landlock forbids the
// program to do so itself (TCP, ABI 4), which only waits (connecting.go). A connection from
// outside is ended when it is accepted, and the next accepted instead, unless the port is
// published. Where a call tells an address it is the sandbox's. Ports that are left to the
// kernel depend on the process alone.
//
// What remains, without a network of its own: a connection that a server at all addresses has
// accepted keeps the port from others at each address, once the server is gone; the address
// that a connection to an allowed destination comes from is the host's; a process outside that
// looks for the host's ports can send a datagram in, and with a connection make a socket ready
// at which accept then finds none.
func network(s *Sandbox) feature {
	f := feature{name: "network"}
	families := [][]seccomp.Cond{is(0, unix.AF_INET), is(0, unix.AF_INET6)}
	switch s.cfg.Net {
	case NetHost:
		return f
	case NetNone:
		f.calls = []call{{name: "socket", errno: unix.EAFNOSUPPORT, anyOf: families}}
		return f
	}
	if s.netspace != nil {
		f.calls = s.netspace.calls()
		return f
	}
	sockets := families
	if !s.cfg.Trace { // a stream goes nowhere until it is bound or connected
		sockets = nil
		for _, f := range families {
			sockets = append(sockets,
				append(slices.Clone(f), seccomp.Cond{Arg: 1, Mask: sockTypeMask, Value: unix.SOCK_STREAM, Not: true}),
				append(slices.Clone(f), isNot(2, 0), isNot(2, unix.IPPROTO_TCP)))
		}
	}
	f.calls = []call{
		{name: "socket", anyOf: sockets, notify: s.internetSocket},
		{name: "bind", notify: s.bindInternet},
		{name: "connect", notify: s.connectInternet},
		{name: "listen", notify: s.listenInternet},
		{name: "getsockname", notify: func(c *Call) Answer { return s.internetName(c, false) }},
		{name: "getpeername", notify: func(c *Call) Answer { return s.internetName(c, true) }},
		{name: "getsockopt", notify: s.tellOnly6, conds: option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)},
	}
	f.calls = append(f.calls, noGroups()...)
	f.close = s.loopbacks.close
	return f
}

// planNetwork looks up what is allowed.
func (s *Sandbox) planNetwork() (err error) {
	if s.cfg.Net == NetLoopback {
		s.allowed, err = parseDestinations(s.cfg.AllowNet)
	}
	return err
}

// chooseNetwork prepares what the sandbox's sockets need, when it is known which namespaces
// it has, or is to have.
func (s *Sandbox) chooseNetwork() (err error) {
	s.netspace, s.loopbacks = nil, nil
	switch ephemerals := cmp.Or(s.hooks.ephemerals, allEphemerals); {
	case s.cfg.Net != NetLoopback:
	case s.spaces != nil && s.spaces.hasNet:
		s.netspace = &netspace{s: s, spaces: s.spaces, ports: ephemerals, servers: map[server]servation{}}
	default:
		if s.loopbacks, err = newLoopbacks(ephemerals); err != nil {
			return fmt.Errorf("supervisor: plan the network: %w", err)
		}
	}
	return nil
}

// hasOwnNetwork reports whether the sandbox has a loopback interface, and not the host's.
func (s *Sandbox) hasOwnNetwork() bool { return s.cfg.Net == NetLoopback }

// Address returns where on the host a port of [Config.Publish] is reached, from the start
// on; as long as nobody listens there in the sandbox, a connection is refused.
func (s *Sandbox) Address(port uint16) (netip.AddrPort, error) {
	if !slices.Contains(s.cfg.Publish, port) {
		return netip.AddrPort{}, fmt.Errorf("supervisor: port %d isn't published: add it to Publish", port)
	}
	s.loopbacks.mu.Lock()
	defer s.loopbacks.mu.Unlock()
	q, err := s.loopbacks.published(port)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("supervisor: %w", err)
	}
	return q.real, nil
}

// multicast is what joins a group, for which the loopback interface has no route.
var multicast = []struct{ level, name uint64 }{
	{unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP}, {unix.IPPROTO_IP, unix.IP_ADD_SOURCE_MEMBERSHIP}, {unix.IPPROTO_IP, unix.MCAST_JOIN_GROUP},
	{unix.IPPROTO_IP, unix.MCAST_JOIN_SOURCE_GROUP}, {unix.IPPROTO_IPV6, unix.IPV6_ADD_MEMBERSHIP}, {unix.IPPROTO_IPV6, unix.MCAST_JOIN_GROUP},
	{unix.IPPROTO_IPV6, unix.MCAST_JOIN_SOURCE_GROUP},
}

// noGroups are the calls that join one.
func noGroups() (list []call) {
	for _, o := range multicast {
		list = append(list, call{name: "setsockopt", errno: unix.ENODEV, conds: option(o.level, o.name)})
	}
	return list
}

// option selects the calls of setsockopt for one option.
func option(level, name uint64) []seccomp.Cond {
	return append(is(1, level), is(2, name)...)
}

// A socket is the supervisor's descriptor for one of the program's.
type socket struct {
	fd, domain int
	protocol   protocol
	near       netip.AddrPort // its own address, as it was when it was looked up
}

func (k *socket) close() { unix.Close(k.fd) }

// socketOf returns the socket of the Internet that the supervisor's own descriptor is of, or the
// error with which that can't be had. ok is false if it is something else.
func socketOf(own int, err error) (k socket, ok bool, _ error) {
	if k, ok, err = streamOf(own, err); !ok {
		return k, false, err
	}
	kind, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		k.close()
		return k, false, err
	}
	if kind == unix.SOCK_DGRAM {
		k.protocol = udp
	}
	return k, true, nil
}

// streamOf is socketOf for what is a stream, if it is of the Internet.
func streamOf(own int, err error) (k socket, ok bool, _ error) {
	if err != nil {
		return k, false, err
	}
	k.fd = own
	near, err := rawName(unix.SYS_GETSOCKNAME, k.fd)
	if err == nil {
		k.domain = familyOf(near)
		k.near, err = parseAddress(near)
	}
	if err != nil {
		k.close()
		return k, false, nil // not of the Internet, or the kernel says what is wrong with it
	}
	k.near = unmapped(k.near)
	return k, true, nil
}

// onSocket runs do on the caller's socket of the Internet.
func (c *Call) onSocket(do func(k *socket) Answer) Answer {
	k, ok, err := socketOf(c.fd(c.Int(0)))
	switch {
	case err != nil:
		return c.refusedWith(err)
	case !ok:
		return goOn
	}
	defer k.close()
	return do(&k)
}

// sockTypeMask is SOCK_TYPE_MASK of linux/net.h: what of a socket's type isn't flags.
const sockTypeMask = 0xf

// wrongSocket returns why a socket can't be made, 0 if it can.
func wrongSocket(c *Call) unix.Errno {
	kind, flags, protocol := int(c.Int(1))&sockTypeMask, int(c.Int(1))&^sockTypeMask, c.Int(2)
	switch {
	case flags&^(unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) != 0:
		return unix.EINVAL
	case kind == unix.SOCK_STREAM && (protocol == 0 || protocol == unix.IPPROTO_TCP):
		return 0
	case kind == unix.SOCK_DGRAM && (protocol == 0 || protocol == unix.IPPROTO_UDP):
		return 0
	case kind == unix.SOCK_DGRAM && (protocol == unix.IPPROTO_ICMP || protocol == unix.IPPROTO_ICMPV6):
		return unix.EACCES
	case kind == unix.SOCK_STREAM || kind == unix.SOCK_DGRAM:
		return unix.EPROTONOSUPPORT
	}
	return unix.ESOCKTNOSUPPORT
}

// internetSocket makes a socket.
func (s *Sandbox) internetSocket(c *Call) Answer {
	if errno := wrongSocket(c); errno != 0 {
		return Errno(errno)
	}
	kind, flags, protocol := int(c.Int(1))&sockTypeMask, int(c.Int(1))&^sockTypeMask, c.Int(2)
	fd, err := unix.Socket(int(c.Int(0)), kind|flags&unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		return c.refusedWith(err) // a machine without IPv6
	}
	if err := s.confine(fd); err != nil {
		unix.Close(fd)
		return Fatal(fmt.Errorf("tie a socket to the loopback interface (setsockopt SO_BINDTODEVICE): %w", err))
	}
	return InjectFD(fd, flags&unix.SOCK_CLOEXEC != 0)
}

// confine ties a socket to the loopback interface (Linux 5.7 without a privilege), before it
// can reach anything.
func (s *Sandbox) confine(fd int) error {
	const loopback = "lo"
	if len(s.allowed.list) > 0 {
		return nil
	}
	// To tie it once more takes a privilege.
	if to, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err == nil && to == loopback {
		return nil
	}
	return unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, loopback)
}

// The sizes of struct sockaddr_in, of what the kernel wants of a struct sockaddr_in6
// (SIN6_LEN_RFC2133), and of struct sockaddr_storage.
const (
	sizeOfAddress4  = 16
	sizeOfAddress6  = 24
	mostOfAnAddress = 128
)

// address reads the address that arguments at and at+1 of the call are, for a socket
// of a family. unspecified is an address of no family.
func (c *Call) address(at int, k *socket) (a netip.AddrPort, unspecified bool, err error) {
	size, least := c.Int(at+1), int32(2)
	switch {
	case k.domain == unix.AF_INET:
		least = sizeOfAddress4
	case k.protocol == tcp:
		least = sizeOfAddress6
	}
	if size < 2 || size > mostOfAnAddress {
		return a, false, unix.EINVAL
	}
	b := c.scratch(int(size))
	if err := c.Read(c.Arg(at), b); err != nil {
		return a, false, err
	}
	if binary.NativeEndian.Uint16(b) == unix.AF_UNSPEC {
		return a, true, nil
	}
	if size < least {
		return a, false, unix.EINVAL
	}
	a, err = parseAddress(b)
	if err == nil && (k.domain == unix.AF_INET && !a.Addr().Is4() || k.domain == unix.AF_INET6 && a.Addr().Is4() && k.protocol == tcp) {
		err = unix.EAFNOSUPPORT
	}
	return a, false, err
}

// parseAddress reads a struct sockaddr_in or sockaddr_in6.
func parseAddress(b []byte) (a netip.AddrPort, err error) {
	if len(b) < 2 {
		return a, unix.EINVAL
	}
	switch binary.NativeEndian.Uint16(b) {
	case unix.AF_INET:
		if len(b) < sizeOfAddress4 {
			return a, unix.EINVAL
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), binary.BigEndian.Uint16(b[2:])), nil
	case unix.AF_INET6:
		if len(b) < sizeOfAddress6 {
			return a, unix.EINVAL
		}
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:])), binary.BigEndian.Uint16(b[2:])), nil
	}
	return a, unix.EAFNOSUPPORT
}

// appendAddress appends an address as a family's sockets write it.
func appendAddress(b []byte, domain int, a netip.AddrPort) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(domain))
	b = binary.BigEndian.AppendUint16(b, a.Port())
	if domain == unix.AF_INET {
		four := a.Addr().Unmap().As4()
		return append(append(b, four[:]...), make([]byte, 8)...)
	}
	b = append(b, 0, 0, 0, 0) // flow
	sixteen := a.Addr().As16()
	if a.Addr().Is4() && a.Addr().IsUnspecified() {
		sixteen = any6.As16()
	}
	return append(append(b, sixteen[:]...), 0, 0, 0, 0)
}

// sockaddr makes an address of a socket's family.
func (k *socket) sockaddr(a netip.AddrPort) unix.Sockaddr {
	if k.domain == unix.AF_INET {
		return &unix.SockaddrInet4{Addr: a.Addr().Unmap().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// only6 reports whether a socket wants nothing of IPv4.
func (k *socket) only6() bool {
	if k.domain != unix.AF_INET6 {
		return false
	}
	v, err := unix.GetsockoptInt(k.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	return err == nil && v != 0
}

// tellOnly6 tells IPV6_V6ONLY of a socket that had to take IPv4.
func (s *Sandbox) tellOnly6(c *Call) Answer {
	return c.onSocket(func(k *socket) Answer {
		s.loopbacks.mu.Lock()
		defer s.loopbacks.mu.Unlock()
		local, err := localName(k.fd)
		if err != nil {
			return c.refusedWith(err)
		}
		n, ok := s.loopbacks.names[k.protocol][local]
		if k.domain != unix.AF_INET6 || !ok || !n.only6 && !(n.port != nil && n.Addr().Is6() && !n.Addr().IsUnspecified()) {
			return goOn
		}
		return c.replyOption(binary.NativeEndian.AppendUint32(nil, 1))
	})
}

// replyOption ends getsockopt with a value, as much of it as there is room for.
func (c *Call) replyOption(value []byte) Answer {
	size := c.scratch(4)
	if err := c.Read(c.Arg(4), size); err != nil {
		return c.failed(err)
	}
	room := int32(binary.NativeEndian.Uint32(size))
	if room < 0 {
		return Errno(unix.EINVAL)
	}
	value = value[:min(int(room), len(value))]
	if _, err := c.Write(c.Arg(3), value); err != nil {
		return c.failed(err)
	}
	return c.reply(c.Arg(4), binary.NativeEndian.AppendUint32(nil, uint32(len(value))))
}

// carry binds a socket to a port of the host's. The sandbox's IPv6 is carried by the
// host's IPv4, so one that wants nothing of that has to take it. A stream was made by the
// program, and is confined here where nothing else keeps it from connecting itself.
func (s *Sandbox) carry(k *socket, to netip.AddrPort) error {
	if k.protocol == tcp && s.landlockABI < rulesTCP {
		if err := s.confine(k.fd); err != nil {
			return err
		}
	}
	only6 := k.only6()
	if only6 {
		if err := unix.SetsockoptInt(k.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return err
		}
	}
	err := unix.Bind(k.fd, k.sockaddr(to))
	if err != nil && only6 {
		_ = unix.SetsockoptInt(k.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1) // as it was a moment ago
	}
	return err
}

// shares returns the options with which the socket shares a port.
func (k *socket) shares() (with shares, err error) {
	address, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	if err != nil {
		return with, err
	}
	port, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	return shares{address != 0, port != 0}, err
}

func (s *Sandbox) bindInternet(c *Call) Answer {
	return c.onSocket(func(k *socket) Answer {
		a, unspecified, err := c.address(1, k)
		switch {
		case err != nil:
			return c.refusedWith(err)
		case unspecified:
			return Errno(unix.EAFNOSUPPORT)
		}
		return c.done(s.bind(k, c.Process, a))
	})
}

// bind gives a socket the sandbox's address a.
func (s *Sandbox) bind(k *socket, who *Process, a netip.AddrPort) error {
	lo := s.loopbacks
	lo.mu.Lock()
	defer lo.mu.Unlock()
	only6 := k.only6()
	if !isLoopback(a.Addr()) {
		return unix.EADDRNOTAVAIL
	}
	if only6 && a.Addr().Is4In6() {
		return unix.EINVAL
	}
	if lo.isBound(k) {
		return unix.EINVAL
	}
	with, err := k.shares()
	if err != nil {
		return err
	}
	at := site{netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), only6 && a.Addr() == any6}
	if a.Port() == 0 {
		if at, err = lo.ephemeral(k.protocol, who, at, 0); err != nil {
			return unix.EADDRINUSE
		}
	}
	if err := lo.makeRoom(k.protocol, at, with); err != nil {
		return err
	}
	for {
		q, err := lo.seat(k.protocol, at)
		if err != nil {
			return err
		}
		held := q.release()
		err = s.carry(k, q.real)
		if err == unix.EADDRINUSE && held {
			lo.forget(q) // somebody outside was quicker
			continue
		}
		if err != nil {
			if held && !q.holdAgain(lo.host(farHost)) {
				lo.forget(q)
			}
			return err
		}
		q.shares = with
		lo.leave(q)
		lo.enter(q, at) // as the last
		return nil
	}
}

// autobind names the port of a client that is going to send to an address, and binds it
// to where on the host clients are. The port itself is the kernel's choice when it
// connects. ok is false if the socket is bound.
func (s *Sandbox) autobind(k *socket, who *Process, to netip.AddrPort, connect bool) (at site, ok bool, err error) {
	lo := s.loopbacks
	if lo.names[k.protocol][k.near].port != nil || k.protocol == udp && k.near.Port() != 0 {
		if connect {
			who.ephemerals++
		}
		return at, false, nil
	}
	if k.protocol == tcp {
		if err := unix.SetsockoptInt(k.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return at, false, err
		}
	}
	at = site{netip.AddrPortFrom(sourceFor(to.Addr()), 0), k.only6()}
	if !connect {
		at = k.everywhere()
	}
	drawn := who.ephemerals
	if at, err = lo.ephemeral(k.protocol, who, at, to.Port()); err != nil {
		return at, false, err
	}
	if err = s.carry(k, netip.AddrPortFrom(lo.client(k.protocol), 0)); err != nil {
		who.ephemerals = drawn
	}
	if err == unix.EINVAL { // a connection that has begun, or another thread was quicker
		if connect {
			who.ephemerals++
		}
		return at, false, nil
	}
	return at, err == nil, err
}

// isBound reports whether a socket has a site.
func (lo *loopbacks) isBound(k *socket) bool {
	local, err := localName(k.fd)
	return err == nil && lo.names[k.protocol][local].port != nil
}

// everywhere is the site of a socket that has sent or listens, and has asked for none.
func (k *socket) everywhere() site {
	if k.domain == unix.AF_INET6 {
		return site{netip.AddrPortFrom(any6, 0), k.only6()}
	}
	return site{AddrPort: netip.AddrPortFrom(any4, 0)}
}

// reaching does something with where on the host the sandbox's address a is. The
// socket is bound first if it wasn't.
func (s *Sandbox) reaching(k *socket, who *Process, a netip.AddrPort, connect bool, do func(real netip.AddrPort) error) error {
	if k.only6() && a.Addr().Is4In6() {
		return unix.ENETUNREACH
	}
	if !isLoopback(a.Addr()) {
		if !s.allowed.allow(a) {
			return unix.ENETUNREACH
		}
		return do(a)
	}
	lo := s.loopbacks
	lo.mu.Lock()
	defer lo.mu.Unlock()
	to := destinationOf(a.Addr())
	q, err := lo.server(k.protocol, a)
	if err != nil {
		return err
	}
	at, bound, err := s.autobind(k, who, netip.AddrPortFrom(to, a.Port()), connect)
	if err != nil {
		return err
	}
	if err = do(q.real); connect && !draws(err) {
		who.ephemerals--
	}
	real, nameless := localName(k.fd)
	if nameless != nil {
		return nameless
	}
	if real.Port() != 0 {
		if bound {
			lo.called(k.protocol, real, at)
		}
		lo.wentTo(k.protocol, real, to, connect)
	}
	return err
}

// listenInternet lets a socket listen, and binds it first if it has no address yet.
func (s *Sandbox) listenInternet(c *Call) Answer {
	return c.onSocket(func(k *socket) Answer {
		if k.protocol == tcp && !s.served(k) {
			if err := s.bind(k, c.Process, k.everywhere().AddrPort); err != nil && err != unix.EINVAL {
				return c.refusedWith(err)
			}
		}
		return c.saidBy(s.startListening(k, int(c.Int(1))))
	})
}

// startListening lets a socket listen. Who was bound to an address of its site meanwhile, as two
// sockets may that share it, and listens already keeps it from that.
func (s *Sandbox) startListening(k *socket, backlog int) error {
	lo := s.loopbacks
	lo.mu.Lock()
	defer lo.mu.Unlock()
	local, err := localName(k.fd)
	if err != nil {
		return err
	}
	if q := lo.names[k.protocol][local].port; q != nil {
		with, err := k.shares()
		if err != nil {
			return err
		}
		if err := lo.makeRoom(k.protocol, q.site, with); err != nil {
			return err
		}
		q.backlog = backlog
	}
	return unix.Listen(k.fd, backlog)
}

// served reports whether a socket has a server's port.
func (s *Sandbox) served(k *socket) bool {
	s.loopbacks.mu.Lock()
	defer s.loopbacks.mu.Unlock()
	return s.loopbacks.isBound(k)
}

// internetName tells an end of a socket as the sandbox knows it.
func (s *Sandbox) internetName(c *Call, peer bool) Answer {
	return c.onSocket(func(k *socket) Answer {
		a, ok, err := s.nameOf(k, peer)
		switch {
		case err != nil:
			return c.refusedWith(err)
		case !ok:
			return goOn
		}
		return c.replyAddress(c.Arg(1), c.Arg(2), appendAddress(nil, k.domain, a))
	})
}

// nameOf returns an end of a socket. ok is false if it isn't the sandbox's.
func (s *Sandbox) nameOf(k *socket, peer bool) (a netip.AddrPort, ok bool, err error) {
	lo := s.loopbacks
	lo.mu.Lock()
	defer lo.mu.Unlock()
	local, err := localName(k.fd)
	if err != nil {
		return a, false, err
	}
	if lo.owns(local.Addr()) && local.Port() == 0 { // it has tried to connect
		local = netip.AddrPortFrom(any4, 0)
	}
	if local.Port() == 0 && !peer {
		return local, true, nil
	}
	remote, err := peerName(k.fd)
	if err != nil && peer {
		return a, false, err
	}
	near, far, ok := lo.ends(k.protocol, local, remote, s.root)
	if !ok && remote.Port() == 0 && lo.owns(local.Addr()) { // its connection has ended, and its port was given up
		return netip.AddrPortFrom(any4, 0), true, nil
	}
	if peer {
		near = far
	}
	return near.AddrPort, ok, nil
}

// replyAddress writes an address where a call wants it, as much of it as there is room
// for.
func (c *Call) replyAddress(at, sizeAt uint64, b []byte) Answer {
	var size [4]byte
	if err := c.Read(sizeAt, size[:]); err != nil {
		return c.failed(err)
	}
	room := int(int32(binary.NativeEndian.Uint32(size[:])))
	if room < 0 {
		return Errno(unix.EINVAL)
	}
	if _, err := c.Write(at, b[:min(room, len(b))]); err != nil {
		return c.failed(err)
	}
	return c.reply(sizeAt, binary.NativeEndian.AppendUint32(size[:0], uint32(len(b))))
}

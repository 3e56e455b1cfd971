//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"

	"golang.org/x/sys/unix"
)

// addresses answers what is left of the calls that bind and connect a socket or ask for
// its name, after the features that know a kind of sockets.
//
// Source: the kernel reads the address, and looks at the descriptor, once more after the
// supervisor has judged them, and a thread of the program may have changed either
// meanwhile. Eliminated: no such call gets to the kernel. The supervisor makes it, with
// its own descriptor of the socket and its own copy of the address, which are all that
// it has judged; only to Unix sockets the program connects itself, with an address of the
// supervisor's, and in a network of its own it listens itself at those.
//
// What remains: a program whose threads exchange a descriptor meanwhile, for one of those that
// stand for a netlink socket or a random device, may learn whether an abstract name is taken on
// the host.
func addresses(s *Sandbox) feature {
	return feature{name: "addresses", calls: []call{
		{name: "connect", notify: s.connectOther},
		{name: "getsockname", notify: func(c *Call) Answer { return s.otherName(c, unix.SYS_GETSOCKNAME) }},
		{name: "getpeername", notify: func(c *Call) Answer { return s.otherName(c, unix.SYS_GETPEERNAME) }},
		{name: "bind", notify: s.bindOther},
		{name: "listen", notify: s.listenOther},
	}}
}

// otherSocket runs do with a socket that no other feature has wanted, and an address.
func (c *Call) otherSocket(do func(k *socket, addr []byte) Answer) Answer {
	k, addr, a := c.socketAnd()
	if a.kind != answerGoOn {
		return a
	}
	defer k.close()
	return do(&k, addr)
}

// socketAnd returns the supervisor's own descriptor of the call's socket, and its own
// copy of the address, or an answer.
func (c *Call) socketAnd() (k socket, addr []byte, a Answer) {
	var err error
	if k.fd, err = c.fd(c.Int(0)); err != nil {
		return k, nil, c.refusedWith(err)
	}
	if k.domain, err = unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		k.close()
		return k, nil, c.refusedWith(err)
	}
	if kind, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_DGRAM {
		k.protocol = udp
	}
	if addr, a = c.addressBytes(); a.kind != answerGoOn {
		k.close()
		return k, nil, a
	}
	return k, slices.Clone(addr), goOn
}

// addressBytes reads the address of a call that binds or connects a socket, into the call's
// scratch.
func (c *Call) addressBytes() ([]byte, Answer) {
	size := c.Int(2)
	if size < 0 || size > mostOfAnAddress {
		return nil, Errno(unix.EINVAL)
	}
	addr := c.scratch(int(size))
	if err := c.Read(c.Arg(1), addr); err != nil {
		return nil, c.failed(err)
	}
	return addr, goOn
}

// isInternet reports whether it is a socket that the network feature deals with.
func (s *Sandbox) isInternet(k *socket) bool {
	return s.hasOwnNetwork() && (k.domain == unix.AF_INET || k.domain == unix.AF_INET6)
}

// raced is the answer to a call whose descriptor or address was another one when the
// feature that deals with such looked at it.
func raced() Answer { return Errno(unix.EINVAL) }

func (s *Sandbox) connectOther(c *Call) Answer {
	if c.madeAnew(1) {
		return Continue() // the address is the supervisor's
	}
	return c.otherSocket(func(k *socket, addr []byte) Answer {
		family := familyOf(addr)
		switch {
		case s.isInternet(k) && s.netspace != nil && len(addr) >= 2 && family != unix.AF_UNSPEC && family != unix.AF_INET && family != unix.AF_INET6:
			// The kernel would first give a datagram socket a port of its choice.
			if len(addr) < sizeOfAddress4 || k.domain == unix.AF_INET6 && len(addr) < sizeOfAddress6 {
				return Errno(unix.EINVAL)
			}
			return Errno(unix.EAFNOSUPPORT)
		case s.isInternet(k) && (s.netspace == nil || family != unix.AF_UNSPEC):
			return raced()
		case family == unix.AF_UNSPEC && len(addr) >= 2:
			return c.saidBy(rawConnect(k.fd, addr))
		case k.domain == unix.AF_UNIX && family == unix.AF_UNIX:
			host, ok := s.abstractName(k.fd, addr)
			if !ok {
				return raced()
			}
			return c.connectUnix(host)
		case s.netspace == nil && (k.domain == unix.AF_INET || k.domain == unix.AF_INET6):
			return s.connectHost(c, k, addr)
		}
		return c.saidBy(rawConnect(k.fd, addr))
	})
}

// connectHost connects a socket of the host's network.
func (s *Sandbox) connectHost(c *Call, k *socket, addr []byte) Answer {
	a, err := parseAddress(addr)
	if err != nil {
		return c.saidBy(rawConnect(k.fd, addr)) // which says what is wrong with it
	}
	if k.domain == unix.AF_INET && !a.Addr().Is4() || k.domain == unix.AF_INET6 && a.Addr().Is4() {
		return c.saidBy(rawConnect(k.fd, addr))
	}
	waits, err := k.connect(addr)
	if waits != nil {
		return c.waitToConnect(k, waits)
	}
	return c.saidBy(err)
}

func (s *Sandbox) bindOther(c *Call) Answer {
	return c.otherSocket(func(k *socket, addr []byte) Answer {
		switch {
		case s.isInternet(k):
			return raced()
		case k.domain == unix.AF_UNIX && familyOf(addr) == unix.AF_UNIX && len(addr) == 2:
			return s.nameItself(c, k)
		case k.domain == unix.AF_UNIX && familyOf(addr) == unix.AF_UNIX:
			host, ok := s.abstractName(k.fd, addr)
			if !ok {
				return raced()
			}
			return c.done(s.bindAbstract(k, host, string(addr[2:])))
		case k.domain == unix.AF_NETLINK && len(addr) >= 8 && binary.NativeEndian.Uint32(addr[4:]) == 0:
			// The kernel would take the supervisor's number.
			own := slices.Clone(addr)
			binary.NativeEndian.PutUint32(own[4:], uint32(c.s.innerOf(c.Process)))
			if err := rawBind(k.fd, own); err != unix.EADDRINUSE {
				return c.saidBy(err)
			}
		case (k.domain == unix.AF_INET || k.domain == unix.AF_INET6) && len(addr) >= 4:
			// Below 1024 the right to bind is the program's, not the supervisor's.
			const firstFree = 1024
			if port := binary.BigEndian.Uint16(addr[2:]); port > 0 && port < firstFree && !c.mayBindLow() {
				return Errno(unix.EACCES)
			}
		}
		return c.saidBy(rawBind(k.fd, addr))
	})
}

// listenOther lets a socket listen. One of the Internet would be given a port of the
// host's.
func (s *Sandbox) listenOther(c *Call) Answer {
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return c.refusedWith(err)
	}
	k := socket{fd: fd}
	defer k.close()
	if k.domain, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return c.refusedWith(err)
	}
	if s.isInternet(&k) {
		return raced()
	}
	if k.domain != unix.AF_UNIX {
		return c.saidBy(unix.Listen(fd, int(c.Int(1))))
	}
	if s.netspace != nil {
		return Continue() // then its peers learn who it is; at worst a socket gets a port of the kernel's choice
	}
	return c.saidBy(s.listenUnix(c, fd))
}

// mayBindLow reports whether the caller has the right to a port below 1024.
func (c *Call) mayBindLow() bool {
	caps, err := capabilitiesOf(c.thread.tid)
	return err == nil && caps.effective&(1<<unix.CAP_NET_BIND_SERVICE) != 0
}

func familyOf(addr []byte) int {
	if len(addr) < 2 {
		return -1
	}
	return int(binary.NativeEndian.Uint16(addr))
}

// bindAbstract binds a socket to a name that is no path.
func (s *Sandbox) bindAbstract(k *socket, host, given string) error {
	if host[1:] == given[1:] { // a network of the sandbox's own
		return rawBind(k.fd, append([]byte{unix.AF_UNIX, 0}, given...))
	}
	err := unix.Bind(k.fd, &unix.SockaddrUnix{Name: host})
	if err == nil {
		s.view.bound.Store(host, given)
	}
	return err
}

// nameItself binds a socket to a name of five hexadecimal digits that nobody has, as the
// kernel does (unix_autobind, net/unix/af_unix.c). It depends on the process alone.
func (s *Sandbox) nameItself(c *Call, k *socket) Answer {
	const digits, tries = 5, 1 << 12
	if at, err := rawName(unix.SYS_GETSOCKNAME, k.fd); err != nil || len(at) > 2 {
		return c.done(err) // it has a name
	}
	for range tries {
		n := c.Process.random.count("unix")
		h := fnv.New32a()
		fmt.Fprintf(h, "%s/%d", c.Process.Lineage, n)
		name := fmt.Sprintf("\x00%0*x", digits, h.Sum32()&(1<<(4*digits)-1))
		host, ok := s.abstractName(k.fd, append([]byte{unix.AF_UNIX, 0}, name...))
		if !ok {
			return raced()
		}
		if err := s.bindAbstract(k, host, name); err != unix.EADDRINUSE {
			return c.done(err)
		}
	}
	return Errno(unix.ENOSPC)
}

// otherName tells an end of a socket.
func (s *Sandbox) otherName(c *Call, nr uintptr) Answer {
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return c.refusedWith(err)
	}
	defer unix.Close(fd)
	b, err := rawName(nr, fd)
	if err != nil {
		return c.refusedWith(err)
	}
	if a, err := parseAddress(b); err == nil && s.loopbacks != nil && s.loopbacks.owns(a.Addr().Unmap()) {
		return Fatal(fmt.Errorf("%s of process %s: nobody knows what %v is to the sandbox", c.Name(), c.Process.Lineage, a))
	}
	return c.replyAddress(c.Arg(1), c.Arg(2), b)
}

//go:build linux

package supervisor

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// A protocol has ports of its own.
type protocol uint8

const (
	tcp protocol = iota
	udp
	protocols
)

// loopbacks are what the host's loopback interface carries for one sandbox: a
// network 127.X.Y.0/24 of its own, in which the ports of the sandbox are ports that
// the kernel has chosen.
//
// A port of the sandbox gets one of the host's when it is first named, by a server or
// by a client, and keeps it. As long as no server has it, the supervisor holds it, so
// that nobody else answers there and who connects is refused. Whether a port is in use
// is thereby the kernel's own word.
type loopbacks struct {
	net [3]byte // 127.X.Y

	mu      sync.Mutex
	ports   [protocols]map[netip.AddrPort]*port          // by the sandbox's, see class
	names   [protocols]map[netip.AddrPort]portName       // by the host's
	clients [protocols]map[netip.AddrPort]struct{}       // what clients were given, see ephemeral
	held    []heldPort                                   // in the order in which they were taken
	drawn   [protocols]uint32                            // how many clients got one
	guests  [protocols]map[netip.AddrPort]netip.AddrPort // who came from outside, by the host's
}

// A port is one of the host's that stands for one of the sandbox's.
type port struct {
	real   netip.AddrPort
	holder int        // the supervisor's socket that holds it, -1 once a server has had it
	as     netip.Addr // what address the last server has asked for
	told   bool       // somebody outside knows it
}

// A portName is what the sandbox calls a port of the host's.
type portName struct {
	netip.AddrPort
	port *port // nil for a client's
}

// The addresses of the loopback interface.
var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
	any4      = netip.IPv4Unspecified()
	any6      = netip.IPv6Unspecified()
)

// In the sandbox's network, servers are at .1 and clients from .16 on: each address
// has so many ports before the next is taken.
const (
	serverHost     = 1
	farHost        = 254 // what a socket that only holds a port is connected to
	firstClient    = 16
	clientHosts    = 8
	portsOfAClient = 8192
)

// mostHeld is how many ports the supervisor holds: the one that was named first is let
// go for another.
const mostHeld = 256

// A heldPort is one that the supervisor holds, or did.
type heldPort struct {
	protocol protocol
	name     netip.AddrPort
}

func newLoopbacks() (*loopbacks, error) {
	lo := &loopbacks{net: [3]byte{127}}
	for p := range protocols {
		lo.ports[p] = map[netip.AddrPort]*port{}
		lo.names[p] = map[netip.AddrPort]portName{}
		lo.clients[p] = map[netip.AddrPort]struct{}{}
		lo.guests[p] = map[netip.AddrPort]netip.AddrPort{}
	}
	for lo.net[1] < 2 { // 127.0 and 127.1 are what people use
		if _, err := rand.Read(lo.net[1:]); err != nil {
			return nil, err
		}
	}
	return lo, nil
}

// host returns an address in the sandbox's network.
func (lo *loopbacks) host(n byte) netip.Addr {
	return netip.AddrFrom4([4]byte{lo.net[0], lo.net[1], lo.net[2], n})
}

// owns reports whether an address of the host's is the sandbox's.
func (lo *loopbacks) owns(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	b := a.As4()
	return [3]byte(b[:3]) == lo.net
}

// class returns the address under which an address of the loopback interface is
// filed: a server that asks for all addresses is found at 127.0.0.1, or if it wants
// IPv6 alone at ::1. ok is false if it isn't an address of that interface.
func class(a netip.Addr, only6 bool) (c netip.Addr, ok bool) {
	a = a.Unmap()
	switch {
	case a == any4, a == any6 && !only6:
		return loopback4, true
	case a == any6:
		return loopback6, true
	case a.Is4() && a.IsLoopback(), a == loopback6:
		return a, true
	}
	return a, false
}

// at returns the port of the host's that stands for one of the sandbox's.
func (lo *loopbacks) at(p protocol, name netip.AddrPort) (*port, error) {
	if q := lo.ports[p][name]; q != nil {
		return q, nil
	}
	fd, real, err := hold(p, netip.AddrPortFrom(lo.host(serverHost), 0), lo.host(farHost))
	if err != nil {
		return nil, fmt.Errorf("take a port of %v: %w", lo.host(serverHost), err)
	}
	q := &port{real: real, holder: fd, as: name.Addr()}
	lo.ports[p][name] = q
	lo.names[p][real] = portName{name, q}
	if lo.held = append(lo.held, heldPort{p, name}); len(lo.held) > mostHeld {
		lo.letGo()
	}
	return q, nil
}

// letGo lets go of the port that has been held for longest. Who names it again gets
// another one.
func (lo *loopbacks) letGo() {
	first := lo.held[0]
	lo.held = lo.held[1:]
	if q := lo.ports[first.protocol][first.name]; q != nil && !q.told && q.release() {
		delete(lo.ports[first.protocol], first.name)
	}
}

// hold takes a port, a free one if at has none. A UDP socket is connected to an address from which nothing
// comes, so that a datagram from elsewhere is refused.
func hold(p protocol, at netip.AddrPort, far netip.Addr) (fd int, real netip.AddrPort, err error) {
	kind := unix.SOCK_STREAM
	if p == udp {
		kind = unix.SOCK_DGRAM
	}
	if fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, real, err
	}
	if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err == nil && p == udp {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: far.As4(), Port: 1})
	}
	if err == nil {
		real, err = localName(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, real, err
	}
	return fd, real, nil
}

// server finds where a client's destination is. The wildcard server that takes both
// families is where nobody has asked for IPv6 alone.
func (lo *loopbacks) server(p protocol, to netip.AddrPort) (*port, error) {
	name, _ := class(to.Addr(), to.Addr() == any6)
	key := netip.AddrPortFrom(name, to.Port())
	if lo.ports[p][key] == nil && name != loopback4 {
		all := lo.ports[p][netip.AddrPortFrom(loopback4, to.Port())]
		if all != nil && (all.as == any6 || all.as == any4 && name.Is4()) {
			return all, nil
		}
	}
	return lo.at(p, key)
}

// release lets go of a port for a server.
func (q *port) release() (held bool) {
	if q.holder < 0 {
		return false
	}
	unix.Close(q.holder)
	q.holder = -1
	return true
}

// holdAgain takes a port back that no server wanted after all.
func (q *port) holdAgain(p protocol, far netip.Addr) bool {
	fd, _, err := hold(p, q.real, far)
	if err == nil {
		q.holder = fd
	}
	return err == nil
}

// forget gives a port of the host's up.
func (lo *loopbacks) forget(p protocol, name netip.AddrPort, q *port) {
	delete(lo.ports[p], name)
	delete(lo.names[p], q.real)
}

// Ephemeral ports, as /proc/sys/net/ipv4/ip_local_port_range says natively.
const (
	firstEphemeral = 32768
	ephemerals     = 60999 - firstEphemeral + 1
)

// ephemeral names a port for a process that leaves the choice to the kernel: one
// after the other, from 32768 on for the command and from a place of its own for every
// other process.
func (lo *loopbacks) ephemeral(p protocol, who *Process, addr netip.Addr) (netip.AddrPort, error) {
	from := uint32(0)
	if who.parent != nil {
		h := fnv.New32a()
		_, _ = h.Write([]byte(who.Lineage))
		from = h.Sum32() % ephemerals
	}
	for range ephemerals {
		n := (from + who.ephemerals[p]) % ephemerals
		who.ephemerals[p]++
		name := netip.AddrPortFrom(addr, uint16(firstEphemeral+n))
		_, client := lo.clients[p][name]
		if client && who.ephemerals[p] <= ephemerals {
			continue // another process has it
		}
		if lo.ports[p][name] == nil {
			return name, nil
		}
	}
	return netip.AddrPort{}, unix.EADDRNOTAVAIL
}

// client returns from where on the host the next client is to connect.
func (lo *loopbacks) client(p protocol) netip.Addr {
	n := lo.drawn[p] / portsOfAClient % clientHosts
	lo.drawn[p]++
	return lo.host(firstClient + byte(n))
}

// called notes what the sandbox calls a client.
func (lo *loopbacks) called(p protocol, real, name netip.AddrPort) {
	lo.names[p][real] = portName{name, nil}
	lo.clients[p][name] = struct{}{}
	if p == udp { // somebody may answer
		lo.ports[p][name] = &port{real: real, holder: -1, as: name.Addr()}
	}
}

// name returns what the sandbox calls an address of the host's. One that isn't the
// sandbox's is that of a client from outside, who got in through a port that was
// opened.
func (lo *loopbacks) name(p protocol, real netip.AddrPort, root *Process) (n portName, ok bool) {
	if n, ok = lo.names[p][real]; ok || !real.Addr().IsLoopback() || lo.owns(real.Addr()) {
		return n, ok
	}
	if g, ok := lo.guests[p][real]; ok {
		return portName{g, nil}, true
	}
	g, err := lo.ephemeral(p, root, loopback4)
	if err != nil {
		return n, false
	}
	lo.guests[p][real] = g
	lo.clients[p][g] = struct{}{}
	return portName{g, nil}, true
}

// close lets go of every port.
func (lo *loopbacks) close() error {
	lo.mu.Lock()
	defer lo.mu.Unlock()
	for p := range protocols {
		for _, q := range lo.ports[p] {
			q.release()
		}
	}
	return nil
}

// localName and peerName return the ends of a socket of the Internet, an address of IPv4
// within IPv6 as one of IPv4.
func localName(fd int) (netip.AddrPort, error) { return socketEnd(unix.Getsockname(fd)) }

func peerName(fd int) (netip.AddrPort, error) { return socketEnd(unix.Getpeername(fd)) }

var errNoInternet = errors.New("not a socket of the Internet")

func socketEnd(sa unix.Sockaddr, err error) (netip.AddrPort, error) {
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, errNoInternet
}

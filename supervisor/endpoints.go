//go:build linux

package supervisor

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
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

// kind is the type of its sockets.
func (p protocol) kind() int {
	if p == udp {
		return unix.SOCK_DGRAM
	}
	return unix.SOCK_STREAM
}

// loopbacks are what the host's loopback interface carries for one sandbox: a
// network 127.X.Y.0/24 of its own, in which the ports of the sandbox are ports that
// the kernel has chosen.
//
// A site of the sandbox gets one of the host's ports when it is first named, by a server
// or by a client, and keeps it. As long as no server has it, the supervisor holds it, so
// that nobody else answers there and who connects is refused. Whether a port is in use
// is thereby the kernel's own word, also where sites overlap: it is asked with a socket
// that has the options of the program's.
type loopbacks struct {
	net        [3]byte // 127.X.Y
	ephemerals uint32  // how many ports there are for who leaves the choice to the kernel

	mu      sync.Mutex
	ports   [protocols]map[uint16][]*port                // by the sandbox's number
	names   [protocols]map[netip.AddrPort]portName       // by the host's
	clients [protocols]map[netip.AddrPort]netip.AddrPort // the host's by what clients were given, see ephemeral
	held    []*port                                      // in the order in which they were taken
	drawn   [protocols]uint32                            // how many clients got one
	guests  [protocols]map[netip.AddrPort]netip.AddrPort // who came from outside, by the host's
}

// A site is what a socket is bound to in the sandbox. One that is all addresses of IPv6
// has those of IPv4 as well, unless only6.
type site struct {
	netip.AddrPort
	only6 bool
}

// covers reports whether what is sent to an address may come to the site.
func (at site) covers(a netip.Addr) bool {
	switch at.Addr() {
	case any4:
		return a.Is4()
	case any6:
		return !at.only6 || a.Is6()
	}
	return at.Addr() == a
}

// overlaps reports whether two sites have an address in common.
func (at site) overlaps(b site) bool { return at.covers(b.Addr()) || b.covers(at.Addr()) }

// A port is one of the host's that stands for a site of the sandbox's.
type port struct {
	protocol
	site
	real   netip.AddrPort
	holder int  // the supervisor's socket that holds it, -1 once a server has had it
	told   bool // somebody outside knows it
	shares      // of who was bound to it last

	backlog int // of who listened last
}

// shares are the options with which sockets share a port.
type shares struct{ address, port bool }

// A portName is what the sandbox calls a port of the host's.
type portName struct {
	site
	port *port      // nil for a client's
	to   netip.Addr // what it was connected to, if it was
	sent netip.Addr // where it has sent to last
	from netip.Addr // from which address it wanted that to come, if it has said so
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

func newLoopbacks(ephemerals uint32) (*loopbacks, error) {
	lo := &loopbacks{net: [3]byte{127}, ephemerals: cmp.Or(ephemerals, allEphemerals)}
	for p := range protocols {
		lo.ports[p] = map[uint16][]*port{}
		lo.names[p] = map[netip.AddrPort]portName{}
		lo.clients[p] = map[netip.AddrPort]netip.AddrPort{}
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

// isLoopback reports whether an address is one of the loopback interface, or all.
func isLoopback(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsUnspecified() || a.Is4() && a.IsLoopback() || a == loopback6
}

// destination is the address that who sends to another one means: all addresses are the
// first.
func destinationOf(a netip.Addr) netip.Addr {
	switch a {
	case any6:
		return loopback6
	case any4, netip.AddrFrom16(any4.As16()):
		return loopback4
	}
	return a.Unmap()
}

// find returns the port of the host's that stands for a site, nil if none does.
func (lo *loopbacks) find(p protocol, at site) *port {
	for _, q := range lo.ports[p][at.Port()] {
		if q.site == at {
			return q
		}
	}
	return nil
}

// take lets a free port of the host's stand for a site, and holds it.
func (lo *loopbacks) take(p protocol, at site) (*port, error) {
	fd, real, err := hold(p, netip.AddrPortFrom(lo.host(serverHost), 0), lo.host(farHost))
	if err != nil {
		return nil, fmt.Errorf("take a port of %v: %w", lo.host(serverHost), err)
	}
	q := &port{protocol: p, real: real, holder: fd}
	lo.enter(q, at)
	if lo.held = append(lo.held, q); len(lo.held) > mostHeld {
		lo.letGo()
	}
	return q, nil
}

// enter lets a port stand for a site.
func (lo *loopbacks) enter(q *port, at site) {
	lo.succeed(q.protocol, q.real, q)
	q.site = at
	lo.ports[q.protocol][at.Port()] = append(lo.ports[q.protocol][at.Port()], q)
	lo.names[q.protocol][q.real] = portName{site: at, port: q}
}

// succeed forgets who had one of the host's ports before q, nil for a client: his socket is
// closed if the kernel has given the port away.
func (lo *loopbacks) succeed(p protocol, real netip.AddrPort, q *port) {
	old, ok := lo.names[p][real]
	if !ok {
		return
	}
	if lo.clients[p][old.AddrPort] == real {
		delete(lo.clients[p], old.AddrPort)
	}
	if old.port != nil && old.port != q {
		lo.leave(old.port)
	}
	delete(lo.names[p], real)
}

// leave ends that.
func (lo *loopbacks) leave(q *port) {
	rest := slices.DeleteFunc(lo.ports[q.protocol][q.Port()], func(other *port) bool { return other == q })
	if lo.ports[q.protocol][q.Port()] = rest; len(rest) == 0 {
		delete(lo.ports[q.protocol], q.Port())
	}
}

// seat returns the port that a server is to be bound to. Who has named an address of its
// site before, or knows the port outside, is to find it there.
func (lo *loopbacks) seat(p protocol, at site) (*port, error) {
	q := lo.find(p, at)
	for _, other := range lo.ports[p][at.Port()] {
		if other.site == at || other.holder < 0 || !at.overlaps(other.site) {
			continue
		}
		if other.told && (q == nil || !q.told) || q == nil && at.covers(other.Addr()) {
			q = other
		}
	}
	if q == nil {
		return lo.take(p, at)
	}
	if q.site != at {
		lo.leave(q)
		lo.enter(q, at)
	}
	return q, nil
}

// letGo lets go of the port that has been held for longest. Who names it again gets
// another one.
func (lo *loopbacks) letGo() {
	first := lo.held[0]
	lo.held = lo.held[1:]
	if lo.names[first.protocol][first.real].port == first && !first.told && first.release() {
		lo.leave(first)
	}
}

// hold takes a port, a free one if at has none. A UDP socket is connected to an address from which nothing
// comes, so that a datagram from elsewhere is refused.
func hold(p protocol, at netip.AddrPort, far netip.Addr) (fd int, real netip.AddrPort, err error) {
	if fd, err = unix.Socket(unix.AF_INET, p.kind()|unix.SOCK_CLOEXEC, 0); err != nil {
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

// server finds where a client's destination is: the server of that very address, one of
// its family, or one of both.
func (lo *loopbacks) server(p protocol, to netip.AddrPort) (*port, error) {
	to = netip.AddrPortFrom(destinationOf(to.Addr()), to.Port())
	if all := lo.ports[p][to.Port()]; len(all) == 1 && all[0].covers(to.Addr()) {
		return all[0], nil // nearly always
	}
	var list []*port
	for _, q := range lo.ports[p][to.Port()] {
		switch {
		case !q.covers(to.Addr()):
		case q.shares.port:
			list = append(list, q)
		default: // the kernel asks who came last first
			list = slices.Insert(list, 0, q)
		}
	}
	if len(list) == 0 {
		return lo.take(p, site{AddrPort: to})
	}
	slices.SortStableFunc(list, func(a, b *port) int { return cmp.Compare(b.precedence(), a.precedence()) })
	served := slices.DeleteFunc(slices.Clone(list), func(q *port) bool { return q.holder >= 0 })
	if len(served) == 0 {
		return list[0], nil
	}
	return firstServing(served)
}

// firstServing returns the first of some ports at which somebody serves; if there is none,
// the first. What tells it surely takes long, and is read only where it matters.
func firstServing(list []*port) (*port, error) {
	if len(list) == 1 {
		return list[0], nil
	}
	var may []*port
	for _, q := range list {
		// A port that such a socket may have has none of UDP, and none that listens.
		free, err := q.isFree(shares{address: q.protocol == tcp})
		switch {
		case err != nil:
			return nil, err
		case !free && q.protocol == udp:
			return q, nil
		case !free:
			may = append(may, q)
		}
	}
	if len(may) > 1 {
		table, err := socketTable(tcp)
		if err != nil {
			return nil, err
		}
		for _, q := range may {
			if table[q.real].listens {
				return q, nil
			}
		}
	}
	return append(may, list...)[0], nil
}

// precedence orders sites that have an address in common.
func (at site) precedence() int {
	switch {
	case at.Addr() == any6:
		return 0
	case at.Addr() == any4:
		return 1
	}
	return 2
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

// holdAgain takes a port back that no server has.
func (q *port) holdAgain(far netip.Addr) bool {
	fd, _, err := hold(q.protocol, q.real, far)
	if err == nil {
		q.holder = fd
	}
	return err == nil
}

// forget gives a port of the host's up.
func (lo *loopbacks) forget(q *port) {
	lo.leave(q)
	delete(lo.names[q.protocol], q.real)
}

// makeRoom looks whether a socket with these options may be bound to a site, as far as
// those go that overlap with it. What no socket has any more is given up.
func (lo *loopbacks) makeRoom(p protocol, at site, with shares) error {
	for _, q := range slices.Clone(lo.ports[p][at.Port()]) {
		if q.site == at || q.holder >= 0 || !q.overlaps(at) {
			continue
		}
		switch free, err := q.isFree(shares{}); {
		case err != nil:
			return err
		case free && q.told && q.holdAgain(lo.host(farHost)):
			continue
		case free:
			lo.forget(q)
			continue
		}
		if fits, err := q.fits(with); err != nil || !fits {
			return cmp.Or(err, error(unix.EADDRINUSE))
		}
	}
	return nil
}

// fits reports whether a socket with these options may be bound where the port's sockets
// are. A socket of UDP that asks the kernel might be sent something meanwhile, and there
// the options are all that counts.
func (q *port) fits(with shares) (bool, error) {
	switch {
	case with == shares{}:
		return false, nil
	case q.protocol == udp:
		return with.address && q.address || with.port && q.shares.port, nil
	}
	return q.isFree(with)
}

// isFree asks the kernel whether a socket with these options may have the port.
func (q *port) isFree(with shares) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, q.protocol.kind()|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if with.address {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if with.port && err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: q.real.Addr().As4(), Port: int(q.real.Port())})
	}
	if err == unix.EADDRINUSE {
		return false, nil
	}
	return err == nil, err
}

// Ephemeral ports, as /proc/sys/net/ipv4/ip_local_port_range says natively.
const (
	firstEphemeral = 32768
	allEphemerals  = 60999 - firstEphemeral + 1
)

// drawPort names a port for a process that leaves the choice to the kernel, of so many: one
// after the other, from 32768 on for the command and from a place of its own for every
// other process, and all over again.
func (p *Process) drawPort(all uint32) uint16 {
	from := uint32(0)
	if p.parent != nil {
		h := fnv.New32a()
		_, _ = h.Write([]byte(p.Lineage))
		from = h.Sum32() % all
	}
	n := (from + p.ephemerals) % all
	p.ephemerals++
	return uint16(firstEphemeral + n)
}

// ephemeral returns a site with a port that nobody has, nor is the one that is to be reached
// from there.
func (lo *loopbacks) ephemeral(p protocol, who *Process, at site, to uint16) (site, error) {
	swept := false
	for range lo.ephemerals {
		at.AddrPort = netip.AddrPortFrom(at.Addr(), who.drawPort(lo.ephemerals))
		if at.Port() == to {
			continue
		}
		if !lo.isTaken(p, at) {
			return at, nil
		}
		if !swept {
			if err := lo.sweep(p); err != nil {
				return at, err
			}
			swept = true
		}
		if !lo.isTaken(p, at) {
			return at, nil
		}
	}
	return at, unix.EADDRNOTAVAIL
}

// isTaken reports whether a site has something in common with a client's, or with one
// that a server has had.
func (lo *loopbacks) isTaken(p protocol, at site) bool {
	for _, a := range []netip.Addr{loopback4, loopback6} {
		if _, ok := lo.clients[p][netip.AddrPortFrom(a, at.Port())]; ok && at.covers(a) {
			return true
		}
	}
	return slices.ContainsFunc(lo.ports[p][at.Port()], func(q *port) bool { return (q.holder < 0 || q.told) && q.overlaps(at) })
}

// sweep gives up what no socket has any more. One that is closed may have something to
// send yet, or wait for late packets: for how long is a matter of the host's time, so it
// doesn't count.
func (lo *loopbacks) sweep(p protocol) error {
	table, err := socketTable(p)
	if err != nil {
		return err
	}
	for name, real := range lo.clients[p] {
		if !table[real].open {
			delete(lo.clients[p], name)
			delete(lo.guests[p], real)
			if lo.names[p][real].port == nil {
				delete(lo.names[p], real)
			}
		}
	}
	for number := range lo.ports[p] {
		for _, q := range slices.Clone(lo.ports[p][number]) {
			if q.holder >= 0 || q.told || table[q.real].open {
				continue
			}
			// One that is only bound isn't in the table of TCP.
			switch free, err := q.isFree(shares{}); {
			case err != nil:
				return err
			case free:
				lo.forget(q)
			}
		}
	}
	return nil
}

// client returns from where on the host the next client is to connect.
func (lo *loopbacks) client(p protocol) netip.Addr {
	n := lo.drawn[p] / portsOfAClient % clientHosts
	lo.drawn[p]++
	return lo.host(firstClient + byte(n))
}

// called notes what the sandbox calls a client.
func (lo *loopbacks) called(p protocol, real netip.AddrPort, at site) {
	lo.succeed(p, real, nil)
	lo.clients[p][at.AddrPort] = real
	if p == udp { // somebody may answer
		lo.enter(&port{protocol: p, real: real, holder: -1}, at)
		return
	}
	lo.names[p][real] = portName{site: at}
}

// wentTo notes where a socket was connected to, or has sent something.
func (lo *loopbacks) wentTo(p protocol, real netip.AddrPort, to netip.Addr, connected bool) {
	n, ok := lo.names[p][real]
	if !ok {
		return
	}
	n.sent, n.from = to, netip.Addr{}
	if connected {
		n.to = to
	}
	lo.names[p][real] = n
}

// ends returns what the sandbox calls the ends of a connection. far.Port() is 0 if there
// is none. ok is false if it isn't the sandbox's.
func (lo *loopbacks) ends(p protocol, local, remote netip.AddrPort, root *Process) (near, far portName, ok bool) {
	near, ok = lo.names[p][local]
	if !ok || remote.Port() == 0 {
		return near, far, ok
	}
	far, ok = lo.name(p, remote, root)
	switch {
	case !near.Addr().IsUnspecified():
	case near.to.IsValid(): // it has connected
		near.AddrPort = netip.AddrPortFrom(sourceFor(near.to), near.Port())
	case far.to.IsValid(): // it was accepted
		near.AddrPort = netip.AddrPortFrom(far.to, near.Port())
	default:
		near.AddrPort = netip.AddrPortFrom(loopback4, near.Port())
	}
	if far.Addr().IsUnspecified() {
		a := near.to
		if !a.IsValid() {
			a = sourceFor(far.sent)
		}
		far.AddrPort = netip.AddrPortFrom(a, far.Port())
	}
	return near, far, ok
}

// sourceFor is the address from which the kernel sends to another one, if nobody asks for
// another.
func sourceFor(to netip.Addr) netip.Addr {
	if to == loopback6 {
		return loopback6
	}
	return loopback4
}

// sender returns what the sandbox calls the address from which a datagram has come.
func (lo *loopbacks) sender(p protocol, real netip.AddrPort, root *Process) (netip.AddrPort, bool) {
	n, ok := lo.name(p, real, root)
	switch {
	case ok && n.from.IsValid():
		n.AddrPort = netip.AddrPortFrom(n.from, n.Port())
	case ok && n.Addr().IsUnspecified():
		n.AddrPort = netip.AddrPortFrom(sourceFor(n.sent), n.Port())
	}
	return n.AddrPort, ok
}

// name returns what the sandbox calls an address of the host's. One that isn't the
// sandbox's is that of a client from outside, who got in through a port that was
// opened.
func (lo *loopbacks) name(p protocol, real netip.AddrPort, root *Process) (n portName, ok bool) {
	if n, ok = lo.names[p][real]; ok || !real.Addr().IsLoopback() || lo.owns(real.Addr()) {
		return n, ok
	}
	if g, ok := lo.guests[p][real]; ok {
		return portName{site: site{AddrPort: g}}, true
	}
	g, err := lo.ephemeral(p, root, site{AddrPort: netip.AddrPortFrom(loopback4, 0)}, 0)
	if err != nil {
		return n, false
	}
	lo.guests[p][real] = g.AddrPort
	lo.clients[p][g.AddrPort] = real
	return portName{site: g}, true
}

// close lets go of every port.
func (lo *loopbacks) close() error {
	lo.mu.Lock()
	defer lo.mu.Unlock()
	for p := range protocols {
		for _, list := range lo.ports[p] {
			for _, q := range list {
				q.release()
			}
		}
	}
	return nil
}

// localName and peerName return the ends of a socket of the Internet, an address of IPv4
// within IPv6 as one of IPv4.
func localName(fd int) (netip.AddrPort, error) { return socketEnd(unix.SYS_GETSOCKNAME, fd) }

func peerName(fd int) (netip.AddrPort, error) { return socketEnd(unix.SYS_GETPEERNAME, fd) }

// socketEnd needs one system call, where unix.Getsockname needs two.
func socketEnd(nr uintptr, fd int) (netip.AddrPort, error) {
	b, err := rawName(nr, fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	a, err := parseAddress(b)
	return unmapped(a), err
}

// published returns where on the host a port is reached that somebody outside is told of:
// that of the server which a client of IPv4 would meet.
func (lo *loopbacks) published(number uint16) (*port, error) {
	for _, q := range lo.ports[tcp][number] {
		if q.told {
			return q, nil
		}
	}
	q, err := lo.server(tcp, netip.AddrPortFrom(loopback4, number))
	if err == nil {
		q.told = true
	}
	return q, err
}

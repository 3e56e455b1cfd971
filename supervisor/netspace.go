//go:build linux

package supervisor

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// A netspace is a namespace of the network that is a sandbox's own (network_namespaces(7)),
// with a loopback interface of the kernel's: what comes and goes there needs no looking
// after.
//
// Source: the ports that the kernel chooses, by chance. Eliminated: the supervisor names a
// port, before a socket connects, sends or listens without one. It binds and connects on
// the program's behalf, with its own copy of the address: a filter can't tell sockets from
// each other, and the path of a Unix socket must not get to the kernel.
//
// It is had where the sandbox has other namespaces, too, and needs nothing of the host's
// network; otherwise a part of the host's loopback interface stands for one (endpoints.go).
type netspace struct {
	s      *Sandbox
	spaces *namespaces
	cookie atomic.Uint64 // the kernel's name for it, 0 until there is a socket; see has
	mixed  atomic.Bool   // programs may have sockets of another one
	full   atomic.Bool   // a server has had as many connections as it wants
	ports  uint32        // how many there are for who leaves the choice to the kernel

	mu      sync.Mutex           // guards Process.ephemerals, too
	servers map[server]servation // of those that have been bound or listen
}

// A server is a socket of the sandbox's that has a port.
type server struct {
	protocol
	six bool
	at  netip.AddrPort
}

// mostServers is how many are known: what a program has closed isn't noticed.
const mostServers = 1 << 14

// A servation is what /proc/net doesn't tell of it.
type servation struct {
	only6   bool
	backlog int
}

// noNetspace returns why a sandbox with namespaces is to have none of the network, nil if it
// is. A socket that the command is given would stay in the host's, and so would those that
// come through it.
func (s *Sandbox) noNetspace(user bool) error {
	for _, f := range []any{s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr} {
		if f, ok := f.(*os.File); ok && isSocket(f) {
			return errors.New("the command's standard input or output is a socket")
		}
	}
	switch {
	case s.cfg.Net != NetLoopback:
		return fmt.Errorf("the network is %v", s.cfg.Net)
	case len(s.cfg.AllowNet)+len(s.cfg.Publish) > 0:
		return errors.New("AllowNet and Publish need the host's network")
	case s.cfg.Trace:
		return errors.New("Trace shows calls that otherwise wouldn't be trapped")
	case !kernelAtLeast(6, 3):
		return errors.New("ports can't be named before Linux 6.3 (IP_LOCAL_PORT_RANGE)")
	case inheritsSockets():
		return errors.New("this process was started with sockets that every process it starts is given, too")
	case slices.ContainsFunc(s.cmd.ExtraFiles, isSocket):
		return errors.New("ExtraFiles has a socket")
	case slices.ContainsFunc(s.cfg.Mounts, func(m cow.Mount) bool { return m.Through }):
		return errors.New("programs of the host's may be met in what is written through to it")
	}
	const needed = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_BIND_SERVICE
	if own, err := capabilitiesOf(0); !user && (err != nil || own.effective&needed != needed) {
		return errors.New("the supervisor has neither CAP_NET_ADMIN and CAP_NET_BIND_SERVICE nor needs a user namespace")
	}
	return netspacesExhausted(user)
}

func isSocket(f *os.File) (is bool) {
	if f == nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeSocket != 0
}

// inheritsSockets reports whether every process that this one starts is given sockets of
// whoever has started this one.
var inheritsSockets = sync.OnceValue(func() bool {
	for name, link := range openFilesIn("/proc/self/fd") {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= 2 || !strings.HasPrefix(link, socketLink) { // os/exec puts others in the place of the first
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			return true
		}
	}
	return false
})

// socketLink is how the name of a socket begins (proc_pid_fd(5)).
const socketLink = "socket:["

// anySocket reports whether there is a socket among what a command is given.
func anySocket(given map[string]bool) bool {
	for link := range given {
		if strings.HasPrefix(link, socketLink) {
			return true
		}
	}
	return false
}

// calls are those of the feature network.
func (n *netspace) calls() []call {
	var wrong [][]seccomp.Cond // neither a stream of TCP's nor a datagram socket of UDP's
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		kind := func(v uint64, not bool) seccomp.Cond {
			return seccomp.Cond{Arg: 1, Mask: sockTypeMask, Value: v, Not: not}
		}
		own := func(conds ...seccomp.Cond) []seccomp.Cond { return append(is(0, family), conds...) }
		wrong = append(wrong, own(kind(unix.SOCK_STREAM, true), kind(unix.SOCK_DGRAM, true)),
			own(kind(unix.SOCK_STREAM, false), isNot(2, 0), isNot(2, unix.IPPROTO_TCP)),
			own(kind(unix.SOCK_DGRAM, false), isNot(2, 0), isNot(2, unix.IPPROTO_UDP)))
	}
	list := []call{
		{name: "socket", anyOf: wrong, notify: func(c *Call) Answer { return Errno(wrongSocket(c)) }},
		{name: "bind", notify: n.bind},
		{name: "connect", notify: n.connect},
		{name: "listen", notify: n.listen},
	}
	return append(list, noGroups()...)
}

// internetSocket returns the supervisor's own descriptor of the call's socket, or an
// answer. It is -1 if that isn't one of the Internet's.
func (c *Call) internetSocket() (k socket, a Answer) {
	var err error
	if k.fd, err = c.fd(c.Int(0)); err != nil {
		return k, c.refusedWith(err)
	}
	// A Unix socket has none, and no other has these of ours.
	switch p, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); {
	case err == nil && p == unix.IPPROTO_TCP:
		return k, goOn
	case err == nil && p == unix.IPPROTO_UDP:
		k.protocol = udp
		return k, goOn
	}
	k.close()
	k.fd = -1
	return k, goOn // the kernel, or another feature, says what is wrong with it
}

// has reports whether a socket is in the namespace, where it may be another's. The interface
// comes up with the first that is.
func (n *netspace) has(fd int) (bool, error) {
	known := n.cookie.Load()
	if known != 0 && !n.mixed.Load() {
		return true, nil
	}
	return n.surelyHas(fd)
}

// surelyHas asks the kernel. What that says of something that is no socket is an errno; other
// errors are none, as no program is to take them for its own.
func (n *netspace) surelyHas(fd int) (bool, error) {
	known := n.cookie.Load()
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return false, err
	}
	if known != 0 {
		return cookie == known, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	own, err := n.holds(fd)
	if err == nil && own {
		if err = bringUp(fd); err == nil {
			n.cookie.Store(cookie)
		}
	}
	return own, err
}

// holds reports whether the namespace that a socket is in is the sandbox's.
func (n *netspace) holds(fd int) (bool, error) {
	space, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS)
	if err == unix.EPERM {
		return false, nil // we have made the sandbox's, and may ask for it
	}
	if err != nil {
		return false, fmt.Errorf("ask a socket for its network (ioctl SIOCGSKNS): %v", err)
	}
	defer unix.Close(space)
	var st unix.Stat_t
	if err := unix.Fstat(space, &st); err != nil {
		return false, fmt.Errorf("look at a network: %v", err)
	}
	return idOf(&st) == n.spaces.net, nil
}

// bringUp switches the loopback interface of a socket's network on.
func bringUp(fd int) error {
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("switch the sandbox's loopback interface on (ioctl SIOCSIFFLAGS): %v", err)
	}
	return nil
}

// eachPort runs do with one port after the other that a process may be given, until one is
// free.
func (n *netspace) eachPort(who *Process, do func(port uint16) error) (err error) {
	for range n.ports {
		if err = do(n.draw(who)); err == nil {
			return nil
		}
		if err != unix.EADDRINUSE {
			n.undraw(who)
			return err
		}
	}
	return err
}

// draw names the next port of a process.
func (n *netspace) draw(who *Process) uint16 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return who.drawPort(n.ports)
}

// undraw takes a number back that nobody has used.
func (n *netspace) undraw(who *Process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	who.ephemerals--
}

// bind gives a socket an address, and a port if it asks for any.
func (n *netspace) bind(c *Call) Answer {
	k, a := c.internetSocket()
	if a.kind != answerGoOn || k.fd < 0 {
		return a
	}
	defer k.close()
	own, err := n.has(k.fd)
	switch {
	case err != nil:
		return Fatal(err)
	case !own: // somebody outside has sent it
		return Errno(unix.EADDRNOTAVAIL)
	}
	addr, a := c.addressBytes()
	if a.kind != answerGoOn {
		return a
	}
	const behindPort = 4
	switch {
	case len(addr) >= behindPort && binary.BigEndian.Uint16(addr[2:]) != 0:
		err = rawBind(k.fd, addr)
	default: // also what is no address: the kernel says so, or takes it for one
		err = n.eachPort(c.Process, func(port uint16) (err error) {
			if err = k.chooses(port); err == nil {
				err = rawBind(k.fd, addr)
			}
			return err
		})
	}
	if err == nil {
		err = n.note(&k, nil)
	}
	return c.saidBy(err)
}

// note notes what a server is.
func (n *netspace) note(k *socket, listens func(*servation)) error {
	name, err := rawName(unix.SYS_GETSOCKNAME, k.fd)
	if err != nil {
		return err
	}
	at, err := parseAddress(name)
	if err != nil {
		return err
	}
	k.domain = familyOf(name)
	n.mu.Lock()
	defer n.mu.Unlock()
	key := server{k.protocol, k.domain == unix.AF_INET6, at}
	is := servation{only6: k.only6()}
	if listens != nil {
		listens(&is)
	}
	if len(n.servers) >= mostServers {
		clear(n.servers)
	}
	n.servers[key] = is
	return nil
}

// connect begins, and mostly ends, a connection. It is the call that programs make often, so
// it asks for no more than it needs: what isn't a socket of the Internet's doesn't take the
// option.
func (n *netspace) connect(c *Call) Answer {
	addr, a := c.addressBytes()
	if a.kind != answerGoOn {
		return a
	}
	if family := familyOf(addr); family != unix.AF_INET && family != unix.AF_INET6 {
		return goOn // another feature judges it
	}
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return c.refusedWith(err)
	}
	k := socket{fd: fd}
	defer k.close()
	own, err := n.has(fd)
	var errno unix.Errno
	switch to, wrong := parseAddress(addr); {
	case errors.As(err, &errno):
		return goOn // it is no socket
	case err != nil:
		return Fatal(err)
	case !own: // somebody outside has sent it
		return Errno(unix.ENETUNREACH)
	case wrong == nil && !isLoopback(to.Addr()):
		return n.leadsNowhere(&k, to)
	}
	waits, err := n.connectFrom(c, &k, addr)
	if err == errNotInternet {
		return goOn
	}
	if waits != nil {
		return c.waitToConnect(&k, waits)
	}
	return c.saidBy(err)
}

// isTaken reports whether a socket of the Internet's without a port couldn't get the one that
// it was left (__inet_hash_connect, inet_dgram_connect).
func isTaken(err error) bool { return err == unix.EADDRNOTAVAIL || err == unix.EAGAIN }

// errNotInternet means that a socket isn't one of the Internet's.
var errNotInternet = errors.New("no socket of the Internet")

// connectFrom connects a socket from a port that is left to it, should it have none. It isn't
// that which it is to be connected to: it would be connected to itself.
func (n *netspace) connectFrom(c *Call, k *socket, addr []byte) (waits *connecting, err error) {
	const many = 64 // one that has a port, and can't have that connection, fails as often
	to := binary.BigEndian.Uint16(addr[2:])
	for tries := uint32(1); tries <= n.ports; tries++ {
		port := n.draw(c.Process)
		if port == to {
			continue
		}
		if k.chooses(port) != nil {
			n.undraw(c.Process)
			return nil, errNotInternet
		}
		waits, err = n.begin(k, addr)
		if !isTaken(err) {
			break
		}
		if tries == many {
			c.Yield()
			if at, failed := localName(k.fd); failed != nil || at.Port() != 0 && at.Port() != port {
				break
			}
		}
	}
	if !draws(err) {
		n.undraw(c.Process)
	}
	return waits, err
}

// leadsNowhere is what a socket is told that is to be connected to somewhere else.
func (n *netspace) leadsNowhere(k *socket, to netip.AddrPort) Answer {
	switch domain, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_DOMAIN); {
	case err != nil || domain != unix.AF_INET && domain != unix.AF_INET6:
		return goOn // it is another kind of socket
	case domain == unix.AF_INET && !to.Addr().Is4():
		return Errno(unix.EAFNOSUPPORT)
	}
	return Errno(unix.ENETUNREACH)
}

// draws reports whether a socket that was to be connected has used up a port's number by
// that, whether it needed one or not.
func draws(err error) bool {
	switch err {
	case unix.EALREADY, unix.EISCONN, unix.EINVAL, unix.EAFNOSUPPORT, unix.ENETUNREACH:
		return false
	}
	return true
}

// begin connects a socket as far as that goes without waiting, and returns what the program
// wants to wait for. Mostly there is nothing to wait for, and a short timeout takes fewer
// calls than to find out whether the socket waits at all, and to keep it from that.
func (n *netspace) begin(k *socket, to []byte) (waits *connecting, err error) {
	if n.s.cfg.Clock != det.Virtual || n.s.socketTimeouts.Load() || n.full.Load() {
		return k.connect(to) // it may have a timeout, or a server's queue may be full again
	}
	if err := k.setSendTimeout(time.Microsecond); err != nil {
		return nil, err
	}
	err = rawConnect(k.fd, to)
	for err == unix.EINTR { // one of our own runtime's signals
		if err = rawConnect(k.fd, to); err == unix.EALREADY {
			err = unix.EINPROGRESS // it has only just begun
		}
	}
	if err := k.setSendTimeout(0); err != nil {
		return nil, err
	}
	if err != unix.EINPROGRESS && err != unix.EALREADY {
		return nil, err
	}
	flags, failed := unix.FcntlInt(uintptr(k.fd), unix.F_GETFL, 0)
	if failed != nil || flags&unix.O_NONBLOCK != 0 {
		return nil, cmp.Or(failed, err)
	}
	n.full.Store(true)
	return &connecting{to: slices.Clone(to), begun: err == unix.EALREADY}, nil
}

func (k *socket) setSendTimeout(d time.Duration) error {
	tv := unix.NsecToTimeval(int64(d))
	return unix.SetsockoptTimeval(k.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
}

// chooses leaves the kernel one port to choose from for a socket that has none
// (IP_LOCAL_PORT_RANGE, ip(7), Linux 6.3). Programs don't know that option: see
// ownOptions.
func (k *socket) chooses(port uint16) error {
	return unix.SetsockoptInt(k.fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, int(port)<<16|int(port))
}

// listen lets a socket listen, at a port of its own if it has none.
func (n *netspace) listen(c *Call) Answer {
	k, a := c.internetSocket()
	if a.kind != answerGoOn || k.fd < 0 {
		return a
	}
	defer k.close()
	backlog := int(c.Int(1))
	own, err := n.has(k.fd)
	if err != nil {
		return Fatal(err)
	}
	near, err := localName(k.fd)
	switch {
	case err != nil:
		return c.refusedWith(err)
	case k.protocol != tcp:
		return c.saidBy(unix.Listen(k.fd, backlog)) // it can't
	case !own && near.Port() == 0:
		return Errno(unix.EACCES) // somebody outside has sent it
	case near.Port() != 0:
		err = unix.Listen(k.fd, backlog)
	default:
		err = n.eachPort(c.Process, func(port uint16) (err error) {
			if err = k.chooses(port); err == nil {
				err = unix.Listen(k.fd, backlog)
			}
			return err
		})
	}
	if err == nil {
		err = n.note(&k, func(is *servation) { is.backlog = backlog })
	}
	return c.saidBy(err)
}

// reach gives the address to which a datagram is sent, and the socket a port if it has none.
func (n *netspace) reach(k *socket, who *Process, a netip.AddrPort) error {
	own, err := n.has(k.fd)
	switch {
	case err != nil:
		return err
	case !own || !isLoopback(a.Addr()):
		return unix.ENETUNREACH
	case k.near.Port() != 0:
		return nil
	}
	err = n.eachPort(who, func(port uint16) error {
		if err := k.chooses(port); err != nil {
			return err
		}
		return unix.Bind(k.fd, k.sockaddr(k.everywhere().AddrPort))
	})
	switch err {
	case nil:
		return n.note(k, nil)
	case unix.EINVAL:
		return nil // another thread was quicker
	case unix.EADDRINUSE:
		return unix.EAGAIN // as from inet_send_prepare, net/ipv4/af_inet.c
	}
	return err
}

// entries lists the sockets of one of the kernel's tables.
func (n *netspace) entries(table string, p protocol) (list []socketEntry) {
	lines := tableLines(n.spaces.tables + table)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, line := range lines {
		e, ok := parseSocketEntry(line)
		if !ok {
			continue
		}
		is := n.servers[server{p, e.six, e.local}]
		e.only6, e.backlog = is.only6, is.backlog
		e.local, e.remote = unmapped(e.local), unmapped(e.remote)
		list = append(list, e)
	}
	return list
}

//go:build linux

package supervisor

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// messages lets what is sent to an address, and what comes from one, speak the
// sandbox's.
//
// Source: the host's sockets, which a datagram may be sent to without a connection;
// the host's ports and paths in the addresses of senders. Eliminated: at the entry of
// a call that sends, its address is replaced by the host's, in memory that no program
// can write; the message itself, with descriptors and credentials, is the program's own
// business. At the end of one that receives or accepts, the address that the kernel
// wrote is replaced by the sandbox's; in a network of the sandbox's own it is the right one.
// sendmmsg sends one message at a time, as the kernel writes lengths between the headers,
// where it must not be able to.
//
// What remains: before Linux 6.10 a program that maps other memory over the supervisor's
// can send a datagram to the host's sockets.
func messages(s *Sandbox) feature {
	f := feature{name: "messages", calls: []call{
		{name: "sendto", conds: []seccomp.Cond{pointer(4)}, stop: s.enterSendTo},
		{name: "sendmsg", stop: s.enterSendMessage},
		{name: "sendmmsg", stop: s.enterSendMessages},
		{name: "recvfrom", conds: []seccomp.Cond{pointer(4)}, stop: s.enterReceiveFrom},
		{name: "recvmsg", stop: s.enterReceiveMessage},
		{name: "recvmmsg", stop: s.enterReceiveMessages},
	}}
	if s.netspace == nil { // otherwise the kernel knows the right names
		f.calls = append(f.calls, call{name: "accept", stop: s.enterAccept}, call{name: "accept4", stop: s.enterAccept})
	}
	return f
}

// pointer selects calls in which an argument isn't a null pointer.
func pointer(arg int) seccomp.Cond { return seccomp.Cond{Arg: arg, Mask: ^uint64(0), Not: true} }

// The layout of struct msghdr and mmsghdr, and of a place for one and an address.
const (
	msghdrSize   = 56
	msgName      = 0
	msgNameLen   = 8
	mmsghdrSize  = 64
	mmsgLen      = 56
	msgControl   = 32
	msgControlLn = 40
	placeAddress = 64
	placeControl = placeAddress + mostOfAnAddress
)

// place returns a place of the thread's for the message of the call that it is in.
func (st *Stop) place() (at uint64, mem []byte, err error) {
	return st.t.take(st.th, messagePlace)
}

// restore gives the program its registers back when the call has ended.
func (st *Stop) restore(given tracee.Regs) {
	st.regs.SetNr(given.Nr())
	for i := range 6 {
		st.regs.SetArg(i, given.Arg(i))
	}
	_ = st.regs.Store(st.th.tid) // it fails only when the thread was killed
	st.t.giveBack(st.th, messagePlace)
}

func (s *Sandbox) enterSendTo(st *Stop) {
	b, err := s.translated(st, st.Arg(4), int32(st.Arg(5)))
	if err != nil {
		st.refuse(err)
		return
	}
	at, mem, err := st.place()
	if err != nil {
		st.refuse(err)
		return
	}
	given := st.regs
	copy(mem, b)
	st.regs.SetArg(4, at)
	st.regs.SetArg(5, uint64(len(b)))
	_ = st.regs.Store(st.th.tid)
	st.OnExit(func(st *Stop) { st.restore(given) })
}

func (s *Sandbox) enterSendMessage(st *Stop) { s.sendMessage(st, int(st.Arg(2)), nil) }

// enterSendMessages sends the first of the messages, as the kernel does if it can't send
// more.
func (s *Sandbox) enterSendMessages(st *Stop) {
	if uint32(st.Arg(2)) == 0 {
		return
	}
	s.sendMessage(st, int(st.Arg(3)), func(st *Stop, sent int64) error {
		_, err := tracee.WriteMem(st.th.tid, st.Arg(1)+mmsgLen, binary.NativeEndian.AppendUint32(nil, uint32(sent)))
		return err
	})
}

// sendMessage sends the message that argument 1 points to. Of several it is the first;
// told is how much of it was sent.
func (s *Sandbox) sendMessage(st *Stop, flags int, tell func(st *Stop, sent int64) error) {
	var hdr [msghdrSize]byte
	if st.Read(st.Arg(1), hdr[:]) != nil {
		st.skip(unix.EFAULT)
		return
	}
	b, err := s.translated(st, binary.NativeEndian.Uint64(hdr[msgName:]), int32(binary.NativeEndian.Uint32(hdr[msgNameLen:])))
	if err != nil {
		st.refuse(err)
		return
	}
	at, mem, err := st.place()
	if err != nil {
		st.refuse(err)
		return
	}
	name := uint64(0)
	if len(b) > 0 {
		name = at + placeAddress
	}
	control, err := s.controlOf(st, hdr[:], len(mem)-placeControl)
	if err != nil {
		st.t.giveBack(st.th, messagePlace)
		st.refuse(err)
		return
	}
	if len(control) > 0 {
		copy(mem[placeControl:], control)
		binary.NativeEndian.PutUint64(hdr[msgControl:], at+placeControl)
	}
	binary.NativeEndian.PutUint64(hdr[msgName:], name)
	binary.NativeEndian.PutUint32(hdr[msgNameLen:], uint32(len(b)))
	copy(mem, hdr[:])
	copy(mem[placeAddress:], b)
	given := st.regs
	st.regs.SetNr(unix.SYS_SENDMSG)
	st.regs.SetArg(1, at)
	st.regs.SetArg(2, uint64(flags))
	_ = st.regs.Store(st.th.tid)
	st.OnExit(func(st *Stop) {
		sent := st.Result()
		st.restore(given)
		if tell == nil || sent < 0 {
			return
		}
		st.regs.SetResult(1)
		if tell(st, sent) != nil {
			st.regs.SetResult(-int64(unix.EFAULT))
		}
		_ = st.regs.Store(st.th.tid)
	})
}

// controlOf reads the control messages that go with a message, at most so many bytes, and
// judges them: an interface or a source that is to be used instead of the socket's own
// (IP_PKTINFO, ip(7)) would lead out of the sandbox, unless it is the sandbox's.
func (s *Sandbox) controlOf(st *Stop, hdr []byte, most int) ([]byte, error) {
	at, size := binary.NativeEndian.Uint64(hdr[msgControl:]), binary.NativeEndian.Uint64(hdr[msgControlLn:])
	if at == 0 || size == 0 {
		return nil, nil
	}
	if size > uint64(most) {
		return nil, unix.ENOBUFS
	}
	b := make([]byte, size)
	if st.Read(at, b) != nil {
		return nil, unix.EFAULT
	}
	if s.loopbacks == nil {
		return b, nil
	}
	var sources [][]byte // where addresses stand in it
	var refused error
	eachControl(b, func(level, kind uint32, data []byte) {
		var at []byte
		err := error(nil)
		switch {
		case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO:
			at, err = sourceIn(data, 0, 4, 8, unix.ENETUNREACH)
		case level == unix.IPPROTO_IPV6 && (kind == unix.IPV6_PKTINFO || kind == unix.IPV6_2292PKTINFO):
			at, err = sourceIn(data, 16, 0, 16, unix.EINVAL)
		}
		if refused = cmp.Or(refused, err); at != nil {
			sources = append(sources, at)
		}
	})
	if refused != nil || sources == nil {
		return b, refused
	}
	return b, s.sendsFrom(st, sources)
}

// sourceIn returns the place of the address in a struct in_pktinfo or in6_pktinfo, between
// from and to, if it and the interface at index are the sandbox's.
func sourceIn(b []byte, index, from, to int, foreign unix.Errno) ([]byte, error) {
	if len(b) < max(index+4, to) {
		return nil, unix.EINVAL
	}
	if i := binary.NativeEndian.Uint32(b[index:]); i != 0 && i != loopbackIndex {
		return nil, unix.ENODEV
	}
	if a, ok := netip.AddrFromSlice(b[from:to]); !ok || !isLoopback(a) {
		return nil, foreign
	}
	return b[from:to], nil
}

// sendsFrom replaces the sources that a message is to have by the host's, and notes what
// they are.
func (s *Sandbox) sendsFrom(st *Stop, sources [][]byte) error {
	k, ok, err := socketOf(st.fd(int32(st.Arg(0))))
	if err != nil || !ok {
		return err
	}
	defer k.close()
	s.loopbacks.mu.Lock()
	defer s.loopbacks.mu.Unlock()
	local, err := localName(k.fd)
	if err != nil {
		return err
	}
	n, ok := s.loopbacks.names[k.protocol][local]
	if !ok {
		for _, at := range sources {
			clear(at)
		}
		return nil // to outside, where it is allowed
	}
	for _, at := range sources {
		a, _ := netip.AddrFromSlice(at)
		if n.from = destinationOf(a); a.IsUnspecified() {
			n.from = sourceFor(n.sent)
		}
		real := local.Addr().AsSlice()
		if len(at) > len(real) {
			sixteen := local.Addr().As16()
			real = sixteen[:]
		}
		copy(at, real)
	}
	s.loopbacks.names[k.protocol][local] = n
	return nil
}

// translated reads the address to which a call sends and returns that of the host's.
// The socket is bound if it wasn't.
func (s *Sandbox) translated(st *Stop, at uint64, size int32) ([]byte, error) {
	if at == 0 || size == 0 {
		return nil, nil
	}
	if size < 0 || size > mostOfAnAddress {
		return nil, unix.EINVAL
	}
	b := make([]byte, size)
	if st.Read(at, b) != nil {
		return nil, unix.EFAULT
	}
	if size < 2 {
		return b, nil // the kernel says EINVAL
	}
	switch family := binary.NativeEndian.Uint16(b); family {
	case unix.AF_UNIX:
		if err := st.sendsToSocket(); err != nil {
			return nil, err
		}
		return s.translatedPath(st, b)
	case unix.AF_INET, unix.AF_INET6, unix.AF_UNSPEC:
		if s.cfg.Net == NetHost {
			return b, nil
		}
		return s.translatedInternet(st, int(family), b)
	case unix.AF_NETLINK:
		if s.cfg.Net != NetHost {
			return nil, nil // what there is of it knows where to send
		}
	}
	return b, nil
}

// sendsToSocket returns what is wrong with the call's descriptor, unless it is a socket.
func (st *Stop) sendsToSocket() error {
	fd, err := st.fd(int32(st.Arg(0)))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err
}

func (s *Sandbox) translatedInternet(st *Stop, family int, b []byte) ([]byte, error) {
	k, ok, err := socketOf(st.fd(int32(st.Arg(0))))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, cmp.Or(st.sendsToSocket(), error(unix.EINVAL)) // as a Unix socket says
	}
	defer k.close()
	if k.protocol == tcp {
		return nil, nil // a stream takes no notice of it, unless it is to connect: MSG_FASTOPEN
	}
	if family == unix.AF_UNSPEC {
		family = k.domain // an old way to say AF_INET
		binary.NativeEndian.PutUint16(b, uint16(family))
	}
	a, err := parseAddress(b)
	switch {
	case err != nil:
		return nil, err
	case a.Port() == 0:
		return nil, unix.EINVAL
	case k.domain == unix.AF_INET && family != unix.AF_INET:
		return nil, unix.EAFNOSUPPORT
	}
	if s.netspace != nil {
		return b, s.netspace.reach(&k, st.th.proc, a)
	}
	var to []byte
	err = s.reaching(&k, st.th.proc, a, false, func(real netip.AddrPort) error {
		to = appendAddress(nil, family, real)
		return nil
	})
	return to, err
}

// translatedPath finds the host's path of a socket.
func (s *Sandbox) translatedPath(st *Stop, b []byte) ([]byte, error) {
	if len(b) <= 2 {
		return b, nil
	}
	if b[2] == 0 {
		fd, err := st.fd(int32(st.Arg(0)))
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		host, ok := s.abstractName(fd, b)
		if !ok {
			return nil, unix.EINVAL
		}
		return unixAddress("\x00" + host[1:]), nil
	}
	path, _, _ := stringsCut(b[2:])
	host := ""
	err := s.view.at(st.th, unix.AT_FDCWD, path, 0, func(w *cow.Walk, path string) error {
		f, err := s.view.tree.Lookup(w, path)
		if err == nil {
			host, err = f.Socket(w.Cred)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return append(append(b[:2], host...), 0), nil
}

// A received address is in the program's memory at at, with its size at sizeAt; room
// is how much of it fitted.
type received struct {
	at, sizeAt uint64
	room       int32
	protocol   protocol
}

// fromPointers returns where a call is to write an address whose size a pointer tells.
func (st *Stop) fromPointers(arg int, p protocol) (r received, ok bool) {
	var size [4]byte
	if st.Read(st.Arg(arg+1), size[:]) != nil {
		return r, false
	}
	return received{st.Arg(arg), st.Arg(arg + 1), int32(binary.NativeEndian.Uint32(size[:])), p}, true
}

func (s *Sandbox) enterAccept(st *Stop) {
	var r received
	told := st.Arg(1) != 0
	if told {
		r, told = st.fromPointers(1, tcp) // otherwise the kernel says EFAULT
	}
	if !told && s.loopbacks == nil {
		return
	}
	st.OnExit(func(st *Stop) {
		switch {
		case st.Result() < 0:
		case s.loopbacks == nil:
			s.translateReceived(st, r)
		default:
			st.withFD(int32(st.Result()), func(st *Stop, own int, err error) {
				if !s.turnedAway(st, r, own, err) && told {
					s.translateReceived(st, r)
				}
			})
		}
	})
}

// turnedAway ends a connection that has just been accepted, forgets what it has brought, and
// lets the program accept the next, if it comes from outside to a port that isn't
// published. It tells of one from the sandbox where it comes from; done is false if that is
// still to be done.
func (s *Sandbox) turnedAway(st *Stop, r received, accepted int, err error) (done bool) {
	k, ok, err := streamOf(accepted, err)
	if err != nil && err != unix.EBADF && err != unix.ESRCH { // those mean that it is closed again
		s.fail(fmt.Errorf("supervisor: look who is connected to process %s: %w", st.th.proc.Lineage, err))
	}
	if err != nil || !ok {
		return false
	}
	defer k.close()
	s.lending.keepTimeouts(k.fd)
	far, own, welcome := s.isWelcome(&k)
	switch {
	case !welcome:
		_ = disconnect(k.fd) // it fails only where it has ended
		if err := st.acceptNext(); err != nil {
			s.fail(fmt.Errorf("supervisor: turn a connection to process %s away: %w", st.th.proc.Lineage, err))
		}
		return true
	case own && r.at != 0:
		return s.tellCaller(st, r, k.domain, far)
	}
	return false
}

// tellCaller tells a program that has accepted a connection from the sandbox where that comes
// from. The size that the kernel has told is right.
func (s *Sandbox) tellCaller(st *Stop, r received, domain int, far netip.AddrPort) (done bool) {
	s.loopbacks.mu.Lock()
	n, ok := s.loopbacks.sender(tcp, far, s.root)
	s.loopbacks.mu.Unlock()
	if !ok {
		return false
	}
	b := appendAddress(nil, domain, n)
	_, _ = tracee.WriteMem(st.th.tid, r.at, b[:min(len(b), int(max(r.room, 0)))]) // see translateReceived
	return true
}

// isWelcome reports whether an accepted connection comes from the sandbox, and from where,
// or to where others are invited. One that has ended has a peer as well.
func (s *Sandbox) isWelcome(k *socket) (far netip.AddrPort, own, welcome bool) {
	if !s.loopbacks.owns(k.near.Addr()) {
		return far, false, true // to a socket that the command was given
	}
	far, err := k.everPeer()
	if err != nil {
		return far, false, false
	}
	if s.loopbacks.owns(far.Addr()) {
		return far, true, true
	}
	s.loopbacks.mu.Lock()
	defer s.loopbacks.mu.Unlock()
	return far, false, slices.Contains(s.cfg.Publish, s.loopbacks.names[tcp][k.near].Port())
}

// everPeer returns the peer that a connection has, or had.
func (k *socket) everPeer() (netip.AddrPort, error) {
	size := sizeOfAddress4
	if k.domain == unix.AF_INET6 {
		size = unix.SizeofSockaddrInet6
	}
	b, err := rawOption(k.fd, unix.SOL_SOCKET, unix.SO_PEERNAME, size)
	if err != nil {
		return netip.AddrPort{}, err
	}
	a, err := parseAddress(b)
	return unmapped(a), err
}

// killedOr takes the error of a thread that was killed for none.
func killedOr(err error) error {
	if err == unix.ESRCH {
		return nil
	}
	return err
}

// acceptNext lets the program close what it has just accepted, of which it knows nothing,
// and make its call once more. Its signals wait as long as that takes.
func (st *Stop) acceptNext() error {
	given := st.regs
	mask, err := tracee.Sigmask(st.th.tid)
	if err == nil {
		err = tracee.SetSigmask(st.th.tid, ^uint64(0))
	}
	if err != nil {
		return killedOr(err)
	}
	regs := given
	regs.SetArg(0, uint64(given.Result()))
	regs.CallAgain(unix.SYS_CLOSE)
	_ = regs.Store(st.th.tid) // it fails only when the thread was killed
	var closed func(*Stop)
	closed = func(st *Stop) {
		if st.Result() == -int64(unix.ENOSYS) { // its entry
			st.OnExit(closed)
			return
		}
		_ = tracee.SetSigmask(st.th.tid, mask) // it fails only when the thread was killed, too
		regs := given
		regs.CallAgain(given.Nr())
		_ = regs.Store(st.th.tid)
	}
	st.regs.SetResult(-erestartnointr) // for who looks at it after this
	st.OnExit(closed)
	return nil
}

func (s *Sandbox) enterReceiveFrom(st *Stop) { s.translateAfter(st, 4, udp) }

func (s *Sandbox) translateAfter(st *Stop, arg int, p protocol) {
	r, ok := st.fromPointers(arg, p)
	if !ok {
		return // the kernel says EFAULT
	}
	st.OnExit(func(st *Stop) {
		if st.Result() >= 0 {
			s.translateReceived(st, r)
		}
	})
}

// A receivedMessage is a struct msghdr in the program's memory that a call fills.
type receivedMessage struct {
	hdr     uint64
	name    received
	control control // room is 0 if nobody looks at it
}

// messageAt returns what of a message is to be translated. ok is false if nothing is.
func (s *Sandbox) messageAt(st *Stop, at uint64) (m receivedMessage, ok bool) {
	var hdr [msghdrSize]byte
	if st.Read(at, hdr[:]) != nil {
		return m, false
	}
	m.hdr = at
	m.name = received{binary.NativeEndian.Uint64(hdr[msgName:]), at + msgNameLen, int32(binary.NativeEndian.Uint32(hdr[msgNameLen:])), udp}
	if s.controls.Load() {
		m.control = control{binary.NativeEndian.Uint64(hdr[msgControl:]), binary.NativeEndian.Uint64(hdr[msgControlLn:])}
	}
	return m, m.name.wanted() || m.control.wanted()
}

func (r *received) wanted() bool { return r.at != 0 && r.room > 0 }
func (m *control) wanted() bool  { return m.at != 0 && m.room > 0 }

// translateMessage replaces what a received message tells of the host.
func (s *Sandbox) translateMessage(st *Stop, m *receivedMessage) {
	if m.control.wanted() {
		var from netip.AddrPort
		b := make([]byte, min(max(m.name.room, 0), mostOfAnAddress))
		if m.name.wanted() && st.Read(m.name.at, b) == nil {
			if a, err := parseAddress(b); err == nil {
				from = unmapped(a)
			}
		}
		s.translateControls(st, m.hdr, m.control, from)
	}
	if m.name.wanted() {
		s.translateReceived(st, m.name)
	}
}

func (s *Sandbox) enterReceiveMessage(st *Stop) {
	m, ok := s.messageAt(st, st.Arg(1))
	if !ok {
		return
	}
	st.OnExit(func(st *Stop) {
		if st.Result() >= 0 {
			s.translateMessage(st, &m)
		}
	})
}

func (s *Sandbox) enterReceiveMessages(st *Stop) {
	const most = 1024 // UIO_MAXIOV
	var list []receivedMessage
	wanted := false
	for i := range min(uint32(st.Arg(2)), most) {
		m, ok := s.messageAt(st, st.Arg(1)+uint64(i)*mmsghdrSize)
		list = append(list, m)
		wanted = wanted || ok
	}
	if !wanted {
		return
	}
	st.OnExit(func(st *Stop) {
		for i := range list[:min(max(st.Result(), 0), int64(len(list)))] {
			s.translateMessage(st, &list[i])
		}
	})
}

// translateReceived replaces an address of the host's by the sandbox's.
func (s *Sandbox) translateReceived(st *Stop, r received) {
	var told [4]byte
	if st.Read(r.sizeAt, told[:]) != nil {
		return
	}
	full := int32(binary.NativeEndian.Uint32(told[:]))
	if full == 0 && s.netlinks.of(int32(st.Arg(0)), st.fd) {
		b := netlinkAddress(0)
		_, _ = tracee.WriteMem(st.th.tid, r.at, b[:min(len(b), int(max(r.room, 0)))])
		_, _ = tracee.WriteMem(st.th.tid, r.sizeAt, binary.NativeEndian.AppendUint32(nil, uint32(len(b))))
	}
	if full < 2 || full > mostOfAnAddress || r.room < 2 {
		return
	}
	b := make([]byte, min(full, r.room))
	if st.Read(r.at, b) != nil {
		return
	}
	known, whole := s.sandboxAddress(st, b, full, r.protocol)
	if known == nil {
		if !whole {
			clear(b[2:]) // cut off: nobody can tell what it was
			_, _ = tracee.WriteMem(st.th.tid, r.at, b)
		}
		return
	}
	// It could be read, so it can be written, unless another thread has seen to it that
	// it can't.
	size := uint32(len(known))
	if rest := len(b) - len(known); rest > 0 { // of the longer one that the kernel has written nothing stays
		known = append(known, make([]byte, rest)...)
	}
	_, _ = tracee.WriteMem(st.th.tid, r.at, known[:min(len(known), int(r.room))])
	_, _ = tracee.WriteMem(st.th.tid, r.sizeAt, binary.NativeEndian.AppendUint32(nil, size))
}

// sandboxAddress returns what the sandbox calls an address, nil if the host calls it
// so, too. whole is false if it was cut off.
func (s *Sandbox) sandboxAddress(st *Stop, b []byte, full int32, p protocol) (known []byte, whole bool) {
	whole = int(full) == len(b)
	switch family := int(binary.NativeEndian.Uint16(b)); family {
	case unix.AF_UNIX:
		if len(b) <= 2 {
			return nil, true
		}
		host, _, _ := stringsCut(b[2:])
		if b[2] == 0 {
			host = "@" + string(b[3:])
		}
		given, ok := s.view.boundAt(host)
		if !ok {
			return nil, whole || s.netspace != nil
		}
		return unixAddress(given), whole
	case unix.AF_INET, unix.AF_INET6:
		a, err := parseAddress(b)
		if err != nil || s.loopbacks == nil {
			return nil, whole || s.loopbacks == nil
		}
		s.loopbacks.mu.Lock()
		defer s.loopbacks.mu.Unlock()
		n, ok := s.loopbacks.sender(p, unmapped(a), s.root)
		if !ok {
			return nil, whole
		}
		return appendAddress(nil, family, n), whole
	}
	return nil, true
}

//go:build linux

package supervisor

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// peers tells who is at the other end of a Unix socket's connection.
//
// Source: the kernel notes who makes a socket listen, which is the supervisor, on the
// program's behalf, unless the sandbox has a network of its own; SO_PEERPIDFD would give the
// program a descriptor of it. Eliminated: who has asked to listen is noted, and told instead.
// Who connects does so itself (unixsockets.go). Descriptors of peers are refused, as by the
// kernel that the sandbox says it has: they came with Linux 6.5.
//
// What remains, without a network of the sandbox's own: who listens is known by the name, so
// that of a connection which has outlived its server the next one at that name is told. A
// program whose threads exchange a descriptor meanwhile may learn the supervisor's process id.
func peers(s *Sandbox) feature {
	f := feature{name: "peers", calls: []call{
		{name: "getsockopt", notify: s.ofListener(tellCred), conds: option(unix.SOL_SOCKET, unix.SO_PEERCRED)},
		{name: "getsockopt", notify: s.ofListener(tellGroups), conds: option(unix.SOL_SOCKET, unix.SO_PEERGROUPS)},
	}}
	for _, name := range []uint64{unix.SO_PEERPIDFD, unix.SO_PASSPIDFD} {
		f.calls = append(f.calls,
			call{name: "getsockopt", errno: unix.ENOPROTOOPT, conds: option(unix.SOL_SOCKET, name)},
			call{name: "setsockopt", errno: unix.ENOPROTOOPT, conds: option(unix.SOL_SOCKET, name)})
	}
	return f
}

// A listener is who has made a socket listen.
type listener struct {
	pid      int // in the sandbox
	uid, gid uint32
	groups   []uint32
}

// listenUnix makes the caller's Unix socket listen, and notes that it was the caller.
func (s *Sandbox) listenUnix(c *Call, fd int) error {
	creds, err := s.view.creds(c.thread)
	if err != nil {
		return err
	}
	name, err := unixEnd(unix.Getsockname(fd))
	if err != nil {
		return err
	}
	// Before it listens: somebody may connect at once.
	s.view.listening.Lock()
	defer s.view.listening.Unlock()
	before, had := s.view.listeners.Swap(name, &listener{s.innerOf(c.Process), creds.fs.UID, creds.fs.GID, creds.fs.Groups})
	if err = unix.Listen(fd, int(c.Int(1))); err != nil {
		if s.view.listeners.Delete(name); had {
			s.view.listeners.Store(name, before)
		}
	}
	return err
}

// listenerOf returns who has made the socket listen that the caller's is connected to, or
// the caller's own. It is nil where the kernel knows itself who is at the other end.
func (s *Sandbox) listenerOf(c *Call) (l *listener, err error) {
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(cred.Pid) != os.Getpid() {
		return nil, err
	}
	name, err := unixEnd(unix.Getpeername(fd))
	if err == unix.ENOTCONN {
		name, err = unixEnd(unix.Getsockname(fd))
	}
	if err != nil {
		return nil, err
	}
	if l, ok := s.view.listeners.Load(name); ok {
		return l.(*listener), nil
	}
	return &listener{uid: cred.Uid, gid: cred.Gid}, nil // the command was given it
}

func unixEnd(sa unix.Sockaddr, err error) (string, error) {
	if a, ok := sa.(*unix.SockaddrUnix); ok {
		return a.Name, nil
	}
	return "", err
}

// ofListener answers a question about the other end of a connection, where the kernel would
// tell of the supervisor.
func (s *Sandbox) ofListener(tell func(*Call, *listener) Answer) func(*Call) Answer {
	return func(c *Call) Answer {
		l, err := s.listenerOf(c)
		switch {
		case err != nil:
			return c.refusedWith(err)
		case l == nil:
			return goOn
		}
		return tell(c, l)
	}
}

func tellCred(c *Call, l *listener) Answer {
	return c.replyOption(appendUint32s(nil, uint32(l.pid), l.uid, l.gid)) // struct ucred, unix(7)
}

func tellGroups(c *Call, l *listener) Answer {
	size := c.scratch(4)
	if err := c.Read(c.Arg(4), size); err != nil {
		return c.failed(err)
	}
	if int32(binary.NativeEndian.Uint32(size)) < 0 {
		return Errno(unix.EINVAL)
	}
	if b := appendUint32s(nil, l.groups...); int(int32(binary.NativeEndian.Uint32(size))) >= len(b) {
		return c.replyOption(b)
	}
	if _, err := c.Write(c.Arg(4), appendUint32s(nil, uint32(4*len(l.groups)))); err != nil {
		return c.failed(err)
	}
	return Errno(unix.ERANGE)
}

func appendUint32s(b []byte, list ...uint32) []byte {
	for _, v := range list {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

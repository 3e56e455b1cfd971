//go:build linux

package supervisor

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor/internal/rooted"
	"golang.org/x/sys/unix"
)

// unixSockets binds and connects sockets that have a path, and tells the names of all.
//
// Source: the host's sockets, such as /dev/log. Eliminated: a path leads through the
// view; a socket that a program binds is the sandbox's, one of the host's refuses
// every connection. The supervisor binds on the program's behalf, so the address can't
// change between check and use; the program connects itself, so that the other side learns
// who it is, with an address in memory that it can't write. Names that are no paths
// (abstract ones, unix(7)) stand for others on the host, which no other sandbox has, where
// the sandbox has no network of its own.
func unixSockets(s *Sandbox) feature {
	f := feature{name: "unix", calls: []call{
		{name: "bind", notify: s.bindPath},
		{name: "connect", notify: s.connectPath},
	}}
	if s.netspace == nil { // otherwise the kernel knows the right names
		f.calls = append(f.calls,
			call{name: "getsockname", notify: func(c *Call) Answer { return s.socketName(c, unix.Getsockname) }},
			call{name: "getpeername", notify: func(c *Call) Answer { return s.socketName(c, unix.Getpeername) }})
	}
	return f
}

// unixPath reads an address. ok is false if it isn't the path of a Unix socket.
func (c *Call) unixPath(at uint64, size int32) (path string, ok bool, err error) {
	const most = 110 // struct sockaddr_un
	if size <= 2 || size > most {
		return "", false, nil
	}
	b := c.scratch(int(size))
	if err := c.Read(at, b); err != nil {
		return "", false, err
	}
	if binary.NativeEndian.Uint16(b) != unix.AF_UNIX || b[2] == 0 {
		return "", false, nil
	}
	path, _, _ = stringsCut(b[2:])
	return path, true, nil
}

func stringsCut(b []byte) (string, string, bool) {
	before, after, ok := bytes.Cut(b, []byte{0})
	return string(before), string(after), ok
}

// onPath runs do on the caller's socket with a walk to the path of its address.
func (s *Sandbox) onPath(c *Call, flags walkFlags, do func(fd int, w *cow.Walk, path string) error) Answer {
	path, ok, err := c.unixPath(c.Arg(1), c.Int(2))
	if err != nil {
		return c.failed(err)
	}
	if !ok {
		return goOn
	}
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return c.refusedWith(err)
	}
	defer unix.Close(fd)
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain != unix.AF_UNIX {
		return goOn // the kernel says what is wrong with it
	}
	return c.done(s.view.at(c.thread, unix.AT_FDCWD, path, flags, func(w *cow.Walk, path string) error { return do(fd, w, path) }))
}

func (s *Sandbox) bindPath(c *Call) Answer {
	given, _, _ := c.unixPath(c.Arg(1), c.Int(2)) // onPath says what is wrong with it
	return s.onPath(c, noFollow, func(fd int, w *cow.Walk, path string) error {
		return s.view.tree.Bind(w, path, c.mode(0o777), func(host string) error {
			if s.netspace != nil {
				return s.bindAs(c, fd, host, given)
			}
			err := unix.Bind(fd, &unix.SockaddrUnix{Name: host})
			if err == nil {
				s.view.bound.Store(host, given)
			}
			return err
		})
	})
}

// bindAs binds a socket at a path of the host's so that the kernel tells whoever asks for its
// name the one that the program has given it: with a root in which that leads to a file,
// which is moved then. So nobody needs to look after what accept and recvfrom tell.
func (s *Sandbox) bindAs(c *Call, fd int, host, given string) error {
	root, err := os.MkdirTemp(s.view.small, "root")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	file, dir, err := rooted.Scaffold(root, given)
	if err != nil {
		return err
	}
	own, err := capabilitiesOf(0)
	if err != nil {
		return err
	}
	addr := unixAddress(given)
	addr = addr[:min(len(addr), unix.SizeofSockaddrUnix)] // the longest path ends with it
	const patience = 10 * time.Second                     // the kernel frees user namespaces late
	for deadline := kernelClock() + patience; ; time.Sleep(time.Millisecond) {
		err := rooted.Bind(fd, addr, root, dir, own.effective&(1<<unix.CAP_SYS_CHROOT) != 0)
		var short *rooted.CloneError
		if !errors.As(err, &short) || kernelClock() > deadline {
			if err == nil {
				err = unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, host, unix.RENAME_NOREPLACE)
			}
			return err
		}
		c.Yield()
	}
}

func (s *Sandbox) connectPath(c *Call) Answer {
	if a := c.thread.again.Load(); a != nil && a.at == c.Arg(1) {
		return goOn // addresses lets it go on
	}
	answer := goOn
	a := s.onPath(c, 0, func(_ int, w *cow.Walk, path string) error {
		f, err := s.view.tree.Lookup(w, path)
		if err != nil {
			return err
		}
		host, err := f.Socket(w.Cred)
		if err == nil {
			answer = c.connectUnix(host)
		}
		return err
	})
	if a.kind == answerReturn {
		return answer
	}
	return a
}

// connectUnix lets the caller connect its socket to one of the host's.
func (c *Call) connectUnix(host string) Answer {
	if host[0] == '@' {
		host = "\x00" + host[1:]
	}
	return c.againTo(1, unixAddress(host))
}

// saidBy makes an answer of what the kernel has said about the caller's own socket.
func (c *Call) saidBy(err error) Answer {
	if err == nil {
		return Return(0)
	}
	return c.refusedWith(err)
}

// socketName tells a socket's address as the sandbox knows it.
func (s *Sandbox) socketName(c *Call, get func(int) (unix.Sockaddr, error)) Answer {
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return c.refusedWith(err)
	}
	defer unix.Close(fd)
	sa, err := get(fd)
	if err != nil {
		return goOn
	}
	addr, ok := sa.(*unix.SockaddrUnix)
	if !ok {
		return goOn
	}
	name, ok := s.view.boundAt(addr.Name)
	if !ok {
		return goOn
	}
	var size [4]byte
	if err := c.Read(c.Arg(2), size[:]); err != nil {
		return c.failed(err)
	}
	room := int(int32(binary.NativeEndian.Uint32(size[:])))
	if room < 0 {
		return Errno(unix.EINVAL)
	}
	b := unixAddress(name)
	if _, err := c.Write(c.Arg(1), b[:min(room, len(b))]); err != nil {
		return c.failed(err)
	}
	return c.reply(c.Arg(2), binary.NativeEndian.AppendUint32(nil, uint32(len(b))))
}

// boundAt returns the path that a socket was bound at, as the program has given it, by
// that which the host knows.
func (v *view) boundAt(host string) (string, bool) {
	given, ok := v.bound.Load(host)
	if !ok {
		return "", false
	}
	return given.(string), true
}

// unixAddress is a struct sockaddr_un: a path ends in a zero byte, an abstract name begins
// with one.
func unixAddress(name string) []byte {
	b := append(binary.NativeEndian.AppendUint16(nil, unix.AF_UNIX), name...)
	if name[0] != 0 {
		b = append(b, 0)
	}
	return b
}

// abstractName returns what the host knows an abstract name as, with an @ in the place
// of its zero byte. ok is false if the address has none. A sandbox with a network of its own
// knows it as such (unix(7)), unless the socket, which is fd, is the supervisor's, in the host's.
func (s *Sandbox) abstractName(fd int, addr []byte) (host string, ok bool) {
	if len(addr) < 3 || addr[2] != 0 {
		return "", false
	}
	if s.netspace != nil {
		own, err := s.netspace.surelyHas(fd)
		switch {
		case err != nil:
			s.fail(fmt.Errorf("supervisor: an abstract name: %w", err))
			return "", false
		case own:
			return "@" + string(addr[3:]), true
		}
	}
	sum := sha256.Sum256(addr[2:])
	return fmt.Sprintf("@sandtest-%s-%x", filepath.Base(s.view.small), sum[:12]), true
}

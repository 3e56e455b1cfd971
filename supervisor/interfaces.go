//go:build linux

package supervisor

import (
	"encoding/binary"

	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// interfaces answers the old questions about the network's interfaces
// (netdevice(7)).
//
// Source: the host's interfaces. Eliminated: there is lo, as netlink says (netlink.go) and
// /sys/class/net shows (sysfiles.go); whatever would change it fails with EPERM.
func interfaces(s *Sandbox) feature {
	f := feature{name: "interfaces"}
	if s.cfg.Net != NetHost {
		f.calls = []call{{name: "ioctl", notify: s.interfaceCall, conds: []seccomp.Cond{{Arg: 1, Mask: 0xffffff00, Value: firstSocketIoctl}}}}
	}
	return f
}

const (
	firstSocketIoctl = 0x8900
	lastOfSocket     = 0x8907 // SIOCGSTAMPNS, linux/sockios.h
	firstOfInterface = unix.SIOCGIFNAME
	sizeOfIfreq      = 40
	valueOfIfreq     = 16 // where, after the name, it begins
)

func (s *Sandbox) interfaceCall(c *Call) Answer {
	request := c.Int(1)
	if request < firstOfInterface {
		if request > lastOfSocket {
			return Errno(unix.EPERM) // routes
		}
		return goOn // of the socket itself
	}
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return c.refusedWith(err)
	}
	defer unix.Close(fd)
	if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return Errno(unix.ENOTTY)
	}
	if request == unix.SIOCGIFCONF {
		return c.listInterfaces(s.netlinks.up)
	}
	b := c.scratch(sizeOfIfreq)
	if err := c.Read(c.Arg(2), b); err != nil {
		return c.failed(err)
	}
	value := b[valueOfIfreq:]
	name, _, _ := stringsCut(b[:valueOfIfreq])
	if request == unix.SIOCGIFNAME {
		if binary.NativeEndian.Uint32(value) != loopbackIndex {
			return Errno(unix.ENODEV)
		}
		clear(b[:valueOfIfreq])
		copy(b, "lo")
		return c.reply(c.Arg(2), b)
	}
	if name != "lo" {
		return Errno(unix.ENODEV)
	}
	index := binary.NativeEndian.Uint32(value)
	clear(value)
	switch request {
	case unix.SIOCGIFINDEX:
		binary.NativeEndian.PutUint32(value, loopbackIndex)
	case unix.SIOCGIFFLAGS:
		binary.NativeEndian.PutUint16(value, uint16(s.netlinks.flags()&(1<<16-1)))
	case unix.SIOCGIFADDR, unix.SIOCGIFDSTADDR:
		copy(value, ifreqAddress(127, 0, 0, 1))
	case unix.SIOCGIFNETMASK:
		copy(value, ifreqAddress(255, 0, 0, 0))
	case unix.SIOCGIFBRDADDR:
		copy(value, ifreqAddress(0, 0, 0, 0))
	case unix.SIOCGIFMTU:
		binary.NativeEndian.PutUint32(value, loopbackMTU)
	case unix.SIOCGIFTXQLEN:
		binary.NativeEndian.PutUint32(value, loopbackQueue)
	case unix.SIOCGIFHWADDR:
		binary.NativeEndian.PutUint16(value, unix.ARPHRD_LOOPBACK)
	case unix.SIOCGIFMETRIC, unix.SIOCGIFMAP:
	case unix.SIOCETHTOOL:
		return Errno(unix.EOPNOTSUPP)
	default:
		binary.NativeEndian.PutUint32(value, index)
		return Errno(unix.EPERM)
	}
	return c.reply(c.Arg(2), b)
}

// ifreqAddress is a struct sockaddr_in.
func ifreqAddress(a, b, c, d byte) []byte {
	return append(binary.NativeEndian.AppendUint16(nil, unix.AF_INET), 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0)
}

// listInterfaces fills a struct ifconf.
func (c *Call) listInterfaces(up bool) Answer {
	const sizeOfIfconf = 16
	b := c.scratch(sizeOfIfconf)
	if err := c.Read(c.Arg(2), b); err != nil {
		return c.failed(err)
	}
	size, room, at := uint32(0), int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint64(b[8:])
	if up && (at == 0 || room >= sizeOfIfreq) {
		size = sizeOfIfreq
	}
	if at != 0 && size > 0 {
		one := make([]byte, sizeOfIfreq)
		copy(one, "lo")
		copy(one[valueOfIfreq:], ifreqAddress(127, 0, 0, 1))
		if _, err := c.Write(at, one); err != nil {
			return c.failed(err)
		}
	}
	return c.reply(c.Arg(2), binary.NativeEndian.AppendUint32(nil, size))
}

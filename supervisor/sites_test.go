//go:build linux

package supervisor

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

func init() { programs["sites"] = siteCalls }

// siteCalls binds pairs of sockets to one port, and asks who is met at each address.
func siteCalls(args []string) error {
	if len(args) > 0 && args[0] == "up" {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	port := uint16(10000) // none of those that clients get
	sites := []string{"0.0.0.0", "127.0.0.1", "127.0.0.2", "::", ":: only", "::1", "::ffff:127.0.0.1"}
	options := []struct {
		name     string
		of       [2]int
		sameSite bool // it is told who is met where both have one site
	}{
		{"none", [2]int{}, true},
		{"SO_REUSEADDR", [2]int{unix.SO_REUSEADDR, unix.SO_REUSEADDR}, true},
		{"SO_REUSEADDR once", [2]int{0, unix.SO_REUSEADDR}, true},
		{"SO_REUSEPORT", [2]int{unix.SO_REUSEPORT, unix.SO_REUSEPORT}, false},
	}
	for _, kind := range []string{"udp", "first listens", "both listen"} {
		for _, option := range options {
			for _, first := range sites {
				for _, second := range sites {
					fmt.Printf("%s, %s, %s, %s:", kind, option.name, first, second)
					if err := sitePair(kind, port, option.of, first, second, option.sameSite || first != second); err != nil {
						return fmt.Errorf("%s, %s, %s, %s: %w", kind, option.name, first, second, err)
					}
					fmt.Println()
					port++
				}
			}
		}
	}
	return nil
}

func sitePair(kind string, port uint16, options [2]int, first, second string, tells bool) error {
	type1 := unix.SOCK_STREAM
	if kind == "udp" {
		type1 = unix.SOCK_DGRAM
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for i, site := range []string{first, second} {
		host, only, _ := strings.Cut(site, " ")
		addr := netip.MustParseAddr(host)
		fd, err := unix.Socket(familyAt(addr), type1|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
		if only != "" {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
				return err
			}
		}
		if options[i] != 0 {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, options[i], 1); err != nil {
				return err
			}
		}
		err = unix.Bind(fd, sockaddrOf(netip.AddrPortFrom(addr, port).String()))
		fmt.Print(" ", errnoName(err))
		if err == nil && (kind == "both listen" || kind == "first listens" && i == 0) {
			fmt.Print(" listen ", errnoName(unix.Listen(fd, 5)))
		}
		if addr.Is6() {
			v, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
			fmt.Print(" only ", v, errnoName(err))
		}
	}
	for _, to := range []string{"127.0.0.1", "127.0.0.3", "0.0.0.0", "::1", "::", "::ffff:127.0.0.2"} {
		if err := meet(netip.AddrPortFrom(netip.MustParseAddr(to), port), type1, fds, tells); err != nil {
			return err
		}
	}
	return nil
}

func familyAt(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// meet says who of two servers is met at an address.
func meet(to netip.AddrPort, kind int, servers []int, tells bool) error {
	client, err := unix.Socket(familyAt(to.Addr()), kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(client)
	err = unix.Connect(client, sockaddrOf(to.String()))
	if err == nil && kind == unix.SOCK_DGRAM {
		_, err = unix.Write(client, []byte("x"))
	}
	if err != nil {
		fmt.Print(", ", errnoName(err))
		return nil
	}
	met := ""
	for i, fd := range servers {
		if kind == unix.SOCK_DGRAM {
			if _, err := unix.Read(fd, make([]byte, 1)); err == nil {
				met += fmt.Sprint(i + 1)
			}
			continue
		}
		end, from, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			continue
		}
		met += fmt.Sprint(i + 1)
		near, err := localName(end)
		if err != nil {
			return err
		}
		far, err := told(from)
		if err != nil {
			return err
		}
		met += fmt.Sprint(" at ", near.Addr(), " from ", far.Addr())
		unix.Close(end)
	}
	near, err := localName(client)
	if err != nil {
		return err
	}
	far, err := peerName(client)
	if err != nil {
		met += errnoName(err)
	}
	if !tells {
		met = "one"
	}
	fmt.Print(", ", met, " ", near.Addr(), " ", far.Addr())
	return nil
}

// Of several servers at one port a client meets the one that it would meet natively, and
// who may be bound there is who may be natively.
func TestSites(t *testing.T) {
	bare := bareNetwork(t, "sites")
	got := output(t, Config{Clock: det.Running}, program(t, "sites"))
	if diff := cmp.Diff(lines(bare), lines(got)); diff != "" {
		t.Errorf("(-bare +sandbox):\n%s", diff)
	}
}

// told is an address that a call has told.
func told(sa unix.Sockaddr) (netip.AddrPort, error) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, unix.EAFNOSUPPORT
}

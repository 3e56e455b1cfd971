package supervisor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Net is what network a sandbox has.
type Net int

// The networks. The loopback interface that the zero value gives is the sandbox's own:
// its servers bind any port, and are reached by its clients alone.
const (
	NetLoopback Net = iota
	NetNone         // not even that: sockets of the Internet fail with EAFNOSUPPORT
	NetHost         // the host's, left alone
)

var netNames = []string{"loopback", "none", "host"}

// String returns the name by which [ParseNet] knows it.
func (n Net) String() string {
	if n < 0 || int(n) >= len(netNames) {
		return "Net(" + strconv.Itoa(int(n)) + ")"
	}
	return netNames[n]
}

// ParseNet reads loopback, none or host.
func ParseNet(s string) (Net, error) {
	for i, name := range netNames {
		if s == name {
			return Net(i), nil
		}
	}
	return 0, fmt.Errorf("unknown network %q: want none, loopback or host", s)
}

// A destination is one outside that is allowed.
type destination struct {
	prefix netip.Prefix
	port   uint16 // 0 for all
}

// destinations are what a sandbox may reach outside, and the names that it was told
// to reach with the addresses they had at the start.
type destinations struct {
	list  []destination
	hosts string // lines of /etc/hosts
}

// allow reports whether a socket may send to an address.
func (d *destinations) allow(a netip.AddrPort) bool {
	for _, to := range d.list {
		if to.prefix.Contains(a.Addr().Unmap()) && (to.port == 0 || to.port == a.Port()) {
			return true
		}
	}
	return false
}

// resolving is how long a name may take.
const resolving = 10 * time.Second

// parseDestinations reads HOST[:PORT], where HOST is a name, an address or a prefix of
// addresses; one of IPv6 with a port is in brackets.
func parseDestinations(list []string) (d destinations, err error) {
	for _, s := range list {
		host, port, err := splitDestination(s)
		if err != nil {
			return d, fmt.Errorf("supervisor: AllowNet: %q: %w", s, err)
		}
		if p, err := netip.ParsePrefix(host); err == nil {
			d.list = append(d.list, destination{p.Masked(), port})
			continue
		}
		addrs := []netip.Addr{}
		if a, err := netip.ParseAddr(host); err == nil {
			addrs = append(addrs, a)
		} else {
			ctx, cancel := context.WithTimeout(context.Background(), resolving)
			addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			cancel()
			if err != nil {
				return d, fmt.Errorf("supervisor: AllowNet: %w", err)
			}
			for _, a := range addrs {
				d.hosts += a.Unmap().String() + "\t" + host + "\n"
			}
		}
		for _, a := range addrs {
			a = a.Unmap()
			d.list = append(d.list, destination{netip.PrefixFrom(a, a.BitLen()), port})
		}
	}
	return d, nil
}

func splitDestination(s string) (host string, port uint16, err error) {
	host = s
	switch colons := strings.Count(s, ":"); {
	case strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]"):
		host = s[1 : len(s)-1]
	case strings.HasPrefix(s, "["), colons == 1:
		var number string
		if host, number, err = net.SplitHostPort(s); err != nil {
			return "", 0, err
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("%q is no port", number)
		}
		port = uint16(n)
	}
	if host == "" {
		return "", 0, fmt.Errorf("want HOST or HOST:PORT")
	}
	return host, port, nil
}

//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sandtest/go-sandtest/cow"
)

// Files that describe the network.
//
// Source: what the host knows of names, and its sockets. Eliminated: /etc/hosts and
// its like are the sandbox's own, and names are looked up in files and at the sandbox's
// own port 53 alone; of /proc/net the sandbox sees its own sockets, an interface lo,
// and otherwise nothing.

// netMounts are files of the view.
func (s *Sandbox) netMounts() []cow.Mount {
	if s.cfg.Net == NetHost {
		return nil
	}
	name := s.cfg.Identity.Hostname
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" + name + "\n" + s.allowed.hosts
	return []cow.Mount{
		{At: "/etc/hosts", Text: hosts},
		{At: "/etc/resolv.conf", Text: "# There is no name server but one of the sandbox's own.\n"},
		{At: "/etc/host.conf", Text: "multi on\n"},
		{At: "/etc/gai.conf", Text: "# The order of addresses is that of RFC 3484.\n"},
		{At: "/etc/nsswitch.conf", Text: "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\nethers: files\nrpc: files\n"},
	}
}

// netFiles are what stands in /proc/PID/net, by name. Others don't exist.
var netFiles = map[string]func(*Call) string{
	"tcp":      func(c *Call) string { return c.s.sockets("tcp", tcp, netHeader4) },
	"tcp6":     func(c *Call) string { return c.s.sockets("tcp6", tcp, netHeader6) },
	"udp":      func(c *Call) string { return c.s.sockets("udp", udp, netHeaderUDP) },
	"udp6":     func(c *Call) string { return c.s.sockets("udp6", udp, netHeaderUDP6) },
	"dev":      func(c *Call) string { return netDevices(c.s.cfg.Net) },
	"if_inet6": func(c *Call) string { return interface6(c.s.cfg.Net) },
	"route":    func(*Call) string { return netRoutes },
	"unix":     func(*Call) string { return "Num       RefCount Protocol Flags    Type St Inode Path\n" },
	"arp": func(*Call) string {
		return "IP address       HW type     Flags       HW address            Mask     Device\n"
	},
	"raw":    func(*Call) string { return netHeaderUDP },
	"raw6":   func(*Call) string { return netHeaderUDP6 },
	"packet": func(*Call) string { return "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n" },
	"netlink": func(*Call) string {
		return "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
	},
}

// processFile returns what stands at a canonical path in /proc. within is whether that
// is a place of which the sandbox knows everything.
func (s *Sandbox) processFile(o *outside) (text func(*Call) string, within bool) {
	rest, ok := strings.CutPrefix(o.path, "/proc/")
	if !ok {
		return nil, false
	}
	parts := strings.Split(rest, "/")
	task := len(parts) > 2 && parts[1] == "task"
	if task {
		parts = parts[2:]
	}
	switch {
	case len(parts) == 2:
		if about := processFiles[parts[1]]; about != nil {
			number, _ := strconv.Atoi(parts[0])
			e := &processEntry{th: s.threadBy(number), fd: o.fd, task: task}
			return func(c *Call) string { return about(c, e) }, true
		}
	case len(parts) == 3 && parts[1] == "fdinfo":
		number, _ := strconv.Atoi(parts[0])
		e := &processEntry{th: s.threadBy(number), fd: o.fd, task: task}
		return func(c *Call) string { return c.fdinfoText(e, parts[2]) }, true
	case len(parts) > 2 && parts[1] == "net" && s.cfg.Net != NetHost:
		return netFiles[strings.Join(parts[2:], "/")], true
	}
	return nil, false
}

// The heads of the tables, as the kernel pads them.
var (
	netHeader4    = pad("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", 149)
	netHeader6    = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	netHeaderUDP  = pad("   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops", 127)
	netHeaderUDP6 = netHeader6[:len(netHeader6)-1] + " ref pointer drops\n"
	netRoutes     = pad("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT", 127)
)

func pad(s string, n int) string { return fmt.Sprintf("%-*s\n", n, s) }

func netDevices(n Net) string {
	text := "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
	if n == NetNone {
		return text
	}
	return text + "    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n"
}

func interface6(n Net) string {
	if n == NetNone {
		return ""
	}
	return "00000000000000000000000000000001 01 80 10 80       lo\n"
}

// A socketEntry is what the sandbox knows of one of its sockets.
type socketEntry struct {
	local, remote netip.AddrPort
	six           bool   // the socket is one of IPv6
	only6         bool   // and wants nothing of IPv4
	state, uid    string // as the kernel writes them
	inode         string
	backlog       int // of one that listens
}

// socketEntries lists the sandbox's own sockets of one of the kernel's tables. Those that
// only wait for late packets are left out: how many there are is a matter of the host's
// time.
func (s *Sandbox) socketEntries(table string, p protocol) []socketEntry {
	list := s.ownEntries(table, p)
	for i := range list {
		list[i].inode = s.socketNumber(&list[i])
	}
	return list
}

// socketNumber is the number of a socket as fstat tells it. If nobody has looked at it so far,
// it follows from the addresses.
func (s *Sandbox) socketNumber(e *socketEntry) string {
	ino, err := strconv.ParseUint(e.inode, 10, 64)
	if err != nil || ino == 0 { // closed
		return e.inode
	}
	n := 0
	return strconv.FormatUint(s.numbers.of("socket:[", ino, func() uint64 {
		n++
		return s.view.tree.Number(fmt.Sprintf("socket %s %s %s %d", e.local, e.remote, e.state, n))
	}), 10)
}

func (s *Sandbox) ownEntries(table string, p protocol) (list []socketEntry) {
	switch {
	case s.netspace != nil:
		return s.netspace.entries(table, p)
	case s.loopbacks == nil:
		return nil
	}
	lines := tableLines("/proc/self/net/" + table)
	s.loopbacks.mu.Lock()
	defer s.loopbacks.mu.Unlock()
	for _, line := range lines {
		if e, ok := s.loopbacks.socketEntry(p, line, s.root); ok {
			list = append(list, e)
		}
	}
	return list
}

// tableLines are the lines of one of the kernel's tables; a machine without IPv6 has none of
// that.
func tableLines(path string) []string {
	text, _ := readKernelFile(path)
	return strings.Split(string(text), "\n")
}

// sockets writes one of the kernel's tables, by address.
func (s *Sandbox) sockets(table string, p protocol, header string) string {
	var list []string
	for _, e := range s.socketEntries(table, p) {
		list = append(list, e.line(p))
	}
	slices.Sort(list)
	var b strings.Builder
	b.WriteString(header)
	width, all := 4, 149
	if p == udp {
		width, all = 5, 127
	}
	if strings.HasSuffix(table, "6") {
		all = 0
	}
	for i, line := range list {
		b.WriteString(pad(fmt.Sprintf("%*d: %s", width, i, line), all))
	}
	return b.String()
}

// parseSocketEntry reads a line of a table, with the host's addresses. ok is false for what
// only waits for late packets.
func parseSocketEntry(line string) (e socketEntry, ok bool) {
	f := strings.Fields(line)
	const state, uid, inode, timeWait = 3, 7, 9, "06"
	if len(f) <= inode || !strings.HasSuffix(f[0], ":") || f[state] == timeWait {
		return e, false
	}
	const sizeOf4 = len("0100007F:0050")
	near, ok := parseProcAddress(f[1])
	far, ok2 := parseProcAddress(f[2])
	return socketEntry{local: near, remote: far, six: len(f[1]) > sizeOf4, state: f[state], uid: f[uid], inode: f[inode]}, ok && ok2
}

// socketEntry makes of a line of the kernel's one of the sandbox's sockets.
func (lo *loopbacks) socketEntry(p protocol, line string, root *Process) (e socketEntry, ok bool) {
	e, ok = parseSocketEntry(line)
	near, far := e.local, e.remote
	if !ok || !lo.owns(near.Addr().Unmap()) {
		return e, false
	}
	q := lo.names[p][unmapped(near)].port
	if q != nil && q.holder >= 0 {
		return e, false
	}
	local, remote, ok := lo.ends(p, unmapped(near), unmapped(far), root)
	if !ok {
		return e, false
	}
	if far.Port() == 0 {
		remote.AddrPort = netip.AddrPortFrom(any4, 0)
	}
	e.local, e.remote, e.only6 = local.AddrPort, remote.AddrPort, local.only6
	if q != nil {
		e.backlog = q.backlog
	}
	return e, true
}

// line is a line of the kernel's table, without its number.
func (e *socketEntry) line(p protocol) string {
	text := fmt.Sprintf("%s %s %s 00000000:00000000 00:00000000 00000000 %5s        0 %s", procAddress(e.local, e.six), procAddress(e.remote, e.six), e.state, e.uid, e.inode)
	if p == udp {
		return text + " 2 0000000000000000 0"
	}
	return text + " 1 0000000000000000 100 0 0 10 0"
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// parseProcAddress reads an address as /proc/net tells it: words of 32 bits in the
// machine's order.
func parseProcAddress(s string) (netip.AddrPort, bool) {
	host, number, _ := strings.Cut(s, ":")
	port, err := strconv.ParseUint(number, 16, 16)
	if err != nil || len(host) != 8 && len(host) != 32 {
		return netip.AddrPort{}, false
	}
	var b []byte
	for ; host != ""; host = host[8:] {
		word, err := strconv.ParseUint(host[:8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, false
		}
		b = binary.NativeEndian.AppendUint32(b, uint32(word))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(port)), ok
}

func procAddress(a netip.AddrPort, six bool) string {
	b := a.Addr().AsSlice()
	if six {
		all := a.Addr().As16()
		if a.Addr().IsUnspecified() {
			all = any6.As16()
		}
		b = all[:]
	}
	var text strings.Builder
	for ; len(b) > 0; b = b[4:] {
		fmt.Fprintf(&text, "%08X", binary.NativeEndian.Uint32(b))
	}
	return fmt.Sprintf("%s:%04X", text.String(), a.Port())
}

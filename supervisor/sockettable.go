//go:build linux

package supervisor

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"strings"
)

// A socketState is what the kernel's tables tell of the sockets at one of the host's
// addresses.
type socketState struct {
	open    bool // somebody has a descriptor of one
	listens bool
}

// socketTable reads the kernel's tables of a protocol, by the sockets' own addresses.
// What only waits for late packets is there, but nobody has it open.
func socketTable(p protocol) (map[netip.AddrPort]socketState, error) {
	all := map[netip.AddrPort]socketState{}
	for _, name := range [protocols][]string{{"tcp", "tcp6"}, {"udp", "udp6"}}[p] {
		text, err := readKernelFile("/proc/self/net/" + name)
		if os.IsNotExist(err) && strings.HasSuffix(name, "6") {
			continue // a machine without IPv6
		}
		if err != nil {
			return nil, err
		}
		scan := bufio.NewScanner(bytes.NewReader(text))
		for scan.Scan() {
			const state, inode, listening = 3, 9, "0A"
			f := strings.Fields(scan.Text())
			if len(f) <= inode || !strings.HasSuffix(f[0], ":") {
				continue
			}
			near, ok := parseProcAddress(f[1])
			if !ok {
				continue
			}
			s := all[unmapped(near)]
			s.open = s.open || f[inode] != "0"
			s.listens = s.listens || f[state] == listening
			all[unmapped(near)] = s
		}
	}
	return all, nil
}

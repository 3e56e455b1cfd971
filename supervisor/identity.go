//go:build linux

package supervisor

import (
	"encoding/binary"
	"time"

	"github.com/sandtest/go-sandtest/det"
)

// identity answers uname and sysinfo.
//
// Source: host name, kernel, uptime, load, memory, number of processes.
// Eliminated; the same figures as the files of synthetic.go.
func identity(s *Sandbox) feature {
	return feature{name: "identity", calls: []call{
		{name: "uname", notify: s.uname},
		{name: "sysinfo", notify: s.sysinfo},
	}}
}

// machineName is what uname -m says; the programs are the host's, so it is true.
const machineName = "x86_64"

func (s *Sandbox) uname(c *Call) Answer {
	const field = 65 // __NEW_UTS_LEN + 1, linux/utsname.h
	b := c.scratch(6 * field)
	clear(b)
	copy(b, "Linux")
	copy(b[1*field:], s.cfg.Identity.Hostname)
	copy(b[2*field:], s.cfg.Identity.Release())
	copy(b[3*field:], det.KernelVersion)
	copy(b[4*field:], machineName)
	copy(b[5*field:], "(none)")
	return c.reply(c.Arg(0), b)
}

func (s *Sandbox) sysinfo(c *Call) Answer {
	c.countRead(false)
	b := c.scratch(112) // struct sysinfo, sysinfo(2)
	clear(b)
	put := binary.NativeEndian.PutUint64
	put(b, uint64((det.Uptime+s.clock.elapsed())/time.Second))
	put(b[32:], uint64(s.cfg.Identity.Memory))       // totalram
	put(b[40:], uint64(s.cfg.Identity.FreeMemory())) // freeram
	binary.NativeEndian.PutUint16(b[80:], 1)         // procs
	binary.NativeEndian.PutUint32(b[104:], 1)        // mem_unit
	return c.reply(c.Arg(0), b)
}

//go:build linux

package supervisor

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// Files that describe the host.
//
// Source: files in /proc that tell about the machine. Eliminated: an open of one of
// them, by whatever path, gives a descriptor of the sandbox's own text. Those in
// /etc are files of the view, see view.go, and those in /proc/sys and /sys templates'
// (settings.go, sysfiles.go).

// syntheticFiles is what stands at a canonical path.
var syntheticFiles = map[string]func(*Call) string{
	"/proc/version": func(c *Call) string { return c.s.cfg.Identity.Version() },
	"/proc/cpuinfo": func(c *Call) string { return c.s.cfg.Identity.CPUInfo() },
	"/proc/meminfo": func(c *Call) string { return c.s.cfg.Identity.MemInfo() },
	"/proc/loadavg": func(c *Call) string { return c.s.cfg.Identity.LoadAvg() },
	"/proc/swaps":   func(*Call) string { return "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n" },
	"/proc/vmstat":  vmstat,
	"/proc/uptime": func(c *Call) string {
		c.countRead(false)
		return c.s.cfg.Identity.UptimeText(c.s.clock.elapsed())
	},
	"/proc/stat":        func(c *Call) string { return c.s.cfg.Identity.Stat(c.s.clock.start, c.s.clock.elapsed()) },
	"/proc/filesystems": func(*Call) string { return fileSystems },
}

// fileSystems are those that the imaginary machine knows.
const fileSystems = "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tcgroup2\nnodev\tdevtmpfs\nnodev\tsockfs\nnodev\tpipefs\nnodev\tramfs\nnodev\tdevpts\n" +
	"\text3\n\text2\n\text4\nnodev\tfuse\nnodev\toverlay\nnodev\tmqueue\n"

func bootID(c *Call) string {
	return det.NewUUID(det.NewStream(c.s.cfg.Seed, det.BootID, det.Root, 0)) + "\n"
}

// machineID is the number of the imaginary machine (machine-id(5)).
func (s *Sandbox) machineID() string {
	return strings.ReplaceAll(det.NewUUID(det.NewStream(s.cfg.Seed, det.MachineID, det.Root, 0)), "-", "")
}

func vmstat(c *Call) string {
	const page = 4096
	return fmt.Sprintf("nr_free_pages %d\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\n", c.s.cfg.Identity.FreeMemory()/page)
}

func freshUUID(c *Call) string {
	p := c.Process
	return det.NewUUID(det.NewStream(c.s.cfg.Seed, det.UUID, p.Lineage, p.random.count(det.UUID))) + "\n"
}

// openText answers the open of a synthetic file, of which stat tells st.
func (c *Call) openText(name string, text func(*Call) string, flags uint64, st *unix.Stat_t) Answer {
	switch {
	case flags&unix.O_DIRECTORY != 0:
		return Errno(unix.ENOTDIR)
	case flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL:
		return Errno(unix.EEXIST)
	case flags&unix.O_ACCMODE != unix.O_RDONLY:
		return Errno(unix.EACCES)
	}
	fd, err := textFile(text(c), flags, c.s.standIns.number(name, st), st.Mode&0o777)
	if err != nil {
		return Fatal(fmt.Errorf("make %s: %w", name, err))
	}
	return InjectFD(fd, flags&unix.O_CLOEXEC != 0)
}

// textFile returns a read-only descriptor of a file in memory, see standIns.
func textFile(text string, flags uint64, number int, mode uint32) (int, error) {
	fd, err := unix.MemfdCreate(textName+strconv.Itoa(number), unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, mode); err != nil {
		return -1, err
	}
	for b := []byte(text); len(b) > 0; {
		n, err := unix.Write(fd, b)
		if err != nil {
			return -1, err
		}
		b = b[n:]
	}
	return unix.Open(fdName(fd), unix.O_RDONLY|unix.O_CLOEXEC|int(flags&unix.O_NONBLOCK), 0)
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):]
	}
	return s, ""
}

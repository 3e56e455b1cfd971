//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"path"
	"strconv"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// synthetic answers the opening of files that describe the host.
//
// Source: files in /proc, /sys and /etc that tell about the machine, and the
// random devices. Eliminated: an open of one of them, by whatever path, gives a
// descriptor of the sandbox's own text, or of an endless random stream. What
// remains: stat(2) of such a path tells the size and times of the host's file.
func synthetic(s *Sandbox) feature {
	return feature{name: "synthetic", calls: []call{
		{name: "open", notify: func(c *Call) Answer { return s.open(c, unix.AT_FDCWD, c.Arg(0), c.Arg(1)) }},
		{name: "openat", notify: func(c *Call) Answer { return s.open(c, c.Int(0), c.Arg(1), c.Arg(2)) }},
		{name: "openat2", notify: s.openat2},
		{name: "chroot", notify: noteRoot},

		{name: "creat", notify: func(c *Call) Answer { return s.open(c, unix.AT_FDCWD, c.Arg(0), unix.O_WRONLY) }},
	}}
}

// noteRoot remembers that the process's root may differ from the supervisor's.
func noteRoot(c *Call) Answer {
	c.Process.rootChanged.Store(true)
	return Continue()
}

// syntheticFiles is what stands at a canonical path.
var syntheticFiles = map[string]func(*Call) string{
	"/etc/hostname":                    func(c *Call) string { return c.s.cfg.Identity.Hostname + "\n" },
	"/proc/sys/kernel/hostname":        func(c *Call) string { return c.s.cfg.Identity.Hostname + "\n" },
	"/proc/sys/kernel/domainname":      func(*Call) string { return "(none)\n" },
	"/proc/sys/kernel/osrelease":       func(*Call) string { return det.KernelRelease + "\n" },
	"/proc/sys/kernel/version":         func(*Call) string { return det.KernelVersion + "\n" },
	"/proc/sys/kernel/random/boot_id":  bootID,
	"/proc/sys/kernel/random/uuid":     freshUUID,
	"/proc/version":                    func(c *Call) string { return c.s.cfg.Identity.Version() },
	"/proc/cpuinfo":                    func(c *Call) string { return c.s.cfg.Identity.CPUInfo() },
	"/proc/meminfo":                    func(c *Call) string { return c.s.cfg.Identity.MemInfo() },
	"/proc/loadavg":                    func(c *Call) string { return c.s.cfg.Identity.LoadAvg() },
	"/proc/uptime":                     func(c *Call) string { return c.s.cfg.Identity.UptimeText(c.s.clock.elapsed()) },
	"/proc/stat":                       func(c *Call) string { return c.s.cfg.Identity.Stat(c.s.clock.start, c.s.clock.elapsed()) },
	"/sys/devices/system/cpu/online":   func(c *Call) string { return c.s.cfg.Identity.CPUList() },
	"/sys/devices/system/cpu/possible": func(c *Call) string { return c.s.cfg.Identity.CPUList() },
	"/sys/devices/system/cpu/present":  func(c *Call) string { return c.s.cfg.Identity.CPUList() },
}

// syntheticNames holds the last components of those paths.
var syntheticNames = func() map[string]bool {
	names := map[string]bool{}
	for file := range syntheticFiles {
		names[path.Base(file)] = true
	}
	return names
}()

func bootID(c *Call) string {
	return det.NewUUID(det.NewStream(c.s.cfg.Seed, det.BootID, det.Root, 0)) + "\n"
}

func freshUUID(c *Call) string {
	p := c.Process
	return det.NewUUID(det.NewStream(c.s.cfg.Seed, det.UUID, p.Lineage, p.random.count(det.UUID))) + "\n"
}

// openat2 reads the call's struct open_how. The restrictions in it can only make
// an open fail, so the open is answered only when there are none; a restricted
// open of a synthetic file is refused.
func (s *Sandbox) openat2(c *Call) Answer {
	var how [24]byte
	if c.Arg(3) < uint64(len(how)) {
		return Continue() // the kernel says EINVAL
	}
	if err := c.Read(c.Arg(2), how[:]); err != nil {
		return c.failed(err)
	}
	a := s.open(c, c.Int(0), c.Arg(1), binary.NativeEndian.Uint64(how[:]))
	if a.kind == answerInject && binary.NativeEndian.Uint64(how[16:]) != 0 {
		unix.Close(a.file.fd)
		return Errno(unix.EXDEV)
	}
	return a
}

func (s *Sandbox) open(c *Call, dirfd int32, name, flags uint64) Answer {
	if flags&unix.O_PATH != 0 {
		return goOn // opened for real only through /proc/self/fd, which comes here again
	}
	p, a, ok := c.path(dirfd, name, flags&unix.O_NOFOLLOW != 0)
	if !ok {
		return a
	}
	if p.ok && isRandomDevice(&p.stat) {
		return s.openRandom(c, flags)
	}
	text, ok := syntheticFiles[p.path]
	if !ok {
		return goOn
	}
	switch {
	case flags&unix.O_DIRECTORY != 0:
		return Errno(unix.ENOTDIR)
	case flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL:
		return Errno(unix.EEXIST)
	case flags&unix.O_ACCMODE != unix.O_RDONLY:
		return Errno(unix.EACCES)
	}
	fd, err := textFile(text(c), flags)
	if err != nil {
		return Fatal(fmt.Errorf("make %s: %w", p.path, err))
	}
	return InjectFD(fd, flags&unix.O_CLOEXEC != 0)
}

// textFile returns a read-only descriptor of a file in memory.
func textFile(text string, flags uint64) (int, error) {
	fd, err := unix.MemfdCreate("synthetic", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	for b := []byte(text); len(b) > 0; {
		n, err := unix.Write(fd, b)
		if err != nil {
			return -1, err
		}
		b = b[n:]
	}
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC|int(flags&unix.O_NONBLOCK), 0)
}

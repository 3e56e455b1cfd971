//go:build linux

package supervisor

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// What a process has mapped: /proc/PID/maps, smaps and smaps_rollup (proc_pid_maps(5)),
// and the files that msync means.
//
// Source: where the host keeps a file, on which device and under what number, and which
// pages of it happen to be in memory. Normalised: a file has the path, device and number
// that the sandbox knows; memory that is the process's alone and can be written to is all
// resident, and nothing else. What has no path there (memfd_create(2), shared memory) has
// number 1 of device 0:1.
//
// What remains: a mapped file that has lost its name has the path that the host knows,
// where that shows other devices in maps than to stat (btrfs).

// A mapping is a line of maps.
type mapping struct {
	start, end, offset, ino uint64
	dev                     uint64 // as in st_dev
	perms                   string // like rw-p
	path                    string // escaped, empty for anonymous memory
}

// parseMapping parses a line of maps, or one of smaps that begins with the same fields.
func parseMapping(line string) (m mapping, ok bool) {
	field := func(end string) string {
		f, rest, _ := strings.Cut(line, end)
		line = rest
		return f
	}
	hex := func(s string) (n uint64) {
		n, err := strconv.ParseUint(s, 16, 64)
		ok = ok && err == nil
		return n
	}
	ok = true
	m.start, m.end = hex(field("-")), hex(field(" "))
	m.perms = field(" ")
	m.offset = hex(field(" "))
	major, minor := hex(field(":")), hex(field(" "))
	m.dev = unix.Mkdev(uint32(major), uint32(minor))
	ino, err := strconv.ParseUint(field(" "), 10, 64)
	m.ino, m.path = ino, strings.TrimSuffix(strings.TrimLeft(line, " "), "\n")
	return m, ok && err == nil && len(m.perms) == 4 && m.start <= m.end
}

// String is the line, as show_map_vma does it (fs/proc/task_mmu.c).
func (m *mapping) String() string {
	line := fmt.Sprintf("%08x-%08x %s %08x %02x:%02x %d ", m.start, m.end, m.perms, m.offset, unix.Major(m.dev), unix.Minor(m.dev), m.ino)
	if m.path == "" {
		return line + "\n"
	}
	const column = 73 // on machines of 64 bits
	return fmt.Sprintf("%-*s%s\n", column, line, m.path)
}

// resident is how much of it is shown as being in memory, in bytes.
func (m *mapping) resident() uint64 {
	if m.perms[1] == 'w' && m.perms[3] == 'p' {
		return m.end - m.start
	}
	return 0
}

// mapped finds what a mapping shows, nil if that is no file of the tree.
func (v *view) mapped(m *mapping) *cow.File {
	if m.ino == 0 {
		return nil
	}
	host := strings.ReplaceAll(m.path, `\012`, "\n")
	if st, err := cow.StatUnlinked(host); err == nil && st.Ino == m.ino {
		if f := v.tree.Descriptor(&st); f != nil {
			return f
		}
		if f, err := v.shown(host, &st); err == nil && f != nil {
			return f
		}
	}
	return v.tree.Identity(m.dev, m.ino)
}

// inside makes of a mapping what the sandbox knows of it.
func (v *view) inside(m *mapping, seen map[mapping]mapping) error {
	if m.ino == 0 {
		return nil
	}
	key := mapping{dev: m.dev, ino: m.ino, path: m.path}
	is, ok := seen[key]
	if !ok {
		is = mapping{dev: unix.Mkdev(0, 1), ino: 1, path: m.path}
		if f := v.mapped(m); f != nil {
			a, err := f.Stat()
			if err != nil {
				return err
			}
			is = mapping{dev: cow.Dev, ino: a.Ino, path: strings.ReplaceAll(f.Path(), "\n", `\012`)}
		}
		seen[key] = is
	}
	m.dev, m.ino, m.path = is.dev, is.ino, is.path
	return nil
}

// mappings calls do with each line of a maps or smaps, and the mapping that it begins, if
// it begins one.
func (c *Call) mappings(text string, do func(m *mapping, line string)) {
	seen := map[mapping]mapping{}
	for line := range strings.Lines(text) {
		m, ok := parseMapping(line)
		if !ok {
			do(nil, line)
			continue
		}
		if err := c.s.view.inside(&m, seen); err != nil {
			return // it is gone, with all that the text tells of
		}
		do(&m, line)
	}
}

// mapsText is the text of maps.
func (c *Call) mapsText(e *processEntry) string {
	var b strings.Builder
	c.mappings(e.text(), func(m *mapping, line string) {
		if m != nil {
			line = m.String()
		}
		b.WriteString(line)
	})
	return b.String()
}

// smapsFigures are the lines of smaps that tell how much of a mapping is in memory; of
// those that aren't here, but for its size, there is none.
var smapsFigures = map[string]bool{"Rss": true, "Pss": true, "Pss_Anon": true, "Private_Dirty": true, "Referenced": true, "Anonymous": true}

// newerFigures are lines that not every kernel from 5.14 on has.
var newerFigures = map[string]bool{"Pss_Dirty": true, "KSM": true}

// smapsLine returns a line of smaps about a mapping of which so many bytes are resident.
func smapsLine(line string, resident uint64) string {
	name, value, ok := strings.Cut(line, ":")
	switch {
	case name == "Size" || strings.HasSuffix(name, "PageSize") || !ok:
		return line
	case newerFigures[name]:
		return ""
	case strings.HasSuffix(value, " kB\n"):
		if !smapsFigures[name] {
			resident = 0
		}
		return fmt.Sprintf("%-16s%8d kB\n", name+":", resident>>10)
	case name == "THPeligible":
		return "THPeligible:           0\n"
	case name == "ProtectionKey":
		return "" // of the host's processor
	}
	return line
}

// smapsText is the text of smaps.
func (c *Call) smapsText(e *processEntry) string {
	var b strings.Builder
	var resident uint64
	c.mappings(e.text(), func(m *mapping, line string) {
		if m == nil {
			b.WriteString(smapsLine(line, resident))
			return
		}
		resident = m.resident()
		b.WriteString(m.String())
	})
	return b.String()
}

// smapsRollupText is the text of smaps_rollup.
func (c *Call) smapsRollupText(e *processEntry) string {
	if e.th == nil {
		return ""
	}
	maps, err := readKernelFile(e.th.taskDir() + "/maps")
	if err != nil {
		return ""
	}
	var resident uint64
	for line := range strings.Lines(string(maps)) {
		if m, ok := parseMapping(line); ok {
			resident += m.resident()
		}
	}
	var b strings.Builder
	for line := range strings.Lines(e.text()) {
		if _, ok := parseMapping(line); !ok {
			line = smapsLine(line, resident)
		}
		b.WriteString(line)
	}
	return b.String()
}

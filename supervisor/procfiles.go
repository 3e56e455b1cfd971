//go:build linux

package supervisor

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What /proc shows besides processes.
//
// Source: files that tell about the machine, its kernel, devices, other users' keys,
// locks and messages, and its mounts. Eliminated: of the files in /proc itself there are
// those whose text is the sandbox's own (synthetic.go, netfiles.go) and a few that are
// the same everywhere; the others don't exist, nor does map_files. A process's mounts and
// control group are those of an imaginary machine.
//
// What remains: most of /proc/sys shows the host's settings.

// procNames are what there is in /proc besides processes.
var procNames = map[string]bool{
	"self": true, "thread-self": true, "net": true, "mounts": true, "sys": true, "filesystems": true,
	"cpuinfo": true, "loadavg": true, "meminfo": true, "stat": true, "uptime": true, "version": true,
	"swaps": true, "vmstat": true,
}

// hiddenNames are what there isn't in /proc/PID.
var hiddenNames = map[string]bool{
	"map_files": true, // links to files by where the host keeps them
	"pagemap":   true, // where in the host's memory pages are
}

// inProc reports whether a name in a directory of /proc is shown.
func (v *view) inProc(dir string, name []byte) bool {
	if dir != "/proc" {
		return !hiddenNames[string(name)]
	}
	if pid, err := strconv.Atoi(string(name)); err == nil {
		return v.s.showsPID(pid)
	}
	return procNames[string(name)] || string(name) == "." || string(name) == ".."
}

// showsPID reports whether a number in /proc is one of the sandbox's own processes.
func (s *Sandbox) showsPID(pid int) bool {
	if s.spaces != nil {
		return pid != initPID // there are no others in its /proc
	}
	return s.threads.get(pid) != nil
}

// openProc opens a file of the sandbox's /proc by its canonical path.
func (s *Sandbox) openProc(path string, flags int) (int, error) {
	if s.spaces == nil {
		return unix.Open(path, flags, 0)
	}
	below := strings.TrimLeft(strings.TrimPrefix(path, "/proc"), "/")
	if below == "" {
		below = "."
	}
	return unix.Openat(s.spaces.proc, below, flags, 0)
}

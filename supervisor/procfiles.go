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
// What there is of a process and its network has a name of a fixed list, whatever the
// host's kernel adds; settings are the sandbox's own (settings.go).

// procNames are what there is in /proc besides processes.
var procNames = map[string]bool{
	"self": true, "thread-self": true, "net": true, "mounts": true, "sys": true, "filesystems": true,
	"cpuinfo": true, "loadavg": true, "meminfo": true, "stat": true, "uptime": true, "version": true,
	"swaps": true, "vmstat": true,
}

// processNames are what there is in /proc/PID, and in /proc/PID/task/TID. Every kernel has
// them.
var processNames = nameSet("auxv cgroup clear_refs cmdline comm cpuset cwd environ exe fd fdinfo gid_map io limits loginuid maps mem mountinfo " +
	"mounts net ns numa_maps oom_adj oom_score oom_score_adj personality projid_map root sched schedstat sessionid setgroups smaps smaps_rollup stack " +
	"stat statm status syscall uid_map wchan")

// wholeNames are what there is in /proc/PID alone.
var wholeNames = nameSet("autogroup coredump_filter mountstats task timerslack_ns timers")

// procDirs are what directories of /proc/PID hold, of those of which not everything is shown.
var procDirs = map[string]map[string]bool{
	"ns": nameSet("cgroup ipc mnt net pid pid_for_children time time_for_children user uts"),
}

func nameSet(list string) map[string]bool {
	names := map[string]bool{}
	for name := range strings.FieldsSeq(list) {
		names[name] = true
	}
	return names
}

// inProc reports whether a name in a directory of /proc is shown.
func (v *view) inProc(dir string, name []byte) bool {
	if string(name) == "." || string(name) == ".." {
		return true
	}
	if dir == "/proc" {
		if pid, err := strconv.Atoi(string(name)); err == nil {
			return v.s.showsPID(pid)
		}
		return procNames[string(name)]
	}
	parts := strings.Split(strings.TrimPrefix(dir, "/proc/"), "/")
	task := len(parts) > 2 && parts[1] == "task"
	if task {
		parts = parts[2:]
	}
	if _, err := strconv.Atoi(parts[0]); err != nil {
		return true // it is no directory
	}
	switch {
	case len(parts) == 1:
		return processNames[string(name)] || !task && wholeNames[string(name)]
	case parts[1] == "net" && v.s.cfg.Net != NetHost:
		return len(parts) == 2 && netFiles[string(name)] != nil
	case len(parts) == 2 && procDirs[parts[1]] != nil:
		return procDirs[parts[1]][string(name)]
	}
	return true
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

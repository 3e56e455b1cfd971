//go:build linux

package supervisor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sandtest/go-sandtest/det"
)

// What /proc/PID and /proc/PID/task/TID tell of a process in text (proc(5)).
//
// Source: when it began, by the host's clock; its CPU time, faults, switches and what of
// its memory happens to be resident; the host's CPUs, nodes, processor bugs, sessions of
// the audit system, groups of the scheduler, and namespaces. Normalised: it began when
// the sandbox's clock says; all of its private memory is resident, so that RSS is a matter
// of what it has mapped and not of what the host has loaded already; its CPU time is that
// of getrusage (cputime.go), the other figures read 0; its CPUs are the sandbox's.

// A processEntry is one of the numbered directories of /proc.
type processEntry struct {
	th   *thread // nil for one that has ended and that nobody has waited for
	fd   int     // of the file itself, where the kernel's text is needed
	task bool    // it is a thread's, below task
}

// processFiles are what stands in /proc/PID, by name.
var processFiles = map[string]func(*Call, *processEntry) string{
	"mounts": same("overlay / overlay rw,relatime 0 0\nproc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n"),
	"mountinfo": same("1 0 0:1 / / rw,relatime - overlay overlay rw\n" +
		"2 1 0:2 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n"),
	"mountstats":     same("device overlay mounted on / with fstype overlay\ndevice proc mounted on /proc with fstype proc\n"),
	"cgroup":         same("0::/\n"),
	"cpuset":         same("/\n"),
	"io":             same("rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n"),
	"schedstat":      same("0 0 0\n"),
	"autogroup":      same("/autogroup-1 nice 0\n"),
	"loginuid":       same("4294967295"), // nobody has logged in
	"sessionid":      same("4294967295"),
	"oom_score":      same("666\n"), // of a process that uses nearly nothing
	"uid_map":        same(everyID),
	"gid_map":        same(everyID),
	"projid_map":     same(everyID),
	"setgroups":      same("allow\n"),
	"timens_offsets": same("monotonic           0         0\nboottime            0         0\n"),
	"sched":          same(""),
	"latency":        same(""),
	"stack":          same(""),
	"arch_status":    same(""),
	"patch_state":    same("-1\n"),
	"numa_maps":      same(""),
	"limits":         (*Call).limitsText,
	"maps":           (*Call).mapsText,
	"smaps":          (*Call).smapsText,
	"smaps_rollup":   (*Call).smapsRollupText,
	"stat":           (*Call).statText,
	"statm":          (*Call).statmText,
	"status":         (*Call).statusText,
}

// everyID maps every id to itself (user_namespaces(7)).
const everyID = "         0          0 4294967295\n"

func same(text string) func(*Call, *processEntry) string {
	return func(*Call, *processEntry) string { return text }
}

// text returns what the kernel says, empty where the process is gone meanwhile.
func (e *processEntry) text() string {
	text, err := readKernelFile(fdName(e.fd))
	if err != nil {
		return ""
	}
	return string(text)
}

// began returns when the process or thread did, by the sandbox's clock.
func (e *processEntry) began() time.Duration {
	switch {
	case e.th == nil:
		return 0
	case e.task:
		return e.th.born
	}
	return e.th.proc.born
}

// used returns its CPU time.
func (e *processEntry) used(s *Sandbox) time.Duration {
	switch {
	case e.th == nil || s.cfg.Clock == det.Host:
		return 0
	case e.task:
		return s.used(e.th.proc, e.th)
	}
	return s.used(e.th.proc, nil)
}

// Fields of /proc/PID/stat, numbered as proc_pid_stat(5) does.
const (
	statTTY       = 7
	statMinFlt    = 10 // with three more of the kind
	statUTime     = 14
	statSTime     = 15 // with two of the children's
	statStart     = 22
	statSize      = 23
	statResident  = 24
	statWaits     = 35
	statCPU       = 39
	statBlkIO     = 42 // with two of guests
	statFirst     = 3  // the first behind the name
	statFieldsMin = statBlkIO + 2
)

// statText is the text of stat.
func (c *Call) statText(e *processEntry) string {
	named, rest := cutLast(e.text(), ") ")
	f := strings.Fields(rest)
	if len(f) <= statFieldsMin-statFirst {
		return "" // it is gone
	}
	set := func(field int, v int64) { f[field-statFirst] = strconv.FormatInt(v, 10) }
	for i := range 4 {
		set(statMinFlt+i, 0)
	}
	set(statUTime, det.Ticks(e.used(c.s)))
	for i := range 3 {
		set(statSTime+i, 0)
		set(statBlkIO+i, 0)
	}
	if e.th == c.thread {
		f[0] = "R" // it reads this, and waits for us
		set(statWaits, 0)
	} else if f[0] == "t" {
		f[0] = e.stopped()[:1]
	}
	set(statTTY, c.s.terminals.shownAs(f[statTTY-statFirst]))
	set(statStart, det.Ticks(det.Uptime+e.began()))
	set(statCPU, 0)
	if f[statSize-statFirst] != "0" {
		set(statResident, c.residentPages(e))
	}
	return named + ") " + strings.Join(f, " ") + "\n"
}

// stopped is the state of a thread that stands at a stop of the tracer's.
func (e *processEntry) stopped() string {
	if e.th != nil && e.th.listening.Load() {
		return "T (stopped)" // by job control
	}
	return "R (running)" // it goes on at once
}

// residentPages is as much of a process's memory as statm shows as resident.
func (c *Call) residentPages(e *processEntry) int64 {
	if e.th == nil {
		return 0
	}
	text, err := readKernelFile(e.th.taskDir() + "/statm")
	if err != nil {
		return 0
	}
	_, resident := statm(string(text))
	return resident
}

// statm parses a line of that file, and returns the code and what counts as resident: the
// code and the private memory, in pages.
func statm(line string) (f []int64, resident int64) {
	for _, word := range strings.Fields(line) {
		n, _ := strconv.ParseInt(word, 10, 64)
		f = append(f, n)
	}
	const code, data = 3, 5
	if len(f) <= data {
		return nil, 0
	}
	return f, f[code] + f[data]
}

// statmText is the text of statm.
func (c *Call) statmText(e *processEntry) string {
	f, resident := statm(e.text())
	if f == nil {
		return ""
	}
	f[1], f[2] = resident, f[3]
	return strings.Trim(fmt.Sprint(f), "[]") + "\n"
}

// A processStatus is what status tells of a process.
type processStatus struct {
	c     *Call
	sizes map[string]int64 // of memory, in kB
}

// statusText is the text of status.
func (c *Call) statusText(e *processEntry) string {
	text := e.text()
	st := &processStatus{c: c, sizes: map[string]int64{}}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		if kB, ok := strings.CutSuffix(value, " kB\n"); ok {
			st.sizes[name], _ = strconv.ParseInt(strings.TrimSpace(kB), 10, 64)
		}
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, ":")
		if !knownStatus[name] {
			continue
		}
		if instead, ok := statusLines[name]; name == "State" && e.th != c.thread {
			b.WriteString(strings.Replace(line, "t (tracing stop)", e.stopped(), 1))
		} else if !ok {
			b.WriteString(line)
		} else {
			b.WriteString(name + ":\t" + instead(st) + "\n")
		}
	}
	return b.String()
}

// private is how much memory belongs to the process alone.
func (st *processStatus) private() int64 { return st.sizes["VmData"] + st.sizes["VmStk"] }

// statusLines are the lines of status that tell something else than the kernel's do.
var statusLines = map[string]func(*processStatus) string{
	"State":     sameLine("R (running)"), // of who reads this, and waits for us
	"TracerPid": sameLine("0"),
	"CapBnd":    sameLine(fmt.Sprintf("%016x", uint64(keptCapabilities))), // a namespace of users has them all, and loses them
	"SigQ":      sameLine("0/15000"),

	"VmHWM":    func(st *processStatus) string { return kB(st.private() + st.sizes["VmExe"]) },
	"VmRSS":    func(st *processStatus) string { return kB(st.private() + st.sizes["VmExe"]) },
	"RssAnon":  func(st *processStatus) string { return kB(st.private()) },
	"RssFile":  func(st *processStatus) string { return kB(st.sizes["VmExe"]) },
	"RssShmem": func(*processStatus) string { return kB(0) },
	"VmPTE":    func(st *processStatus) string { return kB((st.sizes["VmSize"] + 2047) / 2048 * 4) }, // a page for each 512

	"Cpus_allowed":               func(st *processStatus) string { return cpuMask(st.c.s.cfg.Identity.CPUs) },
	"Cpus_allowed_list":          func(st *processStatus) string { return strings.TrimSpace(st.c.s.cfg.Identity.CPUList()) },
	"Mems_allowed":               sameLine("1"),
	"Mems_allowed_list":          sameLine("0"),
	"voluntary_ctxt_switches":    sameLine("0"),
	"nonvoluntary_ctxt_switches": sameLine("0"),
}

// knownStatus are the lines that there are, as on Linux 5.14. Others, which newer kernels
// add, or that tell of the host's processor, are left out.
var knownStatus = nameSet("Name Umask State Tgid Ngid Pid PPid TracerPid Uid Gid FDSize Groups NStgid NSpid NSpgid NSsid VmPeak VmSize VmLck VmPin VmHWM VmRSS " +
	"RssAnon RssFile RssShmem VmData VmStk VmExe VmLib VmPTE VmSwap HugetlbPages CoreDumping THP_enabled Threads SigQ SigPnd ShdPnd SigBlk SigIgn SigCgt " +
	"CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters Cpus_allowed Cpus_allowed_list Mems_allowed Mems_allowed_list " +
	"voluntary_ctxt_switches nonvoluntary_ctxt_switches")

func sameLine(value string) func(*processStatus) string {
	return func(*processStatus) string { return value }
}

func kB(n int64) string { return fmt.Sprintf("%8d kB", n) }

// cpuMask is a set of the first n CPUs, as groups of 32 bits in hexadecimal.
func cpuMask(n int) string {
	var groups []string
	for ; n > 0; n -= 32 {
		groups = append([]string{fmt.Sprintf("%08x", uint32(1<<min(n, 32)-1))}, groups...)
	}
	groups[0] = strings.TrimLeft(groups[0], "0")
	return strings.Join(groups, ",")
}

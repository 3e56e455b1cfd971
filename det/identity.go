package det

import (
	"fmt"
	"strings"
	"time"
)

// Identity is what a sandbox claims to be: the machine that uname(2), /proc and
// /sys describe.
type Identity struct {
	Hostname string // at most 64 bytes
	CPUs     int    // at least 1
	Memory   int64  // bytes
	Kernel   string // release, at most 64 bytes; empty means KernelRelease
}

// Release is the kernel's release, as uname -r says it.
func (id Identity) Release() string {
	if id.Kernel == "" {
		return KernelRelease
	}
	return id.Kernel
}

// The kernel that every sandbox claims to run on (uname(2)).
const (
	KernelRelease = "6.1.0-sandtest"
	KernelVersion = "#1 SMP PREEMPT_DYNAMIC Sat Jan  1 00:00:00 UTC 2000"
)

// The limits of an Identity.
const (
	MaxHostname = 64   // HOST_NAME_MAX, gethostname(2)
	MaxCPUs     = 1024 // CPU_SETSIZE, cpu_set(3)
)

// Check reports what is wrong with an identity.
func (id Identity) Check() error {
	switch {
	case id.Hostname == "":
		return fmt.Errorf("host name: empty")
	case len(id.Hostname) > MaxHostname:
		return fmt.Errorf("host name %.20q...: %d bytes long, the kernel allows %d", id.Hostname, len(id.Hostname), MaxHostname)
	case strings.ContainsAny(id.Hostname, "\x00\n"):
		return fmt.Errorf("host name %q: contains NUL or a line break", id.Hostname)
	case len(id.Kernel) > MaxHostname || strings.ContainsAny(id.Kernel, "\x00\n"):
		return fmt.Errorf("kernel release %q: want a line of at most %d bytes", id.Kernel, MaxHostname)
	case id.CPUs < 1 || id.CPUs > MaxCPUs:
		return fmt.Errorf("number of CPUs %d: want 1 to %d", id.CPUs, MaxCPUs)
	case id.Memory < 1<<20:
		return fmt.Errorf("memory of %d bytes: want at least 1 MiB", id.Memory)
	}
	return nil
}

// FreeMemory is the part of the memory that is reported as free and available:
// seven eighths, always the same.
func (id Identity) FreeMemory() int64 { return id.Memory / 8 * 7 }

// CPUInfo is the text of /proc/cpuinfo: the features every amd64 machine has,
// so that no program picks its code by the host's model.
func (id Identity) CPUInfo() string {
	var b strings.Builder
	for i := range id.CPUs {
		fmt.Fprintf(&b, `processor	: %d
vendor_id	: GenuineIntel
cpu family	: 6
model		: 1
model name	: sandtest virtual CPU
stepping	: 1
cpu MHz		: 1000.000
cache size	: 1024 KB
physical id	: 0
siblings	: %d
core id		: %d
cpu cores	: %d
apicid		: %d
initial apicid	: %d
fpu		: yes
fpu_exception	: yes
cpuid level	: 1
wp		: yes
flags		: fpu de pse tsc msr pae mce cx8 apic sep pge cmov pat clflush mmx fxsr sse sse2 ht syscall nx lm constant_tsc
bugs		:
bogomips	: 2000.00
clflush size	: 64
cache_alignment	: 64
address sizes	: 48 bits physical, 48 bits virtual
power management:

`, i, id.CPUs, i, id.CPUs, i, i)
	}
	return b.String()
}

// CPUList is the text of /sys/devices/system/cpu/online and its kin.
func (id Identity) CPUList() string {
	if id.CPUs == 1 {
		return "0\n"
	}
	return fmt.Sprintf("0-%d\n", id.CPUs-1)
}

// MemInfo is the text of /proc/meminfo.
func (id Identity) MemInfo() string {
	var b strings.Builder
	kib := func(name string, bytes int64) { fmt.Fprintf(&b, "%-15s %8d kB\n", name+":", bytes>>10) }
	kib("MemTotal", id.Memory)
	kib("MemFree", id.FreeMemory())
	kib("MemAvailable", id.FreeMemory())
	for _, zero := range []string{"Buffers", "Cached", "SwapCached", "Active", "Inactive", "Active(anon)", "Inactive(anon)",
		"Active(file)", "Inactive(file)", "Unevictable", "Mlocked", "SwapTotal", "SwapFree", "Dirty", "Writeback",
		"AnonPages", "Mapped", "Shmem", "KReclaimable", "Slab", "SReclaimable", "SUnreclaim", "KernelStack", "PageTables"} {
		kib(zero, 0)
	}
	kib("CommitLimit", id.Memory)
	kib("Committed_AS", 0)
	fmt.Fprintf(&b, "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n")
	return b.String()
}

// Stat is the text of /proc/stat after the given time since the start: the CPUs
// have been idle since boot.
func (id Identity) Stat(start time.Time, elapsed time.Duration) string {
	idle := Ticks(Uptime + elapsed)
	var b strings.Builder
	fmt.Fprintf(&b, "cpu  0 0 0 %d 0 0 0 0 0 0\n", idle*int64(id.CPUs))
	for i := range id.CPUs {
		fmt.Fprintf(&b, "cpu%d 0 0 0 %d 0 0 0 0 0 0\n", i, idle)
	}
	fmt.Fprintf(&b, "intr 0\nctxt 0\nbtime %d\nprocesses 1\nprocs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
		start.Add(-Uptime).Unix())
	return b.String()
}

// UptimeText is the text of /proc/uptime after the given time since the start.
func (id Identity) UptimeText(elapsed time.Duration) string {
	cs := func(hundredths int64) string { return fmt.Sprintf("%d.%02d", hundredths/100, hundredths%100) }
	up := Ticks(Uptime + elapsed)
	return cs(up) + " " + cs(up*int64(id.CPUs)) + "\n"
}

// LoadAvg is the text of /proc/loadavg: an idle machine.
func (id Identity) LoadAvg() string { return "0.00 0.00 0.00 1/1 1\n" }

// Version is the text of /proc/version.
func (id Identity) Version() string {
	return "Linux version " + id.Release() + " (sandtest@sandtest) " + KernelVersion + "\n"
}

// Ticks converts a duration into clock ticks of USER_HZ = 100 (times(2)).
func Ticks(d time.Duration) int64 { return int64(d / (10 * time.Millisecond)) }

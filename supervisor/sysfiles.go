//go:build linux

package supervisor

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// What /sys holds.
//
// Source: the host's devices, drivers, firmware and kernel. Eliminated: it is that of an
// imaginary machine, which has the sandbox's CPUs in one node, lo, and nothing else. Where
// the network is the host's, its interfaces are there.

// A sysMachine is a /sys.
type sysMachine struct {
	template *cow.Template
	texts    map[string]string // by path
}

// sysKey is by what one differs from another.
type sysKey struct {
	cpus int
	net  Net
}

var sysMachines sync.Map // of *sysMachine by sysKey; they never change

// sysMachine returns the sandbox's /sys.
func (s *Sandbox) sysMachine() *sysMachine {
	key := sysKey{s.cfg.Identity.CPUs, s.cfg.Net}
	m, ok := sysMachines.Load(key)
	if !ok {
		m, _ = sysMachines.LoadOrStore(key, newSysMachine(key, s.cfg.Identity.CPUList()))
	}
	return m.(*sysMachine)
}

func newSysMachine(key sysKey, list string) *sysMachine {
	m := &sysMachine{texts: map[string]string{}}
	m.processors(key.cpus, strings.TrimSpace(list))
	m.pages()
	if key.net != NetHost {
		m.loopback(key.net)
	}
	m.template = templateOf("/sys", m.texts, 0o444)
	for _, dir := range []string{
		"block", "bus", "class/block", "class/net", "class/tty", "dev/block", "dev/char", "devices/virtual/net", "firmware", "fs/cgroup", "module", "power",
		"kernel/mm/hugepages", "kernel/security",
	} {
		m.template.Dir(dir)
	}
	if key.net != NetHost {
		m.template.Dir("class/net").Entries["lo"] = &cow.Template{Target: "../../devices/virtual/net/lo"}
		m.template.Dir("devices/virtual/net/lo").Entries["subsystem"] = &cow.Template{Target: "../../../../class/net"}
	}
	return m
}

// add adds files to a directory.
func (m *sysMachine) add(dir string, files map[string]string) {
	for name, text := range files {
		m.texts["/sys/"+dir+"/"+name] = text + "\n"
	}
}

func (m *sysMachine) processors(n int, list string) {
	const cpu = "devices/system/cpu"
	all := cpuMask(n)
	m.add(cpu, map[string]string{"online": list, "possible": list, "present": list, "offline": "", "isolated": "", "kernel_max": "8191"})
	for i := range n {
		one, mask, dir := strconv.Itoa(i), cpuBit(i, n), fmt.Sprintf("%s/cpu%d", cpu, i)
		m.add(dir+"/topology", map[string]string{
			"physical_package_id": "0", "die_id": "0", "core_id": one, "cluster_id": "65535",
			"thread_siblings": mask, "thread_siblings_list": one, "core_cpus": mask, "core_cpus_list": one,
			"core_siblings": all, "core_siblings_list": list, "package_cpus": all, "package_cpus_list": list, "die_cpus": all, "die_cpus_list": list,
		})
		for j, c := range []struct {
			level, kind, size string
			sets, ways        int
			shared            bool
		}{{"1", "Data", "32K", 64, 8, false}, {"1", "Instruction", "32K", 64, 8, false}, {"2", "Unified", "1024K", 1024, 16, false}, {"3", "Unified", "32768K", 32768, 16, true}} {
			who, whose, id := one, mask, one
			if c.shared {
				who, whose, id = list, all, "0"
			}
			m.add(fmt.Sprintf("%s/cache/index%d", dir, j), map[string]string{
				"level": c.level, "type": c.kind, "size": c.size, "number_of_sets": strconv.Itoa(c.sets), "ways_of_associativity": strconv.Itoa(c.ways),
				"coherency_line_size": "64", "physical_line_partition": "1", "shared_cpu_list": who, "shared_cpu_map": whose, "id": id,
			})
		}
	}
	const node = "devices/system/node"
	m.add(node, map[string]string{"online": "0", "possible": "0", "has_cpu": "0", "has_memory": "0", "has_normal_memory": "0"})
	m.add(node+"/node0", map[string]string{"cpulist": list, "cpumap": all, "distance": "10"})
}

// cpuBit is the set of CPU i of n, as cpuMask has all of them.
func cpuBit(i, n int) string {
	groups := make([]string, (n+31)/32)
	for g := range groups {
		bits := uint32(0)
		if i/32 == g {
			bits = 1 << (i % 32)
		}
		groups[len(groups)-1-g] = fmt.Sprintf("%08x", bits)
	}
	width := len(strings.SplitN(cpuMask(n), ",", 2)[0])
	groups[0] = groups[0][8-width:]
	return strings.Join(groups, ",")
}

// pages says which sizes of them there are.
func (m *sysMachine) pages() {
	m.add("kernel/mm/transparent_hugepage", map[string]string{
		"enabled": "always [madvise] never", "defrag": "always defer defer+madvise [madvise] never", "shmem_enabled": "always within_size advise [never] deny force",
		"hpage_pmd_size": "2097152", "use_zero_page": "1",
	})
	m.add("kernel/mm/transparent_hugepage/khugepaged", map[string]string{"defrag": "1", "max_ptes_none": "511", "pages_to_scan": "4096", "scan_sleep_millisecs": "10000"})
	m.add("kernel/mm/hugepages/hugepages-2048kB", map[string]string{
		"nr_hugepages": "0", "free_hugepages": "0", "resv_hugepages": "0", "surplus_hugepages": "0", "nr_overcommit_hugepages": "0",
	})
}

func (m *sysMachine) loopback(n Net) {
	flags, state, carrier := "0x9", "unknown", "1"
	if n == NetNone {
		flags, state, carrier = "0x8", "down", ""
	}
	const lo = "devices/virtual/net/lo"
	m.add(lo, map[string]string{
		"address": "00:00:00:00:00:00", "broadcast": "00:00:00:00:00:00", "flags": flags, "ifindex": "1", "iflink": "1", "addr_len": "6", "dev_id": "0x0",
		"mtu": strconv.Itoa(loopbackMTU), "operstate": state, "carrier": carrier, "tx_queue_len": strconv.Itoa(loopbackQueue), "type": strconv.Itoa(unix.ARPHRD_LOOPBACK),
	})
	for _, name := range []string{"rx", "tx"} {
		m.add(lo+"/statistics", map[string]string{name + "_bytes": "0", name + "_packets": "0", name + "_errors": "0", name + "_dropped": "0"})
	}
}

// sysMounts show it.
func (s *Sandbox) sysMounts() []cow.Mount {
	list := []cow.Mount{{At: "/sys", Template: s.sysMachine().template}}
	if s.cfg.Net == NetHost {
		for _, dir := range []string{"/sys/class/net", "/sys/devices/virtual/net"} {
			if exists(dir) {
				list = append(list, cow.Mount{At: dir, Host: dir})
			}
		}
	}
	return list
}

// textAt returns what stands in a file of a template.
func (s *Sandbox) textAt(path string) (text func(*Call) string, ok bool) {
	if text, ok = settings[path]; ok {
		return text, true
	}
	fixed, ok := s.sysMachine().texts[path]
	return func(*Call) string { return fixed }, ok
}

package supervisor

import (
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandtest/go-sandtest/det"
)

// The settings of a sandbox are those of settings.go, whatever the host's are, and nobody's
// to change.
func TestSettings(t *testing.T) {
	want := slices.Sorted(maps.Keys(settings))
	got := output(t, Config{}, sh("find /proc/sys ! -type d"))
	if diff := cmp.Diff(want, strings.Fields(got)); diff != "" {
		t.Errorf("there are (-want +got):\n%s", diff)
	}
	refused := "Read-only file system"
	if os.Geteuid() != 0 {
		refused = "Permission denied"
	}
	const script = `cat /proc/sys/vm/swappiness /proc/self/../sys/net/core/somaxconn; cd /proc/sys/kernel; pwd; cat ostype ../fs/nr_open; cd ../..; pwd; cat sys/net/ipv4/conf/lo/forwarding
		(echo 1 >/proc/sys/vm/swappiness) 2>&1 | sed 's/.*: //'; rmdir /proc/sys/vm 2>&1 | sed 's/.*: //'; (: >/proc/sys/new); stat -c '%s %a %F' /proc/sys/vm/swappiness /proc/sys; test -w /proc/sys/vm/swappiness || echo no; stat -c %a /proc/sys/kernel/hostname /proc/sys/kernel/ostype /proc/sys/kernel/random/boot_id`
	wantText := "60\n4096\n/proc/sys/kernel\nLinux\n1048576\n/proc\n0\n" + refused + "\nRead-only file system\n0 644 regular empty file\n0 555 directory\nno\n644\n444\n444\n"
	if _, got := run(t, Config{}, sh("exec 2>/dev/null; "+script)); got != wantText {
		t.Errorf("(-want +got):\n%s", cmp.Diff(lines(wantText), lines(got)))
	}
}

// /sys is that of a machine that has the sandbox's CPUs and lo.
func TestSys(t *testing.T) {
	const script = `find /sys ! -type d | wc -l; ls /sys; ls /sys/class/net /sys/devices/virtual/net /sys/block; readlink /sys/class/net/lo; cat /sys/class/net/lo/ifindex
		cat /sys/devices/system/cpu/online; ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l; cat /sys/devices/system/cpu/cpu33/topology/thread_siblings /sys/kernel/mm/transparent_hugepage/enabled
		find /sys -type f | xargs cat >/dev/null || echo unreadable; (echo x >/sys/kernel/mm/transparent_hugepage/enabled) 2>/dev/null || echo no`
	cfg := Config{Identity: det.Identity{CPUs: 34}}
	want := "block\nbus\nclass\ndev\ndevices\nfirmware\nfs\nkernel\nmodule\npower\n/sys/block:\n\n/sys/class/net:\nlo\n\n/sys/devices/virtual/net:\nlo\n../../devices/virtual/net/lo\n1\n" +
		"0-33\n34\n2,00000000\nalways [madvise] never\nno\n"
	if _, got, _ := strings.Cut(output(t, cfg, sh(script)), "\n"); got != want {
		t.Errorf("(-want +got):\n%s", cmp.Diff(lines(want), lines(got)))
	}
}

// What there is in /proc doesn't depend on the host's kernel.
func TestNamesInProc(t *testing.T) {
	for dir, names := range map[string]map[string]bool{"/proc/self": processNames, "/proc/thread-self": processNames, "/proc/self/net": nil, "/proc/self/ns": procDirs["ns"]} {
		want := slices.Collect(maps.Keys(names))
		if dir == "/proc/self" {
			want = slices.AppendSeq(want, maps.Keys(wholeNames))
		}
		if names == nil {
			want = slices.Collect(maps.Keys(netFiles))
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, strings.Fields(output(t, Config{}, sh("ls "+dir)))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", dir, diff)
		}
	}
	if got := output(t, Config{}, sh("cat /proc/filesystems")); got != fileSystems {
		t.Errorf("file systems %q", got)
	}
}

// What newer kernels tell in addition isn't told, nor which of the host's mounts something
// is on, nor how long turns are.
func TestSameOnAllKernels(t *testing.T) {
	status := output(t, Config{}, sh("cut -d: -f1 /proc/self/status"))
	for name := range strings.FieldsSeq(status) {
		if !knownStatus[name] {
			t.Errorf("status has %s", name)
		}
	}
	const script = `grep -c -e Pss_Dirty -e KSM /proc/self/smaps /proc/self/smaps_rollup; ls -d /proc/self/attr 2>/dev/null; stat -f -c '%i %t %b %d' /proc /proc/self/fd; true | stat -f -L -c '%i %t %b' /proc/self/fd/0; true`
	if got, want := output(t, Config{}, sh(script)), "/proc/self/smaps:0\n/proc/self/smaps_rollup:0\n0 9fa0 0 0\n0 9fa0 0 0\n0 50495045 0\n"; got != want {
		t.Errorf("(-want +got):\n%s", cmp.Diff(lines(want), lines(got)))
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip(err)
	}
	const turns = `import os
for pid in 0, os.getpid(), os.getppid() + 12345, -1:
	try: print(os.sched_rr_get_interval(pid))
	except OSError as e: print(e.errno)`
	if got := output(t, Config{}, exec.Command("python3", "-c", turns)); got != "0.004\n0.004\n3\n22\n" {
		t.Errorf("turns: %q", got)
	}
}

// The machine has a number of its own, the same in each sandbox of a seed.
func TestMachineID(t *testing.T) {
	id := func(seed uint64) string {
		return output(t, Config{Seed: seed}, sh("cat /etc/machine-id; cat /var/lib/dbus/machine-id 2>/dev/null || cat /etc/machine-id"))
	}
	first := id(1)
	host, _ := os.ReadFile("/etc/machine-id")
	if f := strings.Fields(first); len(f) != 2 || f[0] != f[1] || len(f[0]) != 32 || first != id(1) || first == id(2) || f[0] == strings.TrimSpace(string(host)) {
		t.Errorf("%q, again %q, with another seed %q, the host's %q", first, id(1), id(2), host)
	}
}

//go:build linux

package supervisor

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/det"
)

var namedConfig = Config{
	Time:     testTime,
	Identity: det.Identity{Hostname: "a-name-of-the-test", CPUs: 3, Memory: 1 << 30},
}

func TestUname(t *testing.T) {
	dynamicAndStatic(t, "files", func(t *testing.T, path string) {
		for _, host := range []string{"x", "a-name-of-the-test", strings.Repeat("n", 64)} {
			want := fmt.Sprintf("Linux|%s|%s|%s|x86_64|(none)|%s\n", host, det.KernelRelease, det.KernelVersion, host)
			if got := succeeds(t, Config{Identity: det.Identity{Hostname: host}}, cmdC(path, "uts")); got != want {
				t.Errorf("got %swant %s", got, want)
			}
		}
	})
}

// Every program that tells the host's name tells the same.
func TestHostname(t *testing.T) {
	for _, script := range []string{
		"uname -n", "hostname", "cat /etc/hostname", "cat /proc/sys/kernel/hostname", "read n </etc/hostname; echo $n",
		"cd /etc; cat hostname", "cd /proc/sys; cat kernel/hostname", "cat </proc/self/root/etc/hostname",
		"bash -c 'echo $HOSTNAME'", "python3 -c 'import socket, os; print(socket.gethostname())'", "perl -MSys::Hostname -e 'print hostname, \"\\n\"'",
	} {
		t.Run(script, func(t *testing.T) {
			need := strings.Fields(script)[0]
			if _, err := exec.LookPath(need); err != nil && need != "read" && need != "cd" {
				t.Skip(err)
			}
			if _, err := os.Stat("/etc/hostname"); err != nil && strings.Contains(script, "etc") {
				t.Skip(err)
			}
			if got := succeeds(t, namedConfig, sh(script)); got != namedConfig.Identity.Hostname+"\n" {
				t.Errorf("output %q", got)
			}
		})
	}
}

// syntheticText is what the files of a sandbox with namedConfig hold at its
// start, as the C programs print it.
func syntheticText(t *testing.T, name string) string {
	t.Helper()
	cfg, err := namedConfig.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	id := cfg.Identity
	text, ok := map[string]string{
		"/etc/hostname":                    id.Hostname + "\n",
		"/proc/sys/kernel/hostname":        id.Hostname + "\n",
		"/proc/sys/kernel/domainname":      "(none)\n",
		"/proc/sys/kernel/osrelease":       det.KernelRelease + "\n",
		"/proc/sys/kernel/version":         det.KernelVersion + "\n",
		"/proc/version":                    id.Version(),
		"/proc/cpuinfo":                    id.CPUInfo(),
		"/proc/meminfo":                    id.MemInfo(),
		"/proc/loadavg":                    id.LoadAvg(),
		"/proc/uptime":                     id.UptimeText(0),
		"/proc/stat":                       id.Stat(cfg.Time, 0),
		"/proc/swaps":                      "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
		"/proc/vmstat":                     fmt.Sprintf("nr_free_pages %d\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\n", id.FreeMemory()/4096),
		"/proc/filesystems":                fileSystems,
		"/sys/devices/system/cpu/online":   "0-2\n",
		"/sys/devices/system/cpu/possible": "0-2\n",
		"/sys/devices/system/cpu/present":  "0-2\n",
	}[name]
	if !ok {
		t.Fatalf("nothing known of %s", name)
	}
	return text
}

// constantFiles are the synthetic files whose text is the same at each open.
func constantFiles() []string {
	list := []string{"/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/version"}
	return append(list, slices.Sorted(maps.Keys(syntheticFiles))...)
}

// A synthetic file is the same by whatever path it is opened, and where no path
// leads to it the error is the kernel's.
func TestFormsOfPaths(t *testing.T) {
	path := compileC(t, "files", false)
	for _, file := range constantFiles() {
		t.Run(file, func(t *testing.T) {
			if _, err := os.Stat(file); err != nil {
				t.Skip(err)
			}
			text := strings.ReplaceAll(syntheticText(t, file), "\n", "|")
			native := lines(bare(t, cmdC(path, "forms", file, t.TempDir())))
			got := lines(succeeds(t, namedConfig, cmdC(path, "forms", file, t.TempDir())))
			if len(got) != len(native) {
				t.Fatalf("%d lines instead of %d", len(got), len(native))
			}
			var wrong []string
			for i, line := range native {
				form, rest, _ := strings.Cut(line, ": ")
				want := form + ": " + text + "\n"
				if strings.HasPrefix(rest, "errno ") {
					want = line
				}
				if got[i] != want {
					wrong = append(wrong, fmt.Sprintf("%.100q", got[i]))
				}
			}
			if wrong != nil {
				t.Errorf("%d ways to open it don't give the sandbox's text:\n%s", len(wrong), strings.Join(wrong, "\n"))
			}
		})
	}
}

// Paths put together at random: no spelling of the path of a synthetic file
// leads to the kernel's own.
func TestRandomPathsDontLeak(t *testing.T) {
	dir := t.TempDir()
	for name, target := range map[string]string{
		"cpuinfo": "/proc/cpuinfo", "self": "/proc/self", "up": "..", "loop": "loop", "rel": "cpuinfo",
		"me": "/proc/thread-self", "etc": "/etc", "fds": "/dev/fd", "proc": "/proc/self/root/proc",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	parts := []string{".", "..", "..", "", "proc", "proc", "self", "thread-self", "task", "root", "cwd", "fd", "0", "cpuinfo", "meminfo",
		"version", "etc", "hostname", "sys", "kernel", "devices/system/cpu", "online", "up", "me", "fds", "rel", dir[1:], "proc/self/root",
		"PID", "self/task/PID", "self/task/PID/root", "PID/task/PID/cwd", "self/fd/900", "proc/self/fd/900/proc", "fds/900", "me/fd/900", "dev/fd/900"}
	n := 20_000
	if testing.Short() {
		n = 2000
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var paths strings.Builder
	ends := []string{"proc/cpuinfo", "cpuinfo", "etc/hostname", "hostname", "version", "kernel/osrelease", "cpu/online"}
	for range n {
		path := ""
		if rng.IntN(3) > 0 {
			path = "/proc/"
		} else if rng.IntN(2) > 0 {
			path = "/"
		}
		for range rng.IntN(7) {
			path += parts[rng.IntN(len(parts))] + "/"
		}
		fmt.Fprintln(&paths, path+ends[rng.IntN(len(ends))])
	}
	// The shell puts its pid where the program's is to stand: it becomes the program.
	cmd := sh(`sed "s/PID/$$/g" "$0" >"$0.pid"; prog=$1; shift; exec "$prog" paths "$@" <"$0.pid"`)
	list := filepath.Join(dir, "list")
	cmd.Args = append(append(cmd.Args, list, compileC(t, "files", false)), constantFiles()...)
	if err := os.WriteFile(list, []byte(paths.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	cmd.Dir = dir
	out := lines(succeeds(t, Config{}, cmd))
	last := out[len(out)-1]
	if len(out) > 1 {
		t.Errorf("%d paths lead to the host's files, for example\n%s", len(out)-1, strings.Join(out[:min(10, len(out)-1)], ""))
	}
	if named, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(last, "named "))); err != nil || named < n/50 {
		t.Errorf("%s: of %d paths too few name a file for this to prove anything", last, n)
	}
}

func TestModesOfSyntheticFiles(t *testing.T) {
	path := compileC(t, "files", false)
	errnos := func(names ...any) (s string) {
		for i := 0; i < len(names); i += 2 {
			s += fmt.Sprintf("%s: errno %d\n", names[i], names[i+1])
		}
		return s
	}
	want := errnos("O_WRONLY", unix.EACCES, "O_RDWR", unix.EACCES, "O_WRONLY|O_TRUNC", unix.EACCES, "creat", unix.EACCES,
		"O_DIRECTORY", unix.ENOTDIR, "O_CREAT|O_EXCL", unix.EEXIST) +
		"O_CREAT: opened\n" +
		errnos("write", unix.EBADF, "ftruncate", unix.EINVAL)
	rest := "cloexec: 1\nno cloexec: 0\n"
	for _, file := range slices.Sorted(maps.Keys(syntheticFiles)) {
		if _, err := os.Stat(file); err != nil {
			continue
		}
		got := succeeds(t, Config{}, cmdC(path, "modes", file))
		if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, rest) {
			t.Errorf("%s:\n%swant\n%s...%s", file, got, want, rest)
		}
	}
}

func TestReadInPieces(t *testing.T) {
	path := compileC(t, "files", false)
	files := slices.DeleteFunc(constantFiles(), func(name string) bool { _, err := os.Stat(name); return err != nil })
	want := strings.Repeat("some: wrong 0\n", len(files))
	if got := succeeds(t, namedConfig, cmdC(path, append([]string{"pieces"}, files...)...)); got != want {
		t.Errorf("%q:\n%s", files, got)
	}
}

// Whoever asks for the number of CPUs is told the same.
func TestProcessors(t *testing.T) {
	path := compileC(t, "files", false)
	for _, cpus := range []int{1, 3, 64, 70, 1024} {
		t.Run(fmt.Sprint(cpus), func(t *testing.T) {
			if testing.Short() && cpus != 1 && cpus != 70 {
				t.Skip("1 and 70 will do")
			}
			cfg := Config{Identity: det.Identity{CPUs: cpus}}
			size := (cpus + 63) / 64 * 8
			var want strings.Builder
			fmt.Fprintf(&want, "online %d configured %d\nnprocs %d %d\n", cpus, cpus, cpus, cpus)
			for _, n := range []int{0, 1, 4, 7, 8, 9, 12, 15, 16, 24, 128, 1024} {
				if n%8 != 0 || n*8 < cpus {
					fmt.Fprintf(&want, "affinity %d: errno %d\n", n, int(unix.EINVAL))
				} else {
					fmt.Fprintf(&want, "affinity %d: %d\n  %d CPUs, nothing beyond\n", n, size, cpus)
				}
			}
			fmt.Fprintf(&want, "sched_getcpu 0\ngetcpu: 0\n  0 0\ngetcpu NULL: 0\ngetcpu bad: errno %d\nlibc getcpu 0 0 0\n", int(unix.EFAULT))
			fmt.Fprintf(&want, "affinity of nobody: errno %d\naffinity bad: errno %d\nset bad: errno %d\nset none: errno %d\nset size 0: errno %d\n",
				int(unix.ESRCH), int(unix.EFAULT), int(unix.EFAULT), int(unix.EINVAL), int(unix.EINVAL))
			if diff := cmp.Diff(lines(want.String()), lines(succeeds(t, cfg, cmdC(path, "cpus")))); diff != "" {
				t.Errorf("what C asks (-want +got):\n%s", diff)
			}
			for script, want := range map[string]string{
				"nproc":                            fmt.Sprintln(cpus),
				"nproc --all":                      fmt.Sprintln(cpus),
				"getconf _NPROCESSORS_ONLN":        fmt.Sprintln(cpus),
				"getconf _NPROCESSORS_CONF":        fmt.Sprintln(cpus),
				"grep -c ^processor /proc/cpuinfo": fmt.Sprintln(cpus),
				"grep -c '^cpu[0-9]' /proc/stat":   fmt.Sprintln(cpus),
				"cat /sys/devices/system/cpu/online /sys/devices/system/cpu/possible /sys/devices/system/cpu/present": strings.Repeat(cfg.Identity.CPUList(), 3),
				"python3 -c 'import os; print(os.cpu_count(), len(os.sched_getaffinity(0)))'":                         fmt.Sprintln(cpus, cpus),
			} {
				if _, err := exec.LookPath(strings.Fields(script)[0]); err != nil {
					t.Logf("%s: %v", script, err)
					continue
				}
				if got := succeeds(t, cfg, sh(script)); got != want {
					t.Errorf("%s: %q, want %q", script, got, want)
				}
			}
			if got, want := succeeds(t, cfg, program(t, "numcpu")), fmt.Sprintln(cpus, cpus); got != want {
				t.Errorf("Go's NumCPU and GOMAXPROCS are %q, want %q", got, want)
			}
		})
	}
}

// A mask that is set is what is read, and is inherited; it is one of the
// sandbox's CPUs, whatever the host has.
func TestAffinity(t *testing.T) {
	want := `at first: 7
set 1: 0
then: 2
by pid: 2
child: 2
its parent: 2
set 0 and 40: 0
what there is of it: 1
set 40: errno 22
as before: 1
set 1 of the child: 0
the child's: 2
the parent's: 1
child whose mask was set: 2
set all: 0
another thread: 3
`
	path := compileC(t, "files", false)
	got := succeeds(t, Config{Identity: det.Identity{CPUs: 3}}, cmdC(path, "affinity"))
	if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
		t.Errorf("masks (-want +got):\n%s", diff)
	}
	if _, err := exec.LookPath("taskset"); err == nil {
		got := succeeds(t, Config{Identity: det.Identity{CPUs: 8}}, sh("taskset -c 3,5 nproc; nproc; taskset -c 1 sh -c 'nproc; sh -c nproc'"))
		if got != "2\n8\n1\n1\n" {
			t.Errorf("nproc under taskset: %q", got)
		}
	}
}

// A mask belongs to one thread.
func TestAffinityOfThreads(t *testing.T) {
	path := compileC(t, "files", false)
	want := "set 1: 0\none: 2\nthe other: 7\n"
	if got := succeeds(t, Config{Identity: det.Identity{CPUs: 3}}, cmdC(path, "thread-affinity")); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// sysinfo and the files of /proc say the same.
func TestMemoryAndUptime(t *testing.T) {
	path := compileC(t, "files", false)
	for _, memory := range []int64{1 << 20, 4 << 30, 1<<40 + 4096} {
		cfg := Config{Identity: det.Identity{Memory: memory}}
		meminfo := map[string]string{}
		for line := range strings.Lines(succeeds(t, cfg, sh("cat /proc/meminfo"))) {
			name, value, _ := strings.Cut(line, ":")
			meminfo[name] = strings.TrimSuffix(strings.TrimSpace(value), " kB")
		}
		want := fmt.Sprintf("MemTotal %s\nMemFree %s\nSwapTotal %s\nprocs 1\nuptime 3600\nloads 0 0 0\n", meminfo["MemTotal"], meminfo["MemFree"], meminfo["SwapTotal"])
		if meminfo["MemTotal"] != fmt.Sprint(memory/1024) {
			t.Errorf("MemTotal is %s, want %d", meminfo["MemTotal"], memory/1024)
		}
		want += fmt.Sprintf("pages %d available %d\n", memory/4096, cfg.Identity.FreeMemory()/4096)
		if got := succeeds(t, cfg, cmdC(path, "memory")); got != want {
			t.Errorf("sysinfo says\n%swant\n%s", got, want)
		}
	}
	got := succeeds(t, Config{}, sh("cat /proc/uptime /proc/loadavg; sleep 1.5; cat /proc/uptime; sleep 0.02; cat /proc/uptime"))
	if want := "3600.00 3600.00\n0.00 0.00 0.00 1/1 1\n3601.50 3601.50\n3601.52 3601.52\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	// A file that is open keeps what it was opened with; btime doesn't move.
	got = succeeds(t, Config{Time: testTime}, sh("exec 3</proc/uptime; sleep 0.5; read a b <&3; echo $a; grep btime /proc/stat; sleep 0.7; grep btime /proc/stat"))
	btime := fmt.Sprintln("btime", testTime.Add(-time.Hour).Unix())
	if got != "3600.00\n"+btime+btime {
		t.Errorf("got\n%s", got)
	}
}

func TestUmask(t *testing.T) {
	for _, mask := range []int{0, 0o077, 0o777} {
		// Other tests of this package don't run meanwhile: none of them is parallel.
		old := unix.Umask(mask)
		var out string
		func() {
			defer unix.Umask(old)
			out = succeeds(t, Config{}, sh("umask; sh -c umask; umask 027; sh -c umask"))
		}()
		if out != "0022\n0022\n0027\n" {
			t.Errorf("under umask %#o: %q", mask, out)
		}
	}
}

// Where things lie in memory doesn't change from run to run, unless it is asked
// for.
func TestAddresses(t *testing.T) {
	dynamicAndStatic(t, "addresses", func(t *testing.T, path string) {
		// A program and the one it executes.
		addresses := func(cfg Config) string { return succeeds(t, cfg, cmdC(path, "again")) }
		want := addresses(Config{})
		for range 5 {
			if diff := cmp.Diff(lines(want), lines(addresses(Config{}))); diff != "" {
				t.Fatalf("addresses in two runs (-one +other):\n%s", diff)
			}
		}
		if v, err := os.ReadFile("/proc/sys/kernel/randomize_va_space"); err != nil || strings.TrimSpace(string(v)) != "2" {
			t.Skipf("the kernel doesn't randomise addresses: %s %v", v, err)
		}
		// All are different with all but certainty, in some run at least.
		differs := map[string]bool{}
		for range 5 {
			for i, line := range lines(addresses(Config{ASLR: true})) {
				if line != lines(want)[i] {
					differs[fmt.Sprint(i, " ", strings.Fields(line)[0])] = true
				}
			}
		}
		for i, line := range lines(want) {
			name := strings.Fields(line)[0]
			// The static program isn't position-independent.
			if key := fmt.Sprint(i, " ", name); !differs[key] && name != "libc" && name != "main" {
				t.Errorf("%s is at the same address in every run though ASLR is on", key)
			}
		}
	})
}

func init() {
	programs["numcpu"] = func([]string) error {
		fmt.Println(runtime.NumCPU(), runtime.GOMAXPROCS(0))
		return nil
	}
}

// Of the files in /proc there are those that are the sandbox's own.
func TestProc(t *testing.T) {
	got := output(t, Config{}, sh(`ls /proc | grep -v '^[0-9]' | tr '\n' ' '; for f in kallsyms kcore keys sysrq-trigger config.gz sysvipc/shm interrupts; do cat /proc/$f && echo $f is there; done 2>/dev/null; cat /proc/mounts /proc/$$/cgroup; wc -l </proc/self/mountinfo; stat /proc/iomem 2>/dev/null; mount -V >/dev/null; cat /proc/self/task/self/net/x 2>/dev/null; echo end`))
	want := "cpuinfo filesystems loadavg meminfo mounts net self stat swaps sys thread-self uptime version vmstat " +
		"overlay / overlay rw,relatime 0 0\nproc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n0::/\n2\nend\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

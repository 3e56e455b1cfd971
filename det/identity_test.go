package det_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandtest/go-sandtest/det"
)

func TestIdentityCheck(t *testing.T) {
	good := det.Identity{Hostname: "sandbox", CPUs: 1, Memory: 1 << 30}
	tests := []struct {
		name   string
		change func(*det.Identity)
		want   string // in the error, "" for none
	}{
		{"good", func(*det.Identity) {}, ""},
		{"empty name", func(id *det.Identity) { id.Hostname = "" }, "empty"},
		{"64 bytes", func(id *det.Identity) { id.Hostname = strings.Repeat("n", 64) }, ""},
		{"65 bytes", func(id *det.Identity) { id.Hostname = strings.Repeat("n", 65) }, "65 bytes"},
		{"33 letters of 2 bytes", func(id *det.Identity) { id.Hostname = strings.Repeat("é", 33) }, "66 bytes"},
		{"NUL", func(id *det.Identity) { id.Hostname = "a\x00b" }, "NUL"},
		{"newline", func(id *det.Identity) { id.Hostname = "a\n" }, "line break"},
		{"0 CPUs", func(id *det.Identity) { id.CPUs = 0 }, "CPUs 0"},
		{"-1 CPUs", func(id *det.Identity) { id.CPUs = -1 }, "CPUs -1"},
		{"1024 CPUs", func(id *det.Identity) { id.CPUs = 1024 }, ""},
		{"1025 CPUs", func(id *det.Identity) { id.CPUs = 1025 }, "CPUs 1025"},
		{"no memory", func(id *det.Identity) { id.Memory = 0 }, "memory of 0"},
		{"negative memory", func(id *det.Identity) { id.Memory = -1 }, "memory of -1"},
		{"tiny memory", func(id *det.Identity) { id.Memory = 1<<20 - 1 }, "memory of 1048575"},
		{"1 MiB", func(id *det.Identity) { id.Memory = 1 << 20 }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := good
			tt.change(&id)
			switch err := id.Check(); {
			case tt.want == "" && err != nil:
				t.Errorf("Check() = %v, want no error", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("Check() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// values returns the right-hand sides of the lines "name : value" of a text.
func values(text, name string) []string {
	var list []string
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			list = append(list, strings.TrimSpace(v))
		}
	}
	return list
}

func TestCPUInfo(t *testing.T) {
	tests := []struct {
		cpus            int
		ids, cpusEach   []string
		blocks, newline int
	}{
		{1, []string{"0"}, []string{"1"}, 1, 25},
		{4, []string{"0", "1", "2", "3"}, []string{"4", "4", "4", "4"}, 4, 100},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.cpus), func(t *testing.T) {
			text := det.Identity{CPUs: tt.cpus}.CPUInfo()
			for name, want := range map[string][]string{
				"processor": tt.ids, "core id": tt.ids, "apicid": tt.ids, "initial apicid": tt.ids,
				"siblings": tt.cpusEach, "cpu cores": tt.cpusEach,
			} {
				if diff := cmp.Diff(want, values(text, name)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			// A blank line ends the block of each CPU, the last one's too.
			if got := strings.Count(text, "\n\n"); got != tt.blocks || !strings.HasSuffix(text, "\n\n") {
				t.Errorf("%d blocks, want %d, each with a blank line behind it:\n%s", got, tt.blocks, text)
			}
			if !strings.HasPrefix(text, "processor\t: 0\nvendor_id\t: GenuineIntel\n") {
				t.Errorf("text begins with %.60q", text)
			}
			for _, flags := range values(text, "flags") {
				if strings.Contains(" "+flags+" ", " avx ") || !strings.Contains(" "+flags+" ", " sse2 ") {
					t.Errorf("flags = %s: want those that every amd64 machine has", flags)
				}
			}
		})
	}
}

func TestCPUList(t *testing.T) {
	for cpus, want := range map[int]string{1: "0\n", 2: "0-1\n", 4: "0-3\n", 1024: "0-1023\n"} {
		if got := (det.Identity{CPUs: cpus}).CPUList(); got != want {
			t.Errorf("CPUList() of %d CPUs = %q, want %q", cpus, got, want)
		}
	}
}

func TestMemInfo(t *testing.T) {
	id := det.Identity{Memory: 8 << 30}
	text := id.MemInfo()
	for _, want := range []string{
		"MemTotal:        8388608 kB\n",
		"MemFree:         7340032 kB\n",
		"MemAvailable:    7340032 kB\n",
		"Cached:                0 kB\n",
		"SwapTotal:             0 kB\n",
		"Inactive(anon):        0 kB\n",
		"CommitLimit:     8388608 kB\n",
		"HugePages_Total:       0\n",
		"Hugepagesize:       2048 kB\n",
	} {
		if !strings.Contains("\n"+text, "\n"+want) {
			t.Errorf("no line %q in:\n%s", want, text)
		}
	}
	// Programs look for the first by its place.
	if !strings.HasPrefix(text, "MemTotal:") {
		t.Errorf("text begins with %.20q", text)
	}
	if got, want := id.FreeMemory(), int64(7<<30); got != want {
		t.Errorf("FreeMemory() = %d, want %d", got, want)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		name, _, ok := strings.Cut(line, ":")
		if !ok || seen[name] {
			t.Errorf("line %q: no name or one seen before", line)
		}
		seen[name] = true
	}
}

func TestStat(t *testing.T) {
	tests := []struct {
		name    string
		cpus    int
		elapsed time.Duration
		want    string // the lines of CPUs
	}{
		{"1 CPU", 1, 0, "cpu  0 0 0 360000 0 0 0 0 0 0\ncpu0 0 0 0 360000 0 0 0 0 0 0\n"},
		{"4 CPUs", 4, 1990 * time.Millisecond, `cpu  0 0 0 1440796 0 0 0 0 0 0
cpu0 0 0 0 360199 0 0 0 0 0 0
cpu1 0 0 0 360199 0 0 0 0 0 0
cpu2 0 0 0 360199 0 0 0 0 0 0
cpu3 0 0 0 360199 0 0 0 0 0 0
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := det.Identity{CPUs: tt.cpus}.Stat(y2k, tt.elapsed)
			cpus, rest, _ := strings.Cut(text, "intr ")
			if diff := cmp.Diff(tt.want, cpus); diff != "" {
				t.Errorf("lines of CPUs (-want +got):\n%s", diff)
			}
			// The boot doesn't move with the clock: an hour before the start.
			if !strings.Contains(rest, "\nbtime 946681200\n") {
				t.Errorf("no btime of 946681200 in %q", rest)
			}
			for _, name := range []string{"ctxt", "processes", "procs_running", "procs_blocked", "softirq"} {
				if !strings.Contains(rest, "\n"+name+" ") {
					t.Errorf("no line of %s in %q", name, rest)
				}
			}
		})
	}
}

func TestUptimeText(t *testing.T) {
	tests := []struct {
		name    string
		cpus    int
		elapsed time.Duration
		want    string
	}{
		{"1 CPU", 1, 0, "3600.00 3600.00\n"},
		{"4 CPUs", 4, 0, "3600.00 14400.00\n"},
		{"hundredths are cut off", 1, 1059 * time.Millisecond, "3601.05 3601.05\n"},
		{"idle time is a multiple", 4, 1059 * time.Millisecond, "3601.05 14404.20\n"},
		{"many CPUs for long", 1024, 200 * 24 * time.Hour, "17283600.00 17698406400.00\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (det.Identity{CPUs: tt.cpus}).UptimeText(tt.elapsed); got != tt.want {
				t.Errorf("UptimeText(%v) = %q, want %q", tt.elapsed, got, tt.want)
			}
		})
	}
}

func TestKernelTexts(t *testing.T) {
	id := det.Identity{Hostname: "sandbox", CPUs: 4, Memory: 1 << 30}
	if got, want := id.LoadAvg(), "0.00 0.00 0.00 1/1 1\n"; got != want {
		t.Errorf("LoadAvg() = %q, want %q", got, want)
	}
	// uname(2) and /proc/version must tell the same story.
	want := "Linux version " + det.KernelRelease + " (sandtest@sandtest) " + det.KernelVersion + "\n"
	if got := id.Version(); got != want {
		t.Errorf("Version() = %q, want %q", got, want)
	}
	for _, s := range []string{det.KernelRelease, det.KernelVersion} {
		if s == "" || len(s) > 64 {
			t.Errorf("%q doesn't fit a field of struct utsname", s)
		}
	}
}

func TestTicks(t *testing.T) {
	tests := []struct {
		in   time.Duration
		want int64
	}{
		{0, 0},
		{10*time.Millisecond - 1, 0},
		{10 * time.Millisecond, 1},
		{time.Second, 100},
		{det.Uptime, 360000},
	}
	for _, tt := range tests {
		t.Run(tt.in.String(), func(t *testing.T) {
			if got := det.Ticks(tt.in); got != tt.want {
				t.Errorf("Ticks(%v) = %d, want %d", tt.in, got, tt.want)
			}
		})
	}
}

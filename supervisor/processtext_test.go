//go:build linux

package supervisor

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/sandtest/go-sandtest/det"
)

// What ps shows of processes is the same in every run, and says when they began by the
// sandbox's clock.
func TestPS(t *testing.T) {
	cfg := inNamespaced(t)
	if _, err := exec.LookPath("ps"); err != nil {
		t.Skip(err)
	}
	cfg.Time = testTime
	const script = `sleep 5000 & sleep 4000; ps aux; ps -eo pid,ppid,lstart,etime,time,psr,min_flt,rss,stat,comm`
	first := output(t, cfg, sh(script))
	begin, later := testTime.Format("Mon Jan _2 15:04:05 2006"), testTime.Add(4000e9).Format("Mon Jan _2 15:04:05 2006")
	for _, part := range []string{begin + "    01:06:40", later + "       00:00", " 00:00:00   0      0 ", " 3       2 "} {
		if !strings.Contains(first, part) {
			t.Errorf("%q isn't in\n%s", part, first)
		}
	}
	for range 5 {
		if got := output(t, cfg, sh(script)); got != first {
			t.Fatalf("first\n%s\nand then\n%s", first, got)
		}
	}
}

// A process's files tell of the sandbox's CPUs, and nothing of how the host schedules.
func TestProcessText(t *testing.T) {
	const script = `cd /proc/self; sleep 7
		cut -d' ' -f3,10-17,22,39,42-44 /proc/self/stat
		grep -E 'State|TracerPid|Cpus_allowed|Mems_allowed|ctxt|Speculation' /proc/self/status
		awk '/VmRSS/ {rss=$2} /VmData|VmStk|VmExe/ {sum+=$2} END {print rss == sum}' status
		read size rss rest <statm; set -- $(cut -d' ' -f23,24 stat); test $1 = $((size * 4096)) && test $2 = $rss && echo agree
		cat io schedstat uid_map setgroups cgroup
		sleep 1000 & cut -d' ' -f22 /proc/$!/stat /proc/$!/task/$!/stat`
	const want = "R 0 0 0 0 0 0 0 0 360700 0 0 0 0\n" +
		"State:\tR (running)\nTracerPid:\t0\nCpus_allowed:\t3f\nCpus_allowed_list:\t0-5\nMems_allowed:\t1\nMems_allowed_list:\t0\n" +
		"voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n1\nagree\n" +
		"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n" +
		"0 0 0\n" + everyID + "allow\n0::/\n360700\n360700\n"
	for _, b := range []Backend{BackendSeccomp, BackendAuto} {
		if got := output(t, Config{Backend: b, Identity: det.Identity{CPUs: 6}}, exec.Command("/bin/sh", "-c", script)); got != want {
			t.Errorf("%v: got\n%s\nwant\n%s", b, got, want)
		}
	}
}

func TestCPUMask(t *testing.T) {
	for n, want := range map[int]string{1: "1", 4: "f", 32: "ffffffff", 33: "1,ffffffff", 70: "3f,ffffffff,ffffffff"} {
		if got := cpuMask(n); got != want {
			t.Errorf("%d CPUs: %q, want %q", n, got, want)
		}
	}
}

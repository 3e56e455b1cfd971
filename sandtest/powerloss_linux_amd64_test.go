package sandtest_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sandtest/go-sandtest/sandtest"
)

// killed is a fault that kills at the rmdir by which a program says that it is through.
var killed = sandtest.Fault{Calls: []string{"rmdir"}, Path: "end", Kill: true}

// After a loss of power there is what may be there: of what was synced all, of what
// wasn't some, and names in the order in which they were made.
func TestPowerLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 80 runs")
	}
	python := pythonItself(t)
	const script = `
import mmap, os
def write(name, text, sync=False, flags=0):
    fd = os.open(name, os.O_CREAT | os.O_RDWR | flags, 0o644)
    os.write(fd, text)
    if sync: os.fsync(fd)
    os.close(fd)
P = 4096
write("synced", b"s" * 3 * P, sync=True)
write("overwritten", b"o" * 8 * P, sync=True)
fd = os.open("overwritten", os.O_RDWR); os.write(fd, b"n" * 8 * P); os.close(fd)
write("grown", b"g" * P, sync=True)
fd = os.open("grown", os.O_RDWR | os.O_APPEND); os.write(fd, b"h" * P); os.close(fd)
write("always", b"a" * P, flags=os.O_DSYNC)
fd = os.open("mapped", os.O_CREAT | os.O_RDWR, 0o644); os.ftruncate(fd, 2 * P); os.fsync(fd)
m = mmap.mmap(fd, 2 * P); m[:P] = b"m" * P; m.flush(); m[P:] = b"n" * P
write("old", b"old", sync=True)
write("order", b"x", sync=True) # and all names before it
for n in range(6): os.mkdir("d%d" % n)
write("new", b"new")
os.rename("new", "old")
os.rmdir("end")
`
	seen := map[string]map[string]bool{}
	for seed := range uint64(40) {
		dir := t.TempDir()
		cmd := exec.Command(python[0], append(python[1:], "-c", script)...)
		cmd.Dir = dir
		res := sandtest.Run(t, cmd, sandtest.Options{Seed: seed, PowerLoss: true, Faults: []sandtest.Fault{killed}})
		if res.Signal != 9 {
			t.Fatalf("it ended with %d, signal %v: %s", res.ExitCode, res.Signal, res.Stderr)
		}
		look := exec.Command("sh", "-c", `

			printf 'synced %s\n' "$(tr -d s <synced | wc -c) $(wc -c <synced)"
			printf 'always %s\n' "$(tr -d a <always | wc -c) $(wc -c <always)"
			printf 'overwritten %s\n' "$(tr -d n <overwritten | tr -d o | wc -c) $(tr -d n <overwritten | wc -c)"
			printf 'mapped %s\n' "$(tr -d '\0' <mapped | tr -d n | wc -c) $(tr -d '\0' <mapped | tr -d m | wc -c)"
			printf 'grown %s\n' "$(tr -d '\0' <grown | tr -d g | wc -c) $(wc -c <grown)"
			printf 'names %s\n' "$(echo d*)"
			printf 'old %s\n' "$(tr '\0' 0 <old)"`)
		look.Dir = dir
		again := sandtest.Run(t, look, sandtest.Options{On: res})
		for line := range strings.Lines(again.Stdout) {
			name, what, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			if seen[name] == nil {
				seen[name] = map[string]bool{}
			}
			seen[name][what] = true
		}
	}
	check := func(name string, all bool, want ...string) {
		t.Helper()
		for what := range seen[name] {
			if !slices.Contains(want, what) {
				t.Errorf("%s is %q: want one of %q", name, what, want)
			}
		}
		if all && len(seen[name]) != len(want) || len(seen[name]) == 0 {
			t.Errorf("%s is %v: want each of %q for some seed", name, seen[name], want)
		}
	}
	check("synced", true, "0 12288")
	check("always", true, "0 4096")
	check("mapped", true, "4096 0", "4096 4096")
	var pages []string
	for n := range 9 {
		pages = append(pages, fmt.Sprintf("0 %d", n*4096))
	}
	check("overwritten", false, pages...)
	if len(seen["overwritten"]) < 4 {
		t.Errorf("overwritten pages: %v: want a draw", seen["overwritten"])
	}
	check("grown", true, "0 4096", "0 8192", "4096 8192")
	names, list := []string{"d*"}, ""
	for n := range 6 {
		list = strings.TrimSpace(fmt.Sprint(list, " d", n))
		names = append(names, list)
	}
	check("names", true, names...)
	check("old", true, "old", "", "new", "000")
}

// The same seed loses the same.
func TestPowerLossSame(t *testing.T) {
	outcome := func() string {
		cmd := exec.Command("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do head -c 30000 /dev/urandom >f$i; mv f$i g$i; done; rmdir end; echo survived")
		cmd.Dir = t.TempDir()
		res := sandtest.Run(t, cmd, sandtest.Options{Seed: 7, PowerLoss: true, Faults: []sandtest.Fault{killed}})
		if strings.Contains(res.Stdout, "survived") {
			t.Error("only one process was killed")
		}
		text := res.Changes.String()
		for i := range res.Changes {
			text += fmt.Sprint(res.Changes[i].Size, " ")
		}
		return text
	}
	if first, second := outcome(), outcome(); first != second || first == "" {
		t.Errorf("it has left\n%s\nand\n%s", first, second)
	}
}

package supervisor

import (
	"os/exec"
	"regexp"
	"testing"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// TestTurns: on one CPU threads don't interrupt each other, and see nothing of that.
func TestTurns(t *testing.T) {
	for cpus, want := range map[int]uint32{1: unix.SCHED_BATCH, 2: unix.SCHED_NORMAL} {
		cmd := sh("cat; :")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		s, err := Start(cmd, Config{Identity: det.Identity{CPUs: cpus}})
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range s.threads.processes() {
			if attr, err := unix.SchedGetAttr(pid, 0); err != nil || attr.Policy != want {
				t.Errorf("with %d CPUs it is scheduled as %+v, %v; want %d", cpus, attr, err, want)
			}
		}
		in.Close()
		if _, err := s.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestScheduling: what programs see of how they are scheduled, and set, is as natively.
func TestScheduling(t *testing.T) {
	if _, err := exec.LookPath("chrt"); err != nil {
		t.Skip(err)
	}
	const script = `exec 2>&1
show() { chrt -p $$; sh -c 'chrt -p $$'; nice -n 3 sh -c 'chrt -p $$; nice'; }
show; chrt -b -p 0 $$; show; chrt -o -p 0 $$; show
chrt -b 0 sh -c 'chrt -p $$'; chrt -i 0 sh -c 'chrt -p $$'; chrt -R -b 0 sh -c 'chrt -p $$; sh -c "chrt -p \$\$"'
chrt -o -p 5 $$; chrt -o -p 0 999999; chrt -p 999999; chrt -b -p 0 999999`
	numbers := regexp.MustCompile(`pid \d+`)
	bare, err := sh(script).Output()
	if err != nil && len(bare) == 0 {
		t.Fatal(err)
	}
	want := numbers.ReplaceAllString(string(bare), "pid")
	_, out := run(t, Config{}, sh(script))
	if got := numbers.ReplaceAllString(out, "pid"); got != want {
		t.Errorf("it sees\n%swant\n%s", got, want)
	}
}

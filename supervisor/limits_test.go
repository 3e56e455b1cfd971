//go:build linux

package supervisor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// As many processes as are allowed can be made, and no more, whoever asks first.
func TestProcessLimit(t *testing.T) {
	path := compileC(t, "forks", false)
	for _, limit := range []int{10, 200} {
		got := output(t, Config{Limits: Limits{Processes: limit}}, cmdC(path, "64", "20"))
		var made, refused int
		if _, err := fmt.Sscanf(got, "made %d refused %d\n", &made, &refused); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if limit == 10 && (made+1 != limit || refused == 0) {
			t.Errorf("limit %d: %d processes could be made besides the first, %d were refused", limit, made, refused)
		}
		if made+1 > limit {
			t.Errorf("limit %d: %d processes could be made besides the first", limit, made)
		}
	}
	if got := output(t, Config{Limits: Limits{Processes: 3}}, sh("for i in 1 2 3 4 5 6; do /bin/true; done; (echo child); wait; echo end")); got != "child\nend\n" {
		t.Errorf("what has ended counts: %q", got)
	}
}

// A bomb goes off within its limit, and ends with the command.
func TestForkBomb(t *testing.T) {
	path := compileC(t, "forks", false)
	s, err := Start(cmdC(path, "bomb"), Config{Clock: det.Running, Limits: Limits{Processes: 100}})
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(ending, s.Kill).Stop()
	for s.threads.count() < 100 {
		time.Sleep(time.Millisecond)
		select {
		case <-s.Done():
			t.Fatal("it has ended")
		default:
		}
	}
	s.Kill()
	if _, err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// The number of open files has a limit that nobody raises.
func TestOpenFilesLimit(t *testing.T) {
	got := output(t, Config{Limits: Limits{OpenFiles: 20}}, sh(`ulimit -n; ulimit -Hn; ulimit -n 21 2>/dev/null && echo raised; ulimit -n 18 && ulimit -n`))
	if !strings.HasPrefix(got, "20\n20\n18\n") {
		t.Errorf("got %q", got)
	}
}

// Who uses more memory than there is is killed, alone or together with others.
func TestMemoryLimit(t *testing.T) {
	const limit = 64 << 20
	path := compileC(t, "eat", false)
	for _, tt := range []struct {
		name string
		args []string // how many processes each take how many MiB
		over bool
	}{
		{"one within", []string{"1", "50"}, false},
		{"one over", []string{"1", "80", "stay"}, true},
		{"four within", []string{"4", "12"}, false},
		{"four over", []string{"4", "20", "stay"}, true},
		{"shared within", []string{"shared", "4", "40"}, false},
		{"shared over", []string{"shared", "4", "80", "stay"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			state, out := run(t, Config{Clock: det.Running, Limits: Limits{Memory: limit}}, cmdC(path, tt.args...))
			if state.OutOfMemory != tt.over || tt.over && state.Signal != unix.SIGKILL || !tt.over && out != "done\n" {
				t.Errorf("state %+v, output %q", state, out)
			}
		})
	}
}

func TestBadLimits(t *testing.T) {
	for _, l := range []Limits{{Processes: -1}, {OpenFiles: 3}, {OpenFiles: -1}, {Memory: 5}, {Memory: -1}} {
		if err := startFails(t, sh("true"), Config{Limits: l}); !strings.Contains(err.Error(), "Limits.") {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// A share of the CPU isn't exceeded, by one process that computes or by many that come
// and go. It takes as long as that at least; how much longer is the machine's business.
func TestShareOfCPU(t *testing.T) {
	scripts := []string{
		"i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done",
		"i=0; while [ $i -lt 60 ]; do head -c 5000000 /dev/zero | cksum >/dev/null; i=$((i+1)); done",
	}
	if testing.Short() {
		scripts = scripts[:1]
	}
	for _, script := range scripts {
		for _, percent := range []int{0, 25} {
			cfg := Config{Limits: Limits{CPU: percent}, HostTSC: true}
			s, err := Start(sh(script), cfg)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			state, err := s.Wait()
			if err != nil {
				t.Fatal(err)
			}
			real, used := time.Since(began), s.cpuUsed()
			if state.ExitCode != 0 || used < 20*time.Millisecond {
				t.Errorf("%s: %+v after %v of CPU time", script, state, used)
			}
			if least := used*4 - 500*time.Millisecond; percent == 25 && real < least {
				t.Errorf("%s: %v of CPU time took %v: with a quarter of a CPU want at least %v", script, used, real, least)
			}
			t.Logf("%d %%: %v of CPU time in %v", percent, used, real)
		}
	}
}

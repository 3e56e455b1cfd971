//go:build linux

package supervisor

import (
	"os/exec"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/det"
)

// Calls that come seldom are waited for where the runtime waits, but for virtual time.
func TestLull(t *testing.T) {
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip(err)
	}
	for _, tt := range []struct {
		clock det.Mode
		want  bool
	}{{det.Running, true}, {det.Host, true}, {det.Virtual, false}} {
		t.Run(tt.clock.String(), func(t *testing.T) {
			s, err := Start(exec.Command(perl, "-e", `for (1..40) { select undef, undef, undef, 0.01; rename "/nothing", "/none" }`), Config{Clock: tt.clock})
			if err != nil {
				t.Fatal(err)
			}
			if state, err := s.Wait(); err != nil || state.ExitCode != 0 {
				t.Fatalf("%+v, %v", state, err)
			}
			if got := s.receivers.lull.on; got != tt.want {
				t.Errorf("a lull at the end: %v, want %v", got, tt.want)
			}
		})
	}
}

// A lull begins and ends with how often calls come.
func TestLullCounts(t *testing.T) {
	now := time.Unix(0, 0)
	l := lull{since: now}
	for _, tt := range []struct {
		each time.Duration
		want bool
	}{{lullEach / 2, false}, {2 * lullEach, true}, {lullEach / 2, false}, {100 * lullEach, true}, {0, false}} {
		for range 2 * lullCalls {
			now = now.Add(tt.each)
			l.count(func() time.Time { return now })
		}
		if l.on != tt.want {
			t.Errorf("with a call each %v it is %v, want %v", tt.each, l.on, tt.want)
		}
	}
}

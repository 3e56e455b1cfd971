//go:build linux

package supervisor

import (
	"strconv"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/det"
)

// The detector hears of the end whenever it comes, above all between two of its
// looks.
func TestDetectorEnds(t *testing.T) {
	clock := det.NewClock(DefaultTime, func([det.Scales]int64) {})
	for i := range runs() * 10 {
		s := &Sandbox{agenda: newAgenda(clock, 0), receivers: &receivers{}}
		d := s.detect()
		for began := time.Now(); time.Since(began) < time.Duration(i%100)*time.Microsecond; {
			s.agenda.bell.ring() // it looks once more for each
		}
		ended := make(chan struct{})
		go func() { d.end(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(ending):
			t.Fatalf("it goes on after %d others have ended", i)
		}
	}
}

// The clock stands still as long as anything runs: also a thread that was interrupted
// on its way into a wait for something that is there already, and one that was made while
// the detector looked at the others.
func TestClockWaitsForWhatRuns(t *testing.T) {
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			got := output(t, Config{}, sh(`(i=0; while [ $i -lt 100 ]; do x=$(echo $i | cat); y=$(echo $x); z=$(echo $(echo $(cat /dev/null))); i=$((i+1)); done; date +%s) & sleep 1; wait`))
			if want := "946684800\n"; got != want {
				t.Errorf("it is %s, want %s", got, want)
			}
		})
	}
}

//go:build linux

package supervisor

import (
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/det"
)

// The detector hears of the end whenever it comes, above all between two of its
// looks.
func TestDetectorEnds(t *testing.T) {
	clock := det.NewClock(DefaultTime, func([det.Scales]int64) {})
	for i := range runs() * 10 {
		s := &Sandbox{agenda: &agenda{clock: clock}, receivers: &receivers{}}
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

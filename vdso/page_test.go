package vdso_test

import (
	"fmt"
	"testing"

	"github.com/sandtest/go-sandtest/vdso"
)

// Clock ids, clock_gettime(2).
const (
	clockRealtime        = 0
	clockMonotonic       = 1
	clockProcessCPU      = 2
	clockThreadCPU       = 3
	clockMonotonicRaw    = 4
	clockRealtimeCoarse  = 5
	clockMonotonicCoarse = 6
	clockBoottime        = 7
	clockRealtimeAlarm   = 8
	clockBoottimeAlarm   = 9
	clockUnused          = 10
	clockTAI             = 11
)

// Scales in the order in which the data page stores them: that of package det.
const (
	noScale  = -1 // the clock is the kernel's business
	realtime = iota - 1
	monotonic
	boottime
	tai
	nScales
)

// clocks says for every id what its reader must get.
var clocks = []struct {
	id    int32
	scale int
	res   int64
}{
	{clockRealtime, realtime, 1},
	{clockMonotonic, monotonic, 1},
	{clockProcessCPU, noScale, 0},
	{clockThreadCPU, noScale, 0},
	{clockMonotonicRaw, monotonic, 1},
	{clockRealtimeCoarse, realtime, 4e6},
	{clockMonotonicCoarse, monotonic, 4e6},
	{clockBoottime, boottime, 1},
	{clockRealtimeAlarm, realtime, 1},
	{clockBoottimeAlarm, boottime, 1},
	{clockUnused, noScale, 0},
	{clockTAI, tai, 1},
	{-1, noScale, 0},
	{12, noScale, 0},
	{100, noScale, 0},
}

func TestScaleOf(t *testing.T) {
	for _, c := range clocks {
		t.Run(fmt.Sprint(c.id), func(t *testing.T) {
			got, ok := vdso.ScaleOf(c.id)
			if c.scale == noScale {
				if ok {
					t.Errorf("ScaleOf = %d, want none", got)
				}
				return
			}
			if !ok || got != c.scale {
				t.Errorf("ScaleOf = %d, %v, want %d", got, ok, c.scale)
			}
			if got := vdso.Resolution(c.id); got != c.res {
				t.Errorf("Resolution = %d, want %d", got, c.res)
			}
		})
	}
}

func TestKindNeedsSlots(t *testing.T) {
	for _, k := range []vdso.Kind{vdso.Frozen, vdso.Untouched} {
		if got := vdso.SlotFunctions(k); len(got) != 0 {
			t.Errorf("SlotFunctions(%d) = %q, want none", k, got)
		}
	}
}

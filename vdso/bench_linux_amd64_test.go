package vdso_test

import (
	"testing"

	"github.com/sandtest/go-sandtest/internal/call"
	"github.com/sandtest/go-sandtest/vdso"
)

// BenchmarkClockRead reads the wall clock in each way. "call" is a function that
// does next to nothing: what calling takes of the other figures.
func BenchmarkClockRead(b *testing.B) {
	m := newMemory(b)
	host := hostFunction(b, "clock_gettime")
	frozen := newRegion(b, vdso.Frozen, nil)
	shifted := newRegion(b, vdso.Shifted, map[string]uintptr{"clock_gettime": host})
	for _, bb := range []struct {
		name string
		fn   uintptr
		ts   uintptr
	}{
		{"stub-frozen", frozen.fn("clock_gettime"), m.at(resultAt)},
		{"stub-shifted", shifted.fn("clock_gettime"), m.at(resultAt)},
		{"host-vdso", host, m.at(resultAt)},
		{"call", frozen.fn("getcpu"), 0},
	} {
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				call.Call(bb.fn, clockRealtime, bb.ts, 0, 0, 0)
			}
		})
	}
}

package vdso_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/vdso"
)

// Where the tests let functions write, away from the edges of a page so that a
// write beside it shows.
const (
	resultAt = 64
	tzAt     = 256
)

// split returns nanoseconds as a struct timespec holds them.
func split(ns int64) (sec, nsec int64) {
	sec, nsec = ns/1e9, ns%1e9
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	return sec, nsec
}

// id passes a clock id as a program may: an int in the lower half of a register
// whose upper half holds rubbish.
func id(clock int32) uintptr { return uintptr(uint32(clock)) | 0x5eed<<32 }

// checkTimespec checks that a call wrote the given instant at resultAt, and
// nothing beside it.
func checkTimespec(t *testing.T, m memory, what string, ns int64) {
	t.Helper()
	sec, nsec := m.int64(resultAt), m.int64(resultAt+8)
	if wantSec, wantNsec := split(ns); sec != wantSec || nsec != wantNsec {
		t.Errorf("%s = %d s %d ns, want %d s %d ns", what, sec, nsec, wantSec, wantNsec)
	}
	checkWritten(t, m, what, resultAt, resultAt+16)
}

func checkWritten(t *testing.T, m memory, what string, lo, hi int) {
	t.Helper()
	if gotLo, gotHi := m.written(); gotLo < lo || gotHi > hi {
		t.Errorf("%s wrote to bytes %d to %d, want %d to %d", what, gotLo, gotHi, lo, hi)
	}
}

// scales are four instants that can't be taken for one another.
var scales = [nScales]int64{
	realtime:  946684800_123456789,
	monotonic: 3600_000000001,
	boottime:  7200_999999999,
	tai:       946684837_000000000,
}

func TestFrozenClockGettime(t *testing.T) {
	r, m := newRegion(t, vdso.Frozen, nil), newMemory(t)
	r.data.Set(scales[:]...)
	for _, c := range clocks {
		if c.scale == noScale {
			continue // TestKernelClocks
		}
		t.Run(fmt.Sprint(c.id), func(t *testing.T) {
			if ret := r.call("clock_gettime", id(c.id), m.at(resultAt)); ret != 0 {
				t.Fatalf("clock_gettime = %d", ret)
			}
			checkTimespec(t, m, "clock_gettime", scales[c.scale])
		})
	}
}

// The clock moves by what the supervisor stores, and everything that reads the
// wall clock agrees on it.
func TestFrozenInstants(t *testing.T) {
	r, m := newRegion(t, vdso.Frozen, nil), newMemory(t)
	for _, ns := range []int64{0, 1, 999_999_999, 1e9, scales[0], 1 << 32 * 1e9, math.MaxInt64,
		-1, -999_999_999, -1e9, -1e9 - 1, -86400e9 + 1, math.MinInt64} {
		t.Run(fmt.Sprint(ns), func(t *testing.T) {
			r.data.Set(ns, 1, 1, 1)
			r.call("clock_gettime", clockRealtime, m.at(resultAt))
			checkTimespec(t, m, "clock_gettime", ns)
			checkWallClock(t, r, m, ns)
		})
	}
}

// checkWallClock checks gettimeofday and time, with and without each pointer.
func checkWallClock(t *testing.T, r *region, m memory, ns int64) {
	t.Helper()
	wantSec, wantNsec := split(ns)
	for _, args := range []struct {
		name   string
		tv, tz uintptr
		lo, hi int
	}{
		{"gettimeofday(tv, NULL)", m.at(resultAt), 0, resultAt, resultAt + 16},
		{"gettimeofday(tv, tz)", m.at(resultAt), m.at(tzAt), resultAt, tzAt + 8},
		{"gettimeofday(NULL, tz)", 0, m.at(tzAt), tzAt, tzAt + 8},
		{"gettimeofday(NULL, NULL)", 0, 0, 0, 0},
	} {
		if ret := r.call("gettimeofday", args.tv, args.tz); ret != 0 {
			t.Errorf("%s = %d", args.name, ret)
		}
		if args.tv != 0 {
			if sec, usec := m.int64(resultAt), m.int64(resultAt+8); sec != wantSec || usec != wantNsec/1000 {
				t.Errorf("%s: %d s %d us, want %d s %d us", args.name, sec, usec, wantSec, wantNsec/1000)
			}
		}
		if args.tz != 0 {
			if tz := m.int64(tzAt); tz != 0 {
				t.Errorf("%s: time zone %#x, want zeros", args.name, tz)
			}
		}
		checkWritten(t, m, args.name, args.lo, args.hi)
	}

	if got := int64(callC(r.fn("time"), 0)); got != wantSec {
		t.Errorf("time(NULL) = %d, want %d", got, wantSec)
	}
	checkWritten(t, m, "time(NULL)", 0, 0)
	if got := int64(callC(r.fn("time"), m.at(resultAt))); got != wantSec || m.int64(resultAt) != wantSec {
		t.Errorf("time(&t) = %d, t = %d, want %d", got, m.int64(resultAt), wantSec)
	}
	checkWritten(t, m, "time(&t)", resultAt, resultAt+8)
}

// The division by 1000 is a multiplication, which must be exact.
func TestMicroseconds(t *testing.T) {
	nanoseconds := []int64{0, 1, 999, 1000, 999_999_999}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		n := rng.Int64N(1e9)
		// As it comes, and at the edges where rounding would show.
		nanoseconds = append(nanoseconds, n, n/1000*1000, n/1000*1000+999)
	}
	r, m := newRegion(t, vdso.Frozen, nil), newMemory(t)
	for _, ns := range nanoseconds {
		r.data.Set(5e9 + ns)
		r.call("gettimeofday", m.at(resultAt))
		if sec, usec := m.int64(resultAt), m.int64(resultAt+8); sec != 5 || usec != ns/1000 {
			t.Fatalf("5 s %d ns = %d s %d us, want 5 s %d us", ns, sec, usec, ns/1000)
		}
	}
}

// hostRegion is a region of the given kind over the host's own vDSO.
func hostRegion(t *testing.T, kind vdso.Kind) *region {
	t.Helper()
	return newRegion(t, kind, map[string]uintptr{"clock_gettime": hostFunction(t, "clock_gettime")})
}

// Clocks without a scale give what the kernel gives: errors as well as CPU
// time, which the sandbox's filter answers.
func TestKernelClocks(t *testing.T) {
	for _, kindName := range []string{"frozen", "shifted"} {
		r, m := hostRegion(t, kinds[kindName]), newMemory(t)
		r.data.Set(scales[:]...)
		for _, c := range clocks {
			if c.scale != noScale {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", kindName, c.id), func(t *testing.T) {
				// A thread's CPU time is that of one thread.
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()

				native := func() (int64, int32) {
					_, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, uintptr(c.id), m.at(resultAt), 0)
					defer m.poison()
					return m.int64(resultAt)*1e9 + m.int64(resultAt+8), -int32(errno)
				}
				before, want := native()
				if got := r.call("clock_gettime", id(c.id), m.at(resultAt)); got != want {
					t.Fatalf("clock_gettime = %d, want %d", got, want)
				}
				got := m.int64(resultAt)*1e9 + m.int64(resultAt+8)
				if want != 0 {
					checkWritten(t, m, "failing clock_gettime", 0, 0)
					return
				}
				checkWritten(t, m, "clock_gettime", resultAt, resultAt+16)
				if after, _ := native(); got < before || got > after {
					t.Errorf("clock_gettime = %d ns, want %d to %d", got, before, after)
				}
			})
		}
	}
}

func TestClockGetres(t *testing.T) {
	for _, kindName := range []string{"frozen", "shifted"} {
		r, m := hostRegion(t, kinds[kindName]), newMemory(t)
		for _, c := range clocks {
			t.Run(fmt.Sprintf("%s/%d", kindName, c.id), func(t *testing.T) {
				want := c.res
				if c.scale == noScale {
					_, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETRES, uintptr(c.id), m.at(resultAt), 0)
					want = m.int64(resultAt)*1e9 + m.int64(resultAt+8)
					m.poison()
					if errno != 0 {
						for _, p := range []uintptr{0, m.at(resultAt)} {
							if got := r.call("clock_getres", id(c.id), p); got != -int32(errno) {
								t.Errorf("clock_getres(%#x) = %d, want %d", p, got, -int32(errno))
							}
							checkWritten(t, m, "failing clock_getres", 0, 0)
						}
						return
					}
				}
				if got := r.call("clock_getres", id(c.id), m.at(resultAt)); got != 0 {
					t.Errorf("clock_getres = %d", got)
				}
				checkTimespec(t, m, "clock_getres", want)
				if got := r.call("clock_getres", id(c.id), 0); got != 0 {
					t.Errorf("clock_getres(NULL) = %d", got)
				}
				checkWritten(t, m, "clock_getres(NULL)", 0, 0)
			})
		}
	}
}

func TestGetcpu(t *testing.T) {
	for kindName, kind := range kinds {
		t.Run(kindName, func(t *testing.T) {
			r, m := hostRegion(t, kind), newMemory(t)
			const nodeAt = resultAt + 32
			for _, args := range []struct {
				name      string
				cpu, node uintptr
				lo, hi    int
			}{
				{"getcpu(&cpu, &node)", m.at(resultAt), m.at(nodeAt), resultAt, nodeAt + 4},
				{"getcpu(&cpu, NULL)", m.at(resultAt), 0, resultAt, resultAt + 4},
				{"getcpu(NULL, &node)", 0, m.at(nodeAt), nodeAt, nodeAt + 4},
				{"getcpu(NULL, NULL)", 0, 0, 0, 0},
			} {
				if ret := r.call("getcpu", args.cpu, args.node); ret != 0 {
					t.Errorf("%s = %d", args.name, ret)
				}
				if got := m.uint32(resultAt); args.cpu != 0 && got != 0 {
					t.Errorf("%s: CPU %d, want 0", args.name, got)
				}
				if got := m.uint32(nodeAt); args.node != 0 && got != 0 {
					t.Errorf("%s: node %d, want 0", args.name, got)
				}
				checkWritten(t, m, args.name, args.lo, args.hi)
			}
		})
	}
}

func TestGetrandom(t *testing.T) {
	const size = 64
	for kindName, kind := range kinds {
		t.Run(kindName, func(t *testing.T) {
			r, m := hostRegion(t, kind), newMemory(t)
			getrandom := func(args ...uintptr) int64 { return int64(callC(r.fn("getrandom"), args...)) }

			// The question by which a C library learns whether to use it at all.
			if got := getrandom(0, 0, 0, m.at(resultAt), math.MaxUint64); got != -int64(unix.ENOSYS) {
				t.Errorf("getrandom for its state = %d, want -ENOSYS", got)
			}
			checkWritten(t, m, "getrandom for its state", 0, 0)

			if got := getrandom(m.at(resultAt), size, 0, 0, 0); got != size {
				t.Errorf("getrandom = %d, want %d", got, size)
			}
			checkRandom(t, m, resultAt, size)

			// The same call with a state, which it leaves alone.
			if got := getrandom(m.at(resultAt), size, unix.GRND_NONBLOCK, m.at(1024), 256); got != size {
				t.Errorf("getrandom with a state = %d, want %d", got, size)
			}
			checkRandom(t, m, resultAt, size)

			const badFlag = 0x80
			if got := getrandom(m.at(resultAt), size, badFlag, 0, 0); got != -int64(unix.EINVAL) {
				t.Errorf("getrandom with an unknown flag = %d, want -EINVAL", got)
			}
			checkWritten(t, m, "failing getrandom", 0, 0)
		})
	}
}

// checkRandom checks that all of a buffer was filled: each half of it has a byte
// that isn't poison, with all the certainty of 32 random bytes.
func checkRandom(t *testing.T, m memory, at, size int) {
	t.Helper()
	for _, half := range []memory{m[at : at+size/2], m[at+size/2 : at+size]} {
		same := true
		for _, b := range half {
			same = same && b == poison
		}
		if same {
			t.Errorf("getrandom left %d bytes as they were", len(half))
		}
	}
	checkWritten(t, m, "getrandom", at, at+size)
}

// After so many reads at one instant the functions ask the kernel, once, and
// count anew; so they do at another instant.
func TestFrozenCounts(t *testing.T) {
	r, m := newRegion(t, vdso.Frozen, nil), newMemory(t)
	r.data.Set(scales[:]...)
	asked := func(fn string, args ...uintptr) int {
		r.recount()
		for n := 1; n <= 2*vdso.Reads; n++ {
			r.call(fn, args...)
			if m.int64(resultAt) != scales[realtime]/1e9 {
				return n
			}
		}
		return 0
	}
	for fn, args := range map[string][]uintptr{
		"clock_gettime": {id(unix.CLOCK_REALTIME), m.at(resultAt)}, "gettimeofday": {m.at(resultAt), 0}, "time": {m.at(resultAt)},
	} {
		if n := asked(fn, args...); n != vdso.Reads {
			t.Errorf("%s asked the kernel at read %d, want %d", fn, n, vdso.Reads)
		}
		r.call(fn, args...)
		if m.int64(resultAt) != scales[realtime]/1e9 {
			t.Errorf("%s asked the kernel twice in a row", fn)
		}
	}
}

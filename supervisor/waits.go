//go:build linux

package supervisor

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// timedWaits moves the virtual clock on by what a program slept.
//
// Source: the moment at which a timed wait ends. Normalised: the wait takes real
// time, and when it has run to its end the clock is moved to the instant it was
// to end at. Assumed stable: that the program's own waits are longer than
// housekeeping. A wait of 10 ms or less leaves the clock alone, because Go's
// runtime naps for up to that long on its own account, and so does a futex,
// on which the Java runtime waits periodically.
func timedWaits(s *Sandbox) feature {
	f := feature{name: "waits"}
	if s.cfg.Clock != det.Virtual {
		return f
	}
	for _, w := range waits {
		f.calls = append(f.calls, call{name: w.name, stop: w.stop})
	}
	return f
}

// housekeeping is the longest wait that leaves the clock alone.
const housekeeping = 10 * time.Millisecond

// A wait is a call that may end because time has passed.
type wait struct {
	name    string
	arg     int // the argument that holds the timeout
	timeout func(st *Stop, arg uint64) (time.Duration, bool)
	ends    int64 // what the call returns when its time is up
}

var waits = []wait{
	{"nanosleep", 0, timespecAt, 0},
	{"clock_nanosleep", 2, sleepRequest, 0},
	{"poll", 2, milliseconds, 0},
	{"ppoll", 2, timespecAt, 0},
	{"select", 4, timevalAt, 0},
	{"pselect6", 4, timespecAt, 0},
	{"epoll_wait", 3, milliseconds, 0},
	{"epoll_pwait", 3, milliseconds, 0},
	{"epoll_pwait2", 3, timespecAt, 0},
}

func (w wait) stop(st *Stop) {
	d, ok := w.timeout(st, st.Arg(w.arg))
	if !ok || d <= housekeeping {
		return
	}
	until := st.t.s.clock.elapsed() + d
	if until < 0 {
		until = math.MaxInt64 // the clock has an end of its own
	}
	st.OnExit(func(st *Stop) {
		if st.Result() == w.ends {
			st.t.s.clock.virtual.AdvanceTo(until)
		}
	})
}

func milliseconds(_ *Stop, arg uint64) (time.Duration, bool) {
	ms := int32(arg)
	return time.Duration(ms) * time.Millisecond, ms > 0
}

func timespecAt(st *Stop, at uint64) (time.Duration, bool) { return pairAt(st, at, time.Nanosecond) }
func timevalAt(st *Stop, at uint64) (time.Duration, bool)  { return pairAt(st, at, time.Microsecond) }

func pairAt(st *Stop, at uint64, unit time.Duration) (time.Duration, bool) {
	var b [16]byte
	if at == 0 || st.Read(at, b[:]) != nil {
		return 0, false
	}
	sec := int64(binary.NativeEndian.Uint64(b[:]))
	rest := int64(binary.NativeEndian.Uint64(b[8:]))
	if sec < 0 || sec > int64(100*365*24*time.Hour/time.Second) || rest < 0 || rest >= int64(time.Second/unit) {
		return 0, false
	}
	return time.Duration(sec)*time.Second + time.Duration(rest)*unit, true
}

// sleepRequest reads what clock_nanosleep is asked to wait for: a time span, or
// with TIMER_ABSTIME an instant.
func sleepRequest(st *Stop, at uint64) (time.Duration, bool) {
	d, ok := timespecAt(st, at)
	if !ok || st.Arg(1)&unix.TIMER_ABSTIME == 0 {
		return d, ok
	}
	scale := det.Realtime
	if int32(st.Arg(0)) != unix.CLOCK_REALTIME {
		scale = det.Monotonic
	}
	return d - time.Duration(st.t.s.clock.virtual.Read(scale)), true
}

//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// timedWaits moves the virtual clock on by what a program waited for, and lets
// absolute deadlines mean the sandbox's clock.
//
// Source: the moment at which a timed wait ends. Normalised: the wait takes real
// time, and when it has run to its end the clock is moved to the instant it was
// to end at. Assumed stable: that a nanosleep of 10 ms or less is housekeeping;
// it leaves the clock alone, because Go's runtime naps for up to that long on its
// own account (C libraries and Go programs sleep by other calls). A process that
// does nothing else for long gets the clock moved all the same, so that a loop of
// naps ends. A futex with a relative timeout, by which Go's runtime waits for
// itself, leaves the clock alone too.
//
// A deadline on the sandbox's clock is translated into one on the host's, under
// the virtual clock and the running one.
func timedWaits(s *Sandbox) feature {
	f := feature{name: "waits"}
	if s.cfg.Clock == det.Host {
		return f
	}
	for _, w := range waits {
		if s.cfg.Clock == det.Running && !w.absolute {
			continue
		}
		f.calls = append(f.calls, call{name: w.name, anyOf: w.anyOf, stop: w.stop})
	}
	return f
}

// housekeeping is the longest nanosleep that leaves the clock alone, and naps how
// many of at least a tenth of that a process may make at one instant.
const (
	housekeeping = 10 * time.Millisecond
	naps         = 1000
)

// A wait is a call that may end because time has passed.
type wait struct {
	name     string
	anyOf    [][]seccomp.Cond
	arg      int // the argument that holds the timeout
	timeout  func(st *Stop, arg uint64) (timeout, bool)
	ends     int64 // what the call returns when its time is up
	absolute bool  // its timeout may be an instant
	nap      bool  // it may be housekeeping
}

// A timeout is what a wait is asked for: a time span, or an instant on a scale.
type timeout struct {
	span    time.Duration
	instant bool
	scale   det.Scale
}

var waits = []wait{
	{name: "nanosleep", timeout: timespecAt, nap: true},
	{name: "clock_nanosleep", arg: 2, timeout: sleepRequest, absolute: true},
	{name: "poll", arg: 2, timeout: milliseconds},
	{name: "ppoll", arg: 2, timeout: timespecAt},
	{name: "select", arg: 4, timeout: timevalAt},
	{name: "pselect6", arg: 4, timeout: timespecAt},
	{name: "epoll_wait", arg: 3, timeout: milliseconds},
	{name: "epoll_pwait", arg: 3, timeout: milliseconds},
	{name: "epoll_pwait2", arg: 3, timeout: timespecAt},
	{name: "futex", anyOf: futexDeadlines, arg: 3, timeout: futexDeadline, ends: -int64(unix.ETIMEDOUT), absolute: true},
}

// The futex operations whose timeout is an instant (futex(2), linux/futex.h).
const (
	futexLockPI        = 6
	futexWaitBitset    = 9
	futexWaitRequeuePI = 11
	futexLockPI2       = 13
	futexCmdMask       = 0x7f
	futexRealtime      = 256
)

// futexDeadlines selects those operations, when they have a timeout.
var futexDeadlines = func() (anyOf [][]seccomp.Cond) {
	for _, op := range []uint64{futexLockPI, futexWaitBitset, futexWaitRequeuePI, futexLockPI2} {
		anyOf = append(anyOf, []seccomp.Cond{
			{Arg: 1, Mask: futexCmdMask, Value: op},
			{Arg: 3, Mask: ^uint64(0), Not: true},
		})
	}
	return anyOf
}()

func futexDeadline(st *Stop, at uint64) (timeout, bool) {
	d, ok := timespecAt(st, at)
	d.instant = true
	op := st.Arg(1)
	if op&futexCmdMask != futexLockPI && op&futexRealtime == 0 {
		d.scale = det.Monotonic
	}
	return d, ok
}

// A goneOn is a wait that was interrupted and may go on, because no handler ran.
type goneOn struct {
	nr    int
	sp    uint64
	until time.Duration // by the sandbox's clock since its start
}

func (w wait) stop(st *Stop) {
	want, ok := w.timeout(st, st.Arg(w.arg))
	if !ok {
		return // the kernel says what is wrong with it, or it has none
	}
	clock := st.t.s.clock
	now, span := clock.elapsed(), want.span
	if want.instant {
		at, err := clock.read(want.scale)
		if err != nil {
			st.t.s.fail(err)
			return
		}
		span -= time.Duration(at)
		if err := st.untilHost(w.arg, want.scale, span); err != nil {
			st.t.s.fail(fmt.Errorf("supervisor: translate the deadline of %s: %w", w.name, err))
			return
		}
	}
	until := now + max(span, 0)
	if until < 0 {
		until = math.MaxInt64 // the clock has an end of its own
	}
	if g := st.th.goneOn; g != nil && g.nr == st.Nr() && g.sp == st.regs.SP() && !want.instant {
		until = g.until
	}
	st.th.goneOn = nil
	given := st.regs
	st.OnExit(func(st *Stop) {
		if want.instant {
			st.setArg(w.arg, given.Arg(w.arg))
		}
		switch st.Result() {
		case w.ends:
			if clock.mode == det.Virtual && !(w.nap && st.th.proc.naps(span, clock.elapsed())) {
				clock.virtual.AdvanceTo(until)
				st.th.proc.napsAt = clock.elapsed() // its own nap doesn't start the count anew
			}
		case -erestartsys, -erestartnointr, -erestartnohand:
			st.th.goneOn = &goneOn{st.Nr(), given.SP(), until}
		}
	})
}

// naps reports whether a nanosleep is housekeeping, which leaves the clock alone.
func (p *Process) naps(span, now time.Duration) bool {
	if span > housekeeping {
		return false
	}
	if p.napsAt != now {
		p.napsAt, p.napped = now, 0
	}
	if span >= housekeeping/10 {
		p.napped++
	}
	return p.napped <= naps
}

// untilHost makes the call wait for an instant of the host's clock, so long after
// now, in place of the instant that argument arg points to.
func (st *Stop) untilHost(arg int, scale det.Scale, span time.Duration) error {
	now, err := readHost(hostClock[scale])
	if err != nil {
		return err
	}
	at := now + int64(span)
	if span > 0 && at < now {
		at = math.MaxInt64
	}
	b := binary.NativeEndian.AppendUint64(nil, uint64(max(at, 0)/1e9))
	b = binary.NativeEndian.AppendUint64(b, uint64(max(at, 0)%1e9))
	const below = 1024 // the stack pointer, out of the way of everything
	where := (st.regs.SP() - below) &^ 15
	if _, err := tracee.WriteMem(st.th.tid, where, b); err != nil {
		return err
	}
	st.setArg(arg, where)
	return nil
}

// setArg changes an argument register.
func (st *Stop) setArg(i int, v uint64) {
	st.regs.SetArg(i, v)
	_ = st.regs.Store(st.th.tid) // it fails only when the thread was killed
}

func milliseconds(_ *Stop, arg uint64) (timeout, bool) {
	ms := int32(arg)
	return timeout{span: time.Duration(ms) * time.Millisecond}, ms > 0
}

func timespecAt(st *Stop, at uint64) (timeout, bool) { return pairAt(st, at, time.Nanosecond) }
func timevalAt(st *Stop, at uint64) (timeout, bool)  { return pairAt(st, at, time.Microsecond) }

// maxSeconds is the largest timeout that is told apart from none.
const maxSeconds = math.MaxInt64 / int64(time.Second)

func pairAt(st *Stop, at uint64, unit time.Duration) (timeout, bool) {
	var b [16]byte
	if at == 0 || st.Read(at, b[:]) != nil {
		return timeout{}, false
	}
	sec := int64(binary.NativeEndian.Uint64(b[:]))
	rest := int64(binary.NativeEndian.Uint64(b[8:]))
	if sec < 0 || rest < 0 || rest >= int64(time.Second/unit) {
		return timeout{}, false
	}
	if sec >= maxSeconds {
		return timeout{span: math.MaxInt64}, true
	}
	return timeout{span: time.Duration(sec)*time.Second + time.Duration(rest)*unit}, true
}

// sleepRequest reads what clock_nanosleep is asked to wait for: a time span, or
// with TIMER_ABSTIME an instant.
func sleepRequest(st *Stop, at uint64) (timeout, bool) {
	d, ok := timespecAt(st, at)
	d.instant = st.Arg(1)&unix.TIMER_ABSTIME != 0
	scale, known := vdso.ScaleOf(int32(st.Arg(0)))
	d.scale = det.Scale(scale)
	return d, ok && (known || !d.instant)
}

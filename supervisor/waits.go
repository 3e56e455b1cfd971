//go:build linux

package supervisor

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// timedWaits lets a wait that may end because time has passed follow the
// sandbox's clock.
//
// Source: the real time that a timed wait takes. Eliminated under the virtual
// clock: the wait is made one without a timeout and put on the agenda; at its
// deadline, which comes when everything in the sandbox waits, the thread is poked
// and its call returns what it returns when its time is up. What the kernel
// writes back of the time that is left is written by the tracer.
//
// What remains: recvmmsg's timeout, which natively is looked at only when a
// datagram has come, never ends the call.
func timedWaits(s *Sandbox) feature {
	f := feature{name: "waits"}
	if s.cfg.Clock != det.Virtual {
		return f
	}
	for _, w := range waits {
		f.calls = append(f.calls, call{name: w.name, anyOf: w.anyOf, conds: w.conds, stop: w.enter})
	}
	return f
}

// A wait is a call that may end because time has passed.
type wait struct {
	name  string
	conds []seccomp.Cond
	anyOf [][]seccomp.Cond

	arg     int // the argument that holds the timeout
	timeout func(st *Stop, arg uint64) (timeout, bool)
	without uint64 // as the timeout: wait for ever
	ends    int64  // what the call returns when its time is up

	until   [][]seccomp.Cond                                          // selects the calls whose timeout is an instant
	sleep   bool                                                      // it waits for nothing else
	nap     bool                                                      // in a Go program it is the runtime's
	retry   bool                                                      // in a Go program it is the runtime's, if it is runtimeRetry long
	left    func(st *Stop, w *waiting, left time.Duration) unix.Errno // writes back what is left
	stays   bool                                                      // the kernel never restarts it
	sets    bool                                                      // it empties three sets of descriptors
	endless bool                                                      // its time being up doesn't end it
	detours bool                                                      // nothing is to be done at its end but to put the registers back
}

// A timeout is what a wait is asked for: a time span, or an instant on a scale.
type timeout struct {
	span    time.Duration
	instant bool
	scale   det.Scale
	meter   *meter // instead of a scale: CPU time
}

// hasTimeout selects calls whose timeout is not a null pointer, positive those whose
// timeout in milliseconds is.
func hasTimeout(arg int) []seccomp.Cond {
	return []seccomp.Cond{{Arg: arg, Mask: ^uint64(0), Not: true}}
}

func positive(arg int) []seccomp.Cond {
	return []seccomp.Cond{{Arg: arg, Mask: 1<<32 - 1, Not: true}, {Arg: arg, Mask: 1 << 31}}
}

const forever = 1<<32 - 1 // -1 milliseconds

// untilInstant selects the calls of sleeps and timers that have TIMER_ABSTIME.
var untilInstant = [][]seccomp.Cond{{{Arg: 1, Mask: unix.TIMER_ABSTIME, Value: unix.TIMER_ABSTIME}}}

var waits = []wait{
	{name: "nanosleep", timeout: timespecAt, sleep: true, left: sleepLeft(1), nap: true},
	{name: "clock_nanosleep", arg: 2, timeout: sleepRequest, sleep: true, until: untilInstant, left: sleepLeft(3)},
	{name: "poll", arg: 2, conds: positive(2), timeout: milliseconds, without: forever, detours: true},
	{name: "ppoll", arg: 2, conds: hasTimeout(2), timeout: timespecAt, left: pairLeft(time.Nanosecond)},
	{name: "select", arg: 4, conds: hasTimeout(4), timeout: selectTimeout, left: pairLeft(time.Microsecond), sets: true},
	{name: "pselect6", arg: 4, conds: hasTimeout(4), timeout: timespecAt, left: pairLeft(time.Nanosecond), sets: true},
	{name: "epoll_wait", arg: 3, conds: positive(3), timeout: milliseconds, without: forever, stays: true, detours: true},
	{name: "epoll_pwait", arg: 3, conds: positive(3), timeout: milliseconds, without: forever, stays: true, detours: true},
	{name: "epoll_pwait2", arg: 3, conds: hasTimeout(3), timeout: timespecAt, stays: true, detours: true},
	{name: "futex", arg: 3, anyOf: futexWaits, timeout: futexTimeout, ends: -int64(unix.ETIMEDOUT), until: futexWaits[1:], retry: true, detours: true},
	{name: "futex_waitv", arg: 3, conds: hasTimeout(3), timeout: futexVectorTimeout, ends: -int64(unix.ETIMEDOUT), until: [][]seccomp.Cond{hasTimeout(3)}, detours: true},
	{name: "rt_sigtimedwait", arg: 2, conds: hasTimeout(2), timeout: timespecAt, ends: -int64(unix.EAGAIN), stays: true},
	{name: "semtimedop", arg: 3, conds: hasTimeout(3), timeout: timespecAt, ends: -int64(unix.EAGAIN), stays: true},
	{name: "mq_timedsend", arg: 4, conds: hasTimeout(4), timeout: realtimeAt, ends: -int64(unix.ETIMEDOUT), until: [][]seccomp.Cond{hasTimeout(4)}},
	{name: "mq_timedreceive", arg: 4, conds: hasTimeout(4), timeout: realtimeAt, ends: -int64(unix.ETIMEDOUT), until: [][]seccomp.Cond{hasTimeout(4)}},
	{name: "recvmmsg", arg: 4, conds: hasTimeout(4), timeout: timespecAt, left: pairLeft(time.Nanosecond), endless: true},
	{name: "io_getevents", arg: 4, conds: hasTimeout(4), timeout: timespecAt, stays: true},
	{name: "io_pgetevents", arg: 4, conds: hasTimeout(4), timeout: timespecAt, stays: true},
}

// The futex operations that wait (futex(2), linux/futex.h).
const (
	futexWaitPlain     = 0
	futexLockPI        = 6
	futexWaitBitset    = 9
	futexWaitRequeuePI = 11
	futexLockPI2       = 13
	futexCmdMask       = 0x7f
	futexRealtime      = 256
)

// futexWaits selects those operations, when they have a timeout: a span for the
// first, an instant for the others.
var futexWaits = func() (anyOf [][]seccomp.Cond) {
	for _, op := range []uint64{futexWaitPlain, futexLockPI, futexWaitBitset, futexWaitRequeuePI, futexLockPI2} {
		anyOf = append(anyOf, append(hasTimeout(3), seccomp.Cond{Arg: 1, Mask: futexCmdMask, Value: op}))
	}
	return anyOf
}()

// futexTimeout reads a span for FUTEX_WAIT and an instant for the others; the
// scale of FUTEX_LOCK_PI is always CLOCK_REALTIME.
func futexTimeout(st *Stop, at uint64) (timeout, bool) {
	d, ok := timespecAt(st, at)
	op := st.Arg(1)
	d.instant = op&futexCmdMask != futexWaitPlain
	if op&futexCmdMask != futexLockPI && op&futexRealtime == 0 {
		d.scale = det.Monotonic
	}
	return d, ok
}

func futexVectorTimeout(st *Stop, at uint64) (timeout, bool) {
	d, ok := timespecAt(st, at)
	d.instant = true
	switch int32(st.Arg(4)) {
	case unix.CLOCK_MONOTONIC:
		d.scale = det.Monotonic
	case unix.CLOCK_REALTIME:
	default:
		return d, false // the kernel says EINVAL
	}
	return d, ok
}

func realtimeAt(st *Stop, at uint64) (timeout, bool) {
	d, ok := timespecAt(st, at)
	d.instant = true
	return d, ok
}

// A goneOn is a wait that was interrupted and may go on, because no handler ran.
type goneOn struct {
	nr    int
	sp    uint64
	until time.Duration // by the sandbox's clock since its start
}

// A waiting is a thread's wait under the virtual clock.
type waiting struct {
	entry
	wait   *wait
	given  tracee.Regs // as the program has set them
	until  time.Duration
	want   timeout
	ended  bool // its time was up; belongs to the agenda
	detour detour
}

// enter puts a wait on the agenda.
func (w *wait) enter(st *Stop) {
	want, ok := w.timeout(st, st.Arg(w.arg))
	if !ok || !want.instant && want.span == 0 {
		return // the kernel says what is wrong with it, or it doesn't wait
	}
	th := st.th
	me := &th.wait
	me.forget(st.t.s.agenda)
	me.meter = want.meter
	now := st.t.s.agenda.instant(&me.entry)
	until := addTime(now, want.span)
	if want.instant {
		if until = want.span; want.meter == nil {
			until = st.t.s.clock.virtual.ElapsedAt(want.scale, int64(want.span))
		}
		if until <= now {
			w.expired(st)
			return
		}
	}
	if g := th.goneOn; g != nil && g.nr == st.Nr() && g.sp == st.regs.SP() && !want.instant {
		until = max(g.until, now)
	}
	th.goneOn = nil
	me.wait, me.given, me.until, me.want, me.ended = w, st.regs, until, want, false
	me.at, me.proc, me.thread, me.wakes, me.nap, me.aside = until, th.proc, th.index, th, nil, th.monitor
	me.wall = want.instant && want.meter == nil && want.scale.Settable()
	if me.happen == nil {
		poke := th.poke
		me.happen = func(int) {
			me.ended = true
			st.t.s.agenda.mu.afterwards(poke)
		}
		me.dropped = me.isOver
		th.waited = func(st *Stop) { me.exit(st) }
	}
	switch {
	case th.proc.naps && (w.nap || w.retry && th.retries(&want)):
		th.monitor = th.monitor || want.span == monitorNap
		me.aside = false
		me.nap = &th.naps
		w.endsByItself(st, want.span)
	case w.sleep:
		th.sleeps.Store(w)
		st.regs.SetNr(unix.SYS_PPOLL)
		for i := range 4 {
			st.regs.SetArg(i, 0)
		}
	default:
		st.regs.SetArg(w.arg, w.without)
	}
	told := me.nap != nil || !w.detours || !st.mayDetour() || !me.takeDetour(st)
	_ = st.regs.Store(th.tid) // it fails only when the thread was killed
	if !w.endless {
		st.t.s.agenda.add(&me.entry)
	}
	if told {
		st.OnExit(th.waited)
	}
}

// exit ends the wait, however it ended.
func (me *waiting) exit(st *Stop) {
	st.t.s.agenda.remove(&me.entry)
	st.th.sleeps.Store(nil)
	w, result := me.wait, st.regs.Result()
	if me.nap != nil && w.retry {
		st.th.retried(st.t.s.agenda, result == w.ends && !me.ended)
	}
	left := max(me.until-st.t.s.agenda.instant(&me.entry), 0)
	switch {
	case !interrupted(result):
		if !w.sleep {
			me.writeLeft(st, left)
		}
	case me.ended:
		result = w.ends
		if !w.sleep {
			me.writeLeft(st, 0)
		}
		if w.sets {
			me.emptySets(st)
		}
	default:
		st.th.goneOn = &goneOn{me.given.Nr(), me.given.SP(), me.until}
		if !w.stays {
			result = -erestartnohand
		}
		if errno := me.writeLeft(st, left); errno != 0 {
			result = -int64(errno)
		}
	}
	st.regs.SetResult(result)
	st.regs.SetNr(me.given.Nr())
	st.regs.ReturnTo(me.given.PC())
	me.giveBack(&st.regs)
	me.detour.back = 0
	_ = st.regs.Store(st.th.tid) // it fails only when the thread was killed
}

// emptySets says that no descriptor is ready, up to the highest that select was
// told of.
func (me *waiting) emptySets(st *Stop) {
	const word = 64
	n := min(max(int(int32(me.given.Arg(0))), 0), 1<<20)
	empty := make([]byte, (n+word-1)/word*word/8)
	for i := 1; i <= 3; i++ {
		if at := me.given.Arg(i); at != 0 {
			_, _ = tracee.WriteMem(st.th.tid, at, empty) // it could be read at the entry
		}
	}
}

func (me *waiting) writeLeft(st *Stop, left time.Duration) unix.Errno {
	if me.wait.left == nil {
		return 0
	}
	return me.wait.left(st, me, left)
}

// interrupted reports whether a signal has ended a call.
func interrupted(result int64) bool {
	switch result {
	case -erestartsys, -erestartnointr, -erestartnohand, -erestartblock, -int64(unix.EINTR):
		return true
	}
	return false
}

// poke interrupts what the thread waits in. SIGSTOP can't be blocked, and the
// tracer sees to it that it does nothing else.
func (th *thread) poke() {
	th.pokes.Add(1)
	_ = unix.Tgkill(th.proc.TGID, th.tid, unix.SIGSTOP) // it fails only when the thread is gone
}

// wasPoked reports whether a SIGSTOP that has stopped the thread is a poke.
func (th *thread) wasPoked() bool {
	if th.pokes.Load() == 0 {
		return false
	}
	info, err := tracee.GetSiginfo(th.tid)
	if err != nil || !info.SentBy(th.proc.supervisor) {
		return false
	}
	th.pokes.Add(-1)
	return true
}

// leave takes a thread that is no more off the agenda.
func (s *Sandbox) leave(th *thread) {
	if s.agenda != nil {
		s.agenda.remove(&th.wait.entry)
		th.wait.detour.back = 0
		s.agenda.remove(&th.socket.entry)
		s.agenda.remove(&th.delay)
	}
}

// expired makes a call whose deadline has passed look at what it waits for, and
// return: a deadline of zero has passed on every clock.
func (w *wait) expired(st *Stop) {
	region := st.th.proc.region.Load()
	if region == 0 || w.sleep {
		// There is nothing else to look at, or no place for a zero.
		st.regs.SetNr(-1)
		st.regs.SetResult(w.ends)
		_ = st.regs.Store(st.th.tid)
		return
	}
	given := st.regs
	st.setArg(w.arg, region+vdso.ZeroOffset)
	st.OnExit(func(st *Stop) { st.setArg(w.arg, given.Arg(w.arg)) })
}

// sleepLeft writes what is left of an interrupted sleep to where argument arg
// points, unless the sleep is until an instant.
func sleepLeft(arg int) func(*Stop, *waiting, time.Duration) unix.Errno {
	return func(st *Stop, me *waiting, left time.Duration) unix.Errno {
		at := me.given.Arg(arg)
		if at == 0 || me.want.instant {
			return 0
		}
		if writePair(st, at, left, time.Nanosecond) != nil {
			return unix.EFAULT
		}
		return 0
	}
}

// pairLeft writes what is left over the timeout. Where that can't be written, an
// interrupted call isn't restarted (poll_select_finish, fs/select.c).
func pairLeft(unit time.Duration) func(*Stop, *waiting, time.Duration) unix.Errno {
	return func(st *Stop, me *waiting, left time.Duration) unix.Errno {
		if writePair(st, me.given.Arg(me.wait.arg), left, unit) != nil {
			return unix.EINTR
		}
		return 0
	}
}

func writePair(st *Stop, at uint64, d, unit time.Duration) error {
	b := binary.NativeEndian.AppendUint64(nil, uint64(d/time.Second))
	b = binary.NativeEndian.AppendUint64(b, uint64(d%time.Second/unit))
	_, err := tracee.WriteMem(st.th.tid, at, b)
	return err
}

// setArg changes an argument register.
func (st *Stop) setArg(i int, v uint64) {
	st.regs.SetArg(i, v)
	_ = st.regs.Store(st.th.tid) // it fails only when the thread was killed
}

// selectTimeout reads a struct timeval, whose microseconds may exceed a second.
func selectTimeout(st *Stop, at uint64) (timeout, bool) {
	var b [16]byte
	if at == 0 || st.Read(at, b[:]) != nil {
		return timeout{}, false
	}
	sec := int64(binary.NativeEndian.Uint64(b[:]))
	usec := int64(binary.NativeEndian.Uint64(b[8:]))
	sec, usec = sec+usec/1e6, usec%1e6
	if sec < 0 || usec < 0 {
		return timeout{}, false
	}
	if sec >= maxSeconds {
		return timeout{span: math.MaxInt64}, true
	}
	return timeout{span: time.Duration(sec)*time.Second + time.Duration(usec)*time.Microsecond}, true
}

func milliseconds(_ *Stop, arg uint64) (timeout, bool) {
	ms := int32(arg)
	return timeout{span: time.Duration(ms) * time.Millisecond}, ms > 0
}

// maxSeconds is the largest timeout that is told apart from none.
const maxSeconds = math.MaxInt64 / int64(time.Second)

func timespecAt(st *Stop, at uint64) (timeout, bool) {
	var b [16]byte
	if at == 0 || st.Read(at, b[:]) != nil {
		return timeout{}, false
	}
	sec := int64(binary.NativeEndian.Uint64(b[:]))
	rest := int64(binary.NativeEndian.Uint64(b[8:]))
	if sec < 0 || rest < 0 || rest >= int64(time.Second) {
		return timeout{}, false
	}
	if sec >= maxSeconds {
		return timeout{span: math.MaxInt64}, true
	}
	return timeout{span: time.Duration(sec)*time.Second + time.Duration(rest)}, true
}

// sleepRequest reads what clock_nanosleep is asked to wait for: a time span, or
// with TIMER_ABSTIME an instant.
func sleepRequest(st *Stop, at uint64) (timeout, bool) {
	d, ok := timespecAt(st, at)
	d.instant = st.Arg(1)&unix.TIMER_ABSTIME != 0
	switch clock := int32(st.Arg(0)); clock {
	case unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_TAI:
		scale, _ := vdso.ScaleOf(clock)
		d.scale = det.Scale(scale)
	case unix.CLOCK_PROCESS_CPUTIME_ID:
		d.meter = &st.th.proc.meter
	default:
		return d, false // the kernel says that it can't
	}
	return d, ok
}

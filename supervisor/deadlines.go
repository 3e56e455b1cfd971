//go:build linux

package supervisor

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// deadlines translates instants of the running clock that a program waits for.
//
// Source: the kernel compares them with the host's clock. Eliminated: the call is
// given the same instant of the host's clock instead, from a place in the
// program's memory that is the supervisor's. Time spans are the same on both.
func deadlines(s *Sandbox) feature {
	f := feature{name: "deadlines"}
	if s.cfg.Clock != det.Running {
		return f
	}
	for _, w := range waits {
		if w.until != nil {
			f.calls = append(f.calls, call{name: w.name, anyOf: w.until, stop: w.translate})
		}
	}
	f.calls = append(f.calls,
		call{name: "timer_settime", anyOf: untilInstant, stop: translateTimer(timerClock)},
		call{name: "timerfd_settime", anyOf: untilInstant, stop: translateTimer(timerfdClock)},
	)
	return f
}

// toHost turns an instant of the running clock into one of the host's. It is
// never zero, which would be no time at all.
func (c *clock) toHost(scale det.Scale, instant time.Duration) time.Duration {
	at := int64(instant) - c.offset[scale]
	if c.offset[scale] < 0 && at < int64(instant) {
		at = math.MaxInt64
	}
	return time.Duration(max(at, 1))
}

// translate makes a wait until an instant of the running clock one until the same
// instant of the host's.
func (w *wait) translate(st *Stop) {
	want, ok := w.timeout(st, st.Arg(w.arg))
	if !ok || !want.instant || want.meter != nil {
		return // the kernel says what is wrong with it, or it isn't an instant
	}
	at := st.t.s.clock.toHost(want.scale, want.span)
	given := st.Arg(w.arg)
	if !st.give(w.arg, w.name, appendTimespec(nil, at)) {
		return
	}
	st.OnExit(func(st *Stop) {
		st.regs.SetArg(w.arg, given)
		if st.Result() == -erestartblock {
			st.regs.SetResult(-erestartnohand) // as a new call, with the deadline as it was given
		}
		_ = st.regs.Store(st.th.tid) // it fails only when the thread was killed
	})
}

// translateTimer does so for the call that sets a timer; clockOf says which clock
// it is on.
func translateTimer(clockOf func(*Stop) (int32, bool)) func(*Stop) {
	return func(st *Stop) {
		var b [32]byte // struct itimerspec
		given := st.Arg(2)
		if given == 0 || st.Read(given, b[:]) != nil {
			return
		}
		first, ok := parsePair(b[16:], time.Nanosecond)
		if !ok || first == 0 {
			return
		}
		clock, ok := clockOf(st)
		if !ok {
			return
		}
		scale, ok := vdso.ScaleOf(clock)
		if !ok {
			return // CPU time is the same on both
		}
		if st.give(2, "a timer", appendTimespec(b[:16], st.t.s.clock.toHost(det.Scale(scale), first))) {
			st.OnExit(func(st *Stop) { st.setArg(2, given) })
		}
	}
}

func appendTimespec(b []byte, d time.Duration) []byte {
	b = binary.NativeEndian.AppendUint64(b, uint64(d/time.Second))
	return binary.NativeEndian.AppendUint64(b, uint64(d%time.Second))
}

// timerClock finds the clock of a timer (proc_pid_timers(5)).
func timerClock(st *Stop) (clock int32, ok bool) {
	text, err := readKernelFile("/proc/" + strconv.Itoa(st.th.tid) + "/timers")
	if err != nil {
		st.t.s.fail(fmt.Errorf("supervisor: find the clock of a timer: %w", err))
		return 0, false
	}
	id, lines := []byte(strconv.Itoa(int(int32(st.Arg(0))))), bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, value, _ := bytes.Cut(lines.Bytes(), []byte(": "))
		switch string(name) {
		case "ID":
			ok = bytes.Equal(value, id)
		case "ClockID":
			if n, err := strconv.Atoi(string(value)); ok && err == nil {
				return int32(n), true
			}
		}
	}
	return 0, false // the kernel says that there is none
}

func timerfdClock(st *Stop) (clock int32, ok bool) {
	fd, err := st.fd(int32(st.Arg(0)))
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	n, err := fdinfo("/proc/self", fd, "clockid:", 10)
	return int32(n), err == nil
}

// A thread that passes a struct of the supervisor's to a system call has a room in
// the program's memory for it, from its first need to its end.
const roomSize = 32

// rooms is who has which of the rooms in a program's memory. Processes that share
// the memory share this; it belongs to the tracer.
type rooms struct {
	taken []bool
	slots [execSlots]bool // of what execve is given, see execfiles.go
}

// roomAt returns where the thread's room lies.
func (th *thread) roomAt() (uint64, error) {
	region := th.proc.region.Load()
	if region == 0 {
		return 0, errors.New("the clock page isn't mapped in this program, because its vDSO isn't known or it had no descriptor left")
	}
	if th.room == 0 {
		const all = (vdso.SlotOffset + vdso.OwnSize - vdso.RoomOffset) / roomSize
		rs := th.proc.rooms
		i := slices.Index(rs.taken, false)
		switch {
		case i >= 0:
			rs.taken[i] = true
		case len(rs.taken) < all:
			i = len(rs.taken)
			rs.taken = append(rs.taken, true)
		default:
			return 0, fmt.Errorf("%d threads of a program wait for instants, and there is room for no more", all)
		}
		th.room = i + 1
	}
	return region + vdso.RoomOffset + uint64(th.room-1)*roomSize, nil
}

// leaveRoom gives the thread's room back.
func (th *thread) leaveRoom() {
	if th.room != 0 {
		th.proc.rooms.taken[th.room-1] = false
		th.room = 0
	}
}

// give makes argument arg of the call point to data in the thread's room.
func (st *Stop) give(arg int, what string, data []byte) bool {
	at, err := st.th.roomAt()
	if err == nil {
		_, err = tracee.WriteMem(st.th.tid, at, data)
	}
	if err != nil {
		st.t.s.fail(fmt.Errorf("supervisor: translate the deadline of %s in process %s: %w", what, st.th.proc.Lineage, err))
		return false
	}
	st.setArg(arg, at)
	return true
}

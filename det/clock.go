package det

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Mode says how a sandbox's clock runs. The zero value is [Virtual].
type Mode int

const (
	// Virtual stands still while the program runs and moves only by what the
	// program waits for.
	Virtual Mode = iota
	// Running starts at the given instant and runs at real speed.
	Running
	// Host leaves time alone: the program reads the host's clock.
	Host
)

var modeNames = [...]string{Virtual: "virtual", Running: "running", Host: "host"}

// String returns the name by which [ParseMode] knows the mode.
func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return fmt.Sprintf("Mode(%d)", int(m))
	}
	return modeNames[m]
}

// ParseMode reads a mode's name: virtual, running or host.
func ParseMode(s string) (Mode, error) {
	for m, name := range modeNames {
		if s == name {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf("unknown clock %q: want virtual, running or host", s)
}

// Uptime is how long a sandbox claims to have been booted when its command
// starts: CLOCK_MONOTONIC, CLOCK_BOOTTIME and /proc/uptime begin there. It is
// not zero because programs take a zero timestamp for "never".
const Uptime = time.Hour

// A Scale is one of the time scales that Linux clocks read (clock_gettime(2)).
type Scale int

// The scales, in the order in which the clock page stores them.
const (
	Realtime  Scale = iota // seconds since 1970, the wall clock
	Monotonic              // since boot, without suspend
	Boottime               // since boot, with suspend: here the same
	TAI                    // International Atomic Time: like Linux before ntpd sets the offset, equal to Realtime
	Scales                 // how many there are
)

// Start returns what scale s reads when the elapsed time of a clock that starts
// at start is zero, in nanoseconds.
func (s Scale) Start(start time.Time) int64 {
	switch s {
	case Monotonic, Boottime:
		return int64(Uptime)
	}
	return start.UnixNano()
}

// Settable reports whether setting the clock changes what s reads.
func (s Scale) Settable() bool { return s == Realtime || s == TAI }

// A Clock is a sandbox's time under [Virtual]: an instant that stands still
// until AdvanceTo moves it. It is safe for concurrent use.
type Clock struct {
	start time.Time

	mu      sync.Mutex
	elapsed time.Duration
	set     time.Duration // by how much the wall clock was set forward in all
	marked  int64         // the last instant that Mark has returned
	saw     time.Duration // what of set is for marks that were seen
	changed func(now [Scales]int64)
}

// NewClock returns a clock standing at start. changed, if not nil, is called with
// what the scales read: once at the beginning, and then for every move with the
// clock locked.
func NewClock(start time.Time, changed func(now [Scales]int64)) *Clock {
	c := &Clock{start: start, changed: changed, marked: start.UnixNano()}
	c.tell()
	return c
}

func (c *Clock) tell() {
	if c.changed == nil {
		return
	}
	var now [Scales]int64
	for s := range Scales {
		now[s] = c.origin(s) + int64(c.elapsed)
	}
	c.changed(now)
}

// Mark returns an instant of the wall clock for something that is to be told apart
// from everything before it: a nanosecond after the last mark if the clock stands
// still. That lies in the future then, until somebody sees it, see Saw.
func (c *Clock) Mark() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marked = max(c.origin(Realtime)+int64(c.elapsed), c.marked+1)
	return c.marked
}

// Saw sets the wall clock forward to a mark that a program sees, so that it doesn't
// see something of the future, and returns by how much: some nanoseconds, and nothing
// for an instant that isn't a mark, or isn't later than the clock.
func (c *Clock) Saw(ns int64) (forward time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.origin(Realtime) + int64(c.elapsed)
	if ns <= now || ns > c.marked {
		return 0
	}
	forward = time.Duration(ns - now)
	c.set += forward
	c.saw += forward
	c.tell()
	return forward
}

// origin is what scale s would have read at the start, had the clock been set by
// then.
func (c *Clock) origin(s Scale) int64 {
	if s.Settable() {
		return s.Start(c.start) + int64(c.set)
	}
	return s.Start(c.start)
}

// Start returns the instant at which the clock began.
func (c *Clock) Start() time.Time { return c.start }

// Elapsed returns how far the clock has moved since its start.
func (c *Clock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.elapsed
}

// Now returns the instant at which the clock stands, not counting what Saw has set it
// forward.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.start.Add(c.set - c.saw + c.elapsed)
}

// Read returns what scale s reads now, in nanoseconds.
func (c *Clock) Read(s Scale) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.origin(s) + int64(c.elapsed)
}

// ElapsedAt returns how far the clock has moved when scale s reads ns, which may
// be negative; never is [math.MaxInt64].
func (c *Clock) ElapsedAt(s Scale, ns int64) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	origin := c.origin(s)
	switch at := ns - origin; {
	case ns == math.MaxInt64, origin < 0 && at < ns:
		return math.MaxInt64
	case origin > 0 && at > ns:
		return math.MinInt64
	default:
		return time.Duration(at)
	}
}

// Set makes the wall clock, that is the scales that are [Scale.Settable], read ns,
// and returns by how much that is forward. How far the clock has moved stays the
// same. It reports false for a time that lies before that of [Monotonic], which
// Linux doesn't allow either (kernel/time/timekeeping.c).
func (c *Clock) Set(ns int64) (forward time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ns < c.origin(Monotonic)+int64(c.elapsed) {
		return 0, false
	}
	forward = time.Duration(ns - c.origin(Realtime) - int64(c.elapsed))
	c.set += forward
	c.marked = ns // what was marked before may lie in the future of a clock that was set back
	c.tell()
	return forward, true
}

// AdvanceTo moves the clock on to the given elapsed time. A clock never runs
// backwards: an earlier time is ignored. It stops at the end of the year range,
// where a scale would overflow (2262 for Realtime).
func (c *Clock) AdvanceTo(elapsed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range Scales {
		if at := c.origin(s); at > 0 {
			elapsed = min(elapsed, time.Duration(math.MaxInt64-at))
		}
	}
	if elapsed <= c.elapsed {
		return
	}
	c.elapsed = elapsed
	c.tell()
}

// ParseTime reads an instant as people write it on a command line: RFC 3339
// with or without fraction, a date with or without a time (taken as UTC), or
// @SECONDS since 1970 with or without a fraction. It must lie between the years
// 1678 and 2262, where its nanoseconds fit into 64 bits.
func ParseTime(s string) (time.Time, error) {
	var t time.Time
	var err error
	if len(s) > 1 && s[0] == '@' {
		t, err = parseUnix(s[1:])
	} else {
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", time.DateOnly} {
			if t, err = time.Parse(layout, s); err == nil {
				break
			}
		}
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("time %q: want RFC 3339 (2000-01-01T00:00:00Z), a date (2000-01-01) or @SECONDS", s)
	}
	return t.UTC(), CheckTime(t)
}

// CheckTime reports an error for an instant whose nanoseconds since 1970 don't
// fit into 64 bits.
func CheckTime(t time.Time) error {
	if lo, hi := time.Unix(0, -1<<63), time.Unix(0, 1<<63-1); t.Before(lo) || t.After(hi) {
		return fmt.Errorf("time %s: out of range: want a year from 1678 to 2262", t.Format(time.RFC3339))
	}
	return nil
}

// parseUnix reads seconds since 1970 with at most nine digits of a fraction.
func parseUnix(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	nsec, err := strconv.ParseUint((fraction + "000000000")[:max(9, len(fraction))], 10, 30)
	if err != nil {
		return time.Time{}, err
	}
	if strings.HasPrefix(whole, "-") {
		return time.Unix(sec, -int64(nsec)), nil
	}
	return time.Unix(sec, int64(nsec)), nil
}

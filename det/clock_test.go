package det_test

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandtest/go-sandtest/det"
)

var y2k = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestMode(t *testing.T) {
	tests := []struct {
		mode det.Mode
		name string
	}{
		{0, "virtual"}, // the zero value
		{det.Virtual, "virtual"},
		{det.Running, "running"},
		{det.Host, "host"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.mode.String(); got != tt.name {
				t.Errorf("String() = %q, want %q", got, tt.name)
			}
			if got, err := det.ParseMode(tt.name); err != nil || got != tt.mode {
				t.Errorf("ParseMode(%q) = %v, %v, want %v", tt.name, got, err, tt.mode)
			}
		})
	}
	for _, bad := range []string{"", "Virtual", "virtual ", "frozen", "Mode(0)"} {
		t.Run("bad "+bad, func(t *testing.T) {
			_, err := det.ParseMode(bad)
			if err == nil {
				t.Fatalf("ParseMode(%q) succeeded", bad)
			}
			// The error is what a user sees who mistyped a flag.
			for _, want := range []string{`"` + bad + `"`, "virtual", "running", "host"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q doesn't mention %s", err, want)
				}
			}
		})
	}
	for mode, want := range map[det.Mode]string{-1: "Mode(-1)", 3: "Mode(3)"} {
		if got := mode.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

func TestClockRead(t *testing.T) {
	past := time.Date(1969, 12, 31, 23, 59, 59, 250e6, time.UTC)
	tests := []struct {
		name    string
		start   time.Time
		elapsed time.Duration
		want    [det.Scales]int64 // realtime, monotonic, boottime, TAI
	}{
		{"at start", y2k, 0, [...]int64{946684800e9, 3600e9, 3600e9, 946684800e9}},
		{"later", y2k, 90*time.Second + 1, [...]int64{946684890e9 + 1, 3690e9 + 1, 3690e9 + 1, 946684890e9 + 1}},
		{"before 1970", past, 0, [...]int64{-750e6, 3600e9, 3600e9, -750e6}},
		{"across 1970", past, time.Second, [...]int64{250e6, 3601e9, 3601e9, 250e6}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := det.NewClock(tt.start, nil)
			c.AdvanceTo(tt.elapsed)
			for s := range det.Scales {
				if got := c.Read(s); got != tt.want[s] {
					t.Errorf("Read(%d) = %d, want %d", s, got, tt.want[s])
				}
				if got, want := s.Start(tt.start), tt.want[s]-int64(tt.elapsed); got != want {
					t.Errorf("Scale(%d).Start = %d, want %d", s, got, want)
				}
			}
			if got, want := c.Now(), tt.start.Add(tt.elapsed); !got.Equal(want) {
				t.Errorf("Now() = %v, want %v", got, want)
			}
			if got := c.Start(); !got.Equal(tt.start) {
				t.Errorf("Start() = %v, want %v", got, tt.start)
			}
			if got := c.Elapsed(); got != tt.elapsed {
				t.Errorf("Elapsed() = %v, want %v", got, tt.elapsed)
			}
		})
	}
}

func TestClockAdvanceTo(t *testing.T) {
	const s = time.Second
	// No scale may overflow: the wall clock ends in 2262.
	end := time.Duration(math.MaxInt64 - y2k.UnixNano())
	var calls []time.Duration
	c := det.NewClock(y2k, func(now [det.Scales]int64) { calls = append(calls, time.Duration(now[det.Monotonic])-det.Uptime) })
	if want := []time.Duration{0}; !slices.Equal(calls, want) {
		t.Fatalf("changed called with %v by NewClock, want %v", calls, want)
	}
	steps := []struct {
		to, want time.Duration
	}{
		{5 * s, 5 * s},
		{3 * s, 5 * s}, // never backwards
		{5 * s, 5 * s}, // and standing still is no move
		{-s, 5 * s},
		{5*s + 1, 5*s + 1},
		{math.MaxInt64, end},
	}
	for _, step := range steps {
		c.AdvanceTo(step.to)
		if got := c.Elapsed(); got != step.want {
			t.Errorf("after AdvanceTo(%v): Elapsed() = %v, want %v", step.to, got, step.want)
		}
	}
	if diff := cmp.Diff([]time.Duration{0, 5 * s, 5*s + 1, end}, calls); diff != "" {
		t.Errorf("changed was called with (-want +got):\n%s", diff)
	}
	if got := c.Read(det.Realtime); got != math.MaxInt64 {
		t.Errorf("at its end the wall clock reads %d, want %d", got, math.MaxInt64)
	}
}

// The clock page is written by the callback, so the callback must see the moves
// one at a time and in order.
func TestClockConcurrent(t *testing.T) {
	const goroutines, moves = 8, 500
	var calls []time.Duration // without a lock of its own: the clock's must do
	c := det.NewClock(y2k, func(now [det.Scales]int64) { calls = append(calls, time.Duration(now[det.Monotonic])-det.Uptime) })
	var wg sync.WaitGroup
	wg.Go(func() { // someone who only reads: the race detector watches it
		last := time.Duration(0)
		for range goroutines * moves {
			now := c.Elapsed()
			if now < last {
				t.Errorf("Elapsed() = %d after %d", now, last)
			}
			last = now
		}
	})
	for g := range goroutines {
		wg.Go(func() {
			for m := range moves {
				c.AdvanceTo(time.Duration(m*goroutines + g))
				if got := c.Elapsed(); got < time.Duration(m*goroutines+g) {
					t.Errorf("Elapsed() = %d, less than a move made before", got)
				}
			}
		})
	}
	wg.Wait()
	for i := 1; i < len(calls); i++ {
		if calls[i] <= calls[i-1] {
			t.Fatalf("changed was called with %d after %d", calls[i], calls[i-1])
		}
	}
	if got, want := c.Elapsed(), time.Duration(goroutines*moves-1); got != want || calls[len(calls)-1] != want {
		t.Errorf("clock stands at %d, last call said %d, want %d", got, calls[len(calls)-1], want)
	}
}

func TestParseTime(t *testing.T) {
	tests := []struct {
		in   string
		want time.Time
	}{
		{"2000-01-01T00:00:00Z", y2k},
		{"2000-01-01T00:00:00.000000001Z", y2k.Add(1)},
		{"2000-01-01T01:00:00+01:00", y2k},
		{"1999-12-31T19:00:00.5-05:00", y2k.Add(500 * time.Millisecond)},
		{"2000-01-01T00:00:00", y2k},
		{"2000-01-01T00:00:00.25", y2k.Add(250 * time.Millisecond)},
		{"2000-01-01 00:00:01", y2k.Add(time.Second)},
		{"2000-01-01 00:00:01.123456789", y2k.Add(1123456789)},
		{"2000-01-01", y2k},
		{"2000-02-29", y2k.AddDate(0, 1, 28)},
		{"1969-12-31", time.Unix(-86400, 0)},
		{"@0", time.Unix(0, 0)},
		{"@946684800", y2k},
		{"@946684800.5", y2k.Add(500 * time.Millisecond)},
		{"@0.000000001", time.Unix(0, 1)},
		{"@-1", time.Unix(-1, 0)},
		{"@-0.5", time.Unix(-1, 500e6)},
		// The ends of what 64 bits hold.
		{"2262-04-11T23:47:16.854775807Z", time.Unix(0, math.MaxInt64)},
		{"1677-09-21T00:12:43.145224192Z", time.Unix(0, math.MinInt64)},
		{"@9223372036.854775807", time.Unix(0, math.MaxInt64)},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := det.ParseTime(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Equal(tt.want) {
				t.Errorf("ParseTime = %v, want %v", got, tt.want.UTC())
			}
			// The host's zone must not show in what is printed.
			if got.Location() != time.UTC {
				t.Errorf("location = %v, want UTC", got.Location())
			}
		})
	}
}

func TestParseTimeErrors(t *testing.T) {
	const syntax, outside = "want RFC 3339", "out of range"
	tests := []struct {
		in, want string
	}{
		{"", syntax},
		{"@", syntax},
		{"@x", syntax},
		{"@1m", syntax},
		{"@1h2", syntax},
		{"@1.5n", syntax},
		{"@1 ", syntax},
		{"@1.5.5", syntax},
		{"@NaN", syntax},
		{"@Inf", syntax},
		{"yesterday", syntax},
		{"946684800", syntax},
		{" 2000-01-01", syntax},
		{"2000-01-01Z", syntax},
		{"2000-13-01", syntax},
		{"2001-02-29", syntax},
		{"2000-01-01T24:00:00Z", syntax},
		{"2000-01-01T00:00:60Z", syntax},
		{"2000-01-01T00:00Z", syntax},
		{"1677-09-21T00:12:43.145224191Z", outside},
		{"2262-04-11T23:47:16.854775808Z", outside},
		{"0001-01-01", outside},
		{"9999-12-31", outside},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := det.ParseTime(tt.in)
			if err == nil {
				t.Fatalf("ParseTime = %v, want an error", got)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %q, want %q in it", err, tt.want)
			}
		})
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2000-01-01T00:00:00Z", "2000-01-01T00:00:00.5+01:00", "2000-01-01", "2000-01-01 00:00:00",
		"@0", "@-0.5", "@9223372036.854775807", "1677-09-21T00:12:43.145224192Z", "9999-12-31", "@1m", "", "@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := det.ParseTime(s)
		if err != nil {
			return
		}
		// In range means that the clock's own unit loses nothing.
		if !time.Unix(0, got.UnixNano()).Equal(got) {
			t.Errorf("ParseTime(%q) = %v, which nanoseconds in 64 bits can't express", s, got)
		}
		again, err := det.ParseTime(got.Format(time.RFC3339Nano))
		if err != nil || !again.Equal(got) {
			t.Errorf("ParseTime(%q) = %v, which prints and parses as %v, %v", s, got, again, err)
		}
	})
}

// Setting the clock changes what the wall clock reads, and nothing else.
func TestClockSet(t *testing.T) {
	var told [det.Scales]int64
	c := det.NewClock(y2k, func(now [det.Scales]int64) { told = now })
	c.AdvanceTo(time.Minute)
	before := c.ElapsedAt(det.Monotonic, 7)
	for _, year := range []int{2021, 1990, 2250} {
		to := time.Date(year, 5, 6, 7, 8, 9, 10, time.UTC)
		was := c.Now()
		forward, ok := c.Set(to.UnixNano())
		if !ok || forward != to.Sub(was) {
			t.Errorf("Set(%v) = %v, %v, want %v", to, forward, ok, to.Sub(was))
		}
		if got := c.Now(); !got.Equal(to) {
			t.Errorf("Now() = %v, want %v", got, to)
		}
		if got := c.Elapsed(); got != time.Minute {
			t.Errorf("Elapsed() = %v, want 1m", got)
		}
		want := [det.Scales]int64{to.UnixNano(), int64(det.Uptime + time.Minute), int64(det.Uptime + time.Minute), to.UnixNano()}
		if told != want {
			t.Errorf("changed was told %v, want %v", told, want)
		}
		for s := range det.Scales {
			if got := c.Read(s); got != want[s] {
				t.Errorf("Read(%d) = %d, want %d", s, got, want[s])
			}
			if got := c.ElapsedAt(s, want[s]+5); got != time.Minute+5 {
				t.Errorf("ElapsedAt(%d) = %v, want 1m0.000000005s", s, got)
			}
		}
	}
	if got := c.ElapsedAt(det.Monotonic, 7); got != before {
		t.Errorf("ElapsedAt(Monotonic, 7) = %v, was %v", got, before)
	}
	if _, ok := c.Set(int64(det.Uptime)); ok {
		t.Error("the clock could be set to before CLOCK_MONOTONIC")
	}
	c.AdvanceTo(math.MaxInt64)
	if got := c.Read(det.Realtime); got != math.MaxInt64 {
		t.Errorf("at its end the wall clock reads %d, want %d", got, math.MaxInt64)
	}
}

func TestElapsedAtEnds(t *testing.T) {
	for _, tt := range []struct {
		start time.Time
		ns    int64
		want  time.Duration
	}{
		{y2k, math.MaxInt64, math.MaxInt64},
		{y2k, math.MinInt64, math.MinInt64},
		{time.Unix(-1e9, 0), math.MaxInt64 - 1, math.MaxInt64},
		{time.Unix(-1e9, 0), 0, 1e18},
	} {
		if got := det.NewClock(tt.start, nil).ElapsedAt(det.Realtime, tt.ns); got != tt.want {
			t.Errorf("from %v, ElapsedAt(%d) = %d, want %d", tt.start, tt.ns, got, tt.want)
		}
	}
}

// Marks are told apart while the clock stands still, and set the wall clock forward
// only when they are seen.
func TestMarks(t *testing.T) {
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	c := det.NewClock(start, nil)
	at := start.UnixNano()
	check := func(what string, got, want int64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d ns after the start, want %d", what, got-at, want-at)
		}
	}
	check("first mark", c.Mark(), at+1)
	check("second mark", c.Mark(), at+2)
	check("wall clock, nobody has looked", c.Read(det.Realtime), at)
	if d := c.Saw(at + 3); d != 0 {
		t.Errorf("a time that is no mark sets the clock forward by %v", d)
	}
	if d := c.Saw(at + 2); d != 2 {
		t.Errorf("a mark that is seen sets the clock forward by %v, want 2ns", d)
	}
	check("wall clock", c.Read(det.Realtime), at+2)
	if got := c.Read(det.Monotonic); got != int64(det.Uptime) {
		t.Errorf("the monotonic clock reads %d", got)
	}
	c.AdvanceTo(time.Second)
	check("a second later", c.Read(det.Realtime), at+1e9+2)
	check("mark then", c.Mark(), at+1e9+2)
	if !c.Now().Equal(start.Add(time.Second)) {
		t.Errorf("the clock stands at %v", c.Now())
	}
}

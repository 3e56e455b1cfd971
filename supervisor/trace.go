package supervisor

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/sandtest/go-sandtest/det"
)

// A Trace lists what a sandbox has handled: each call that it answered or changed, and
// the beginning and the end of each process. It is sorted by the instant at which things
// began, by lineage, by thread, and within a thread in the order in which they came. So
// it is the same in every run in which each thread does the same: under the virtual
// clock, unless threads of one process race. Calls that no feature wants aren't trapped,
// and not listed.
type Trace []TraceEntry

// A Category says what a system call is about.
type Category string

// The categories.
const (
	FileCall    Category = "file"
	NetworkCall Category = "network"
	ProcessCall Category = "process"
	MemoryCall  Category = "memory"
	OtherCall   Category = "other"
)

// A TraceEntry is one call, or a process's beginning or end.
type TraceEntry struct {
	// Began and Ended are where the sandbox's clock stood, since its start.
	Began, Ended time.Duration
	// Process and Thread are who made the call; threads are counted from 1.
	Process det.Lineage
	Thread  int
	// Program is the path of the program that the process had executed, see Event.Program.
	Program string
	// Name is the call's; empty for a beginning or end.
	Name     string
	Category Category
	// Text is the call with its arguments, or what has happened to the process.
	Text string
	// Result is what the call returned: a number, "-1 " and the name of an error, or "?"
	// where only the kernel knows.
	Result string
	// By is the feature that has answered the call, or "kernel".
	By string
}

// who is the thread as text.
func (e *TraceEntry) who() string {
	if e.Thread > 1 {
		return fmt.Sprintf("%s/%d", e.Process, e.Thread)
	}
	return string(e.Process)
}

// WriteText writes a line for each entry: seconds since the start, lineage (and the
// thread's number, if it isn't the first), the call, its result, how long it took if
// the clock moved meanwhile, and who has answered it.
func (t Trace) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	for i := range t {
		e := &t[i]
		fmt.Fprintf(b, "%s %s ", secondsText(e.Began), e.who())
		if e.Name == "" {
			fmt.Fprintf(b, "+++ %s +++\n", e.Text)
			continue
		}
		fmt.Fprintf(b, "%s = %s", e.Text, e.Result)
		if e.Ended != e.Began {
			fmt.Fprintf(b, " after %s", secondsText(e.Ended-e.Began))
		}
		fmt.Fprintf(b, " <%s>\n", e.By)
	}
	return b.Flush()
}

// String returns what WriteText writes.
func (t Trace) String() string {
	var b strings.Builder
	_ = t.WriteText(&b) // a Builder has no errors
	return b.String()
}

// secondsText shows a time span in seconds with microseconds.
func secondsText(d time.Duration) string {
	d /= time.Microsecond
	const million = int64(time.Second / time.Microsecond)
	return fmt.Sprintf("%d.%06d", int64(d)/million, int64(d)%million)
}

// A chromeEvent is an event of the Chrome trace-event format, which Perfetto reads.
type chromeEvent struct {
	Name     string         `json:"name"`
	Category Category       `json:"cat,omitempty"`
	Phase    string         `json:"ph"`
	Process  int            `json:"pid"`
	Thread   int            `json:"tid"`
	Time     float64        `json:"ts"` // microseconds
	Duration float64        `json:"dur,omitempty"`
	Args     map[string]any `json:"args,omitempty"`
}

// WriteJSON writes the trace in the Chrome trace-event format, for Perfetto and its
// like. Each process and thread has a track of its own, named after its program, or the
// number of a thread that isn't the first, and so has the clock, which
// shows how far it has moved at once. Calls that take no time of the clock's last a
// nanosecond each, one after another in their thread.
func (t Trace) WriteJSON(w io.Writer) error {
	c := chromeTrace{pids: map[det.Lineage]int{}, program: map[det.Lineage]string{}, last: map[[2]int]float64{}}
	c.add(chromeEvent{Name: "process_name", Phase: "M", Args: map[string]any{"name": "clock"}})
	for i := range t {
		c.entry(&t[i])
	}
	enc := json.NewEncoder(w)
	return enc.Encode(struct {
		Events []chromeEvent `json:"traceEvents"`
		Unit   string        `json:"displayTimeUnit"`
	}{c.events, "ns"})
}

type chromeTrace struct {
	events  []chromeEvent
	pids    map[det.Lineage]int // processes are counted from 1, 0 is the clock
	program map[det.Lineage]string
	last    map[[2]int]float64 // when the last event of a thread ended
	now     time.Duration
}

func (c *chromeTrace) add(e chromeEvent) { c.events = append(c.events, e) }

const nanosecond = 0.001 // in microseconds

func inMicroseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func (c *chromeTrace) entry(e *TraceEntry) {
	if e.Began > c.now {
		c.add(chromeEvent{Name: "+" + secondsText(e.Began-c.now) + " s", Phase: "X", Time: inMicroseconds(c.now), Duration: inMicroseconds(e.Began - c.now)})
		c.now = e.Began
	}
	pid, ok := c.pids[e.Process]
	if !ok {
		pid = len(c.pids) + 1
		c.pids[e.Process] = pid
		c.add(chromeEvent{Name: "process_sort_index", Phase: "M", Process: pid, Args: map[string]any{"sort_index": pid}})
	}
	track := [2]int{pid, e.Thread}
	_, known := c.last[track]
	// Entries are sorted by thread where the clock stands still: what the others did before
	// the process executed something else comes after that.
	if name := e.Program; !ok || e.Thread == 1 && c.program[e.Process] != name {
		c.program[e.Process] = name
		c.add(chromeEvent{Name: "process_name", Phase: "M", Process: pid, Args: map[string]any{"name": string(e.Process) + " " + name}})
		c.nameThread(pid, 1, path.Base(name))
	}
	if !known && e.Thread > 1 {
		c.nameThread(pid, e.Thread, "thread "+strconv.Itoa(e.Thread))
	}
	out := chromeEvent{Name: e.Name, Category: e.Category, Phase: "X", Process: pid, Thread: e.Thread}
	out.Time = max(inMicroseconds(e.Began), c.last[track])
	out.Duration = max(inMicroseconds(e.Ended-e.Began), nanosecond)
	c.last[track] = out.Time + out.Duration
	if e.Name == "" {
		out.Name, out.Phase, out.Duration = e.Text, "i", 0
	} else {
		out.Args = map[string]any{"call": e.Text, "result": e.Result, "by": e.By}
	}
	c.add(out)
}

func (c *chromeTrace) nameThread(pid, thread int, name string) {
	c.add(chromeEvent{Name: "thread_name", Phase: "M", Process: pid, Thread: thread, Args: map[string]any{"name": name}})
}

//go:build linux

package supervisor

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// faults makes calls go wrong on purpose.
//
// Which calls are hit depends on the process's lineage and its own count of the calls
// that a fault selects, and for a share of them on the seed: never on who came first.
//
// What remains: threads of one process share its counts.
func faults(s *Sandbox) feature {
	f := feature{name: "fault"}
	if len(s.cfg.Faults) == 0 {
		return f
	}
	s.injected = &injections{}
	for i := range s.cfg.Faults {
		in := &injector{s: s, Fault: &s.cfg.Faults[i], index: i}
		on := byStop
		if in.Delay != 0 {
			on = byNotification
		}
		for _, name := range in.names() {
			f.calls = append(f.calls, call{name: name, watch: in.judge, on: on})
		}
		f.checks = append(f.checks, in.possible)
	}
	return f
}

// checkFaults explains faults that can't be meant.
func checkFaults(list []Fault) error {
	for i := range list {
		err := list[i].check()
		for _, name := range list[i].Calls {
			if _, ok := seccomp.Number(name); !ok && !strings.HasPrefix(name, "%") && err == nil {
				err = fmt.Errorf("there is no system call %q", name)
			}
			if strings.HasPrefix(name, "%") && len(callsOf(Category(name[1:]))) == 0 && err == nil {
				err = fmt.Errorf("there is no category %q: want %%file, %%network, %%process or %%memory", name)
			}
		}
		if err != nil {
			return fmt.Errorf("supervisor: fault %d: %w", i+1, err)
		}
	}
	return nil
}

// callsOf returns the names of the calls of a category.
func callsOf(c Category) (list []string) {
	for _, sig := range signatureTable() {
		if sig.category == c {
			list = append(list, sig.name)
		}
	}
	slices.Sort(list)
	return list
}

// An injector carries out one fault.
type injector struct {
	*Fault
	s     *Sandbox
	index int
}

func (in *injector) names() (list []string) {
	for _, name := range in.Calls {
		if category, ok := strings.CutPrefix(name, "%"); ok {
			list = append(list, callsOf(Category(category))...)
			continue
		}
		list = append(list, name)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// possible explains an effect that can't be had on the channel on which a call comes.
func (in *injector) possible(t *table) error {
	for _, name := range in.names() {
		nr, ok := seccomp.Number(name)
		if !ok {
			continue
		}
		stopped := t.of(int(nr)).always == seccomp.Trace
		switch {
		case in.Delay != 0 && stopped:
			return fmt.Errorf("fault %d: %s can't be delayed: its registers are changed when it begins", in.index+1, name)
		case in.Short != 0 && !stopped:
			return fmt.Errorf("fault %d: %s can't be cut short: the supervisor answers it", in.index+1, name)
		case in.Short != 0 && signatureOf(int(nr)).length() < 0:
			return fmt.Errorf("fault %d: %s can't be cut short: it transfers no bytes, or several buffers at once", in.index+1, name)
		}
	}
	return nil
}

// length returns which argument is the number of bytes that a call transfers, or -1.
func (sig *signature) length() int {
	for i, kind := range sig.kinds {
		if kind == argSize && i > 0 && (sig.kinds[i-1] == argData || sig.kinds[i-1] == "ptr") {
			return i
		}
	}
	return -1
}

// judge looks whether a call is to be hit.
func (in *injector) judge(e *event) Answer {
	p := e.th.proc
	if e.th.isMadeAnew() {
		return goOn
	}
	if in.Process != "" && in.Process != p.Lineage || !in.runs(p) {
		return goOn
	}
	hit := FaultHit{Fault: in.index, Process: p.Lineage, Call: e.sig.name, Loader: e.byLoader()}
	var paths []string
	paths, hit.FD, hit.Offset = e.about()
	if len(paths) > 0 {
		hit.Path = paths[0]
	}
	if in.FD != "" && in.FD != hit.FD {
		return goOn
	}
	if in.Path != "" {
		i := slices.IndexFunc(paths, in.matches)
		if i < 0 {
			return goOn
		}
		hit.Path = paths[i]
	}
	hit.N = p.faults.count(in.index)
	if !in.hits(hit.N) || in.Share != 0 && in.draw(p, hit.N) >= in.Share {
		return goOn
	}
	hit.Text = e.String()
	in.s.injected.add(p, hit)
	return in.inject(e)
}

func (in *injector) runs(p *Process) bool {
	if in.Program == "" {
		return true
	}
	name := p.program.Load()
	if name == nil {
		return false
	}
	ok, _ := path.Match(in.Program, path.Base(*name))
	return ok
}

// draw returns a number from 0 to 1 that depends on names alone.
func (in *injector) draw(p *Process, n uint64) float64 {
	stream := det.NewStream(in.s.cfg.Seed, det.Fault, p.Lineage, n<<16|uint64(in.index))
	var b [8]byte
	stream.Read(b[:])
	return float64(binary.LittleEndian.Uint64(b[:])>>11) / (1 << 53)
}

func (in *injector) inject(e *event) Answer {
	switch {
	case in.Error != 0:
		return Errno(in.Error)
	case in.Kill && in.s.cfg.PowerLoss:
		in.s.powerLost.Store(true)
		in.s.Kill()
		fallthrough
	case in.Kill:
		_ = unix.Tgkill(e.th.proc.TGID, e.th.tid, unix.SIGKILL) // it fails only when it is dead
		return Errno(unix.EINTR)                                // which nobody lives to see
	case in.Signal != 0:
		_ = unix.Tgkill(e.th.proc.TGID, e.th.tid, in.Signal)
	case in.Short != 0:
		return e.shorten(in.Short)
	case in.Delay != 0:
		return e.delay(in.Delay)
	}
	return goOn
}

// shorten lets the call transfer at most n bytes.
func (e *event) shorten(n uint64) Answer {
	st, arg := e.stop, e.sig.length()
	if st == nil {
		return Fatal(fmt.Errorf("%s of process %s can't be cut short here", e.sig.name, e.th.proc.Lineage))
	}
	given := st.Arg(arg)
	if given <= n {
		return goOn
	}
	st.setArg(arg, n)
	st.OnExit(func(st *Stop) { st.setArg(arg, given) })
	return goOn
}

// delay holds the call back, and lets the features that come after the fault have it
// when the time is up.
func (e *event) delay(d time.Duration) Answer {
	if e.call == nil {
		return Fatal(fmt.Errorf("%s of process %s can't be delayed here", e.sig.name, e.th.proc.Lineage))
	}
	held, a := e.call.Hold()
	s, th, rs, next := e.s, e.th, held.call.rs, e.next
	goOn := func() {
		th.delayed.Store(false)
		rs.serveFrom(&held.call, next)
	}
	th.delayed.Store(true)
	if s.agenda == nil {
		rs.run(func() {
			if s.after(d) {
				goOn()
			}
		})
		return a
	}
	// While it waits for the clock, it is no call that is being answered.
	th.delay.proc, th.delay.thread, th.delay.at = th.proc, th.index, addTime(s.agenda.clock.Elapsed(), d)
	th.delay.happen = func(int) {
		rs.open.Add(1)
		rs.run(goOn)
	}
	s.agenda.add(&th.delay)
	rs.open.Add(-1)
	return a
}

// after waits for so long by the host's clock, and while the sandbox is frozen. It reports
// false if there is no process any more.
func (s *Sandbox) after(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.empty:
		return false
	}
	if f := s.freezing.Load(); f != nil {
		select {
		case <-f.thaw:
		case <-s.empty:
			return false
		}
	}
	return true
}

// injections are the calls that were hit.
type injections struct {
	mu   sync.Mutex
	list []injection
}

type injection struct {
	by  *Process
	hit FaultHit
}

func (l *injections) add(p *Process, hit FaultHit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, injection{p, hit})
}

// hits returns them by process, and of each in the order of its counts.
func (l *injections) hits() []FaultHit {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.SortStableFunc(l.list, func(a, b injection) int {
		return cmp.Or(slices.Compare(a.by.order, b.by.order), cmp.Compare(a.hit.Fault, b.hit.Fault), cmp.Compare(a.hit.N, b.hit.N))
	})
	list := make([]FaultHit, len(l.list))
	for i := range l.list {
		list[i] = l.list[i].hit
	}
	return list
}

// faultCounts is how many calls of a process each fault has selected.
type faultCounts struct {
	mu sync.Mutex
	n  []uint64
}

func (c *faultCounts) count(fault int) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.n) <= fault {
		c.n = append(c.n, 0)
	}
	c.n[fault]++
	return c.n[fault]
}

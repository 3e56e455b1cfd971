//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// A clock is a sandbox's time in any mode.
type clock struct {
	mode    det.Mode
	start   time.Time
	virtual *det.Clock        // det.Virtual
	offset  [det.Scales]int64 // det.Running: what is added to the host's clocks
	began   int64             // otherwise: the host's CLOCK_MONOTONIC at the start
}

// hostClock is the host's clock of each scale.
var hostClock = [det.Scales]int32{
	det.Realtime: unix.CLOCK_REALTIME, det.Monotonic: unix.CLOCK_MONOTONIC,
	det.Boottime: unix.CLOCK_BOOTTIME, det.TAI: unix.CLOCK_TAI,
}

func newClock(cfg Config, page *clockPage) (*clock, error) {
	c := &clock{mode: cfg.Clock, start: cfg.Time}
	var err error
	if c.began, err = readHost(unix.CLOCK_MONOTONIC); err != nil {
		return nil, err
	}
	switch cfg.Clock {
	case det.Virtual:
		c.virtual = det.NewClock(cfg.Time, func(now [det.Scales]int64) { page.data.Set(now[:]...) })
	case det.Running:
		for s := range det.Scales {
			host, err := readHost(hostClock[s])
			if err != nil {
				return nil, err
			}
			c.offset[s] = s.Start(cfg.Time) - host
		}
		page.data.Set(c.offset[:]...)
	case det.Host:
		c.start = time.Now()
	}
	return c, nil
}

func readHost(id int32) (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, fmt.Errorf("supervisor: read host clock %d: %w", id, err)
	}
	return ts.Nano(), nil
}

// startsAt is the instant of the start, in nanoseconds since 1970.
func (c *clock) startsAt() int64 { return c.start.UnixNano() }

// elapsed is how far the clock has moved since the start.
func (c *clock) elapsed() time.Duration {
	if c.mode == det.Virtual {
		return c.virtual.Elapsed()
	}
	now, err := readHost(unix.CLOCK_MONOTONIC)
	if err != nil {
		panic(err) // it worked at the start, and can't stop working
	}
	return time.Duration(now - c.began)
}

// read returns what scale s reads, in nanoseconds.
func (c *clock) read(s det.Scale) (int64, error) {
	if c.mode == det.Virtual {
		return c.virtual.Read(s), nil
	}
	host, err := readHost(hostClock[s])
	return host + c.offset[s], err
}

// end is where the clock stands for Result.
func (c *clock) end() time.Time {
	switch c.mode {
	case det.Virtual:
		return c.virtual.Now()
	case det.Host:
		return time.Now().Round(0)
	case det.Running:
		if now, err := c.read(det.Realtime); err == nil {
			return time.Unix(0, now).UTC()
		}
	}
	return c.start.Add(c.elapsed())
}

// clockCalls answers the raw clock system calls.
//
// Source: the host's clocks, read by a system call (static programs, shells
// without a C library, clocks the vDSO doesn't know). Eliminated: answered from
// the same clock as the vDSO's functions, to the nanosecond. CPU-time clocks
// read CPU time as busy.go knows it.
// Under clock=host nothing is trapped.
func clockCalls(s *Sandbox) feature {
	f := feature{name: "clock"}
	if s.cfg.Clock == det.Host {
		return f
	}
	f.calls = []call{
		{name: "clock_gettime", notify: s.clockGettime},
		{name: "gettimeofday", notify: s.gettimeofday},
		{name: "time", notify: s.time},
		{name: "clock_getres", notify: s.clockGetres},
	}
	return f
}

// fromVDSO reports whether the call comes from the vDSO's own code: the shifted
// functions call it, it asks the kernel when the clock source can't be read in
// user space, and they shift what it says.
func (c *Call) fromVDSO() bool {
	base := c.Process.vdso.Load()
	return base != 0 && c.n.IP >= base && c.n.IP < base+uint64(len(c.s.vdso.reference.Raw))
}

// readClock returns what a clock id reads in nanoseconds, or an answer that says
// why not.
func (c *Call) readClock(id int32) (int64, Answer, bool) {
	if scale, ok := vdso.ScaleOf(id); ok {
		ns, err := c.s.clock.read(det.Scale(scale))
		if err != nil {
			return 0, Fatal(err), false
		}
		return ns, goOn, true
	}
	p, th, ok := c.cpuClock(id)
	if !ok {
		return 0, Errno(unix.EINVAL), false
	}
	return int64(c.s.used(p, th)), goOn, true
}

// cpuClock returns the process, or the thread of it, whose CPU time a clock id
// reads. Ids below zero name one by pid (clock_getcpuclockid(3);
// linux/posix-timers_types.h: CPUCLOCK_PID, CPUCLOCK_PERTHREAD_MASK).
func (c *Call) cpuClock(id int32) (p *Process, th *thread, ok bool) {
	switch {
	case id == unix.CLOCK_PROCESS_CPUTIME_ID:
		return c.Process, nil, true
	case id == unix.CLOCK_THREAD_CPUTIME_ID:
		return c.Process, c.thread, true
	case id >= 0 || id&3 == 3:
		return nil, nil, false
	}
	th = c.thread
	if pid := int(^(id >> 3)); pid != 0 {
		if th = c.s.threadBy(pid); th == nil {
			return nil, nil, false
		}
	}
	if id&4 != 0 {
		return th.proc, th, true
	}
	return th.proc, nil, true
}

func (s *Sandbox) clockGettime(c *Call) Answer {
	if s.cfg.Clock == det.Running && c.fromVDSO() {
		return Continue()
	}
	_, scale := vdso.ScaleOf(c.Int(0))
	c.countRead(scale && c.fromRegion())
	ns, a, ok := c.readClock(c.Int(0))
	if !ok {
		return a
	}
	return c.replyPair(c.Arg(1), ns, 1)
}

func (s *Sandbox) clockGetres(c *Call) Answer {
	res := int64(1)
	if _, ok := vdso.ScaleOf(c.Int(0)); ok {
		res = vdso.Resolution(c.Int(0))
	} else if _, _, ok := c.cpuClock(c.Int(0)); !ok {
		return Errno(unix.EINVAL)
	}
	if c.Arg(1) == 0 {
		return Return(0)
	}
	return c.replyPair(c.Arg(1), res, 1)
}

func (s *Sandbox) gettimeofday(c *Call) Answer {
	c.countRead(c.fromRegion())
	ns, err := s.clock.read(det.Realtime)
	if err != nil {
		return Fatal(err)
	}
	if tz := c.Arg(1); tz != 0 {
		if a := c.reply(tz, make([]byte, 8)); a.kind != answerReturn {
			return a
		}
	}
	if c.Arg(0) == 0 {
		return Return(0)
	}
	return c.replyPair(c.Arg(0), ns, 1000)
}

func (s *Sandbox) time(c *Call) Answer {
	c.countRead(c.fromRegion())
	ns, err := s.clock.read(det.Realtime)
	if err != nil {
		return Fatal(err)
	}
	sec := floorDiv(ns, 1e9)
	if at := c.Arg(0); at != 0 {
		b := binary.NativeEndian.AppendUint64(c.scratch(8)[:0], uint64(sec))
		if a := c.reply(at, b); a.kind != answerReturn {
			return a
		}
	}
	return Return(sec)
}

// replyPair stores seconds and the rest in units of so many nanoseconds.
func (c *Call) replyPair(at uint64, ns, unit int64) Answer {
	sec := floorDiv(ns, 1e9)
	b := binary.NativeEndian.AppendUint64(c.scratch(16)[:0], uint64(sec))
	b = binary.NativeEndian.AppendUint64(b, uint64((ns-sec*1e9)/unit))
	return c.reply(at, b)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// A clockPage is the region that every program of a sandbox maps, see package
// vdso.
type clockPage struct {
	data    *vdso.Data
	entries map[string]int
	reader  int // a read-only descriptor
	all     []byte
	names   []byte // what lies before the region, see dcache.go
	mem     []byte // the region
}

func newClockPage(mode det.Mode) (*clockPage, error) {
	code, entries, err := clockCode[mode]()
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("sandtest-clock", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create the clock page (memfd_create): %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, vdso.NamesSize+vdso.ExecOffset+vdso.ExecSize); err != nil {
		return nil, fmt.Errorf("size the clock page: %w", err)
	}
	p := &clockPage{entries: entries}
	const shared = vdso.NamesSize + vdso.SharedSize
	if p.all, err = unix.Mmap(fd, 0, shared, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map the clock page: %w", err)
	}
	p.names, p.mem = p.all[:vdso.NamesSize], p.all[vdso.NamesSize:]
	p.data = vdso.NewData(p.mem)
	copy(p.mem[vdso.CodeOffset:], code)
	// Programs get a description that can't be made writable.
	if p.reader, err = unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		_ = unix.Munmap(p.all)
		return nil, fmt.Errorf("reopen the clock page: %w", err)
	}
	return p, nil
}

// id is the file that programs map.
func (p *clockPage) id() (fileID, error) {
	var st unix.Stat_t
	err := unix.Fstat(p.reader, &st)
	return fileID{st.Dev, st.Ino}, err
}

func (p *clockPage) close() error {
	if err := unix.Close(p.reader); err != nil {
		return err
	}
	return unix.Munmap(p.all)
}

var vdsoKind = [...]vdso.Kind{
	det.Virtual: vdso.Frozen, det.Running: vdso.Shifted, det.Host: vdso.Untouched,
}

// clockCode returns the code page of each mode, made once.
var clockCode = func() (code [len(vdsoKind)]func() ([]byte, map[string]int, error)) {
	for mode, kind := range vdsoKind {
		page := sync.OnceValue(func() (p struct {
			code    []byte
			entries map[string]int
			err     error
		}) {
			p.code, p.entries, p.err = vdso.Code(kind)
			return p
		})
		code[mode] = func() ([]byte, map[string]int, error) { p := page(); return p.code, p.entries, p.err }
	}
	return code
}()

// planVDSO decides what is done to the vDSO of every program.
func (s *Sandbox) planVDSO() error {
	s.vdso = vdsoPlan{kind: vdsoKind[s.cfg.Clock], entries: s.page.entries}
	if s.cfg.Clock == det.Host {
		s.vdso.keep = []string{"clock_gettime", "gettimeofday", "time", "clock_getres"}
	}
	// Without a reference every vDSO is hidden, and reads become system calls.
	if img, err := ownVDSO(); err == nil {
		s.vdso.reference = img
	}
	return nil
}

// ownVDSO is the vDSO of this process: it never changes, and is never written.
var ownVDSO = sync.OnceValues(vdso.Self)

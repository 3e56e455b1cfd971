//go:build linux

package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// timerFDs puts timers that are descriptors on the agenda.
//
// Source: timerfd_settime counts the host's time. Eliminated under the virtual
// clock: the kernel's timer stays, so that reading, polling, inheriting and
// passing it on are the kernel's own business, but it is set so far ahead that it
// never expires by itself. When the sandbox's clock has come to where the program
// has set it, the supervisor gives it its expirations (TFD_IOC_SET_TICKS,
// Linux 3.17 with CONFIG_CHECKPOINT_RESTORE; without that, setting one ends the
// run). It holds no descriptor of it meanwhile: closing the last of the program's
// must end it.
//
// What remains: TFD_TIMER_CANCEL_ON_SET never cancels; a timer whose only
// descriptor is on its way through a socket expires late.
func timerFDs(s *Sandbox) feature {
	f := feature{name: "timerfds"}
	if s.cfg.Clock != det.Virtual {
		return f
	}
	f.calls = []call{
		{name: "timerfd_settime", notify: s.timerfdSettime},
		{name: "timerfd_gettime", notify: s.timerfdGettime},
	}
	return f
}

// A timerFD is a timer that has been set. Which one it is stands in the kernel's
// timer, as a part of the interval.
type timerFD struct {
	entry
	s      *Sandbox
	number int64
	scale  det.Scale

	holder *Process // last known to have it
	fd     int32    // as this
	ticks  uint64   // expirations that it was given last
	own    int      // the supervisor's own descriptor where it can't take the program's, else -1
}

// numberBase is added to the number of a timer; more than anybody's interval.
const numberBase = 4_000_000_000

// never is when the kernel's timer expires.
const never = 4_000_000_000 // seconds

// timerOf returns the timer behind a descriptor of the supervisor's, nil if it
// was never set. The error is the kernel's about the descriptor.
func (s *Sandbox) timerOf(fd int) (*timerFD, error) {
	var cur unix.ItimerSpec
	if err := unix.TimerfdGettime(fd, &cur); err != nil {
		return nil, err
	}
	s.timerfdMu.Lock()
	defer s.timerfdMu.Unlock()
	return s.timerfds[cur.Interval.Sec-numberBase], nil
}

// timerfd returns a descriptor for the one that argument 0 is, and its timer.
func (s *Sandbox) timerfd(c *Call) (int, *timerFD, error) {
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return -1, nil, err
	}
	t, err := s.timerOf(fd)
	if err != nil {
		unix.Close(fd)
	}
	return fd, t, err
}

// descriptorFailed makes an answer of an error of timerfd: the kernel's word, or
// the end of the run.
func (c *Call) descriptorFailed(err error) Answer {
	switch {
	case errors.Is(err, unix.ESRCH):
		return Errno(unix.EINTR) // nobody is there to see it
	case err == unix.EBADF, err == unix.EINVAL:
		return Errno(err.(unix.Errno))
	}
	return Fatal(fmt.Errorf("%s of process %s: %w", c.Name(), c.Process.Lineage, err))
}

func (s *Sandbox) timerfdSettime(c *Call) Answer {
	const known = unix.TFD_TIMER_ABSTIME | unix.TFD_TIMER_CANCEL_ON_SET
	spec, ok, err := c.readSpec(c.Arg(2), time.Nanosecond)
	if err != nil {
		return c.failed(err)
	}
	if !ok || c.Int(1)&^known != 0 {
		return Errno(unix.EINVAL)
	}
	fd, t, err := s.timerfd(c)
	if err != nil {
		return c.descriptorFailed(err)
	}
	defer unix.Close(fd)
	if t == nil {
		if t, err = s.newTimerFD(c.Process, fd); err != nil {
			return c.descriptorFailed(err)
		}
	}
	was := s.agenda.disarm(&t.entry)
	// This also takes what has not been read.
	far := unix.ItimerSpec{Value: unix.Timespec{Sec: never}, Interval: unix.Timespec{Sec: numberBase + t.number}}
	if err := unix.TimerfdSettime(fd, 0, &far, nil); err != nil {
		return Fatal(fmt.Errorf("timerfd_settime: %w", err))
	}
	s.agenda.mu.Lock()
	t.holder, t.fd, t.ticks = c.Process, c.Int(0), 0
	s.agenda.mu.Unlock()
	at := addTime(s.clock.elapsed(), spec.left)
	absolute := c.Int(1)&unix.TFD_TIMER_ABSTIME != 0
	if absolute {
		at = s.clock.virtual.ElapsedAt(t.scale, int64(spec.left))
	}
	s.agenda.arm(&t.entry, at, spec.every, spec.left > 0, absolute && t.scale.Settable())
	if old := c.Arg(3); old != 0 {
		return c.replySpec(old, was, time.Nanosecond)
	}
	return Return(0)
}

func (s *Sandbox) timerfdGettime(c *Call) Answer {
	fd, t, err := s.timerfd(c)
	if err != nil {
		return c.descriptorFailed(err)
	}
	unix.Close(fd)
	if t == nil {
		return c.replySpec(c.Arg(1), timerSpec{}, time.Nanosecond)
	}
	return c.replySpec(c.Arg(1), s.agenda.left(&t.entry), time.Nanosecond)
}

// disarm takes a timer off the agenda and returns what it was set to.
func (a *agenda) disarm(e *entry) timerSpec { return a.arm(e, 0, 0, false, false) }

func (s *Sandbox) newTimerFD(p *Process, fd int) (*timerFD, error) {
	clock, err := fdinfo("/proc/self", fd, "clockid:", 10)
	if err != nil {
		return nil, err
	}
	scale, ok := vdso.ScaleOf(int32(clock))
	if !ok {
		return nil, fmt.Errorf("a timerfd on clock %d", clock)
	}
	t := &timerFD{s: s, scale: det.Scale(scale), own: -1}
	if s.lending != nil {
		s.forgetTimers()
		if t.own, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return nil, fmt.Errorf("keep a timerfd: %w", err)
		}
	}
	t.proc, t.happen, t.dropped = p, t.expire, func() bool { return !t.find(func(int) {}) }
	s.timerfdMu.Lock()
	defer s.timerfdMu.Unlock()
	if s.timerfds == nil {
		s.timerfds = map[int64]*timerFD{}
	}
	t.number = s.timerfdNext
	s.timerfdNext++
	s.timerfds[t.number] = t
	return t, nil
}

// fdinfo returns a number, in a base, from what the kernel tells of a descriptor of the
// process at dir (proc_pid_fdinfo(5)).
func fdinfo(dir string, fd int, name string, base int) (int64, error) {
	text, err := readKernelFile(dir + "/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if v, ok := bytes.CutPrefix(line, []byte(name)); ok {
			v, _, _ = bytes.Cut(v, []byte(",")) // of two numbers, the first
			return strconv.ParseInt(string(bytes.TrimSpace(v)), base, 64)
		}
	}
	return 0, fmt.Errorf("no %s in the description of a descriptor", name)
}

// expire gives the program its expirations.
func (t *timerFD) expire(times int) {
	t.find(func(fd int) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 0); err == nil && n == 0 {
			t.ticks = 0 // they have been read
		}
		t.ticks += uint64(times)
		if err := setTicks(fd, t.ticks); err != nil {
			t.s.fail(fmt.Errorf("supervisor: let a timerfd expire (TFD_IOC_SET_TICKS): %w: this needs a kernel with CONFIG_CHECKPOINT_RESTORE; "+
				"without it, use the running clock", err))
		}
	})
}

// find calls f with a descriptor for the timer. It reports false if the program
// has closed it.
func (t *timerFD) find(f func(fd int)) bool {
	if t.at(t.holder, t.fd, f) {
		return true
	}
	for _, p := range t.s.processes() {
		files, err := os.ReadDir("/proc/" + strconv.Itoa(p.TGID) + "/fd")
		if err != nil {
			continue // it has ended
		}
		for _, file := range files {
			name, err := os.Readlink("/proc/" + strconv.Itoa(p.TGID) + "/fd/" + file.Name())
			if err != nil || name != "anon_inode:[timerfd]" {
				continue
			}
			fd, _ := strconv.Atoi(file.Name())
			if t.at(p, int32(fd), f) {
				t.holder, t.fd = p, int32(fd)
				return true
			}
		}
	}
	t.s.timerfdMu.Lock()
	defer t.s.timerfdMu.Unlock()
	delete(t.s.timerfds, t.number)
	t.forget()
	return false
}

// forgetTimers forgets those that nobody has any more, every now and then: all that are known
// have a descriptor of the supervisor's.
func (s *Sandbox) forgetTimers() {
	const often = 32
	s.timerfdMu.Lock()
	var all []*timerFD
	if s.timerfdNext%often == often-1 {
		all = slices.Collect(maps.Values(s.timerfds))
	}
	s.timerfdMu.Unlock()
	for _, t := range all {
		s.agenda.mu.Lock()
		if t.holder != nil && t.dropped() { // it is set already
			s.agenda.delete(&t.entry)
		}
		s.agenda.mu.Unlock()
	}
}

// forget closes what was kept of a timer that nobody has any more.
func (t *timerFD) forget() {
	if t.own >= 0 {
		unix.Close(t.own)
		t.own = -1
	}
}

// at calls f if a process's descriptor is the timer.
func (t *timerFD) at(p *Process, fd int32, f func(fd int)) bool {
	if t.own >= 0 {
		number, err := fdinfo("/proc/"+strconv.Itoa(p.TGID), int(fd), "it_interval: (", 10)
		if is := err == nil && number == numberBase+t.number; !is {
			return false
		}
		f(t.own)
		return true
	}
	own, err := p.fdIfLent(p.TGID, fd)
	if err != nil {
		return false
	}
	defer unix.Close(own)
	if got, err := t.s.timerOf(own); err != nil || got != t {
		return false
	}
	f(own)
	return true
}

// processes returns all processes of the sandbox.
func (s *Sandbox) processes() []*Process {
	var list []*Process
	seen := map[*Process]bool{}
	for _, th := range s.threads.appendAll(nil) {
		if !seen[th.proc] {
			seen[th.proc] = true
			list = append(list, th.proc)
		}
	}
	return list
}

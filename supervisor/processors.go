//go:build linux

package supervisor

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// processors answers what asks for CPUs.
//
// Source: the number of CPUs, the affinity mask, the CPU a thread runs on, and the length of
// its turns, which depends on the kernel.
// Eliminated: the mask is that of the virtual CPUs, the current one is always 0
// (as the vDSO's getcpu says; rseq, which would tell too, is refused). Setting a
// mask is remembered and has no effect on the host.
func processors(s *Sandbox) feature {
	return feature{name: "processors", calls: []call{
		{name: "sched_getaffinity", notify: s.schedGetaffinity},
		{name: "sched_setaffinity", notify: s.schedSetaffinity},
		{name: "getcpu", notify: s.getcpu},
		{name: "sched_rr_get_interval", notify: s.timeSlice},
	}}
}

// threadAffinity is the mask that a thread has set or inherited, nil for all CPUs.
type threadAffinity struct {
	mu   sync.Mutex
	mask []byte
}

func (a *threadAffinity) inherit(from *threadAffinity) {
	from.mu.Lock()
	defer from.mu.Unlock()
	a.mask = from.mask
}

// maskSize is how many bytes the kernel's mask has: whole words.
func (s *Sandbox) maskSize() int { return (s.cfg.Identity.CPUs + 63) / 64 * 8 }

// affinityOf finds the thread that a call means, 0 being its own.
func (s *Sandbox) affinityOf(c *Call) (*threadAffinity, bool) {
	if c.Int(0) == 0 {
		return &c.thread.affinity, true
	}
	th := s.threadBy(int(c.Int(0)))
	if th == nil {
		return nil, false
	}
	return &th.affinity, true
}

func (s *Sandbox) schedGetaffinity(c *Call) Answer {
	size := int(uint32(c.Arg(1)))
	if size < s.maskSize() || size%8 != 0 {
		return Errno(unix.EINVAL)
	}
	a, ok := s.affinityOf(c)
	if !ok {
		return Errno(unix.ESRCH)
	}
	b := c.scratch(s.maskSize())
	clear(b)
	a.mu.Lock()
	if a.mask != nil {
		copy(b, a.mask)
	} else {
		for cpu := range s.cfg.Identity.CPUs {
			b[cpu/8] |= 1 << (cpu % 8)
		}
	}
	a.mu.Unlock()
	if _, err := c.Write(c.Arg(2), b); err != nil {
		return c.failed(err)
	}
	return Return(int64(len(b)))
}

func (s *Sandbox) schedSetaffinity(c *Call) Answer {
	want := c.scratch(s.maskSize())
	clear(want)
	if n := min(len(want), int(uint32(c.Arg(1)))); n > 0 {
		if err := c.Read(c.Arg(2), want[:n]); err != nil {
			return c.failed(err)
		}
	}
	a, ok := s.affinityOf(c)
	if !ok {
		return Errno(unix.ESRCH)
	}
	mask := make([]byte, len(want))
	any := false
	for cpu := range s.cfg.Identity.CPUs {
		if bit := want[cpu/8] & (1 << (cpu % 8)); bit != 0 {
			mask[cpu/8] |= bit
			any = true
		}
	}
	if !any {
		return Errno(unix.EINVAL)
	}
	a.mu.Lock()
	a.mask = mask
	a.mu.Unlock()
	return Return(0)
}

func (s *Sandbox) getcpu(c *Call) Answer {
	zero := binary.NativeEndian.AppendUint32(c.scratch(4)[:0], 0)
	for _, at := range []uint64{c.Arg(0), c.Arg(1)} {
		if at == 0 {
			continue
		}
		if a := c.reply(at, zero); a.kind != answerReturn {
			return a
		}
	}
	return Return(0)
}

// timeSlice answers sched_rr_get_interval: as long as a turn is where nothing else is set
// (sched(7)).
func (s *Sandbox) timeSlice(c *Call) Answer {
	tid := c.thread.tid
	if number := int(c.Int(0)); number < 0 {
		return Errno(unix.EINVAL)
	} else if number != 0 {
		th := s.threadBy(number)
		if th == nil {
			return Errno(unix.ESRCH)
		}
		tid = th.tid
	}
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return Errno(unix.ESRCH)
	}
	slice := map[uint32]time.Duration{unix.SCHED_NORMAL: 4 * time.Millisecond, unix.SCHED_BATCH: 4 * time.Millisecond, unix.SCHED_RR: 100 * time.Millisecond}[attr.Policy]
	b := binary.NativeEndian.AppendUint64(c.scratch(16)[:0], 0)
	return c.reply(c.Arg(1), binary.NativeEndian.AppendUint64(b, uint64(slice)))
}

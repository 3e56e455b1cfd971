//go:build linux

package supervisor

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// limits keeps what the command and everything it starts may use within bounds.
//
// Processes: fork, vfork and clone fail with EAGAIN while there are as many threads as
// are allowed, those included that are just being made, or that have ended and nobody
// has waited for. Open files: RLIMIT_NOFILE, which nobody can raise (rlimits.go). Memory: the supervisor adds up what the sandbox has
// (memory.go), the more often the nearer that is to the limit, and ends it beyond.
//
// What remains: a command that takes memory faster than 4 GB a second may exceed the limit by
// more than a tenth before it is ended.
func limits(s *Sandbox) feature {
	f := feature{name: "limits"}
	l := s.cfg.Limits
	if s.limitsProcesses() {
		for _, name := range []string{"fork", "vfork", "clone"} {
			f.calls = append(f.calls, call{name: name, stop: s.enterFork})
		}
	}
	if l.OpenFiles > 0 {
		f.calls = append(f.calls,
			call{name: "setrlimit", notify: s.setOpenFiles, conds: is(0, unix.RLIMIT_NOFILE)},
			call{name: "prlimit64", notify: s.setOpenFiles, conds: append(is(1, unix.RLIMIT_NOFILE), pointer(2))})
	}
	var watch *memoryWatch
	if s.limitsMemory() {
		f.calls = append(f.calls, call{name: "memfd_create", notify: s.memory.createFile})
	}
	f.load = func(im *image) error {
		if im.th.proc != im.t.root || im.th.proc.execs != 1 {
			return nil
		}
		if s.limitsMemory() {
			watch = s.watchMemory()
		}
		return nil
	}
	f.close = func() error {
		if watch != nil {
			watch.end()
			s.memory.close()
		}
		return nil
	}
	return f
}

// limitsProcesses reports whether there is a limit to processes, or may be one.
func (s *Sandbox) limitsProcesses() bool { return s.cfg.Limits.Processes > 0 || s.cfg.OnSyscall != nil }

// limitsMemory reports whether there is a limit to memory, or may be one.
func (s *Sandbox) limitsMemory() bool { return s.cfg.Limits.Memory > 0 || s.cfg.OnSyscall != nil }

// processLimit returns the limit in force, 0 for none.
func (s *Sandbox) processLimit() int {
	limit := s.cfg.Limits.Processes
	if s.policy != nil {
		limit = int(lower(int64(limit), s.policy.rules.processes.Load()))
	}
	return limit
}

// enterFork refuses a new process or thread where there are enough.
func (s *Sandbox) enterFork(st *Stop) {
	limit := s.processLimit()
	if limit == 0 {
		return
	}
	most := limit - s.threads.count() - st.t.forking
	if most > 0 && most <= len(st.t.dead) {
		st.t.dead = slices.DeleteFunc(st.t.dead, func(pid int) bool { return !isZombie(pid) })
	}
	if most <= len(st.t.dead) {
		st.skip(unix.EAGAIN)
		return
	}
	st.t.forking++
	st.th.forks = true
	st.OnExit(func(st *Stop) { st.t.forked(st.th) })
}

// isZombie reports whether a process that has ended still waits for its parent.
func isZombie(pid int) bool {
	state, err := status(pid, "State:")
	return err == nil && strings.HasPrefix(state, "Z")
}

// forked notes that a thread has made another one, or failed to.
func (t *tracer) forked(th *thread) {
	if th.forks {
		th.forks = false
		t.forking--
	}
}

// setOpenFiles answers setrlimit and prlimit64 for RLIMIT_NOFILE.
func (s *Sandbox) setOpenFiles(c *Call) Answer {
	at, old, pid := c.Arg(1), uint64(0), c.Process.TGID
	if c.Name() == "prlimit64" {
		at, old = c.Arg(2), c.Arg(3)
		if target := int(c.Int(0)); target != 0 {
			th := s.threadBy(target)
			if th == nil {
				return Errno(unix.ESRCH)
			}
			pid = th.proc.TGID
		}
	}
	b := c.scratch(16)
	if err := c.Read(at, b); err != nil {
		return c.failed(err)
	}
	want := unix.Rlimit{Cur: binary.NativeEndian.Uint64(b), Max: binary.NativeEndian.Uint64(b[8:])}
	var had unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &had); err != nil {
		return c.refusedWith(err)
	}
	switch {
	case want.Cur > want.Max:
		return Errno(unix.EINVAL)
	case want.Max > had.Max:
		return Errno(unix.EPERM) // also for the superuser
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &want, nil); err != nil {
		return c.refusedWith(err)
	}
	if old == 0 {
		return Return(0)
	}
	binary.NativeEndian.PutUint64(b, had.Cur)
	binary.NativeEndian.PutUint64(b[8:], had.Max)
	return c.reply(old, b)
}

// A memoryWatch adds up the memory of a sandbox.
type memoryWatch struct {
	s    *Sandbox
	stop chan struct{}
	done chan struct{}
}

func (s *Sandbox) watchMemory() *memoryWatch {
	w := &memoryWatch{s, make(chan struct{}), make(chan struct{})}
	go w.run()
	return w
}

func (w *memoryWatch) end() {
	close(w.stop)
	<-w.done
}

// How often the memory is added up: as often as it may grow by what is left to the limit
// at the pace that a machine writes memory, within bounds. Each time keeps a CPU busy for
// longer than it takes: the runtime's monitor goes on looking for work for 10 ms.
const (
	memoryPace   = 4 << 30 // bytes a second
	longestCheck = 250 * time.Millisecond
	policyCheck  = 100 * time.Millisecond // where a callback may set another limit
	shortestLook = time.Millisecond
)

func (w *memoryWatch) run() {
	defer close(w.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-timer.C:
		}
		limit, longest := w.s.cfg.Limits.Memory, longestCheck
		if p := w.s.policy; p != nil {
			limit, longest = lower(limit, p.rules.memory.Load()), policyCheck
		}
		if limit == 0 {
			timer.Reset(longest)
			continue
		}
		used := w.s.memory.used(limit)
		if used > limit {
			w.s.outOfMemory.Store(true)
			w.s.Kill()
			return
		}
		timer.Reset(min(max(memoryCheck(limit-used), shortestLook), longest))
	}
}

// memoryCheck returns how long it takes to write so many bytes.
func memoryCheck(left int64) time.Duration {
	return time.Duration(left/(memoryPace/1000)) * time.Millisecond
}

// kilobytes adds up fields of one of the kernel's files that are in kB. A process that
// is gone has nothing; ok is false for a file that can't be read.
func kilobytes(file string, fields ...string) (sum int64, ok bool) {
	text, err := readKernelFile(file)
	if err != nil {
		return 0, false
	}
	for _, field := range fields {
		_, rest, ok := bytes.Cut(text, append([]byte{'\n'}, field...))
		if !ok {
			continue
		}
		f := bytes.Fields(rest[:min(len(rest), 64)])
		if n, err := strconv.ParseInt(string(f[0]), 10, 64); err == nil {
			sum += n << 10
		}
	}
	return sum, true
}

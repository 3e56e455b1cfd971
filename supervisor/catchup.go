//go:build linux

package supervisor

import (
	"errors"
	"slices"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// Who has a file of the host's open to read, and goes on reading when another writes to it,
// is to read what was written. The file gets bytes of its own with the first write; then
// descriptors of the host's are replaced by those (handover.go).

// writerPatience is how long a call that writes waits for others to take a descriptor.
const writerPatience = 2 * time.Second

// catchUp does so for a file that was written to, or is about to be.
//
// What remains: a descriptor that several processes share beside the caller, of which one may
// be reading; one of a process with threads, which may close it and have another of the same
// number in that moment, or whose main thread has ended; one of a process that job control has
// stopped, whose vfork the caller is, or that doesn't come to a stop; and memory that maps the
// file. They keep the host's bytes.
func (c *Call) catchUp(f *cow.File) {
	if _, _, outdated := f.Outdated(); !outdated {
		return
	}
	defer c.s.handovers.enter(c)()
	dev, ino, outdated := f.Outdated()
	if !outdated {
		return // another has seen to it meanwhile
	}
	u := usersOf(c, f, dev, ino)
	all := !u.unseen
	for p, fds := range u.held {
		if p == c.Process {
			continue // what only that has left is the last
		}
		for _, n := range fds {
			all = u.replace(p, n) && all
		}
	}
	for _, n := range u.held[c.Process] {
		all = u.replace(c.Process, n) && all
	}
	if all {
		f.CaughtUp()
	}
}

// A readers is who has a file of the host's open, when a call writes to it.
type readers struct {
	c       *Call
	f       *cow.File
	threads map[*Process]int
	held    map[*Process][]int32
	unseen  bool // what somebody has open couldn't be looked at
	late    time.Time
}

func usersOf(c *Call, f *cow.File, dev, ino uint64) *readers {
	r := &readers{c: c, f: f, threads: map[*Process]int{}, held: map[*Process][]int32{}, late: time.Now().Add(writerPatience)}
	for _, th := range c.s.threads.appendAll(nil) {
		r.threads[th.proc]++
	}
	for p := range r.threads {
		if p != c.Process {
			c.s.dcache.awaitOpens(p)
		}
		all, err := p.descriptorsTo(dev, ino)
		if err != nil {
			// Unless it is gone, it is looked at again with the next call that writes.
			r.unseen = r.unseen || !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) && !p.ended()
			continue
		}
		for n := range all {
			r.held[p] = append(r.held[p], n)
		}
	}
	return r
}

// replace replaces a descriptor of a process, and those that are the same open file. It
// reports whether that, or nothing, was to be done.
func (r *readers) replace(p *Process, n int32) bool {
	fd, err := p.fdIfLent(p.TGID, n)
	switch {
	case err == errNotLent:
		return false
	case err != nil:
		return true // it was closed
	}
	h, err := newHandover(fd, r.f.Detach)
	if h == nil {
		return err == nil
	}
	defer h.close()
	h.late = true
	callers := p == r.c.Process
	for other, fds := range r.held {
		shares := slices.ContainsFunc(fds, func(n int32) bool { return sameFile(other.TGID, int(n), h.old) })
		switch {
		case !shares:
		case r.threads[other] > 1:
			return false
		case other == r.c.Process: // which doesn't read now
			callers = true
		case other != p:
			return false
		}
	}
	if p != r.c.Process {
		if err := r.c.handOver(p, *h, r.late); err != nil {
			return err == unix.ESRCH
		}
		h.late = false // it may read already
	}
	return !callers || h.take(r.c) == nil
}

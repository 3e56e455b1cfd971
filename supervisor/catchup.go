//go:build linux

package supervisor

import (
	"errors"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// Who has a file of the host's open to read, and goes on reading when another writes to it,
// is to read what was written. The file gets bytes of its own with the first write; then
// descriptors of the host's are replaced by those (handover.go).

// catchUp does so for a file that was written to, or is about to be.
//
// What remains: a process that can't be given a descriptor, see [locks], and memory that
// maps the file, keep the host's bytes.
func (c *Call) catchUp(f *cow.File) error {
	if _, _, outdated := f.Outdated(); !outdated {
		return nil
	}
	defer c.s.handovers.enter(c)()
	dev, ino, outdated := f.Outdated()
	if !outdated {
		return nil // another has seen to it meanwhile
	}
	for _, pid := range c.s.threads.processes() {
		th := c.s.threads.get(pid)
		if th == nil {
			continue
		}
		err := c.catchUpIn(th.proc, f, dev, ino)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) && !th.proc.ended() {
			return err
		}
	}
	f.CaughtUp()
	return nil
}

// catchUpIn replaces what a process has, wherever it is shared.
func (c *Call) catchUpIn(p *Process, f *cow.File, dev, ino uint64) error {
	given := map[int32]bool{} // that can't be replaced
	for {
		all, err := p.descriptorsTo(dev, ino)
		if err != nil {
			return err
		}
		next := int32(-1)
		for n := range all {
			if !given[n] && (next < 0 || n < next) {
				next = n
			}
		}
		if next < 0 {
			return nil
		}
		given[next] = true
		fd, err := p.fd(p.TGID, next)
		if err == unix.EBADF {
			continue // it was closed
		}
		if err != nil {
			return err
		}
		h, err := newHandover(fd, f.Detach)
		if h != nil {
			err = c.replace(*h)
			h.close()
		}
		if err != nil && err != unix.ENOLCK {
			return err
		}
	}
}

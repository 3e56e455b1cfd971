//go:build linux

package cow

import "golang.org/x/sys/unix"

// Detach opens a regular file of the host's anew, with bytes of its own, for what is to be
// done to an open file without writing to it: a lock, say. That is no change, so it is done
// to files that can't be written to as well. flags are as for open(2); fd is -1 if there is
// nothing to do: the file of which st tells has bytes of its own, is no regular one, or is
// the host's on purpose. ENOLCK means that there is no room, or no name left, for that.
func (f *File) Detach(st *unix.Stat_t, flags int) (fd int, err error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	in := f.e.inode
	if !in.isRegular() || in.through || in.template != nil || in.lower == "" && in.object == nil {
		return -1, nil
	}
	if in.object == nil {
		if in, err = f.known(); err != nil {
			return -1, err
		}
		if err := f.t.copyUp(in, false); err == unix.ENOSPC {
			return -1, unix.ENOLCK
		} else if err != nil {
			return -1, err
		}
	}
	if in.object.dropped { // the file has lost its name
		var host unix.Stat_t
		if in.lower != "" && unix.Lstat(in.lower, &host) == nil && idOf(&host) == idOf(st) {
			return -1, unix.ENOLCK
		}
		return -1, nil
	}
	var own unix.Stat_t
	if err := unix.Lstat(in.object.path, &own); err != nil {
		return -1, err
	}
	if idOf(&own) == idOf(st) {
		return -1, nil
	}
	// The layer may not have those, or refuse them.
	const perhaps = unix.O_DIRECT | unix.O_NOATIME
	fd, err = unix.Open(in.object.path, flags&^(perhaps|unix.O_CREAT|unix.O_EXCL|unix.O_TRUNC)|unix.O_CLOEXEC, 0)
	if err == nil && flags&perhaps != 0 {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
	}
	return fd, err
}

// IsOwn reports whether the open file of which st tells has the bytes of the tree's own that the
// file has.
func (f *File) IsOwn(st *unix.Stat_t) bool {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	in := f.e.inode
	return in.object != nil && !in.object.dropped && in.id != idOf(st)
}

// Outdated reports whether somebody may have a file of the host's open to read whose bytes
// this one once had, as it does no more. It is so until [File.CaughtUp].
func (f *File) Outdated() (dev, ino uint64, outdated bool) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	in := f.e.inode
	return in.id.dev, in.id.ino, in.outdated()
}

func (in *Inode) outdated() bool {
	s := in.tree.seen.get(in.id)
	return in.object != nil && (s != nil && s.told || in.tree.opened[in.id])
}

// CaughtUp notes that nobody has.
func (f *File) CaughtUp() {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	delete(f.t.opened, f.e.inode.id)
	if s := f.t.seen.get(f.e.inode.id); s != nil {
		s.told = false
	}
}

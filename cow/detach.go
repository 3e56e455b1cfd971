//go:build linux

package cow

import "golang.org/x/sys/unix"

// Detach opens a regular file of the host's anew, with bytes of its own, for what is to be
// done to an open file without writing to it: a lock, say. That is no change. flags are as
// for open(2); fd is -1 if there is nothing to do: the file of which st tells has bytes of
// its own, is no regular one, or is the host's on purpose. Where it can't be done the error
// is EROFS, ENOSPC, or that of the host.
func (f *File) Detach(st *unix.Stat_t, flags int) (fd int, err error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	in := f.e.inode
	if !in.isRegular() || in.through || in.template != nil || in.lower == "" && in.object == nil {
		return -1, nil
	}
	if in, err = f.own(); err != nil {
		return -1, err
	}
	if err := f.t.copyUp(in, false); err != nil {
		return -1, err
	}
	var own unix.Stat_t
	if err := unix.Lstat(in.object.path, &own); err != nil {
		return -1, err
	}
	if own.Dev == st.Dev && own.Ino == st.Ino {
		return -1, nil
	}
	return unix.Open(in.object.path, flags&^(unix.O_CREAT|unix.O_EXCL|unix.O_TRUNC)|unix.O_CLOEXEC, 0)
}

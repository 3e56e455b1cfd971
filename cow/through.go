//go:build linux

package cow

import (
	"strings"

	"golang.org/x/sys/unix"
)

// What lies below a mount with Through set is the host's own. The tree walks to it
// and judges who may do what; then it is done on the host.

// makeThrough makes a file on the host, and then gives it the mode and owner that it
// would have got from the caller.
func (t *Tree) makeThrough(e *entry, cred *Cred, mode uint32, onHost func(host string) error) (err error) {
	host := joinPath(e.dir.lower, e.name)
	if err := onHost(host); err != nil {
		return err
	}
	if int(cred.UID) != unix.Geteuid() || int(cred.GID) != unix.Getegid() {
		if err := unix.Lchown(host, int(cred.UID), int(cred.GID)); err != nil {
			return err
		}
	}
	if mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(host, mode&0o7777); err != nil {
			return err
		}
	}
	e.inode, err = t.child(e.dir, e.name)
	if err == nil && e.inode == nil {
		err = unix.ENOENT
	}
	return err
}

func (t *Tree) unlinkThrough(e entry) error {
	host := joinPath(e.dir.lower, e.name)
	if e.inode.isDir() {
		if err := unix.Rmdir(host); err != nil {
			return err
		}
		e.inode.parent = nil
		return nil
	}
	return unix.Unlink(host)
}

// through moves a file of the host.
func (m *move) through(flags uint32) error {
	from, to := joinPath(m.src.dir.lower, m.src.name), joinPath(m.dst.dir.lower, m.dst.name)
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, uint(flags)); err != nil {
		return err
	}
	const passing = "\x00"
	m.t.relocate(from, passing)
	if m.exchange {
		m.t.relocate(to, from)
	}
	m.t.relocate(passing, to)
	place := func(in *Inode, e *entry) {
		if in != nil {
			in.parent, in.name = e.dir, e.name
		}
	}
	switch {
	case m.exchange:
		place(m.dst.inode, &m.src)
	case m.dst.inode != nil && m.dst.inode.isDir():
		m.dst.inode.parent = nil
	}
	place(m.src.inode, &m.dst)
	return nil
}

// relocate notes that what was at a path of the host is at another now.
func (t *Tree) relocate(from, to string) {
	for _, in := range t.known {
		if in.lower == from {
			in.lower = to
		} else if rest, ok := strings.CutPrefix(in.lower, from+"/"); ok {
			in.lower = to + "/" + rest
		}
	}
}

// throughAttr changes an attribute on the host.
func (in *Inode) throughAttr(change func() error) error {
	if err := change(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := in.tree.lstat(in.lower, &st); err != nil {
		return err
	}
	in.refresh(&st)
	return nil
}

// refresh takes the attributes from what the host tells.
func (in *Inode) refresh(st *unix.Stat_t) {
	number := in.attr.Ino
	in.attr = in.tree.attrOf(st)
	in.attr.Ino = number
	if in.isDir() {
		in.attr.Size, in.attr.Nlink = DirSize, DirLinks
	}
}

func setTimes(path string, atime, mtime int64) error {
	var ts [2]unix.Timespec
	for i, set := range []int64{atime, mtime} {
		switch set {
		case TimeNow:
			ts[i].Nsec = unix.UTIME_NOW
		case TimeOmit:
			ts[i].Nsec = unix.UTIME_OMIT
		default:
			ts[i] = unix.NsecToTimespec(set)
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

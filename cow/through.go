//go:build linux

package cow

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What lies below a mount with Through set is the host's own. The tree walks to it
// and judges who may do what; then it is done on the host. The paths that the tree keeps
// hold no symbolic links. One that has come to be there since was put there by another
// who writes to the same place, and is not followed (openat2(2), RESOLVE_NO_SYMLINKS).

// inParent calls do with a path of the host in which nothing but the last component is
// looked up any more.
func inParent(host string, do func(path string) error) error {
	i := strings.LastIndexByte(host, '/')
	dir, err := openUnlinked(host[:i+1], unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return do("/proc/self/fd/" + strconv.Itoa(dir) + host[i:])
}

// inParents calls do with two such paths.
func inParents(a, b string, do func(a, b string) error) error {
	return inParent(a, func(a string) error {
		return inParent(b, func(b string) error { return do(a, b) })
	})
}

// openUnlinked opens a file of the host, by a path without symbolic links.
func openUnlinked(path string, flags int) (fd int, err error) {
	err = atHost(path, func(dir int, rel string) (err error) {
		fd, err = openat2(dir, rel, flags)
		return err
	})
	return fd, err
}

// StatUnlinked tells of a file of the host, by a path in which no symbolic link is
// followed.
func StatUnlinked(path string) (st unix.Stat_t, err error) {
	fd, err := openUnlinked(path, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}

// HostFlags are those of the flags of an open that openat2(2) takes, to open a file that
// exists.
func HostFlags(flags int) int {
	const known = unix.O_ACCMODE | unix.O_APPEND | unix.O_NONBLOCK | unix.O_DSYNC | unix.O_SYNC | unix.O_ASYNC | unix.O_DIRECT | unix.O_LARGEFILE |
		unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NOATIME | unix.O_PATH | unix.O_NOCTTY | unix.O_CLOEXEC
	if flags &= known; flags&unix.O_PATH != 0 {
		flags &= unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	}
	return flags
}

func openat2(dir int, rel string, flags int) (int, error) {
	fd, err := unix.Openat2(dir, rel, &unix.OpenHow{Flags: uint64(HostFlags(flags) | unix.O_CLOEXEC), Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	if err == unix.ELOOP {
		err = unix.ENOENT // what was there isn't any more
	}
	return fd, err
}

// makeThrough makes a file on the host, and then gives it the mode and owner that it
// would have got from the caller.
func (t *Tree) makeThrough(e *entry, cred *Cred, mode uint32, onHost func(host string) error) (err error) {
	err = inParent(joinPath(e.dir.lower, e.name), func(host string) error {
		if err := onHost(host); err != nil {
			return err
		}
		if int(cred.UID) != unix.Geteuid() || int(cred.GID) != unix.Getegid() {
			if err := unix.Lchown(host, int(cred.UID), int(cred.GID)); err != nil {
				return err
			}
		}
		if mode&unix.S_IFMT == unix.S_IFLNK {
			return nil
		}
		return chmodItself(host, mode&0o7777)
	})
	if err != nil {
		return err
	}
	e.inode, err = t.child(e.dir, e.name)
	if err == nil && e.inode == nil {
		err = unix.ENOENT
	}
	return err
}

// chmodItself changes the mode of a file, and not of what a symbolic link that has taken
// its place leads to.
func chmodItself(path string, mode uint32) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

func (t *Tree) unlinkThrough(e entry) error {
	return inParent(joinPath(e.dir.lower, e.name), func(host string) error {
		if e.inode.isDir() {
			if err := unix.Rmdir(host); err != nil {
				return err
			}
			e.inode.remove()
			return nil
		}
		return unix.Unlink(host)
	})
}

// through moves a file of the host.
func (m *move) through(flags uint32) error {
	from, to := joinPath(m.src.dir.lower, m.src.name), joinPath(m.dst.dir.lower, m.dst.name)
	err := inParents(from, to, func(from, to string) error {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, uint(flags))
	})
	if err != nil {
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
		m.dst.inode.remove()
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
func (in *Inode) throughAttr(change func(host string) error) error {
	if err := inParent(in.lower, change); err != nil {
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

func setTimes(path string, atime, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

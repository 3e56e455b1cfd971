//go:build linux

package supervisor

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// attributes answers what changes a file's mode, owner, times, size or extended
// attributes, and reads the latter.
//
// Source: the host's files. Eliminated: the layer keeps what was set. The size of an
// open file (ftruncate) and its flags and locks are the kernel's business.
func attributes(s *Sandbox) feature {
	cwd := int32(unix.AT_FDCWD)
	f := feature{name: "attributes", calls: []call{
		{name: "chmod", notify: func(c *Call) Answer { return c.chmod(c.lookup, cwd, c.Arg(0), c.Arg(1), 0) }},
		{name: "fchmodat", notify: func(c *Call) Answer { return c.chmod(c.lookup, c.Int(0), c.Arg(1), c.Arg(2), 0) }},
		{name: "fchmodat2", notify: func(c *Call) Answer { return c.chmod(c.lookup, c.Int(0), c.Arg(1), c.Arg(2), c.Int(3)) }},
		{name: "fchmod", notify: func(c *Call) Answer { return c.chmod(c.lookupOpen, c.Int(0), 0, c.Arg(1), 0) }},
		{name: "chown", notify: func(c *Call) Answer { return c.chown(c.lookup, cwd, c.Arg(0), c.Int(1), c.Int(2), 0) }},
		{name: "lchown", notify: func(c *Call) Answer {
			return c.chown(c.lookup, cwd, c.Arg(0), c.Int(1), c.Int(2), unix.AT_SYMLINK_NOFOLLOW)
		}},
		{name: "fchownat", notify: func(c *Call) Answer { return c.chown(c.lookup, c.Int(0), c.Arg(1), c.Int(2), c.Int(3), c.Int(4)) }},
		{name: "fchown", notify: func(c *Call) Answer { return c.chown(c.lookupOpen, c.Int(0), 0, c.Int(1), c.Int(2), 0) }},
		{name: "truncate", notify: func(c *Call) Answer {
			if int64(c.Arg(1)) < 0 {
				return Errno(unix.EINVAL)
			}
			err := c.lookup(cwd, c.Arg(0), 0, func(f *cow.File, cred *cow.Cred) error {
				if err := f.Truncate(cred, int64(c.Arg(1))); err != nil {
					return err
				}
				c.catchUp(f)
				return nil
			})
			return c.changedOwn(err, Errno(unix.EPERM), allows(unix.W_OK), func(to string) error { return unix.Truncate(to, int64(c.Arg(1))) })
		}},
		{name: "utime", notify: func(c *Call) Answer { return c.utimes(cwd, c.Arg(0), c.Arg(1), time.Second, 8, 0) }},
		{name: "utimes", notify: func(c *Call) Answer { return c.utimes(cwd, c.Arg(0), c.Arg(1), time.Microsecond, 16, 0) }},
		{name: "futimesat", notify: func(c *Call) Answer { return c.utimes(c.Int(0), c.Arg(1), c.Arg(2), time.Microsecond, 16, 0) }},
		{name: "utimensat", notify: func(c *Call) Answer {
			return c.utimes(c.Int(0), c.Arg(1), c.Arg(2), time.Nanosecond, 16, c.Int(3))
		}},
	}}
	for _, kind := range []struct {
		prefix string
		find   finder
		flags  int32
	}{{"", (*Call).lookup, 0}, {"l", (*Call).lookup, unix.AT_SYMLINK_NOFOLLOW}, {"f", (*Call).lookupOpen, 0}} {
		find := func(c *Call, do func(*cow.File, *cow.Cred) error) error {
			if kind.prefix == "f" {
				return c.lookupFD(c.Int(0), forIO, do)
			}
			return kind.find(c, cwd, c.Arg(0), followFlag(kind.flags), do)
		}
		f.calls = append(f.calls,
			call{name: kind.prefix + "getxattr", notify: func(c *Call) Answer { return c.getxattr(find) }},
			call{name: kind.prefix + "listxattr", notify: func(c *Call) Answer { return c.listxattr(find) }},
			call{name: kind.prefix + "setxattr", notify: func(c *Call) Answer { return c.setxattr(find) }},
			call{name: kind.prefix + "removexattr", notify: func(c *Call) Answer { return c.removexattr(find) }})
	}
	return f
}

// A finder finds a file by a path, or by a descriptor alone.
type finder = func(c *Call, dirfd int32, path uint64, flags walkFlags, do func(*cow.File, *cow.Cred) error) error

func (c *Call) lookupOpen(fd int32, _ uint64, _ walkFlags, do func(*cow.File, *cow.Cred) error) error {
	return c.lookupFD(fd, forIO, do)
}

type bound = func(dirfd int32, path uint64, flags walkFlags, do func(*cow.File, *cow.Cred) error) error

func (c *Call) chmod(find bound, dirfd int32, path, mode uint64, flags int32) Answer {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return Errno(unix.EINVAL)
	}
	err := find(dirfd, path, followFlag(flags), func(f *cow.File, cred *cow.Cred) error { return f.Chmod(cred, uint32(mode)) })
	if o := isOutside(err); o != nil && o.link {
		unix.Close(o.fd)
		return Errno(unix.EOPNOTSUPP)
	}
	return c.changed(err, owns, func(to string) error { return unix.Chmod(to, uint32(mode)&0o7777) })
}

func (c *Call) chown(find bound, dirfd int32, path uint64, uid, gid, flags int32) Answer {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return Errno(unix.EINVAL)
	}
	err := find(dirfd, path, followFlag(flags), func(f *cow.File, cred *cow.Cred) error { return f.Chown(cred, uid, gid) })
	may := func(cred *cow.Cred, st *unix.Stat_t) error { return cred.MayChown(st.Uid, st.Gid, uid, gid) }
	return c.changed(err, may, func(to string) error { return unix.Chown(to, int(uid), int(gid)) })
}

// utimes sets times, given in pairs of words, or for utime(2) in single words.
func (c *Call) utimes(dirfd int32, path, times uint64, unit time.Duration, size int, flags int32) Answer {
	set, bad := [2]unix.Timespec{cow.TimeNow, cow.TimeNow}, false
	if times != 0 {
		b := c.scratch(2 * size)
		if err := c.Read(times, b); err != nil {
			return c.failed(err)
		}
		for i := range set {
			sec, rest := int64(binary.NativeEndian.Uint64(b[i*size:])), int64(0)
			if size == 16 {
				rest = int64(binary.NativeEndian.Uint64(b[i*size+8:]))
			}
			switch {
			case unit == time.Nanosecond && rest == unix.UTIME_NOW:
			case unit == time.Nanosecond && rest == unix.UTIME_OMIT:
				set[i] = cow.TimeOmit
			case rest < 0 || rest >= int64(time.Second/unit) && size == 16:
				if unit != time.Nanosecond {
					return Errno(unix.EINVAL)
				}
				bad = true // which comes after the path (vfs_utimes, fs/utimes.c)
			default:
				set[i] = unix.Timespec{Sec: sec, Nsec: rest * int64(unit)}
			}
		}
	}
	switch {
	case set == [2]unix.Timespec{cow.TimeOmit, cow.TimeOmit}:
		return Return(0) // the kernel doesn't even look at the path
	case flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0:
		return Errno(unix.EINVAL)
	}
	do := func(f *cow.File, cred *cow.Cred) error {
		if bad {
			return unix.EINVAL
		}
		return f.SetTimes(cred, set[0], set[1])
	}
	var err error
	if path == 0 && dirfd != unix.AT_FDCWD && unit != time.Second {
		if flags != 0 {
			return Errno(unix.EINVAL) // do_utimes_fd, fs/utimes.c
		}
		err = c.lookupFD(dirfd, forIO, do)
	} else {
		err = c.lookup(dirfd, path, followFlag(flags), do)
	}
	may := owns
	if set == [2]unix.Timespec{cow.TimeNow, cow.TimeNow} {
		may = ownsOrWrites
	}
	if isOutside(err) != nil && bad {
		unix.Close(isOutside(err).fd)
		return Errno(unix.EINVAL)
	}
	return c.changed(err, may, func(to string) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, to, kernelTimes(set), 0)
	})
}

// kernelTimes are times as utimensat(2) has them. What is now for the kernel is told otherwise,
// see unnamed.told.
func kernelTimes(set [2]unix.Timespec) []unix.Timespec {
	for i := range set {
		switch set[i] {
		case cow.TimeNow:
			set[i] = unix.Timespec{Nsec: unix.UTIME_NOW}
		case cow.TimeOmit:
			set[i] = unix.Timespec{Nsec: unix.UTIME_OMIT}
		}
	}
	return set[:]
}

type found = func(c *Call, do func(*cow.File, *cow.Cred) error) error

// attrName reads the name of an extended attribute.
func (c *Call) attrName(at uint64) (string, Answer) {
	b, err := c.String(at)
	switch {
	case err == unix.ENAMETOOLONG || err == nil && (len(b) == 0 || len(b) > 255):
		return "", Errno(unix.ERANGE)
	case err != nil:
		return "", c.failed(err)
	}
	return string(b), goOn
}

// give stores a value whose length is asked for with a size of 0. of reads that of what has no
// name, to which its path leads.
func (c *Call) give(err error, given Answer, at, size uint64, value string, of func(to string) (string, error)) Answer {
	if isOutside(err) != nil {
		a := c.changedOwn(err, given, anybody, func(to string) (err error) {
			value, err = of(to)
			return err
		})
		if a != Return(0) {
			return a
		}
		err = nil
	}
	switch {
	case err != nil:
		return c.done(err)
	case size == 0:
		return Return(int64(len(value)))
	case size < uint64(len(value)):
		return Errno(unix.ERANGE)
	}
	if _, err := c.Write(at, []byte(value)); err != nil {
		return c.failed(err)
	}
	return Return(int64(len(value)))
}

func (c *Call) getxattr(find found) Answer {
	name, a := c.attrName(c.Arg(1))
	if a.kind != answerGoOn {
		return a
	}
	value := ""
	err := find(c, func(f *cow.File, cred *cow.Cred) (err error) {
		value, err = f.Getxattr(cred, name)
		return err
	})
	return c.give(err, c.noXattrs(err, name, unix.ENODATA), c.Arg(2), c.Arg(3), value, func(to string) (string, error) {
		return grown(func(b []byte) (int, error) { return unix.Getxattr(to, name, b) })
	})
}

func (c *Call) listxattr(find found) Answer {
	list := ""
	err := find(c, func(f *cow.File, cred *cow.Cred) error {
		names, err := f.Listxattr(cred)
		if len(names) > 0 {
			list = strings.Join(names, "\x00") + "\x00"
		}
		return err
	})
	return c.give(err, Return(0), c.Arg(1), c.Arg(2), list, func(to string) (string, error) {
		return grown(func(b []byte) (int, error) { return unix.Listxattr(to, b) })
	})
}

func (c *Call) setxattr(find found) Answer {
	name, a := c.attrName(c.Arg(1))
	if a.kind != answerGoOn {
		return a
	}
	const most = 65536 // XATTR_SIZE_MAX, linux/limits.h
	size := c.Arg(3)
	if size > most {
		return Errno(unix.E2BIG)
	}
	value := make([]byte, size)
	if err := c.Read(c.Arg(2), value); err != nil {
		return c.failed(err)
	}
	err := find(c, func(f *cow.File, cred *cow.Cred) error {
		return f.Setxattr(cred, name, string(value), int(c.Int(4)))
	})
	return c.changedOwn(err, c.noXattrs(err, name, unix.EPERM), sets(name), func(to string) error {
		return unix.Setxattr(to, name, value, int(c.Int(4)))
	})
}

func (c *Call) removexattr(find found) Answer {
	name, a := c.attrName(c.Arg(1))
	if a.kind != answerGoOn {
		return a
	}
	err := find(c, func(f *cow.File, cred *cow.Cred) error { return f.Removexattr(cred, name) })
	return c.changedOwn(err, c.noXattrs(err, name, unix.EPERM), sets(name), func(to string) error { return unix.Removexattr(to, name) })
}

// noXattrs is why a file outside of the tree has no extended attribute: it could have none of
// users' own if it is a link (xattr_permission, fs/xattr.c), and in /proc there are none at all.
func (c *Call) noXattrs(err error, name string, ofLink unix.Errno) Answer {
	switch o := isOutside(err); {
	case o == nil || !strings.HasPrefix(name, "user."):
	case o.link:
		return Errno(ofLink)
	case ofLink == unix.EPERM && o.path != "" && c.s.view.mayUse(c.thread, o.path, o.fd, unix.W_OK) == unix.EACCES:
		return Errno(unix.EACCES)
	}
	return Errno(unix.EOPNOTSUPP)
}

// sets says whether somebody may set an extended attribute (xattr_permission, fs/xattr.c).
func sets(name string) mayChange {
	return func(cred *cow.Cred, st *unix.Stat_t) error {
		switch {
		case strings.HasPrefix(name, "user.") && st.Mode&unix.S_IFMT != unix.S_IFREG:
			return unix.EPERM
		case strings.HasPrefix(name, "user."):
			return allows(unix.W_OK)(cred, st)
		case !cred.Admin && !strings.HasPrefix(name, "system."):
			return unix.EPERM
		}
		return nil
	}
}

// grown reads what has the length that it tells of itself.
func grown(read func(b []byte) (int, error)) (string, error) {
	for {
		n, err := read(nil)
		if err != nil || n == 0 {
			return "", err
		}
		b := make([]byte, n)
		if n, err = read(b); err != unix.ERANGE {
			return string(b[:max(n, 0)]), err
		}
	}
}

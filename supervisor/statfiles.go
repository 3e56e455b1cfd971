//go:build linux

package supervisor

import (
	"fmt"
	"strings"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// statFiles answers what asks about a file.
//
// Source: inode numbers, devices, times, block counts, sizes and link counts of
// directories, which differ from machine to machine and from run to run.
// Eliminated: they are the tree's, see package cow. File systems are all of one
// kind and size.
//
// What remains: the files that the command was given from outside have the host's numbers
// and times. Pipes, sockets and memory: see unnamed.go.
func statFiles(s *Sandbox) feature {
	cwd := int32(unix.AT_FDCWD)
	return feature{name: "stat", calls: []call{
		{name: "stat", notify: func(c *Call) Answer { return s.stat(c, cwd, c.Arg(0), c.Arg(1), 0) }},
		{name: "lstat", notify: func(c *Call) Answer { return s.stat(c, cwd, c.Arg(0), c.Arg(1), unix.AT_SYMLINK_NOFOLLOW) }},
		{name: "fstat", notify: func(c *Call) Answer { return s.fstat(c, c.Int(0), c.Arg(1)) }},
		{name: "newfstatat", notify: func(c *Call) Answer { return s.stat(c, c.Int(0), c.Arg(1), c.Arg(2), c.Int(3)) }},
		{name: "statx", notify: s.statx},
		{name: "access", notify: func(c *Call) Answer { return s.access(c, cwd, c.Arg(0), c.Arg(1), 0) }},
		{name: "faccessat", notify: func(c *Call) Answer { return s.access(c, c.Int(0), c.Arg(1), c.Arg(2), 0) }},
		{name: "faccessat2", notify: func(c *Call) Answer { return s.access(c, c.Int(0), c.Arg(1), c.Arg(2), c.Int(3)) }},
		{name: "readlink", notify: func(c *Call) Answer { return s.readlink(c, cwd, c.Arg(0), c.Arg(1), c.Int(2)) }},
		{name: "readlinkat", notify: func(c *Call) Answer { return s.readlink(c, c.Int(0), c.Arg(1), c.Arg(2), c.Int(3)) }},
		{name: "statfs", notify: s.statfs},
		{name: "fstatfs", notify: s.fstatfs},
	}}
}

// followFlag translates AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH.
func followFlag(flags int32) (f walkFlags) {
	if flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
		f |= noFollow
	}
	if flags&unix.AT_EMPTY_PATH != 0 {
		f |= emptyPath
	}
	return f
}

func (s *Sandbox) stat(c *Call, dirfd int32, path, buf uint64, flags int32) Answer {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT|statxSync) != 0 {
		return Errno(unix.EINVAL)
	}
	st := c.statBuf()
	err := c.lookupStat(dirfd, path, flags, func(f *cow.File, _ *cow.Cred) error {
		a, err := f.Stat()
		s.view.saw(&a)
		fillStat(st, &a)
		return err
	})
	return s.statted(c, buf, st, err)
}

// lookupStat finds a file for calls that take no path for an empty one (Linux 6.11).
func (c *Call) lookupStat(dirfd int32, path uint64, flags int32, do func(f *cow.File, cred *cow.Cred) error) error {
	follow := followFlag(flags) | c.tellsAbout(dirfd)
	if path == 0 && flags&unix.AT_EMPTY_PATH != 0 {
		return c.lookupEmpty(dirfd, follow, do)
	}
	return c.lookup(dirfd, path, follow, do)
}

func (s *Sandbox) fstat(c *Call, fd int32, buf uint64) Answer {
	c.tellsAbout(fd)
	st := c.statBuf()
	err := c.lookupFD(fd, 0, func(f *cow.File, _ *cow.Cred) error {
		a, err := f.Stat()
		s.view.saw(&a)
		fillStat(st, &a)
		return err
	})
	return s.statted(c, buf, st, err)
}

// statted answers with what was found.
func (s *Sandbox) statted(c *Call, buf uint64, st *unix.Stat_t, err error) Answer {
	if o := isOutside(err); o != nil {
		defer unix.Close(o.fd)
		if err := s.statOutside(c.Process, o, st); err != nil {
			return c.refusedWith(err)
		}
	} else if err != nil {
		return c.done(err)
	}
	return c.reply(buf, statBytes(st))
}

// statOutside asks the kernel. What is in /proc has the times of the start.
func (s *Sandbox) statOutside(by *Process, o *outside, st *unix.Stat_t) error {
	if err := unix.Fstat(o.fd, st); err != nil {
		return err
	}
	if o.path == "/proc" {
		const few, block = 2, 1024
		setStatLinks(st, few, block) // the host's processes are counted otherwise
	}
	if o.path == "" {
		return s.statUnnamed(by, o.fd, st)
	}
	if isProc(o.path) {
		st.Dev, st.Ino = procDev, s.procNumber(o.path)
	}
	if ino, ok := namespaceNumber(o.path); ok {
		st.Ino = ino
	}
	ts := unix.NsecToTimespec(s.clock.start.UnixNano())
	st.Atim, st.Mtim, st.Ctim = ts, ts, ts
	return nil
}

// procDev is the device of /proc, as its mountinfo says.
var procDev = unix.Mkdev(0, 2)

// procNumber is the inode number of a path in /proc: the kernel counts through what is looked
// at on the whole host.
func (s *Sandbox) procNumber(path string) uint64 {
	if path == "/proc" {
		return 1 // PROC_ROOT_INO, linux/proc_fs.h
	}
	return s.view.tree.Number(path)
}

func fillStat(st *unix.Stat_t, a *cow.Attr) {
	*st = unix.Stat_t{
		Dev: cow.Dev, Ino: a.Ino, Mode: a.Mode, Uid: a.UID, Gid: a.GID, Rdev: a.Rdev, Size: a.Size, Blocks: a.Blocks(),
		Atim: a.Atime, Mtim: a.Mtime, Ctim: a.Ctime,
	}
	setStatLinks(st, a.Nlink, cow.BlockSize)
}

// statxSync are the bits that say how fresh the answer must be (AT_STATX_SYNC_TYPE,
// linux/fcntl.h).
const statxSync = 0x6000

func (s *Sandbox) statx(c *Call) Answer {
	dirfd, path, flags, mask, buf := c.Int(0), c.Arg(1), c.Int(2), uint32(c.Arg(3)), c.Arg(4)
	const known = unix.AT_SYMLINK_NOFOLLOW | unix.AT_EMPTY_PATH | unix.AT_NO_AUTOMOUNT | statxSync
	if flags&^known != 0 || mask&unix.STATX__RESERVED != 0 || flags&statxSync == statxSync {
		return Errno(unix.EINVAL)
	}
	var a cow.Attr
	find := func(f *cow.File, _ *cow.Cred) (err error) {
		a, err = f.Stat()
		s.view.saw(&a)
		return err
	}
	err := c.lookupStat(dirfd, path, flags, find)
	dev := uint64(cow.Dev)
	if o := isOutside(err); o != nil {
		defer unix.Close(o.fd)
		st := c.statBuf()
		if err := s.statOutside(c.Process, o, st); err != nil {
			return c.refusedWith(err)
		}
		dev = st.Dev
		a = cow.Attr{Ino: st.Ino, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), Rdev: st.Rdev, Size: st.Size,
			Atime: st.Atim, Mtime: st.Mtim, Ctime: st.Ctim, Btime: st.Ctim}
	} else if err != nil {
		return c.done(err)
	}
	return c.reply(buf, statxBytes(&a, dev))
}

func (s *Sandbox) access(c *Call, dirfd int32, path, mode uint64, flags int32) Answer {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH|unix.AT_EACCESS) != 0 || uint32(mode)&^7 != 0 {
		return Errno(unix.EINVAL)
	}
	follow := followFlag(flags) | c.tellsAbout(dirfd)
	if flags&unix.AT_EACCESS == 0 {
		follow |= asReal
	}
	err := c.lookup(dirfd, path, follow, func(f *cow.File, cred *cow.Cred) error { return f.Access(cred, uint32(mode)) })
	if o := isOutside(err); o != nil {
		defer unix.Close(o.fd)
		if o.readOnly && o.path != "" && mode&unix.W_OK != 0 {
			return Errno(unix.EACCES)
		}
		if err := s.view.mayAccess(c.thread, o, uint32(mode), flags&unix.AT_EACCESS != 0); err != nil {
			return c.done(err)
		}
		return Return(0)
	}
	return c.done(err)
}

func (s *Sandbox) readlink(c *Call, dirfd int32, path, buf uint64, size int32) Answer {
	if size <= 0 {
		return Errno(unix.EINVAL)
	}
	target := ""
	err := c.at(dirfd, path, noFollow|emptyPath|c.tellsAbout(dirfd), func(w *cow.Walk, path string) error {
		f, err := s.view.tree.Lookup(w, path)
		if err == nil {
			target, err = f.Readlink()
		}
		if err == unix.EINVAL && path == "" {
			err = unix.ENOENT
		}
		return err
	})
	if o := isOutside(err); o != nil {
		target, err = s.view.readOutside(c.thread, o)
		unix.Close(o.fd)
	}
	if err != nil {
		return c.done(err)
	}
	b := []byte(target)[:min(len(target), int(size))]
	if _, err := c.Write(buf, b); err != nil {
		return c.failed(err)
	}
	return Return(int64(len(b)))
}

// readOutside reads a symbolic link of /proc as the sandbox knows its target.
func (v *view) readOutside(th *thread, o *outside) (string, error) {
	if !o.link {
		return "", unix.EINVAL
	}
	at, name := cutLast(o.path, "/")
	dir, err := v.s.openProc(at, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	target, magic, err := v.readProcLink(th, dir, o.fd, name)
	if err != nil || !magic {
		return target, err
	}
	if err := v.mayLookInto(th, at); err != nil {
		return "", err
	}
	if text, ok := v.s.standIns.text(target); ok {
		return text.path, nil
	}
	if ino, ok := namespaceNumber(target); ok {
		kind, _, _ := strings.Cut(target, ":")
		return fmt.Sprintf("%s:[%d]", kind, ino), nil
	}
	switch name {
	case "root":
		return "/", nil
	case "cwd":
		if other := v.threadOf(at); other != nil {
			path, err := other.fs.Load().at().path()
			if path != "" {
				err = nil // removed, as it says
			}
			return path, err
		}
	}
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return target, nil // what has no file behind it, such as a socket
	}
	defer unix.Close(fd)
	if st, ok, err := v.s.standIns.device(fd); err != nil || ok {
		return randomDeviceName(&st), err
	}
	if n, err := v.s.unnamed(fd); err != nil || n != nil && !n.text {
		return n.name(v.s, th.proc), err
	}
	return v.pathInside(fd, target)
}

// namespaceNumber returns the number of a namespace that programs are shown, by what is
// behind its link in /proc/PID/ns (namespaces(7)): those that the first of each kind have
// (linux/nsfs.h), so that nothing is told of the host's or the sandbox's.
func namespaceNumber(target string) (ino uint64, ok bool) {
	kind, rest, ok := strings.Cut(target, ":[")
	if !ok || !strings.HasSuffix(rest, "]") {
		return 0, false
	}
	ino, ok = map[string]uint64{
		"mnt": 0xeffffff8, "net": 0xeffffff9, "time": 0xeffffffa, "cgroup": 0xeffffffb,
		"pid": 0xeffffffc, "user": 0xeffffffd, "uts": 0xeffffffe, "ipc": 0xefffffff,
	}[kind]
	return ino, ok
}

// path returns where a directory is, ENOENT if it was removed.
func (s spot) path() (string, error) {
	if s.dir == nil {
		return s.foreign, nil
	}
	path, ok := s.dir.Path()
	if !ok {
		return path, unix.ENOENT
	}
	return path, nil
}

// What statfs tells of every file system of the tree: ext4 of 64 GiB, half of it
// free, or of the size that Limits.Disk is.
const (
	fsMagic  = 0xef53
	fsBlocks = 1 << 24
	fsFiles  = 1 << 22
)

func (s *Sandbox) statfs(c *Call) Answer {
	err := c.lookup(unix.AT_FDCWD, c.Arg(0), 0, func(*cow.File, *cow.Cred) error { return nil })
	return c.replyStatfs(c.Arg(1), err)
}

func (s *Sandbox) fstatfs(c *Call) Answer {
	err := c.lookupFD(c.Int(0), 0, func(*cow.File, *cow.Cred) error { return nil })
	return c.replyStatfs(c.Arg(1), err)
}

func (c *Call) replyStatfs(buf uint64, err error) Answer {
	var fs unix.Statfs_t
	if o := isOutside(err); o != nil {
		defer unix.Close(o.fd)
		if fs, err = statfsOutside(o); err != nil {
			return c.refusedWith(err)
		}
	} else if err != nil {
		return c.done(err)
	} else {
		fs = treeStatfs
		if bytes, inodes := c.s.view.tree.Space(); bytes.Most > 0 {
			fs.Blocks = uint64(bytes.Most / cow.BlockSize)
			fs.Bfree = uint64(max(bytes.Most-bytes.Used, 0) / cow.BlockSize)
			fs.Bavail = fs.Bfree
			fs.Files, fs.Ffree = uint64(inodes.Most), uint64(max(inodes.Most-inodes.Used, 0))
		}
	}
	return c.reply(buf, statfsBytes(&fs))
}

// statfsOutside tells what kind of file system something outside of the tree is in, and
// nothing of one of the host's that the tree doesn't show.
func statfsOutside(o *outside) (unix.Statfs_t, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(o.fd, &fs); err != nil {
		return fs, err
	}
	switch uint32(fs.Type) {
	case unix.PROC_SUPER_MAGIC, pipefsMagic, unix.SOCKFS_MAGIC, unix.ANON_INODE_FS_MAGIC, unix.NSFS_MAGIC, unix.TMPFS_MAGIC, pidfsMagic:
		const valid = 0x20 // ST_VALID
		return unix.Statfs_t{Type: fs.Type, Bsize: fs.Bsize, Frsize: fs.Frsize, Namelen: fs.Namelen, Flags: valid}, nil
	}
	return treeStatfs, nil
}

// Kinds that package unix hasn't (linux/magic.h).
const (
	pipefsMagic = 0x50495045
	pidfsMagic  = 0x50494446
)

// treeStatfs is what is told of the tree.
var treeStatfs = unix.Statfs_t{Type: fsMagic, Bsize: cow.BlockSize, Frsize: cow.BlockSize, Blocks: fsBlocks, Bfree: fsBlocks / 2, Bavail: fsBlocks / 2,
	Files: fsFiles, Ffree: fsFiles / 2, Namelen: 255, Flags: 0x20 /* ST_VALID */}

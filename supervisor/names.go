//go:build linux

package supervisor

import (
	"fmt"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// names answers what creates, moves and removes names.
//
// Source: the host's directories. Eliminated: names are made and removed in the
// layer, with the errors that the kernel would give.
func names(s *Sandbox) feature {
	cwd := int32(unix.AT_FDCWD)
	return feature{name: "names", calls: []call{
		{name: "mkdir", notify: func(c *Call) Answer { return s.mkdir(c, cwd, c.Arg(0), c.Arg(1)) }},
		{name: "mkdirat", notify: func(c *Call) Answer { return s.mkdir(c, c.Int(0), c.Arg(1), c.Arg(2)) }},
		{name: "mknod", notify: func(c *Call) Answer { return s.mknod(c, cwd, c.Arg(0), c.Arg(1), c.Arg(2)) }},
		{name: "mknodat", notify: func(c *Call) Answer { return s.mknod(c, c.Int(0), c.Arg(1), c.Arg(2), c.Arg(3)) }},
		{name: "symlink", notify: func(c *Call) Answer { return s.symlink(c, c.Arg(0), cwd, c.Arg(1)) }},
		{name: "symlinkat", notify: func(c *Call) Answer { return s.symlink(c, c.Arg(0), c.Int(1), c.Arg(2)) }},
		{name: "link", notify: func(c *Call) Answer { return s.link(c, cwd, c.Arg(0), cwd, c.Arg(1), 0) }},
		{name: "linkat", notify: func(c *Call) Answer { return s.link(c, c.Int(0), c.Arg(1), c.Int(2), c.Arg(3), c.Int(4)) }},
		{name: "unlink", notify: func(c *Call) Answer { return s.unlink(c, cwd, c.Arg(0), 0) }},
		{name: "unlinkat", notify: func(c *Call) Answer { return s.unlink(c, c.Int(0), c.Arg(1), c.Int(2)) }},
		{name: "rmdir", notify: func(c *Call) Answer { return s.unlink(c, cwd, c.Arg(0), unix.AT_REMOVEDIR) }},
		{name: "rename", notify: func(c *Call) Answer { return s.rename(c, cwd, c.Arg(0), cwd, c.Arg(1), 0) }},
		{name: "renameat", notify: func(c *Call) Answer { return s.rename(c, c.Int(0), c.Arg(1), c.Int(2), c.Arg(3), 0) }},
		{name: "renameat2", notify: func(c *Call) Answer { return s.rename(c, c.Int(0), c.Arg(1), c.Int(2), c.Arg(3), c.Arg(4)) }},
	}}
}

// created is done for calls that create a name: what is outside exists.
func (c *Call) created(err error) Answer {
	if o := isOutside(err); o != nil {
		unix.Close(o.fd)
		return Errno(unix.EEXIST)
	}
	return c.done(err)
}

func (s *Sandbox) mkdir(c *Call, dirfd int32, path, mode uint64) Answer {
	return c.created(c.at(dirfd, path, noFollow, func(w *cow.Walk, path string) error {
		return s.view.tree.Mkdir(w, path, c.mode(mode))
	}))
}

func (s *Sandbox) mknod(c *Call, dirfd int32, path, mode, dev uint64) Answer {
	return c.created(c.at(dirfd, path, noFollow, func(w *cow.Walk, path string) error {
		return s.view.tree.Mknod(w, path, c.mode(mode), uint64(uint32(dev)))
	}))
}

func (s *Sandbox) symlink(c *Call, at uint64, dirfd int32, path uint64) Answer {
	b, err := c.String(at)
	if err != nil {
		return c.failed(err)
	}
	target := string(b)
	if target == "" {
		return Errno(unix.ENOENT)
	}
	return c.created(c.at(dirfd, path, noFollow, func(w *cow.Walk, path string) error {
		return s.view.tree.Symlink(w, target, path)
	}))
}

func (s *Sandbox) link(c *Call, oldfd int32, old uint64, newfd int32, path uint64, flags int32) Answer {
	if flags&^(unix.AT_SYMLINK_FOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return Errno(unix.EINVAL)
	}
	follow := unless(flags&unix.AT_SYMLINK_FOLLOW != 0)
	if flags&unix.AT_EMPTY_PATH != 0 {
		follow |= emptyPath
	}
	err := c.at(oldfd, old, follow, func(from *cow.Walk, old string) error {
		if _, err := s.view.tree.Lookup(from, old); err != nil {
			return err // whatever is wrong with the new name
		}
		return c.at(newfd, path, noFollow, func(to *cow.Walk, path string) error {
			return s.view.tree.Link(from, old, to, path)
		})
	})
	if o := isOutside(err); o != nil {
		unix.Close(o.fd)
		return Errno(unix.EXDEV)
	}
	return c.done(err)
}

func (s *Sandbox) unlink(c *Call, dirfd int32, path uint64, flags int32) Answer {
	if flags&^unix.AT_REMOVEDIR != 0 {
		return Errno(unix.EINVAL)
	}
	asDir := flags&unix.AT_REMOVEDIR != 0
	err := c.at(dirfd, path, noFollow, func(w *cow.Walk, path string) error {
		if asDir {
			return s.view.tree.Rmdir(w, path)
		}
		return s.view.tree.Unlink(w, path)
	})
	if o := isOutside(err); o != nil {
		defer unix.Close(o.fd)
		return s.notRemoved(o, asDir)
	}
	return c.done(err)
}

// notRemoved is why a file in /proc isn't removed. That it isn't of the kind that is meant
// comes before that nothing there can be (may_delete, fs/namei.c).
func (s *Sandbox) notRemoved(o *outside, asDir bool) Answer {
	var st unix.Stat_t
	if err := unix.Fstat(o.fd, &st); err != nil {
		return Fatal(fmt.Errorf("look at %s: %w", o.name(), err))
	}
	switch isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR; {
	case asDir && !isDir:
		return Errno(unix.ENOTDIR)
	case !asDir && isDir:
		return Errno(unix.EISDIR)
	}
	return Errno(unix.EPERM)
}

func (s *Sandbox) rename(c *Call, oldfd int32, old uint64, newfd int32, path, flags uint64) Answer {
	err := c.at(oldfd, old, noFollow, func(from *cow.Walk, old string) error {
		return c.at(newfd, path, noFollow, func(to *cow.Walk, path string) error {
			return s.view.tree.Rename(from, old, to, path, uint32(flags))
		})
	})
	if o := isOutside(err); o != nil {
		unix.Close(o.fd)
		return Errno(unix.EXDEV)
	}
	return c.done(err)
}

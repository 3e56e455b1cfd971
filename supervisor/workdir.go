//go:build linux

package supervisor

import (
	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"golang.org/x/sys/unix"
)

// workDir answers what sets and tells a process's directory. The kernel's own
// never changes: no path of the program's gets that far. The umask is noted, since
// files are made on the program's behalf.
func workDir(s *Sandbox) feature {
	return feature{name: "workdir", calls: []call{
		{name: "chdir", notify: func(c *Call) Answer {
			return c.chdir(c.at(unix.AT_FDCWD, c.Arg(0), 0, c.enterDir))
		}},
		{name: "fchdir", notify: func(c *Call) Answer {
			if c.Int(0) < 0 {
				return Errno(unix.EBADF)
			}
			return c.chdir(s.view.at(c.thread, c.Int(0), "", emptyPath, c.enterDir))
		}},
		{name: "getcwd", notify: getcwd},
		{name: "umask", notify: func(c *Call) Answer {
			fs := c.thread.fs.Load()
			fs.mu.Lock()
			defer fs.mu.Unlock()
			fs.umask = uint32(c.Arg(0)) & 0o777
			return Continue() // the kernel's is the same, and tells what it was
		}},
		{name: "chroot", errno: unix.EPERM},
		{name: "unshare", notify: unshare, conds: []seccomp.Cond{{Arg: 0, Mask: unix.CLONE_FS, Value: unix.CLONE_FS}}},
	}}
}

// unshare gives a thread a directory and umask of its own (CLONE_FS).
func unshare(c *Call) Answer {
	c.thread.fs.Store(c.thread.fs.Load().copy())
	c.s.dcache.splits(c.Process)
	return Continue()
}

// enterDir makes a directory of the tree the thread's.
func (c *Call) enterDir(w *cow.Walk, path string) error {
	f, err := c.s.view.tree.Lookup(w, path)
	switch {
	case err != nil:
		return err
	case !f.IsDir():
		return unix.ENOTDIR
	}
	if err := f.Access(w.Cred, unix.X_OK); err != nil {
		return err
	}
	c.enter(spot{dir: f.Inode()})
	return nil
}

func (c *Call) chdir(err error) Answer {
	o := isOutside(err)
	if o == nil {
		return c.done(err)
	}
	defer unix.Close(o.fd)
	var st unix.Stat_t
	if err := unix.Fstat(o.fd, &st); err != nil {
		return c.refusedWith(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return Errno(unix.ENOTDIR)
	}
	if err := c.s.view.mayUse(c.thread, o.path, o.fd, unix.X_OK); err != nil {
		return c.done(err)
	}
	c.enter(spot{foreign: o.path})
	return Return(0)
}

func (c *Call) enter(at spot) {
	fs := c.thread.fs.Load()
	fs.enter(at)
	c.s.dcache.moved(fs)
}

func getcwd(c *Call) Answer {
	path, err := c.thread.fs.Load().at().path()
	if err != nil {
		return c.done(err)
	}
	b := append([]byte(path), 0)
	if len(b) > unix.PathMax {
		return Errno(unix.ENAMETOOLONG) // before it is known how much room there is
	}
	if c.Arg(1) < uint64(len(b)) {
		return Errno(unix.ERANGE)
	}
	if _, err := c.Write(c.Arg(0), b); err != nil {
		return c.failed(err)
	}
	return Return(int64(len(b)))
}

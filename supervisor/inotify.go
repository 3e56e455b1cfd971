//go:build linux

package supervisor

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// fileWatches answers inotify_add_watch and inotify_rm_watch.
//
// Source: the host's files, which others change, and in which what the sandbox changes
// can't be seen. Eliminated: what is watched is where the tree lets the kernel see it
// ([cow.File.Watch]). What a watch then tells is between the program and the kernel.
//
// What remains: that a directory is opened and read isn't told, nor that a program is
// executed that is the host's, or a terminal made. A file that somebody had open before it
// got bytes of its own goes untold where it is only read, and so does what has a path that
// is too long where the tree lies. With a limit to what is written, that a file is no more
// is told late. Cookies are the kernel's. A watch on /proc tells nothing.
func fileWatches(s *Sandbox) feature {
	ws := &watches{s: s}
	return feature{name: "inotify", close: ws.close, calls: []call{
		{name: "inotify_add_watch", notify: ws.add},
		{name: "inotify_rm_watch", notify: ws.remove},
	}}
}

// watches are those of a sandbox.
type watches struct {
	s     *Sandbox
	began sync.Once

	mu        sync.Mutex // taken when the tree is locked
	instances []int      // of inotify, on which something is watched: descriptors of the supervisor's
}

// What there is in a mask (linux/inotify.h).
const (
	watchFlags = unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK | unix.IN_MASK_CREATE | unix.IN_MASK_ADD | unix.IN_ISDIR | unix.IN_ONESHOT
	watchBits  = unix.IN_ALL_EVENTS | unix.IN_UNMOUNT | unix.IN_Q_OVERFLOW | unix.IN_IGNORED | watchFlags
)

func (ws *watches) add(c *Call) Answer {
	mask := uint32(c.Arg(2))
	if mask&watchBits == 0 {
		return Errno(unix.EINVAL)
	}
	fd, err := ws.instance(c)
	if err != nil {
		return c.descriptorFailed(err)
	}
	if mask&unix.IN_MASK_ADD != 0 && mask&unix.IN_MASK_CREATE != 0 {
		return Errno(unix.EINVAL)
	}
	wd := -1
	watch := func(host string) (err error) { // with the tree locked
		ws.mu.Lock()
		defer ws.mu.Unlock()
		wd, err = unix.InotifyAddWatch(fd, host, mask&^unix.IN_DONT_FOLLOW)
		return err
	}
	err = c.lookup(unix.AT_FDCWD, c.Arg(1), unless(mask&unix.IN_DONT_FOLLOW == 0), func(f *cow.File, cred *cow.Cred) error {
		if mask&unix.IN_ONLYDIR != 0 && !f.IsDir() {
			return unix.ENOTDIR
		}
		if err := f.Watch(cred, mask, watch); err != nil {
			return err
		}
		c.catchUp(f)
		return nil
	})
	if o := isOutside(err); o != nil {
		var st unix.Stat_t
		err = unix.Fstat(o.fd, &st)
		unix.Close(o.fd)
		switch {
		case err != nil:
		case mask&unix.IN_ONLYDIR != 0 && st.Mode&unix.S_IFMT != unix.S_IFDIR:
			err = unix.ENOTDIR
		default:
			err = ws.s.view.tree.WatchNothing(watch)
		}
	}
	if err != nil {
		return c.done(err)
	}
	return Return(int64(wd))
}

func (ws *watches) remove(c *Call) Answer {
	fd, err := ws.instance(c)
	if err != nil {
		return c.descriptorFailed(err)
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if _, err := unix.InotifyRmWatch(fd, uint32(c.Int(1))); err != nil {
		return c.refusedWith(err)
	}
	return Return(0)
}

// instance returns the supervisor's descriptor of the instance that argument 0 is.
func (ws *watches) instance(c *Call) (int, error) {
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return -1, err
	}
	if !isInotify(fdName(fd)) {
		unix.Close(fd)
		return -1, unix.EINVAL
	}
	ws.began.Do(func() {
		ws.s.view.tree.Quiet(ws.quietly)
		ws.s.watching.Store(true)
		ws.s.receivers.closed() // or the end of what was opened before would be told late
	})
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, known := range ws.instances {
		if sameFile(os.Getpid(), known, fd) {
			unix.Close(fd)
			return known, nil
		}
	}
	ws.forget()
	ws.instances = append(ws.instances, fd)
	return fd, nil
}

// isInotify reports whether a path of a descriptor is one of an instance of inotify.
func isInotify(path string) bool {
	kind, err := os.Readlink(path)
	return err == nil && kind == "anon_inode:inotify"
}

// sameFile reports whether a descriptor of a process and one of the supervisor's are the
// same open file (kcmp(2)).
func sameFile(pid, theirs, own int) bool {
	const kcmpFile = 0
	r, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(os.Getpid()), kcmpFile, uintptr(theirs), uintptr(own), 0)
	return e == 0 && r == 0
}

// forget lets go of the instances that no process has any more. A user may have 128 of
// them by default.
func (ws *watches) forget() {
	kept := map[int]bool{}
	for _, pid := range ws.s.threads.processes() {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		fds, _ := os.ReadDir(dir) // of who is gone there are none
		for _, e := range fds {
			n, _ := strconv.Atoi(e.Name())
			if !isInotify(dir + "/" + e.Name()) {
				continue
			}
			for _, fd := range ws.instances {
				kept[fd] = kept[fd] || sameFile(pid, n, fd)
			}
		}
	}
	all := ws.instances
	ws.instances = nil
	for _, fd := range all {
		if kept[fd] {
			ws.instances = append(ws.instances, fd)
		} else {
			unix.Close(fd)
		}
	}
}

func (ws *watches) close() error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, fd := range ws.instances {
		unix.Close(fd)
	}
	ws.instances = nil
	return nil
}

// quietly is for [cow.Tree.Quiet].
func (ws *watches) quietly(fds []int, do func() error) error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var lowered []loweredWatch
	for _, instance := range ws.instances {
		text, err := readKernelFile(fmt.Sprintf("/proc/self/fdinfo/%d", instance))
		if err != nil {
			return err
		}
		for _, fd := range fds {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				return err
			}
			if mask, ok := maskOf(string(text), st.Ino); ok && mask&cow.NameEvents != 0 {
				lowered = append(lowered, loweredWatch{instance, fdName(fd), mask})
			}
		}
	}
	var err error
	for i, w := range lowered {
		// A mask must have something in it, and IN_Q_OVERFLOW is told of anyhow.
		if err = w.set(w.mask&^cow.NameEvents | unix.IN_Q_OVERFLOW); err != nil {
			lowered = lowered[:i]
			break
		}
	}
	if err == nil {
		err = do()
	}
	for _, w := range lowered {
		if again := w.set(w.mask); err == nil {
			err = again
		}
	}
	return err
}

// A loweredWatch is a watch some of whose events are held back.
type loweredWatch struct {
	instance int
	path     string
	mask     uint32
}

func (w *loweredWatch) set(mask uint32) error {
	_, err := unix.InotifyAddWatch(w.instance, w.path, mask)
	return err
}

// maskOf finds the mask of the watch on an inode in what the kernel tells of an instance
// (proc_pid_fdinfo(5)).
func maskOf(fdinfo string, ino uint64) (mask uint32, ok bool) {
	_, rest, ok := strings.Cut(fdinfo, fmt.Sprintf(" ino:%x ", ino))
	if !ok {
		return 0, false
	}
	_, rest, _ = strings.Cut(rest, " mask:")
	rest, _, _ = strings.Cut(rest, " ")
	n, err := strconv.ParseUint(rest, 16, 32)
	return uint32(n), err == nil
}

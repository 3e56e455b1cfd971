//go:build linux

package cow

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Executable checks that a file may be executed and returns a path of the host at
// which the kernel finds it. Its last component is that of the path given, by
// which a program has asked for the file: the kernel names the process by it
// (execve(2)). It is empty for a file that has lost its name ([File.Nameless]), which is
// executed by its descriptor.
func (f *File) Executable(cred *Cred, path string) (host string, err error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	in := f.e.inode
	if !in.isRegular() {
		return "", unix.EACCES
	}
	if err := cred.may(in, mayExec); err != nil {
		return "", err
	}
	if in.object == nil && in.text == "" {
		if host, ok := f.t.lowerExecutable(in, path); ok {
			return host, nil
		}
		if in, err = f.own(); err == nil {
			err = f.t.copyUp(in, false)
		}
		if err != nil {
			return "", err
		}
	}
	if in.object.dropped {
		return "", unix.Chmod(heldPath(f.e.held), 0o755)
	}
	if err := f.t.makeExecutable(in.object); err != nil {
		return "", err
	}
	return f.t.nameObject(in.object, in.object.path, filepath.Base(path), unix.Link)
}

// makeExecutable lets the kernel execute an object.
func (t *Tree) makeExecutable(o *object) error {
	set := func() error { return unix.Chmod(o.path, 0o755) }
	if o.told {
		return t.quietly(set, filepath.Dir(o.path), o.path)
	}
	return set()
}

// lowerExecutable returns where a file of the host is executed, and false if its
// mode there doesn't allow it.
func (t *Tree) lowerExecutable(in *Inode, path string) (string, bool) {
	name := filepath.Base(path)
	if in.own&ownAttr != 0 {
		var st unix.Stat_t
		if t.lstat(in.lower, &st) != nil || st.Mode&0o777 != in.attr.Mode&0o777 || st.Uid != in.attr.UID || st.Gid != in.attr.GID {
			return "", false
		}
	}
	if len(in.lower) < unix.PathMax {
		if filepath.Base(in.lower) == name {
			return in.lower, true
		}
		var there, lower unix.Stat_t
		if filepath.IsAbs(path) && unix.Stat(path, &there) == nil && unix.Lstat(in.lower, &lower) == nil && idOf(&there) == idOf(&lower) {
			return path, true
		}
	}
	host, err := t.nameObject(nil, in.lower, name, unix.Symlink)
	return host, err == nil
}

// A nameKey is what has been given a name: an object, or a file of the host's.
type nameKey struct {
	object     *object
	path, name string
}

// nameObject gives a file of the host a second name, one of its own: the same
// every time it is asked for.
func (t *Tree) nameObject(o *object, path, name string, link func(old, path string) error) (string, error) {
	key := nameKey{o, path, name}
	if o != nil {
		key.path = "" // which may change
	}
	if at, ok := t.named[key]; ok {
		return at, nil
	}
	dir, err := t.objectPath() // on the file system where a hard link can be
	if err != nil {
		return "", err
	}
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	at := filepath.Join(dir, name)
	if err := link(path, at); err != nil {
		return "", err
	}
	t.named[key] = at
	return at, nil
}

// Bytes opens what the file's bytes are on the host, to read, whatever its mode.
func (f *File) Bytes() (fd int, err error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if o := f.e.inode.object; o != nil && o.dropped {
		return unix.Open(heldPath(f.e.held), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	return f.t.openToRead(f.e.inode)
}

// IsWritten reports whether somebody has the file open to write, of whom the tree knows; fd is
// what Bytes has returned. The kernel grants no lease then (fcntl(2)).
func (f *File) IsWritten(fd int) bool {
	f.t.mu.Lock()
	own := f.e.inode.object != nil
	f.t.mu.Unlock()
	if !own {
		return false
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return err == unix.EAGAIN
}

func (t *Tree) openToRead(in *Inode) (int, error) {
	switch {
	case !in.isRegular():
		return -1, unix.EINVAL
	case in.template != nil:
		return -1, unix.EACCES
	case in.text != "" && in.object == nil:
		if err := t.materialise(in); err != nil {
			return -1, err
		}
		fallthrough
	case in.object != nil:
		return unix.Open(in.object.path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	}
	return openLower(in.lower, unix.O_RDONLY)
}

// Path returns where the file is; for one with several names, which of them it was
// last entered or seen at. It ends in " (deleted)" for one without.
func (f *File) Path() string {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	return f.e.inode.where()
}

// where returns where a file is, see [File.Path].
func (in *Inode) where() string {
	if in.isDir() {
		return in.path()
	}
	if in.parent == nil {
		return "/" + in.name
	}
	p := joinPath(in.parent.lastPath(), in.name)
	if in.attr.Nlink == 0 || in.hasLeft() {
		p += deleted
	}
	return p
}

// hasLeft reports whether a file isn't any more where it was last entered or seen.
func (in *Inode) hasLeft() bool {
	if in.parent == nil {
		return true
	}
	there, known := in.parent.entries[in.name]
	return known && there != in
}

// File returns the inode as what a path has led to.
func (in *Inode) File() *File { return &File{in.tree, entry{inode: in, last: lastRoot}} }

// IsSymlink reports whether the file is a symbolic link.
func (f *File) IsSymlink() bool { return f.e.inode.isSymlink() }

// IsDir reports whether the file is a directory.
func (f *File) IsDir() bool { return f.e.inode.isDir() }

// Inner translates a path of the host: to where a mount shows it, if one does.
func (t *Tree) Inner(host string) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	best, inner := "", ""
	for _, m := range t.mounts {
		if m.Host == "" || m.Target != "" || len(m.Host) < len(best) {
			continue
		}
		switch {
		case m.Host == host:
			best, inner = m.Host, m.At
		case m.Host == "/":
			best, inner = m.Host, joinPath(m.At, host[1:])
		case len(host) > len(m.Host) && host[:len(m.Host)] == m.Host && host[len(m.Host)] == '/':
			best, inner = m.Host, joinPath(m.At, host[len(m.Host)+1:])
		}
	}
	return inner, best != ""
}

// Bind creates a socket (bind(2)). bind is given a path of the host at which to
// bind it.
func (t *Tree) Bind(w *Walk, path string, mode uint32, bind func(host string) error) error {
	err := t.create(w, path, unix.S_IFSOCK|mode&0o7777, func(in *Inode) error {
		o := &object{path: t.emptyObjectPath()}
		if err := bind(o.path); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(o.path, &st); err != nil {
			return err
		}
		t.knows(idOf(&st), in)
		in.object = o
		return nil
	}, bind)
	if err == unix.EEXIST {
		err = unix.EADDRINUSE
	}
	return err
}

// Socket returns where on the host a socket that was made in the tree is bound. The kernel
// looks there, too, whether the caller may connect, so it belongs to whom it belongs to in
// the tree. ECONNREFUSED means that it is none, or one of the host's.
func (f *File) Socket(cred *Cred) (host string, err error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if err := cred.may(f.e.inode, mayWrite); err != nil {
		return "", err
	}
	if f.e.inode.attr.Type() != unix.S_IFSOCK || f.e.inode.object == nil {
		return "", unix.ECONNREFUSED
	}
	return f.e.inode.object.path, f.e.inode.showRights()
}

// showRights gives an object the owner and the rights that the tree knows.
func (in *Inode) showRights() error {
	var st unix.Stat_t
	path := in.object.path
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	a := &in.attr
	if st.Uid != a.UID || st.Gid != a.GID {
		if err := unix.Lchown(path, int(a.UID), int(a.GID)); err == unix.EPERM {
			// It has a group of which nobody here is a member. The tree has judged already.
			return unix.Fchmodat(unix.AT_FDCWD, path, 0o666, 0)
		} else if err != nil {
			return err
		}
	}
	if st.Mode&0o777 == a.Mode&0o777 {
		return nil
	}
	return unix.Fchmodat(unix.AT_FDCWD, path, a.Mode&0o777, 0)
}

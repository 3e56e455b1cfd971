//go:build linux

package cow

import (
	"golang.org/x/sys/unix"
)

// A File is something in a tree that a path or a descriptor has led to.
type File struct {
	t *Tree
	e entry
}

// Lookup follows a path to something that exists.
func (t *Tree) Lookup(w *Walk, path string) (*File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.telling.followed = t.telling.followed[:0]
	e, err := t.walk(w, path)
	switch {
	case path == "" || err != nil && err != unix.ENOENT:
	case w.Told:
		t.tellWalk(&e)
	case w.ToldMissing:
		t.tellMissing(&e)
	}
	if err == nil {
		err = e.exists()
	}
	if err != nil {
		return nil, err
	}
	return &File{t, e}, nil
}

// Descriptor returns what a descriptor has open, by what the host's fstat tells of
// it: nil if it isn't a file of the tree.
func (t *Tree) Descriptor(st *unix.Stat_t) *File {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in := t.known[idOf(st)]; in != nil {
		if in.object != nil && in.object.dropped && in.isRegular() {
			t.settleTo(in, st)
		}
		return &File{t, entry{inode: in}}
	}
	s := t.seen.get(idOf(st))
	if s == nil || s.dir == nil {
		return nil
	}
	e := entry{dir: s.dir, name: s.name, inode: s.dir.entries[s.name]}
	switch {
	case e.inode != nil && e.inode.id == idOf(st):
		if e.inode.through && e.inode.isRegular() {
			e.inode.refresh(st)
		}
	default:
		e.inode = t.fromLower(s.dir, s.name, joinPath(s.dir.lower, s.name), st)
		if e.inode.isSymlink() {
			e.inode.target, _ = readLink(e.inode.lower) // there is none if somebody has taken it away
			e.inode.attr.Size = int64(len(e.inode.target))
		}
	}
	return &File{t, e}
}

// Identity returns the file that a file of the host stands for, nil if that isn't known to
// be one of the tree.
func (t *Tree) Identity(dev, ino uint64) *File {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in := t.known[fileID{dev, ino}]; in != nil {
		return &File{t, entry{inode: in}}
	}
	return nil
}

// Inode returns the file's inode, by which a directory can be walked from.
func (f *File) Inode() *Inode { return f.e.inode }

// Path returns where a directory is, and false if it was removed.
func (in *Inode) Path() (string, bool) {
	in.tree.mu.Lock()
	defer in.tree.mu.Unlock()
	return in.path(), !in.gone()
}

// own makes the inode's attributes its own. Somebody else may have done so since
// the file was looked up.
func (f *File) own() (*Inode, error) {
	if f.e.inode.readOnly {
		return f.e.inode, unix.EROFS
	}
	return f.known()
}

// known returns the inode, which is entered in its directory.
func (f *File) known() (*Inode, error) {
	if f.e.inode.own&ownAttr == 0 && f.e.dir != nil && f.e.last == lastName {
		if in := f.e.dir.entries[f.e.name]; in != nil && in.lower == f.e.inode.lower {
			f.e.inode = in
		}
	}
	if err := f.t.keep(f.e.dir, f.e.name, f.e.inode); err != nil {
		return f.e.inode, err
	}
	return f.e.inode, f.t.settle(f.e.inode) // what was written before comes before
}

// Stat returns what stat(2) tells of the file.
func (f *File) Stat() (Attr, error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	err := f.t.settle(f.e.inode)
	return f.e.inode.attr, err
}

// Readlink returns the target of a symbolic link (readlink(2)): EINVAL if it is
// none.
func (f *File) Readlink() (string, error) {
	if !f.e.inode.isSymlink() {
		return "", unix.EINVAL
	}
	return f.e.inode.target, nil
}

// Access checks rights, R_OK, W_OK and X_OK or F_OK (access(2)).
func (f *File) Access(cred *Cred, want uint32) error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if want&^7 != 0 {
		return unix.EINVAL
	}
	return cred.may(f.e.inode, want)
}

// Chmod sets the permissions (chmod(2)).
func (f *File) Chmod(cred *Cred, mode uint32) error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if f.e.inode.isSymlink() {
		return unix.EOPNOTSUPP
	}
	if !cred.owns(f.e.inode) {
		return unix.EPERM
	}
	in, err := f.own()
	if err != nil {
		return err
	}
	if mode &= 0o7777; in.through {
		return in.throughAttr(func(host string) error { return chmodItself(host, mode) })
	}
	if !cred.inGroup(in.attr.GID) && !cred.SetID {
		mode &^= unix.S_ISGID
	}
	in.attr.Mode = in.attr.Type() | mode
	in.touch(false)
	return f.tellAttr(in)
}

// Chown sets owner and group, -1 for what is to stay (chown(2)).
func (f *File) Chown(cred *Cred, uid, gid int32) error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	in := f.e.inode
	if err := cred.MayChown(in.attr.UID, in.attr.GID, uid, gid); err != nil {
		return err
	}
	in, err := f.own()
	if err != nil {
		return err
	}
	if in.through {
		return in.throughAttr(func(host string) error { return unix.Lchown(host, int(uid), int(gid)) })
	}
	if uid != -1 {
		in.attr.UID = uint32(uid)
	}
	if gid != -1 {
		in.attr.GID = uint32(gid)
	}
	if !in.isDir() {
		in.attr.Mode &^= unix.S_ISUID
		if in.attr.Mode&0o010 != 0 || !cred.inGroup(in.attr.GID) && !cred.SetID {
			in.attr.Mode &^= unix.S_ISGID
		}
	}
	in.touch(false)
	if uid == -1 && gid == -1 {
		return nil // nobody is told of that
	}
	return f.tellAttr(in)
}

// SetTimes sets the times of access and modification.
func (f *File) SetTimes(cred *Cred, atime, mtime unix.Timespec) error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if atime == TimeOmit && mtime == TimeOmit {
		return nil
	}
	if !cred.owns(f.e.inode) {
		if atime != TimeNow || mtime != TimeNow {
			return unix.EPERM
		}
		if err := cred.may(f.e.inode, mayWrite); err != nil {
			return err
		}
	}
	in, err := f.own()
	if err != nil {
		return err
	}
	if in.through {
		return in.throughAttr(func(host string) error { return setTimes(host, atime, mtime) })
	}
	now := f.t.changed()
	for _, s := range []struct {
		to  *unix.Timespec
		set unix.Timespec
	}{{&in.attr.Atime, atime}, {&in.attr.Mtime, mtime}} {
		switch s.set {
		case TimeOmit:
		case TimeNow:
			*s.to = now
		default:
			*s.to = s.set
		}
	}
	in.attr.Ctime = now
	return f.tellTimes(in, atime, mtime)
}

// Truncate sets the size of a regular file (truncate(2)).
func (f *File) Truncate(cred *Cred, size int64) error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	switch in := f.e.inode; {
	case size < 0:
		return unix.EINVAL
	case in.isDir():
		return unix.EISDIR
	case !in.isRegular():
		return unix.EINVAL
	}
	if err := cred.may(f.e.inode, mayWrite); err != nil {
		return err
	}
	in, err := f.own()
	if err == nil && in.through {
		return in.throughAttr(func(string) error { return truncateLower(in.lower, size) })
	}
	if err == nil {
		err = f.t.copyUp(in, size == 0)
	}
	if err == nil {
		err = f.t.place(f.e.dir, f.e.name, in)
	}
	if err != nil {
		return err
	}
	return f.t.truncate(in, size, cred, f.e.held)
}

// truncate sets the size of a file that has bytes of its own.
func (t *Tree) truncate(in *Inode, size int64, cred *Cred, held int) error {
	if !cred.SetID {
		in.loseSetID()
	}
	path := in.object.path
	if in.object.dropped {
		path = heldPath(held)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if growth := size - st.Size; growth > 0 && t.reserve(growth) < growth {
		return unix.ENOSPC
	}
	if err := unix.Truncate(path, size); err != nil {
		return err
	}
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	t.note(in.object, &st)
	in.attr.Size = size
	in.attr.Mtime = t.changed()
	in.attr.Ctime = in.attr.Mtime
	return nil
}

//go:build linux

package cow

import (
	"golang.org/x/sys/unix"
)

// toCreate follows a path to a name that doesn't exist yet, and that the caller
// may create (filename_create, fs/namei.c).
func (t *Tree) toCreate(w *Walk, path string, dir bool) (entry, error) {
	e, err := t.walkEntry(w, path)
	switch {
	case err != nil:
		return e, err
	case e.last != lastName || e.inode != nil:
		return e, unix.EEXIST
	case e.slashed && !dir:
		return e, unix.ENOENT
	}
	return e, w.Cred.mayCreate(e.dir)
}

// enter gives an inode a name.
func (t *Tree) enter(e entry, in *Inode) {
	if before, known := e.dir.entries[e.name]; known && before == nil {
		t.replaced[joinPath(e.dir.lower, e.name)] = true
	}
	t.undoesName(e.dir, e.name)
	t.undoesPlace(in)
	t.renames(e.dir, e.name)
	if in.isDir() {
		t.untell(in)
	}
	e.dir.entries[e.name] = in
	in.parent, in.name = e.dir, e.name
	e.dir.touch(true)
}

// Mkdir creates a directory with the permissions mode, from which the umask has
// been taken (mkdir(2)).
func (t *Tree) Mkdir(w *Walk, path string, mode uint32) error {
	return t.create(w, path, unix.S_IFDIR|mode&(0o777|unix.S_ISVTX), nil, func(host string) error { return unix.Mkdir(host, 0o700) })
}

// Mknod creates a file of any type but a directory or a symbolic link (mknod(2)).
func (t *Tree) Mknod(w *Walk, path string, mode uint32, dev uint64) error {
	switch mode & unix.S_IFMT {
	case 0:
		mode |= unix.S_IFREG
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFCHR, unix.S_IFBLK:
		isWhiteout := mode&unix.S_IFMT == unix.S_IFCHR && dev == 0
		if !w.Cred.Mknod && !isWhiteout {
			return unix.EPERM
		}
	case unix.S_IFDIR:
		return unix.EPERM
	default:
		return unix.EINVAL
	}
	mode &= unix.S_IFMT | 0o7777
	return t.create(w, path, mode, func(in *Inode) error {
		in.attr.Rdev = dev
		switch in.attr.Type() {
		case unix.S_IFREG, unix.S_IFIFO:
			return t.newObject(in)
		}
		return nil
	}, func(host string) error { return unix.Mknod(host, mode&unix.S_IFMT|0o600, int(dev)) })
}

// Symlink creates a symbolic link (symlink(2)).
func (t *Tree) Symlink(w *Walk, target, path string) error {
	switch {
	case target == "":
		return unix.ENOENT
	case len(target) >= unix.PathMax:
		return unix.ENAMETOOLONG
	}
	return t.create(w, path, unix.S_IFLNK|0o777, func(in *Inode) error {
		in.target = target
		in.attr.Size = int64(len(target))
		return t.hold(in)
	}, func(host string) error { return unix.Symlink(target, host) })
}

// create creates a file. fill makes what the inode needs besides its attributes;
// onHost makes the file itself where it is to be the host's.
func (t *Tree) create(w *Walk, path string, mode uint32, fill func(*Inode) error, onHost func(host string) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, err := t.toCreate(w, path, mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil {
		return err
	}
	t.begins()
	if e.dir.through {
		return t.makeThrough(&e, w.Cred, mode, onHost)
	}
	_, err = t.createAt(e, w.Cred, mode, fill)
	return err
}

// createAt creates a file at an entry that has none.
func (t *Tree) createAt(e entry, cred *Cred, mode uint32, fill func(*Inode) error) (*Inode, error) {
	if err := t.occupy(); err != nil {
		return nil, err
	}
	in := t.newInode(e.dir, e.name, mode, cred)
	in.parent, in.name = e.dir, e.name
	if fill != nil {
		if err := fill(in); err != nil {
			t.forget(in)
			return nil, err
		}
	}
	t.enter(e, in)
	t.creates(e.dir)
	return in, t.tellNew(&e, in)
}

// Link gives a file a second name (link(2)). Both walks have the same
// credentials.
func (t *Tree) Link(from *Walk, old string, to *Walk, path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	src, err := t.walk(from, old)
	if err == nil {
		err = src.exists()
	}
	if err != nil {
		return err
	}
	e, err := t.toCreate(to, path, false)
	switch {
	case err != nil:
		return err
	case src.inode.isDir():
		return unix.EPERM
	case src.inode.attr.Nlink == 0 && src.inode.own&unnamed == 0:
		return unix.ENOENT
	case t.protects && !from.Cred.mayLink(src.inode):
		return unix.EPERM
	}
	if src.inode.through != e.dir.through || src.inode.readOnly != e.dir.readOnly {
		return unix.EXDEV
	}
	if e.dir.through {
		return inParents(src.inode.lower, joinPath(e.dir.lower, e.name), unix.Link)
	}
	if err := t.keep(src.dir, src.name, src.inode); err != nil {
		return err
	}
	if err := t.anotherName(src.inode); err != nil {
		return err
	}
	src.inode.own &^= unnamed
	t.begins()
	t.undoesPlace(src.inode)
	src.inode.attr.Nlink++
	src.inode.touch(false)
	if err := t.tellLinks(src.inode); err != nil {
		return err
	}
	t.enter(e, src.inode)
	return t.tellNew(&e, src.inode)
}

// anotherName counts a name that a file is given besides its first.
func (t *Tree) anotherName(in *Inode) error {
	if in.own&unnamed != 0 {
		return nil // it is the first
	}
	if err := t.occupy(); err != nil {
		return err
	}
	in.links++
	return nil
}

//go:build linux

package cow

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What is done in the mirror with each change to the tree, see watch.go.

// tellNew lets the mirror know of a name that was made.
func (t *Tree) tellNew(e *entry, in *Inode) error {
	path := t.mirrored(e.dir, e.name)
	if path == "" || in.object != nil && in.object.path == path {
		return nil
	}
	return t.stand(path, in)
}

// tellAttr lets it know that attributes were changed.
func (f *File) tellAttr(in *Inode) error { return f.tell(in, chmodAsIs) }

// chmodAsIs sets a file's mode to what it is, which is an event.
func chmodAsIs(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	return unix.Chmod(path, st.Mode&0o7777)
}

// tellTimes lets it know that times were set: which of them were not, makes a difference
// (fsnotify_change, linux/fsnotify.h).
func (f *File) tellTimes(in *Inode, atime, mtime unix.Timespec) error {
	now := func(ts unix.Timespec) unix.Timespec {
		if ts == TimeOmit {
			return ts
		}
		return TimeNow
	}
	return f.tell(in, func(path string) error {
		err := setTimes(path, now(atime), now(mtime))
		var st unix.Stat_t
		if err == nil && in.object != nil && in.object.path == path {
			if err = unix.Lstat(path, &st); err == nil {
				f.t.note(in.object, &st)
			}
		}
		return err
	})
}

// tellLinks lets who watches the file itself know that it has another number of names.
func (t *Tree) tellLinks(in *Inode) error {
	o := in.object
	if o == nil || !o.told || o.dropped {
		return nil
	}
	return t.quietly(func() error { return chmodAsIs(o.path) }, filepath.Dir(o.path))
}

// tell calls do with the path of what stands for the file in the mirror, by the name that
// has led to it, or is its object.
func (f *File) tell(in *Inode, do func(path string) error) error {
	t := f.t
	if t.mirror.path == "" || in.through {
		return nil
	}
	if in.isDir() && in.mirrored && len(t.mirror.path+in.path()) < unix.PathMax {
		return do(t.mirror.path + in.path())
	}
	dir, name := f.name(in)
	if dir != nil {
		if err := t.place(dir, name, in); err != nil {
			return err
		}
	}
	switch o := in.object; {
	case o != nil && o.told && !o.dropped:
		return do(o.path)
	case t.mirrored(dir, name) == "":
		return nil
	}
	path, err := t.show(dir, name, in)
	if err != nil {
		return err
	}
	return do(path)
}

// tellGone calls remove, which takes a name from a file, and lets the mirror know.
func (t *Tree) tellGone(e *entry, remove func() error) error {
	in, path := e.inode, t.mirrored(e.dir, e.name)
	if path == "" {
		return remove()
	}
	last := in.attr.Nlink == 1 && t.journal == nil && (!t.limited() || !in.isRegular())
	if last && in.hasMovableObject() && in.object.path == path {
		return remove() // which removes the object
	}
	if in.object != nil && in.object.path == path {
		if err := t.displace(in); err != nil {
			return err
		}
	}
	if _, err := t.show(e.dir, e.name, in); err != nil {
		return err
	}
	if err := remove(); err != nil {
		return err
	}
	if in.isDir() {
		return unix.Rmdir(path)
	}
	if in.attr.Nlink > 0 {
		if err := t.tellLinks(in); err != nil {
			return err
		}
	}
	return unix.Unlink(path)
}

// tellMove lets the mirror know that a name is about to be moved, or exchanged for
// another.
func (t *Tree) tellMove(src, dst *entry, flags uint32) error {
	if !src.dir.mirrored && !dst.dir.mirrored {
		return t.tellMoved(src.inode)
	}
	if err := t.mirrorDir(src.dir); err != nil {
		return err
	}
	if err := t.mirrorDir(dst.dir); err != nil {
		return err
	}
	exchange := flags&unix.RENAME_EXCHANGE != 0
	if longer := len(dst.path()) - len(src.path()); longer > 0 {
		if err := src.inode.displaceLong(unix.PathMax - longer); err != nil {
			return err
		}
	} else if exchange {
		if err := dst.inode.displaceLong(unix.PathMax + longer); err != nil {
			return err
		}
	}
	if t.mirrored(src.dir, src.name) == "" || t.mirrored(dst.dir, dst.name) == "" {
		return nil // it goes untold
	}
	if err := t.place(src.dir, src.name, src.inode); err != nil {
		return err
	}
	from, err := t.show(src.dir, src.name, src.inode)
	if err != nil {
		return err
	}
	to := t.mirrored(dst.dir, dst.name)
	switch {
	case exchange:
		if err = t.place(dst.dir, dst.name, dst.inode); err == nil {
			_, err = t.show(dst.dir, dst.name, dst.inode)
		}
	case dst.inode != nil && dst.inode.object != nil && dst.inode.object.path == to:
		err = t.displace(dst.inode)
	}
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, uint(flags))
	}
	if err != nil {
		return err
	}
	const passing = "\x00" // a file may have names below both
	src.inode.objectsMoved(from, passing)
	if exchange {
		dst.inode.objectsMoved(to, from)
	}
	src.inode.objectsMoved(passing, to)
	return nil
}

// tellMoved lets who watches the file itself know that it moves.
func (t *Tree) tellMoved(in *Inode) error {
	o := in.object
	if o == nil || !o.told || o.dropped {
		return nil
	}
	if t.mirror.path != "" && strings.HasPrefix(o.path, t.mirror.path+"/") { // by another name, which stays
		if err := t.displace(in); err != nil {
			return err
		}
	}
	path, err := t.objectPath()
	if err == nil {
		err = unix.Rename(o.path, path)
	}
	if err == nil {
		o.path = path
	}
	return err
}

//go:build linux

package cow

import (
	"golang.org/x/sys/unix"
)

// Unlink removes a name (unlink(2)).
func (t *Tree) Unlink(w *Walk, path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, err := t.walkEntry(w, path)
	switch {
	case err != nil:
		return err
	case e.last != lastName:
		return unix.EISDIR
	case e.inode == nil:
		return unix.ENOENT
	case e.slashed && e.inode.isDir():
		return unix.EISDIR
	case e.slashed:
		return unix.ENOTDIR
	}
	if err := w.Cred.mayDelete(e.dir, e.inode, false); err != nil {
		return err
	}
	if e.inode.mount {
		return unix.EBUSY
	}
	t.begins()
	if err := t.tellGone(&e, func() error { return t.unlink(e) }); err != nil {
		return err
	}
	e.dir.touch(true)
	return nil
}

// unlink takes a name from something that is no directory, or from a directory
// that is empty.
func (t *Tree) unlink(e entry) error {
	in := e.inode
	if e.dir.through {
		return t.unlinkThrough(e)
	}
	t.undoesPlace(in)
	if !in.isDir() {
		// Who has it open goes on with it, whatever gets its name.
		if err := t.keep(e.dir, e.name, in); err != nil {
			return err
		}
		in.attr.Nlink--
		in.touch(false)
		if in.links > 0 {
			in.links--
			t.inodes--
		}
	}
	if err := t.whiteOut(e.dir, e.name); err != nil {
		return err
	}
	if in.isDir() {
		in.remove()
		t.forget(in)
	} else if in.attr.Nlink == 0 {
		t.drop(in)
	}
	return nil
}

// whiteOut makes a name mean nothing.
func (t *Tree) whiteOut(dir *Inode, name string) error {
	hidden, err := t.hasLower(dir, name)
	if err != nil {
		return err
	}
	t.undoesName(dir, name)
	t.renames(dir, name)
	if hidden {
		dir.entries[name] = nil
	} else {
		delete(dir.entries, name)
	}
	return nil
}

// Rmdir removes an empty directory (rmdir(2)).
func (t *Tree) Rmdir(w *Walk, path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, err := t.walkEntry(w, path)
	switch {
	case err != nil:
		return err
	case e.last == lastDotDot:
		return unix.ENOTEMPTY
	case e.last == lastDot:
		return unix.EINVAL
	case e.last == lastRoot:
		return unix.EBUSY
	case e.inode == nil:
		return unix.ENOENT
	}
	if err := w.Cred.mayDelete(e.dir, e.inode, true); err != nil {
		return err
	}
	if e.inode.mount {
		return unix.EBUSY
	}
	if err := t.empty(e.inode); err != nil {
		return err
	}
	t.begins()
	if err := t.tellGone(&e, func() error { return t.unlink(e) }); err != nil {
		return err
	}
	delete(t.lists, e.inode)
	e.dir.touch(true)
	return nil
}

// empty reports whether a directory is: ENOTEMPTY if not.
func (t *Tree) empty(dir *Inode) error {
	for _, in := range dir.entries {
		if in != nil {
			return unix.ENOTEMPTY
		}
	}
	if dir.lower == "" {
		return nil
	}
	names, err := lowerNames(dir.lower)
	if err != nil {
		return err
	}
	for _, n := range names {
		if _, hidden := dir.entries[n.name]; !hidden {
			return unix.ENOTEMPTY
		}
	}
	return nil
}

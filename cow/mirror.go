//go:build linux

package cow

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// How the mirror is kept, see watch.go: directories and names in it, and objects that lie there.

// mirrorDir sees to it that a directory is in the mirror.
func (t *Tree) mirrorDir(dir *Inode) error {
	if dir.mirrored {
		return nil
	}
	if t.mirror.path == "" {
		path, err := t.objectPath()
		if err == nil {
			err = unix.Mkdir(path, 0o700)
		}
		if err != nil {
			return err
		}
		t.mirror.path = path
	}
	if dir.parent != dir {
		if err := t.mirrorDir(dir.parent); err != nil {
			return err
		}
		if _, err := t.show(dir.parent, dir.name, dir); err != nil {
			return err
		}
	}
	dir.mirrored = true
	return nil
}

// mirrored returns the path that a name in a directory has in the mirror, "" if the
// directory isn't there, or the path longer than the kernel takes.
func (t *Tree) mirrored(dir *Inode, name string) string {
	if dir == nil || !dir.mirrored {
		return ""
	}
	path := joinPath(t.mirror.path+strings.TrimSuffix(dir.path(), "/"), name)
	if len(path) >= unix.PathMax {
		return ""
	}
	return path
}

// settlePath says where the object of a new file is to be.
func (t *Tree) settlePath(o *object, in *Inode) (err error) {
	if in.own&made != 0 && in.attr.Nlink > 0 && in.parent != nil && in.parent.entries[in.name] != in {
		o.path = t.mirrored(in.parent, in.name)
	}
	switch o.told = o.path != ""; {
	case o.told:
	case in.attr.Type() == unix.S_IFIFO && t.mirror.path == "":
		o.path = t.emptyObjectPath()
	default:
		o.path, err = t.objectPath()
	}
	return err
}

// show enters a name of a directory that is in the mirror there, if it isn't yet.
func (t *Tree) show(dir *Inode, name string, in *Inode) (string, error) {
	path := t.mirrored(dir, name)
	if path == "" {
		return "", unix.ENAMETOOLONG
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != unix.ENOENT {
		return path, err
	}
	return path, t.quietly(func() error { return t.stand(path, in) }, filepath.Dir(path))
}

// stand makes what stands for a file in the mirror.
func (t *Tree) stand(path string, in *Inode) error {
	if in.isDir() {
		return unix.Mkdir(path, 0o700)
	}
	return unix.Mknod(path, unix.S_IFREG|0o600, 0)
}

// quietly does something of which nobody who watches certain files is to hear.
func (t *Tree) quietly(do func() error, files ...string) error {
	if t.mirror.quiet == nil {
		return do()
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, path := range files {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	return t.mirror.quiet(fds, do)
}

// place moves a file's object to where a name of it is in the mirror, if it is there. Where
// it isn't, what is done by that name isn't told by another.
func (t *Tree) place(dir *Inode, name string, in *Inode) error {
	o := in.object
	if t.mirror.path == "" || dir == nil || o == nil || o.dropped || !in.hasMovableObject() || in.attr.Nlink == 0 {
		return nil
	}
	path := t.mirrored(dir, name)
	switch {
	case path == o.path:
		return nil
	case path == "" && !strings.HasPrefix(o.path, t.mirror.path+"/"):
		return nil
	case path == "":
		return t.displace(in)
	}
	return t.moveObject(in, path)
}

// placeAll does so with all that a directory holds.
func (t *Tree) placeAll(dir *Inode) error {
	for name, in := range dir.entries {
		if in == nil || in.parent != dir || in.name != name {
			continue
		}
		if err := t.place(dir, name, in); err != nil {
			return err
		}
	}
	return nil
}

// displace moves a file's object out of the mirror.
func (t *Tree) displace(in *Inode) error {
	path, err := t.objectPath()
	if err != nil {
		return err
	}
	return t.moveObject(in, path)
}

// hasMovableObject reports whether the file's object may be anywhere: a socket is bound to
// where it is.
func (in *Inode) hasMovableObject() bool {
	return in.object != nil && (in.isRegular() || in.attr.Type() == unix.S_IFIFO)
}

// moveObject moves a file's object into the mirror, or out of it. That of a FIFO may be on
// another file system, and stays there.
func (t *Tree) moveObject(in *Inode, path string) error {
	o := in.object
	return t.quietly(func() error {
		err := unix.Rename(o.path, path)
		switch {
		case err == nil:
			o.path, o.told = path, true
		case err == unix.EXDEV && !in.isRegular():
			return nil
		}
		return err
	}, filepath.Dir(o.path), filepath.Dir(path), o.path)
}

// hears gives a file that is only read an object, if somebody wants to hear of that.
func (t *Tree) hears(e *entry) error {
	in := e.inode
	if !t.mirror.reads || in.through || e.dir == nil || t.mirrored(e.dir, e.name) == "" {
		return nil
	}
	if err := t.keep(e.dir, e.name, in); err != nil {
		return err
	}
	switch err := t.copyUp(in, false); err {
	case nil:
		return t.place(e.dir, e.name, in)
	case unix.ENOSPC:
		return nil // it goes untold
	default:
		return err
	}
}

// displaceLong moves objects out of the mirror whose paths there are as long as most, or
// longer.
func (in *Inode) displaceLong(most int) error {
	if o := in.object; o != nil && o.told && in.hasMovableObject() && len(o.path) >= most && strings.HasPrefix(o.path, in.tree.mirror.path+"/") {
		if err := in.tree.displace(in); err != nil {
			return err
		}
	}
	if !in.mirrored {
		return nil
	}
	for _, child := range in.entries {
		if child != nil {
			if err := child.displaceLong(most); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropMirror does without: nobody watches any more.
func (t *Tree) dropMirror() error {
	t.mirror.quiet = nil
	if t.mirror.path == "" {
		return nil
	}
	for _, in := range t.known {
		if o := in.object; o != nil && !o.dropped && in.hasMovableObject() && strings.HasPrefix(o.path, t.mirror.path+"/") {
			if err := t.displace(in); err != nil {
				return err
			}
		}
	}
	for _, in := range t.known {
		in.mirrored = false
	}
	t.root.unmirror()
	t.mirror = mirror{} // the directory goes with the upper one
	return nil
}

func (in *Inode) unmirror() {
	in.mirrored = false
	for _, child := range in.entries {
		if child != nil && child.isDir() && child.mirrored {
			child.unmirror()
		}
	}
}

// objectsMoved notes that what is below a path of the mirror is below another now.
func (in *Inode) objectsMoved(from, to string) {
	if o := in.object; o != nil && in.hasMovableObject() {
		if rest, ok := strings.CutPrefix(o.path, from); ok && (rest == "" || rest[0] == '/') {
			o.path = to + rest
		}
	}
	if !in.mirrored {
		return
	}
	for _, child := range in.entries {
		if child != nil {
			child.objectsMoved(from, to)
		}
	}
}

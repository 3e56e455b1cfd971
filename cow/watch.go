//go:build linux

package cow

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What happens to names and attributes happens in memory, where the kernel doesn't see it.
// So that it can be watched nevertheless (inotify(7)), it happens once more in the mirror:
// a directory of the host's in which the directories that are watched lie at their paths,
// and those above them. In each a name that something happens to is entered first, unless
// that is its creation: as a file that stands for it, or as its object. An object that is
// written to by a name of the mirror is moved there, and who has it open already writes to
// it by that name from then on. So the kernel tells the rest by itself: which wait for it,
// in which order, what belongs together (cookies), and what can be told at once.
//
// Entering a name before something happens to it, or moving an object, is no event. While
// that is done nobody is told of names; see [Tree.Quiet].

// A mirror is where what happens is done once more. The zero value is none.
type mirror struct {
	path  string
	reads bool // somebody wants to hear of files that are only read
	// quiet calls do while nobody hears of names in the directories, and of moves of the
	// files, that descriptors are of.
	quiet func(fds []int, do func() error) error
}

// What is told of those that only read.
const readEvents = unix.IN_OPEN | unix.IN_ACCESS | unix.IN_CLOSE_NOWRITE

// NameEvents are the events of what [Tree.Quiet] keeps quiet.
const NameEvents = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MOVE_SELF | unix.IN_ATTRIB | unix.IN_DELETE_SELF

// Quiet sets what is to be called for changes to the host's files behind a watch that are
// none of the tree. It calls do once, while no watch on what the descriptors, which are
// only paths' (O_PATH), are of lets [NameEvents] through. The tree is locked.
func (t *Tree) Quiet(quiet func(fds []int, do func() error) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mirror.quiet = quiet
}

// Watch prepares a file for being watched for events of mask, and calls add with the path
// of the host that it is to be watched by. EACCES means that the caller can't read it.
func (f *File) Watch(cred *Cred, mask uint32, add func(host string) error) error {
	t := f.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := cred.may(f.e.inode, mayRead); err != nil {
		return err
	}
	if f.e.inode.through { // it itself, should a link have come to be in its path
		fd, err := openUnlinked(f.e.inode.lower, unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return add(heldPath(fd))
	}
	t.mirror.reads = t.mirror.reads || mask&readEvents != 0
	path, err := f.watched()
	if err != nil {
		return err
	}
	return add(path)
}

// WatchNothing calls add with a path of the host at which nothing ever happens.
func (t *Tree) WatchNothing(add func(host string) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	path, err := t.standAside()
	if err != nil {
		return err
	}
	return add(path)
}

// standAside makes what stands for something to which nothing happens any more, or nothing
// that could be told.
func (t *Tree) standAside() (string, error) {
	path := t.emptyObjectPath()
	return path, unix.Mkdir(path, 0o700)
}

// name returns a name that the file has: that which has led to it, or by which it was
// entered last. Without one dir is nil.
func (f *File) name(in *Inode) (dir *Inode, name string) {
	if f.e.last == lastName && in.isAt(f.e.dir, f.e.name) {
		return f.e.dir, f.e.name
	}
	if in.isAt(in.parent, in.name) {
		return in.parent, in.name
	}
	return nil, ""
}

// isAt reports whether a name is the file's. What is still as on the host needn't be known
// in its directory.
func (in *Inode) isAt(dir *Inode, name string) bool {
	if dir == nil || dir.gone() || in.attr.Nlink == 0 {
		return false
	}
	there, known := dir.entries[name]
	return there == in || !known && in.own == 0 && in.lower != ""
}

// watched returns the path by which the file is watched.
func (f *File) watched() (string, error) {
	t, in := f.t, f.e.inode
	switch {
	case in.isDir() && in.gone():
		return t.standAside()
	case in.isDir():
		if err := t.mirrorDir(in); err != nil {
			return "", err
		}
		return t.mirror.path + in.path(), t.placeAll(in)
	case in.isRegular() && in.template == nil:
		in, err := f.known()
		if err == nil {
			err = t.copyUp(in, false)
		}
		if err != nil {
			return "", err
		}
		in.object.told = true
		if in.object.dropped {
			return heldPath(f.e.held), nil
		}
		if dir, name := f.name(in); dir != nil {
			err = t.place(dir, name, in)
		}
		return in.object.path, err
	}
	dir, name := f.name(in)
	if dir == nil {
		return t.standAside()
	}
	if err := t.mirrorDir(dir); err != nil {
		return "", err
	}
	return t.show(dir, name, in)
}

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
func (f *File) tellTimes(in *Inode, atime, mtime int64) error {
	now := func(ns int64) int64 {
		if ns == TimeOmit {
			return ns
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

//go:build linux

package cow

import (
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
	if mask&readEvents != 0 && !t.mirror.reads {
		t.mirror.reads = true
		if t.telling.to != nil {
			t.telling.to.Shut()
		}
	}
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
// that could be told. It is on the mirror's file system: who keeps watches quiet knows them
// by their inodes.
func (t *Tree) standAside() (string, error) {
	path, err := t.objectPath()
	if err != nil {
		return "", err
	}
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

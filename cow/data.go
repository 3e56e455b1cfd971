//go:build linux

package cow

import (
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// An object is the bytes of a file of the upper layer: a regular file or a FIFO
// with a number for a name.
type object struct {
	path    string
	dropped bool // it has lost its name with the file: only descriptors are left of it
	// What the host told of it when its times were last looked at, see note.
	size, mtime int64
	notes       int64 // how often its time was set for that
	told        bool  // somebody may watch it
	stays       bool  // when it has no name any more, as there is no other way to it
}

// objectPath names the next object for bytes.
func (t *Tree) objectPath() (string, error) {
	if t.upper == "" {
		dir, err := t.makeUpper()
		if err != nil {
			return "", err
		}
		t.upper = dir
	}
	return t.nextObject(t.upper), nil
}

// emptyObjectPath names the next object that holds none.
func (t *Tree) emptyObjectPath() string { return t.nextObject(t.small) }

func (t *Tree) nextObject(dir string) string {
	t.objects++
	return objectName(dir, t.objects)
}

// newObject gives a new file an empty object.
func (t *Tree) newObject(in *Inode) (err error) {
	o := &object{}
	mode := uint32(unix.S_IFREG | 0o600)
	if in.attr.Type() == unix.S_IFIFO {
		mode = unix.S_IFIFO | 0o600
	}
	if err = t.settlePath(o, in); err != nil {
		return err
	}
	if err := unix.Mknod(o.path, mode, 0); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(o.path, &st); err != nil {
		return err
	}
	t.has(in, o, &st)
	return nil
}

// has notes that an inode has an object, of which the host tells st.
func (t *Tree) has(in *Inode, o *object, st *unix.Stat_t) {
	t.note(o, st)
	in.object = o
	t.knows(idOf(st), in)
}

// newOpenObject gives a new regular file an empty object, and returns it open.
func (t *Tree) newOpenObject(in *Inode, flags int) (fd int, err error) {
	o := &object{}
	if err = t.settlePath(o, in); err != nil {
		return -1, err
	}
	flags |= unix.O_CLOEXEC
	s, ok := t.spare(o)
	if ok {
		o.path = s.path
	} else {
		flags |= unix.O_CREAT | unix.O_EXCL
	}
	if fd, err = unix.Open(o.path, flags, 0o600); err != nil {
		return -1, err
	}
	if !ok {
		if err := unix.Fstat(fd, &s.st); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	t.has(in, o, &s.st)
	return fd, nil
}

// newNamelessObject does so for a file that is opened without a name (O_TMPFILE), which its
// descriptor tells (F_GETFL, fcntl(2)).
func (t *Tree) newNamelessObject(in *Inode, flags int) (fd int, err error) {
	o := &object{}
	if o.path, err = t.objectPath(); err != nil {
		return -1, err
	}
	fd, err = unix.Open(filepath.Dir(o.path), flags|unix.O_TMPFILE|unix.O_CLOEXEC, 0o600)
	switch err {
	case nil:
	case unix.EOPNOTSUPP, unix.EISDIR: // not every file system has that; then F_GETFL doesn't tell it
		return t.newOpenObject(in, flags)
	default:
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Linkat(unix.AT_FDCWD, heldPath(fd), unix.AT_FDCWD, o.path, unix.AT_SYMLINK_FOLLOW); err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	t.has(in, o, &st)
	return fd, nil
}

// materialise gives a file that so far is a text in memory its object.
func (t *Tree) materialise(in *Inode) error {
	if in.text == "" || in.object != nil {
		return nil
	}
	if err := t.newObject(in); err != nil {
		return err
	}
	err := t.writeText(in)
	if err != nil { // on a full disk: there may be room later
		_ = unix.Unlink(in.object.path)
		in.object = nil
	}
	return err
}

func (t *Tree) writeText(in *Inode) error {
	f, err := os.OpenFile(in.object.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(in.text); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	t.note(in.object, &st)
	return nil
}

// drop frees the bytes of a file that has no name any more. Who has it open keeps
// them.
func (t *Tree) drop(in *Inode) {
	switch {
	case in.object == nil || t.journal != nil:
	case in.object.stays && !in.object.told:
	case t.limited() && in.isRegular():
		in.object.dropped = true
		t.loseName(in)
		return
	default:
		if t.dropping != nil && in.isRegular() {
			t.dropping(in.object.path)
		}
		in.object.dropped = unix.Unlink(in.object.path) == nil // what is left goes with the upper directory
	}
	t.forget(in)
}

// settle gives a file whose bytes have been written to since the last look the
// time of now. Writing itself is between the program and the kernel.
func (t *Tree) settle(in *Inode) error {
	o := in.object
	if o == nil || o.dropped || !in.isRegular() {
		return nil // of what was dropped, Descriptor tells
	}
	var st unix.Stat_t
	if err := unix.Lstat(o.path, &st); err != nil {
		return err
	}
	t.settleTo(in, &st)
	return nil
}

// settleTo does so by what the host tells of the object.
func (t *Tree) settleTo(in *Inode, st *unix.Stat_t) {
	o := in.object
	in.attr.Size = st.Size
	if st.Size == o.size && st.Mtim.Nano() == o.mtime {
		return
	}
	t.note(o, st)
	in.attr.Mtime = t.changed()
	in.attr.Ctime = in.attr.Mtime
	if in.losing {
		in.loseSetID()
	}
}

// loseSetID takes away what a write takes away from who hasn't CAP_FSETID
// (setattr_should_drop_suidgid, fs/attr.c).
func (in *Inode) loseSetID() {
	in.attr.Mode &^= unix.S_ISUID
	if in.attr.Mode&0o010 != 0 {
		in.attr.Mode &^= unix.S_ISGID
	}
}

// Reserve makes room for n bytes more, and returns for how many there was some: fewer
// where Config.MaxBytes is reached.
func (t *Tree) Reserve(n int64) (room int64) {
	if t.maxBytes == 0 {
		return n
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reserve(n)
}

// reserve counts what was reserved, which is no less than what is used; where that is
// more than there may be, it counts what is used.
func (t *Tree) reserve(n int64) int64 {
	if t.maxBytes == 0 {
		return n
	}
	if t.reserved+n > t.maxBytes {
		t.reserved = t.used()
	}
	room := max(min(n, t.maxBytes-t.reserved), 0)
	t.reserved += room
	return room
}

// Blocks returns how much of their file system the layer's files take, in bytes, those that
// have lost their names included.
func (t *Tree) Blocks() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	blocks := func(st *unix.Stat_t) int64 { return st.Blocks * 512 } // stat(2)
	sum := t.sum(blocks)
	for _, in := range t.nameless {
		sum += in.object.tell(blocks)
	}
	return sum
}

// used adds up the bytes of the layer's files, and what else counts.
func (t *Tree) used() int64 {
	return t.vacate() + t.inMemory + t.sum(func(st *unix.Stat_t) int64 { return st.Size })
}

// sum adds up something of the files that have names.
func (t *Tree) sum(of func(*unix.Stat_t) int64) (sum int64) {
	seen := map[*Inode]bool{} // under the host's file's identity, too
	for _, in := range t.nameless {
		seen[in] = true
	}
	for _, in := range t.known {
		if in.object == nil || in.object.dropped || !in.isRegular() || seen[in] {
			continue
		}
		seen[in] = true
		sum += in.object.tell(of)
	}
	return sum
}

// tell returns something of an object, 0 if it is gone.
func (o *object) tell(of func(*unix.Stat_t) int64) int64 {
	var st unix.Stat_t
	if unix.Lstat(o.path, &st) != nil {
		return 0
	}
	return of(&st)
}

// InLayer reports whether the file's bytes are the tree's own.
func (f *File) InLayer() bool {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	return f.e.inode.object != nil
}

// Nameless reports whether the file has lost its name and its bytes are nowhere but behind
// descriptors.
func (f *File) Nameless() bool {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	return f.e.inode.object != nil && f.e.inode.object.dropped
}

// copyUp gives a file its own bytes, a copy of the lower file's unless it is about
// to be emptied.
func (t *Tree) copyUp(in *Inode, empty bool) error {
	if in.object != nil {
		return nil
	}
	if in.text != "" {
		return t.materialise(in)
	}
	from, err := openLower(in.lower, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	if _, err := t.ownedXattrs(in); err != nil {
		return err
	}
	if !empty {
		var st unix.Stat_t
		if err := unix.Fstat(from, &st); err != nil {
			return err
		}
		if t.reserve(st.Size) < st.Size {
			return unix.ENOSPC
		}
	}
	defer t.noForks()()
	o := &object{}
	if o.path, err = t.objectPath(); err != nil {
		return err
	}
	to, err := unix.Open(o.path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	if !empty {
		err = copyBytes(to, from)
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(to, &st)
	}
	if err != nil {
		_ = unix.Unlink(o.path) // nobody knows of it
		return err
	}
	t.has(in, o, &st)
	return nil
}

// noForks keeps this process from starting others until what it returns is called: a
// child has all its parent's files open until it executes its program, and nobody can
// execute a file that somebody has open to write (ETXTBSY), or lock one that somebody else
// has locked. The tree is locked.
func (t *Tree) noForks() (end func()) {
	if t.forkless {
		return func() {} // a lock to read must not be taken twice
	}
	syscall.ForkLock.RLock()
	return syscall.ForkLock.RUnlock
}

func openLower(path string, flags int) (fd int, err error) {
	return openUnlinked(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
}

// copyBytes copies a file with its holes, sharing the bytes where the file system
// can.
func copyBytes(to, from int) error {
	if unix.IoctlFileClone(to, from) == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := unix.Ftruncate(to, st.Size); err != nil {
		return err
	}
	for at := int64(0); at < st.Size; {
		data, err := unix.Seek(from, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil // nothing but a hole is left
		}
		end := st.Size
		if err != nil {
			data = at // it doesn't know of holes
		} else if end, err = unix.Seek(from, data, unix.SEEK_HOLE); err != nil {
			return err
		}
		if err := copyRange(to, from, data, end); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func copyRange(to, from int, at, end int64) error {
	var buf []byte
	for at < end {
		in, out := at, at
		n, err := unix.CopyFileRange(from, &in, to, &out, int(min(end-at, 1<<30)), 0)
		if err == nil && n > 0 {
			at += int64(n)
			continue
		}
		// Not between these file systems, or not from this kind of file.
		if buf == nil {
			buf = make([]byte, 1<<17)
		}
		if n, err = unix.Pread(from, buf[:min(int64(len(buf)), end-at)], at); err != nil {
			return err
		}
		if n == 0 {
			return nil // it has become shorter meanwhile
		}
		if _, err := unix.Pwrite(to, buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

//go:build linux

package cow

import (
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Open opens a file as open(2) does, with the flags and, for a new file, the
// permissions from which the umask has been taken. The descriptor is
// close-on-exec. What the caller has to open itself, a FIFO, a device, or anything
// with O_PATH, is an error of type [*Special].
func (t *Tree) Open(w *Walk, path string, flags int, mode uint32) (fd int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := opening{t: t, cred: w.Cred, flags: flags, mode: mode & 0o7777, fd: -1, noForks: w.NoForks}
	if err := o.normalise(); err != nil {
		return -1, err
	}
	to := w.copy()
	to.NoFollow = to.NoFollow || flags&unix.O_NOFOLLOW != 0 || flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL
	to.create = o.has(unix.O_CREAT)
	to.anew = to.create && flags&(unix.O_EXCL|unix.O_TRUNC) != 0
	t.telling.followed = t.telling.followed[:0]
	e, err := t.walk(&to, path)
	if w.Told && path != "" && (e.inode == nil || e.inode.isRegular()) && !to.create && (err == nil || err == unix.ENOENT) {
		t.tellWalk(&e)
	}
	if err != nil {
		return -1, err
	}
	fd, err = o.open(e)
	if err != nil && o.fd >= 0 {
		unix.Close(o.fd)
	}
	if t.forkless {
		if w.Forkless = err == nil; !w.Forkless {
			syscall.ForkLock.RUnlock()
		}
		t.forkless = false
	}
	if err == nil && w.Told && e.inode != nil && e.inode.isDir() && !o.has(unix.O_TMPFILE) {
		w.Opened = e.inode
	}
	if err == nil && o.raised {
		w.Raised = e.inode.File()
	}
	return fd, err
}

// An opening is an open under way.
type opening struct {
	t     *Tree
	cred  *Cred
	flags int
	mode  uint32
	isNew bool
	// empties says that the file is emptied by being opened.
	empties bool
	raised  bool // see Walk.Raised
	noForks bool // see Walk.NoForks
	fd      int  // of what was made open, -1 if it is yet to be opened
}

// alone keeps this process from starting others, if that is wanted.
func (o *opening) alone() {
	if o.noForks && !o.t.forkless {
		syscall.ForkLock.RLock()
		o.t.forkless = true
	}
}

// PathFlags are those that O_PATH goes with (open(2)).
const PathFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// normalise checks flags that contradict each other (build_open_flags, fs/open.c).
func (o *opening) normalise() error {
	const tmpfile = unix.O_TMPFILE &^ unix.O_DIRECTORY
	switch f := o.flags; {
	case f&tmpfile != 0 && (f&unix.O_TMPFILE != unix.O_TMPFILE || f&unix.O_ACCMODE == unix.O_RDONLY || f&unix.O_CREAT != 0):
		return unix.EINVAL
	case f&unix.O_PATH != 0:
		o.flags &= PathFlags
	case f&(unix.O_CREAT|unix.O_DIRECTORY) == unix.O_CREAT|unix.O_DIRECTORY:
		return unix.EINVAL
	}
	return nil
}

func (o *opening) has(flag int) bool { return o.flags&flag == flag }

func (o *opening) writes() bool {
	return o.flags&unix.O_ACCMODE != unix.O_RDONLY
}

func (o *opening) open(e entry) (int, error) {
	if o.has(unix.O_CREAT) {
		switch {
		case e.inode != nil && o.has(unix.O_EXCL):
			return -1, unix.EEXIST
		case e.inode != nil && e.inode.isDir():
			return -1, unix.EISDIR
		case e.inode == nil:
			if err := o.create(&e); err != nil {
				return -1, err
			}
		}
	}
	if err := e.exists(); err != nil {
		return -1, err
	}
	switch {
	case o.has(unix.O_DIRECTORY) && !e.inode.isDir():
		return -1, unix.ENOTDIR
	case e.inode.isSymlink() && !o.has(unix.O_PATH):
		return -1, unix.ELOOP
	case o.has(unix.O_PATH):
		return -1, o.openPath(e)
	case e.inode.isDir() && (o.writes() || o.has(unix.O_CREAT) || o.has(unix.O_TRUNC)) && !o.has(unix.O_TMPFILE):
		return -1, unix.EISDIR
	}
	if o.has(unix.O_TMPFILE) {
		return o.openTemporary(e.inode)
	}
	return o.openFile(e)
}

func (o *opening) create(e *entry) (err error) {
	o.t.begins()
	if err = o.cred.mayCreate(e.dir); err != nil {
		return err
	}
	if e.dir.through {
		o.isNew = true
		return o.t.makeThrough(e, o.cred, unix.S_IFREG|o.mode, func(path string) error {
			return unix.Mknod(path, unix.S_IFREG|0o600, 0)
		})
	}
	e.inode, err = o.t.createAt(*e, o.cred, unix.S_IFREG|o.mode, o.newObject)
	o.isNew = true
	return err
}

// newObject gives a new file an empty object, and opens it in the same call.
func (o *opening) newObject(in *Inode) (err error) {
	if o.has(unix.O_DIRECT) { // where the layer's file system hasn't that, the file is made and not opened
		return o.t.newObject(in)
	}
	o.alone()
	if o.has(unix.O_TMPFILE) {
		o.fd, err = o.t.newNamelessObject(in, o.bytesFlags())
	} else {
		o.fd, err = o.t.newOpenObject(in, o.bytesFlags())
	}
	return err
}

// openTemporary opens a file without a name (O_TMPFILE).
func (o *opening) openTemporary(dir *Inode) (int, error) {
	if err := o.cred.mayCreate(dir); err != nil {
		return -1, err
	}
	if dir.through {
		fd := -1
		err := inParent(dir.lower+"/.", func(path string) (err error) {
			fd, err = unix.Open(path, o.flags|unix.O_CLOEXEC, o.mode)
			return err
		})
		return fd, err
	}
	if err := o.t.occupy(); err != nil {
		return -1, err
	}
	o.t.serial++
	in := o.t.newInode(dir, "#"+strconv.FormatInt(o.t.serial, 10), unix.S_IFREG|o.mode, o.cred)
	in.attr.Nlink = 0
	in.parent, in.name = dir, "#"+strconv.FormatUint(in.attr.Ino, 10)
	if !o.has(unix.O_EXCL) {
		in.own |= unnamed
	}
	if err := o.newObject(in); err != nil {
		o.t.forget(in)
		return -1, err
	}
	o.isNew = true
	in.losing = !o.cred.SetID
	if o.t.limited() {
		defer o.t.loseName(in) // once it is open
	}
	return o.openBytes(in, 0)
}

// openFile checks the caller's rights and opens something that exists.
func (o *opening) openFile(e entry) (int, error) {
	in := e.inode
	if !o.isNew {
		if err := o.allowed(in); err != nil {
			return -1, err
		}
	}
	switch in.attr.Type() {
	case unix.S_IFREG:
		if in.template != nil {
			return -1, o.special(e)
		}
	case unix.S_IFDIR:
		return o.t.openDir(in, o.flags&^unix.O_CREAT)
	case unix.S_IFSOCK:
		return -1, unix.ENXIO
	default:
		return -1, o.special(e)
	}
	if err := o.t.materialise(in); err != nil {
		return -1, err
	}
	if err := o.ready(e); err != nil {
		return -1, err
	}
	if err := o.t.hears(&e); err != nil {
		return -1, err
	}
	return o.openBytes(in, e.held)
}

// allowed checks the caller's rights (may_open, fs/namei.c).
func (o *opening) allowed(in *Inode) error {
	var want uint32
	switch o.flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		want = mayRead
	case unix.O_WRONLY:
		want = mayWrite
	default:
		want = mayRead | mayWrite
	}
	if o.has(unix.O_TRUNC) {
		want |= mayWrite
	}
	if err := o.cred.may(in, want); err != nil {
		return err
	}
	if o.has(unix.O_NOATIME) && !o.cred.owns(in) {
		return unix.EPERM
	}
	return nil
}

// ready gives a file that is to be written to bytes of its own.
func (o *opening) ready(e entry) error {
	in := e.inode
	truncates := o.has(unix.O_TRUNC) && !o.isNew
	if !o.writes() && !truncates {
		return nil
	}
	if in.through {
		if truncates {
			return truncateLower(in.lower, 0)
		}
		return nil
	}
	if in.object == nil {
		if err := o.t.keep(e.dir, e.name, in); err != nil {
			return err
		}
		if err := o.t.copyUp(in, truncates); err != nil {
			return err
		}
	}
	o.raised = in.outdated()
	if err := o.t.place(e.dir, e.name, in); err != nil {
		return err
	}
	if !o.cred.SetID {
		in.losing = true
	}
	if truncates && in.object.told && !in.object.dropped { // opening and emptying are told in the kernel's order
		if !o.cred.SetID {
			in.loseSetID()
		}
		o.empties = true
		return nil
	}
	if truncates {
		return o.t.truncate(in, 0, o.cred, e.held)
	}
	return nil
}

// bytesFlags are the flags to open a file's bytes with.
func (o *opening) bytesFlags() int {
	flags := o.flags &^ (unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_TMPFILE)
	if o.flags&unix.O_TMPFILE != unix.O_TMPFILE {
		flags |= o.flags & unix.O_DIRECTORY
	}
	return flags
}

// heldPath is a path of what a descriptor holds.
func heldPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// openBytes opens a regular file's object, or its lower file to read.
func (o *opening) openBytes(in *Inode, held int) (int, error) {
	if in.object == nil {
		if !in.through {
			o.t.opened[in.id] = true
		}
		return openLowerAs(in.lower, o.bytesFlags())
	}
	if j := o.t.journal; j != nil && o.writes() && o.has(unix.O_DSYNC) {
		j.always[in] = true
	}
	if o.fd >= 0 {
		return o.fd, nil
	}
	if in.object.dropped {
		o.alone()
		return unix.Open(heldPath(held), o.bytesFlags()&^unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err := o.t.settle(in); err != nil {
		return -1, err
	}
	flags := o.bytesFlags() | unix.O_CLOEXEC
	if o.empties {
		flags |= unix.O_TRUNC
	}
	o.alone()
	return unix.Open(in.object.path, flags, 0)
}

func openLowerAs(path string, flags int) (fd int, err error) {
	return openUnlinked(path, flags|unix.O_NOCTTY)
}

func truncateLower(path string, size int64) error {
	fd, err := openLowerAs(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Ftruncate(fd, size)
}

// A Special is the error of the open of something that the caller may and has to
// open itself.
type Special struct {
	Attr  Attr
	Host  string // where it is on the host
	Flags int    // to open it there with
	// Put says that it was put where it is, or is a template's, and Host nothing; Path is
	// where.
	Put  bool
	Path string
	// Nameless says that its bytes have lost their name with it: Host is nothing, and who
	// has opened it finds it by [Walk.HeldAt].
	Nameless bool
}

// Open opens it, unless something of another kind has taken its place on the host: then
// it is ENOENT.
func (s *Special) Open(flags int) (fd int, err error) {
	if fd, err = openUnlinked(s.Host, flags); err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != s.Attr.Type() || st.Rdev != s.Attr.Rdev {
		unix.Close(fd)
		return -1, unix.ENOENT
	}
	return fd, nil
}

func (s *Special) Error() string { return "cow: " + s.Host + " can only be opened by its path" }

func (o *opening) special(e entry) error {
	in := e.inode
	if in.attr.Type() == unix.S_IFIFO && in.object == nil && !in.through {
		// Nobody on the host is to be met at it.
		if err := o.t.keep(e.dir, e.name, in); err != nil {
			return err
		}
		if err := o.t.newObject(in); err != nil {
			return err
		}
	}
	if err := o.t.place(e.dir, e.name, in); err != nil {
		return err
	}
	s := &Special{Attr: in.attr, Host: in.lower, Put: in.isDevice() || in.template != nil}
	if s.Put {
		s.Path = in.where()
	}
	s.Flags = o.flags&^(unix.O_CREAT|unix.O_EXCL|unix.O_TRUNC) | unix.O_CLOEXEC | unix.O_NOCTTY
	if in.object != nil && !s.Put {
		in.object.stays = true // it may be opened again by who has it open
		s.Host = in.object.path
	}
	if s.Host == "" && !s.Put {
		if s.Host = hostDevice(in.attr); s.Host == "" {
			return unix.ENXIO
		}
	}
	return s
}

// hostDevice returns where the host has a device that every machine has, of which the tree
// has a node of its own, "" for another device.
func hostDevice(a Attr) string {
	if a.Type() != unix.S_IFCHR {
		return ""
	}
	return map[uint64]string{
		unix.Mkdev(1, 3): "/dev/null",
		unix.Mkdev(1, 5): "/dev/zero",
		unix.Mkdev(1, 7): "/dev/full",
		unix.Mkdev(1, 8): "/dev/random",
		unix.Mkdev(1, 9): "/dev/urandom",
		unix.Mkdev(5, 0): "/dev/tty",
		unix.Mkdev(5, 2): "/dev/ptmx",
	}[a.Rdev]
}

// openDir opens a directory. One that has none on the host is stood in for by an
// empty one.
func (t *Tree) openDir(in *Inode, flags int) (int, error) {
	if in.lower != "" {
		return openLowerAs(in.lower, flags)
	}
	if in.object == nil {
		if err := t.newDirObject(in); err != nil {
			return -1, err
		}
	}
	return unix.Open(in.object.path, flags|unix.O_CLOEXEC, 0)
}

// openPath finds something for what isn't reading or writing (O_PATH).
func (o *opening) openPath(e entry) error {
	in := e.inode
	s := &Special{Attr: in.attr, Host: in.lower, Flags: o.flags | unix.O_CLOEXEC}
	if in.lower == "" && in.object == nil {
		if err := o.t.newDirObject(in); err != nil { // only its identity counts
			return err
		}
		s.Flags &^= unix.O_NOFOLLOW
	}
	if in.object != nil {
		s.Host, s.Nameless = in.object.path, in.object.dropped
	}
	return s
}

// newDirObject makes an empty directory on the host that stands for an inode.
func (t *Tree) newDirObject(in *Inode) error {
	o := &object{path: t.emptyObjectPath()}
	if err := unix.Mkdir(o.path, 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(o.path, &st); err != nil {
		return err
	}
	in.object = o
	t.knows(idOf(&st), in)
	return nil
}

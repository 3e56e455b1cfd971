//go:build linux

package cow

import (
	"encoding/binary"
	"maps"
	"strconv"

	"golang.org/x/sys/unix"
)

// An Inode is a file or directory of a [Tree]. Its fields are guarded by the
// tree's lock.
type Inode struct {
	tree *Tree
	attr Attr

	// lower is the host's path of what it shows: the directory that it merges, or
	// the file whose bytes and extended attributes it has as long as it has none of
	// its own. Empty if there is none.
	lower    string
	id       fileID            // the lower file's
	object   *object           // its own bytes, nil while they are the lower file's
	target   string            // of a symbolic link
	losing   bool              // who may write to it hasn't CAP_FSETID: with a write its set-id bits go
	text     string            // what its object will hold once it is needed
	xattrs   map[string]string // its own, if ownXattrs
	own      ownership
	nameless bool  // it is in the tree's list of such files
	links    int   // names that it was given besides its first
	holds    int64 // bytes that count, see hold
	below    int64 // of its extended attributes what the lower file has

	// Where it is; for anything but a directory, where it was last entered or seen.
	parent *Inode   // of a directory itself for the root, nil once it was removed
	above  *Inode   // of a directory that was removed, its parent then
	origin pathHash // of a directory, of the path at which it was first seen, and what separates its entries from that
	name   string   // in its parent

	// Of a directory.
	entries  map[string]*Inode // what the tree knows; nil is a whiteout
	mount    bool              // it can't be moved or removed
	foreign  string            // the host's directory at which walks leave the tree
	devices  bool              // it is one of devices
	mirrored bool              // it is in the tree's mirror

	template *Template // nil unless it is of one

	isGone func() bool // of a device that may go, whether it has

	denied  bool // nobody may get there
	through bool // it is the host's own: what is done to it is done there
	// readOnly says that nobody may change it, or what is in it.
	readOnly bool
}

// ownership says which parts of an inode are no longer the lower file's.
type ownership uint8

const (
	ownAttr ownership = 1 << iota
	ownXattrs
	made    // it has no lower file at all, and counts
	unnamed // it was made without a name, and may be given one
)

// An Attr is what stat(2) tells of a file. Times are since 1970.
type Attr struct {
	Ino      uint64
	Mode     uint32 // with its type
	UID, GID uint32
	Nlink    uint32
	Rdev     uint64
	Size     int64
	Atime    unix.Timespec // access
	Mtime    unix.Timespec // modification
	Ctime    unix.Timespec // change
	Btime    unix.Timespec // birth
}

// What every file of a tree has in common (stat(2)).
const (
	// Dev is the device of every file, major 0 minor 100.
	Dev = 100
	// BlockSize is st_blksize.
	BlockSize = 4096
	// DirSize is the size of every directory, and DirLinks its link count: 1 is what
	// file systems say that don't count subdirectories.
	DirSize  = 4096
	DirLinks = 1
)

// Type returns the file's type, one of the S_IF constants.
func (a *Attr) Type() uint32 { return a.Mode & unix.S_IFMT }

// Blocks returns st_blocks, in units of 512 bytes: that of a file without holes.
func (a *Attr) Blocks() int64 {
	if a.Type() != unix.S_IFREG {
		return 0
	}
	return (a.Size + BlockSize - 1) / BlockSize * (BlockSize / 512)
}

func (in *Inode) isDir() bool     { return in.attr.Type() == unix.S_IFDIR }
func (in *Inode) isSymlink() bool { return in.attr.Type() == unix.S_IFLNK }
func (in *Inode) isRegular() bool { return in.attr.Type() == unix.S_IFREG }

// gone reports whether the directory was removed.
func (in *Inode) gone() bool { return in.parent == nil }

// path returns where a directory is. It ends in " (deleted)" if it was removed.
func (in *Inode) path() string {
	if in.above != nil {
		return in.lastPath() + deleted
	}
	return in.lastPath()
}

const deleted = " (deleted)"

// lastPath returns where a directory is, or was.
func (in *Inode) lastPath() string {
	if in.above != nil {
		return joinPath(in.above.lastPath(), in.name)
	}
	if in.parent == nil {
		return "(deleted)"
	}
	var b []byte
	in.appendPath(&b)
	if len(b) == 0 {
		return "/"
	}
	return string(b)
}

func (in *Inode) appendPath(b *[]byte) {
	if in.parent == in || in.parent == nil {
		return
	}
	in.parent.appendPath(b)
	*b = append(append(*b, '/'), in.name...)
}

// remove takes a directory from where it is. It is there no more, but still below its
// parent for who stands in it.
func (in *Inode) remove() {
	in.tree.untell(in)
	in.above, in.parent, in.attr.Nlink, in.mirrored = in.parent, nil, 0, false
}

// up is the directory that ".." means, nil if that isn't known.
func (in *Inode) up() *Inode {
	if in.parent == nil {
		return in.above
	}
	return in.parent
}

// isUnder reports whether in is dir or lies below it.
func (in *Inode) isUnder(dir *Inode) bool {
	for ; in != nil; in = in.parent {
		if in == dir {
			return true
		}
		if in.parent == in {
			break
		}
	}
	return false
}

// A fileID names a file of the host.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID { return fileID{st.Dev, st.Ino} }

// A pathHash is the hash of the beginning of a path (FNV-1a), so that what a directory's
// entries have in common is hashed once.
type pathHash uint64

const (
	hashBasis pathHash = 14695981039346656037
	hashPrime pathHash = 1099511628211
)

func (h pathHash) add(s string) pathHash {
	for i := range len(s) {
		h = (h ^ pathHash(s[i])) * hashPrime
	}
	return h
}

// number is the inode number of the path.
func (h pathHash) number() uint64 {
	const bits = 48 // programs keep them in doubles, and in columns
	return uint64(h)>>(64-bits) | 1<<(bits-1)
}

// Number is the inode number that what a path leads to has when it is first there.
func (t *Tree) Number(path string) uint64 { return t.inodeNumber(path, 0) }

// hash begins with what Config.Inodes is.
func (t *Tree) hash(path string) pathHash {
	h := hashBasis
	if t.numbering != 0 {
		h = h.add(string(binary.LittleEndian.AppendUint64(nil, t.numbering)))
	}
	return h.add(path)
}

// inodeNumber derives an inode number from the path at which a file is first
// seen, how many files were made there before, and what Config.Inodes is.
func (t *Tree) inodeNumber(path string, generation int) uint64 {
	h := t.hash(path)
	if generation > 0 {
		h = h.add("\x00" + strconv.Itoa(generation))
	}
	return h.number()
}

// fromLower makes the inode of a file of the host that a name in dir means.
func (t *Tree) fromLower(dir *Inode, name, lower string, st *unix.Stat_t) *Inode {
	in := &Inode{tree: t, lower: lower, id: idOf(st), attr: t.attrOf(st), through: dir != nil && dir.through, readOnly: dir != nil && dir.readOnly}
	s := t.see(idOf(st), dir, name)
	in.attr.Ino = s.number
	if in.through && !s.through {
		s.through = true
		t.takesBack(in.id)
	}
	if !in.isDir() {
		in.parent, in.name = dir, name
		return in
	}
	in.attr.Size, in.attr.Nlink = DirSize, DirLinks
	if dir == nil {
		in.origin = t.hash("/")
	} else {
		in.origin = dir.origin.add(name).add("/")
	}
	return in
}

// see returns where a file of the host was seen first: here, if never before.
func (t *Tree) see(id fileID, dir *Inode, name string) *sight {
	s := t.saw(id, dir, name)
	switch {
	case s != nil:
		return s
	case dir == nil:
		s = &sight{number: t.inodeNumber("/", 0), name: name}
	default:
		s = &sight{number: dir.origin.add(name).number(), dir: dir, name: name}
	}
	t.seen.set(id, s)
	return s
}

// saw returns where a file was seen before, nil if it wasn't.
func (t *Tree) saw(id fileID, dir *Inode, name string) *sight {
	s := t.seen.get(id)
	if s != nil && dir != nil && dir.through { // files move there, and this is the last that is known
		s.dir, s.name = dir, name
	}
	return s
}

// attrOf translates what the host tells of a file.
func (t *Tree) attrOf(st *unix.Stat_t) Attr {
	start := unix.NsecToTimespec(t.start)
	a := Attr{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), Rdev: st.Rdev, Size: st.Size,
		Mtime: earlier(st.Mtim, start), Ctime: earlier(st.Ctim, start),
	}
	a.Atime = a.Mtime                   // as if nobody had read it since
	a.Btime = earlier(a.Mtime, a.Ctime) // not every file system knows when a file was born
	return a
}

// newInode makes the inode of a new file with a name in dir. The name isn't
// entered.
func (t *Tree) newInode(dir *Inode, name string, mode uint32, cred *Cred) *Inode {
	path := joinPath(dir.path(), name)
	t.made[path]++
	now := t.changed()
	in := &Inode{tree: t, own: ownAttr | ownXattrs | made}
	in.attr = Attr{
		Ino: t.inodeNumber(path, t.made[path]), Mode: mode, UID: cred.UID, GID: cred.GID, Nlink: 1,
		Atime: now, Mtime: now, Ctime: now, Btime: now,
	}
	if dir.attr.Mode&unix.S_ISGID != 0 {
		in.attr.GID = dir.attr.GID
		if in.isDir() {
			in.attr.Mode |= unix.S_ISGID
		}
	}
	if in.isDir() {
		in.attr.Size, in.attr.Nlink = DirSize, DirLinks
		in.entries = map[string]*Inode{}
	}
	return in
}

func joinPath(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}

// keep makes the tree remember an inode that shows a file of the host, because
// it is about to differ from that: under its name, and, as the file may have
// others, under its identity.
func (t *Tree) keep(dir *Inode, name string, in *Inode) error {
	if in.own&ownAttr != 0 || in.lower == "" || in.through {
		return nil
	}
	var st unix.Stat_t
	if err := t.lstat(in.lower, &st); err != nil {
		return err
	}
	t.differs(dir, name, in)
	in.own |= ownAttr
	t.knows(idOf(&st), in)
	if dir != nil && !in.isDir() { // which has been entered when it was found
		dir.entries[name] = in
	}
	return nil
}

// ownedXattrs returns the extended attributes of the inode, which are its own
// from now on.
func (t *Tree) ownedXattrs(in *Inode) (map[string]string, error) {
	if in.own&ownXattrs == 0 {
		all, err := lowerXattrs(in.lower)
		if err != nil {
			return nil, err
		}
		in.xattrs, in.below = maps.Clone(all), sizeOf(all)
		in.own |= ownXattrs
	}
	if in.xattrs == nil {
		in.xattrs = map[string]string{}
	}
	return in.xattrs, nil
}

// Number returns the inode number, which stays the same.
func (in *Inode) Number() uint64 { return in.attr.Ino }

//go:build linux

package cow

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Config says what a [Tree] shows.
type Config struct {
	// Upper is an empty directory for what is written. It may lie on any file
	// system; where that is the host files' own and knows reflinks, copying a file up
	// costs nothing.
	Upper string
	// MakeUpper, if not nil, is asked for Upper when it is first needed.
	MakeUpper func() (string, error)
	// Small is an empty directory for what holds no bytes: FIFOs, sockets, and directories
	// that stand for those of the tree. Empty means Upper, which must be there then. One on
	// a tmpfs is several times faster.
	Small string
	// Mounts are what is shown where. One of them is at "/".
	Mounts []Mount
	// Devices are directories of the host of which nothing is shown but what is put there
	// ([Tree.Put]), wherever they are shown.
	Devices []string
	// Start is the tree's time at its beginning, in nanoseconds since 1970.
	Start int64
	// Change returns the time of a change, a later one each time. Nil counts
	// nanoseconds from Start.
	Change func() int64
	// MaxBytes and MaxInodes limit what is written; beyond them, calls fail with
	// ENOSPC. Zero means no limit.
	MaxBytes, MaxInodes int64
	// Dropping, if not nil, is told of a file in Upper before that loses its name with the
	// file of the tree; descriptors may be left of it. The tree is locked.
	Dropping func(path string)
	// Inodes selects the inode numbers: each value gives other ones, and the same ones in
	// each tree.
	Inodes uint64
	// ProtectLinks keeps users from linking to files of others that they couldn't read and
	// write (fs.protected_hardlinks, proc_sys_fs(5)).
	ProtectLinks bool
}

// A Mount shows a directory.
type Mount struct {
	// At is an absolute path of the tree. Directories that are missing on the way
	// are made, and belong to root.
	At string
	// Host is the absolute path of a directory of the host. A directory that is shown
	// twice is one: what is written to it at one place is seen at the other, and its
	// path is the one of the later mount. Empty makes an empty directory that
	// everybody may write to, with the sticky bit. It may also be a file.
	Host string
	// Foreign says that the directory isn't the tree's: a path that leads to it or
	// beyond ends the walk with an error of type [*Foreign].
	Foreign bool
	// Denied says that nobody may see what is there: EACCES.
	Denied bool
	// Through says that what is written there goes to the host.
	Through bool
	// ReadOnly says that nobody may write there: EROFS.
	ReadOnly bool
	// Target, if not empty, makes a symbolic link to it instead, and Text a file that
	// holds it.
	Target, Text string
	// Template is shown instead, if not nil; also in a Foreign directory, where who follows
	// the walk there finds it ([Tree.Within]).
	Template *Template
	// Mode and owner of an empty directory; a Mode of 0 means 1777.
	Mode, UID, GID uint32
}

// A Foreign is the error of a walk that leads out of a tree.
type Foreign struct {
	Host   string // the directory of the host at which it goes on
	Path   string // where that is in the tree
	Rest   string // what of the path is left, empty if nothing is
	Parent *Inode // what ".." means there
	Links  int    // symbolic links followed so far
	Walk   *Walk  // the walk that leads there
	// NoFollow says that a symbolic link at the end is to be taken for itself.
	NoFollow bool
}

func (f *Foreign) Error() string { return "cow: " + joinPath(f.Path, f.Rest) + " isn't in the tree" }

// A Tree is a copy-on-write file tree. Its methods may be called concurrently.
// Their errors are those of the kernel, of type [unix.Errno], and mean what they
// mean there; other errors are trouble with the layer itself.
type Tree struct {
	mu        sync.Mutex
	upper     string // empty until it is made
	small     string
	root      *Inode
	makeUpper func() (string, error)
	change    func() int64 // returns the time of a change
	start     int64
	serial    int64 // of files made without a name
	began     int64 // by the host's clock

	spares   spares
	lists    lowerLists
	forkless bool               // this process starts no others until the tree is unlocked, see Walk.NoForks
	seen     sights             // files of the host
	made     map[string]int     // how many files were made at a path
	known    map[fileID]*Inode  // by the file behind it: directories, and what has changed
	opened   map[fileID]bool    // files of the host that were opened to read, see File.Outdated
	objects  uint64             // made so far
	replaced map[string]bool    // by the host's path: what was removed or moved away, and has got a successor
	named    map[nameKey]string // names that files of the host were given, see nameObject
	mounts   []Mount
	devices  map[string]*Inode // directories of devices, by the host's path
	within   map[string]*Inode // what is mounted in what is foreign

	hides     bool   // a mount is Denied
	protects  bool   // see Config.ProtectLinks
	numbering uint64 // see Config.Inodes

	maxBytes, maxInodes int64
	inodes              int64    // made and not removed
	reserved            int64    // bytes, no less than are used
	inMemory            int64    // of those what isn't in a file
	nameless            []*Inode // files that have no name, and may be open
	manyNameless        int
	clock               hostClock

	dropping func(path string) // see Config.Dropping

	journal *journal // nil unless it is kept
	mirror  mirror
	telling telling
}

// New returns a tree that nobody has written to.
func New(cfg Config) (*Tree, error) {
	t := &Tree{
		upper: cfg.Upper, makeUpper: cfg.MakeUpper, small: cmp.Or(cfg.Small, cfg.Upper), start: cfg.Start, maxBytes: cfg.MaxBytes, maxInodes: cfg.MaxInodes, numbering: cfg.Inodes, protects: cfg.ProtectLinks, dropping: cfg.Dropping,
		made: map[string]int{}, known: map[fileID]*Inode{}, opened: map[fileID]bool{}, replaced: map[string]bool{}, named: map[nameKey]string{}, mounts: cfg.Mounts, devices: map[string]*Inode{}, within: map[string]*Inode{},
	}
	t.manyNameless = manyNameless
	t.change = func() int64 { return t.start } // what is there from the beginning is no change
	t.began = time.Now().UnixNano()
	for _, dir := range []string{cmp.Or(cfg.Upper, t.small), t.small} {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return nil, fmt.Errorf("cow: upper directory %q: %w", dir, errors.Join(err, notDir(err)))
		}
	}
	if cfg.Upper == "" && cfg.MakeUpper == nil {
		return nil, errors.New("cow: no upper directory")
	}
	if err := t.mountAll(cfg.Mounts, cfg.Devices); err != nil {
		return nil, fmt.Errorf("cow: %w", err)
	}
	if t.change = cfg.Change; t.change == nil {
		last := t.start
		t.change = func() int64 { last++; return last }
	}
	return t, nil
}

// Resume lets another time follow: later changes are made at what change returns, within
// other limits ([Config.MaxBytes], [Config.MaxInodes]). It is for a tree that goes on being
// used by somebody else, who is told of files that lose their names ([Config.Dropping]).
func (t *Tree) Resume(change func() int64, maxBytes, maxInodes int64, dropping func(path string)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.change, t.maxBytes, t.maxInodes, t.dropping = change, maxBytes, maxInodes, dropping
	t.reserved = t.used()
	t.telling, t.lists = telling{}, nil
	return t.dropMirror()
}

func notDir(err error) error {
	if err == nil {
		return unix.ENOTDIR
	}
	return nil
}

func (t *Tree) mountAll(mounts []Mount, devices []string) error {
	// The host's directories are found first: a mount may hide them.
	dirs := make([]*Inode, len(mounts))
	host, err := t.hostRoot()
	if err == nil {
		err = t.makeDeviceDirs(host, devices)
	}
	if err != nil {
		return err
	}
	for i, m := range mounts {
		if dirs[i], err = t.mountSource(host, m); err != nil {
			return fmt.Errorf("mount %q at %q: %w", m.Host, m.At, err)
		}
		if m.At == "/" {
			t.root = dirs[i]
			t.root.parent, t.root.name, t.root.mount, t.root.origin = t.root, "", true, t.hash("/")
		}
	}
	if t.root == nil {
		return errors.New("nothing is mounted at /")
	}
	for i, m := range mounts {
		if m.At == "/" {
			continue
		}
		if dirs[i] == t.root {
			return fmt.Errorf("mount %q at %q: it is the root, which can't be shown in itself", m.Host, m.At)
		}
		if err := t.mount(dirs[i], m.At); err != nil {
			return fmt.Errorf("mount %q at %q: %w", m.Host, m.At, err)
		}
	}
	t.forgetOutside()
	return nil
}

// forgetOutside forgets the host's directories that were walked through to find those that
// are mounted: whoever has one open has nothing of the tree.
func (t *Tree) forgetOutside() {
	for id, in := range t.known {
		if !in.isUnder(t.root) {
			delete(t.known, id)
		}
	}
	t.seen.forgetIf(func(s *sight) bool { return s.dir == nil || !s.dir.isUnder(t.root) })
}

func (t *Tree) hostRoot() (*Inode, error) {
	var st unix.Stat_t
	if err := unix.Lstat("/", &st); err != nil {
		return nil, err
	}
	host := t.fromLower(nil, "", "/", &st)
	host.entries = map[string]*Inode{}
	host.parent = host
	t.known[idOf(&st)] = host
	return host, nil
}

// mountSource finds the directory that a mount shows, as seen on the host.
func (t *Tree) mountSource(host *Inode, m Mount) (*Inode, error) {
	switch {
	case !strings.HasPrefix(m.At, "/") || m.Host != "" && !strings.HasPrefix(m.Host, "/"):
		return nil, errors.New("want absolute paths")
	case m.Template != nil:
		return t.templated(m.Template, nil, ""), nil
	case m.Target != "":
		in := t.newInode(host, strings.TrimPrefix(m.At, "/"), unix.S_IFLNK|0o777, &Cred{})
		in.target, in.attr.Size = m.Target, int64(len(m.Target))
		in.old(t.start)
		return in, nil
	case m.Text != "":
		in := t.newInode(host, strings.TrimPrefix(m.At, "/"), unix.S_IFREG|0o644, &Cred{})
		in.text, in.attr.Size = m.Text, int64(len(m.Text))
		in.old(t.start)
		return in, nil
	case m.Host == "":
		mode := m.Mode
		if mode == 0 {
			mode = unix.S_ISVTX | 0o777
		}
		in := t.newInode(host, strings.TrimPrefix(m.At, "/"), unix.S_IFDIR|mode, &Cred{UID: m.UID, GID: m.GID})
		in.old(t.start)
		return in, nil
	}
	e, err := t.walk(&Walk{Base: host, Root: host, Cred: superuser, sees: true}, m.Host)
	switch {
	case err != nil:
		return nil, err
	case e.inode == nil:
		return nil, unix.ENOENT
	case m.Foreign:
		var st unix.Stat_t
		if err := t.lstat(e.inode.lower, &st); err != nil {
			return nil, err
		}
		delete(t.known, idOf(&st)) // who has it open has nothing of the tree
		t.seen.forget(idOf(&st))
		in := t.fromLower(nil, "", e.inode.lower, &unix.Stat_t{Mode: unix.S_IFDIR | 0o555, Dev: Dev})
		in.attr.Ino = t.inodeNumber(m.At, 0)
		in.old(t.start)
		in.foreign = e.inode.lower
		return in, nil
	}
	e.inode.through = e.inode.through || m.Through && !e.inode.devices
	if m.Denied && e.last == lastName && !e.inode.isDir() {
		e.dir.entries[e.name] = e.inode // wherever that directory is shown
	}
	e.inode.denied = e.inode.denied || m.Denied
	t.hides = t.hides || m.Denied
	e.inode.readOnly = e.inode.readOnly || m.ReadOnly
	return e.inode, nil
}

// old gives an inode the times of the tree's beginning.
func (in *Inode) old(at int64) {
	start := unix.NsecToTimespec(at)
	in.attr.Mtime, in.attr.Ctime, in.attr.Atime, in.attr.Btime = start, start, start, start
}

// mount puts a directory where it is to be seen. What is at the end of a link, a file of
// the host's is mounted at the end of, as mount(2) does.
func (t *Tree) mount(dir *Inode, at string) error {
	if dir.template != nil {
		return t.mountTemplate(dir, at)
	}
	parent, name, err := t.mountPoint(at, dir.lower != "" || dir.devices)
	if err != nil {
		return err
	}
	if there := parent.entries[name]; there != nil && there.foreign != "" && dir.foreign == "" {
		return errForeign
	}
	dir.parent, dir.name, dir.mount = parent, name, true
	if dir.isDir() && (dir.lower != "" || dir.devices) {
		dir.attr.Ino, dir.origin = t.inodeNumber(at, 0), t.hash(at).add("/") // wherever it is on the host
	}
	if dir.isRegular() && dir.lower != "" { // its identity leads to the place where it is shown
		if err := t.keep(parent, name, dir); err != nil {
			return err
		}
	}
	parent.entries[name] = dir
	return nil
}

// mountTemplate puts a template where it is to be seen.
func (t *Tree) mountTemplate(in *Inode, at string) error {
	above, name := at[:strings.LastIndexByte(at, '/')], at[strings.LastIndexByte(at, '/')+1:]
	parent := t.root
	if above != "" {
		dir, last, err := t.mountPoint(above, true)
		if err != nil {
			return err
		}
		if parent, err = t.child(dir, last); err != nil {
			return err
		}
		if parent == nil {
			parent = t.mountDir(dir, last)
		}
	}
	in.parent, in.name = parent, name
	in.attr.Ino, in.origin = t.inodeNumber(at, 0), t.hash(at).add("/")
	if parent.foreign != "" {
		t.within[at] = in
		return nil
	}
	parent.entries[name] = in
	return nil
}

var errForeign = errors.New("it is the kernel's, and nothing can be mounted in it")

// mountPoint finds the directory and name of a place to mount at, and makes the directories
// that are missing on the way. With follow a link there is followed.
func (t *Tree) mountPoint(at string, follow bool) (parent *Inode, name string, err error) {
	parent = t.root
	names := strings.Split(at, "/")
	for links := 0; len(names) > 0; {
		name, names = names[0], names[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			parent = parent.parent
			continue
		}
		if parent.foreign != "" {
			return nil, "", errForeign
		}
		in, err := t.child(parent, name)
		switch {
		case err != nil:
			return nil, "", err
		case in != nil && in.isSymlink() && (follow || len(names) > 0):
			if links++; links > maxLinks {
				return nil, "", unix.ELOOP
			}
			if strings.HasPrefix(in.target, "/") {
				parent = t.root
			}
			names = append(strings.Split(in.target, "/"), names...)
		case len(names) == 0:
			return parent, name, nil
		case in == nil:
			parent = t.mountDir(parent, name)
		case !in.isDir():
			return nil, "", unix.ENOTDIR
		default:
			parent = in
		}
	}
	return nil, "", unix.EBUSY // a link that leads to a directory by its "." or ".."
}

// mountDir makes a directory on the way to a mount.
func (t *Tree) mountDir(parent *Inode, name string) *Inode {
	in := t.newInode(parent, name, unix.S_IFDIR|0o755, &Cred{})
	in.old(t.start)
	in.parent, in.name, in.mount = parent, name, true
	parent.entries[name] = in
	return in
}

// changed returns the time of a change.
func (t *Tree) changed() unix.Timespec { return unix.NsecToTimespec(t.change()) }

// touch notes that a directory has changed, or with modified false only its
// attributes.
func (in *Inode) touch(modified bool) {
	if in.through {
		return
	}
	in.tree.touches(in, modified)
	now := in.tree.changed()
	in.attr.Ctime = now
	if modified {
		in.attr.Mtime = now
	}
	in.own |= ownAttr
}

// lstat asks the host. What it can't be asked about isn't there, but for what the
// program would be told as well.
func (t *Tree) lstat(path string, st *unix.Stat_t) error {
	return atHost(path, func(dir int, rel string) error { return unix.Fstatat(dir, rel, st, unix.AT_SYMLINK_NOFOLLOW) })
}

// atHost calls f with a path of the host, in parts where it is longer than the
// kernel takes at once.
func atHost(path string, f func(dir int, rel string) error) error {
	dir := unix.AT_FDCWD
	for len(path) >= unix.PathMax {
		i := strings.LastIndexByte(path[:unix.PathMax-1], '/')
		fd, err := unix.Openat(dir, path[:max(i, 0)], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if dir != unix.AT_FDCWD {
			unix.Close(dir)
		}
		if err != nil {
			return err
		}
		dir, path = fd, path[i+1:]
	}
	if dir != unix.AT_FDCWD {
		defer unix.Close(dir)
	}
	return f(dir, path)
}

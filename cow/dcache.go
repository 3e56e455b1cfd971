//go:build linux

package cow

import (
	"math"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Programs that ask about files ask about many, and most of those are the host's, which don't
// change. So a tree can tell somebody what names mean ([Tree.Tell]), who then answers without
// asking it, and takes back in time what is about to change.
//
// What is told of is what nobody has changed: a file of the host's in directories that may be
// searched, but for one that the command was given, or that is in a directory that shows the
// host itself, and may change by other ways than the tree's. What is told of a file with several
// names is taken back of all of them. What the host does to it later is not seen. Of a directory
// all names are told once several have been asked about, so that it is known as well what isn't
// there.

// A Dcache is told what names mean. Directories have numbers, which it chooses; 0 says that it
// has no room, and nothing is told it about what is in there. An [Attr] that is nil is one to
// ask for, and may are those of R_OK and X_OK that whoever asks has (access(2)). Regular files
// and directories may be opened for reading by a path of the host, host, unless that is empty;
// an open file is one of them if the host's dev and ino are its.
// Its methods are called with the tree locked.
type Dcache interface {
	Root(dir *Inode, a *Attr, may uint32, host string) uint32
	Dir(parent uint32, name string, dir *Inode, a *Attr, may uint32, host string) uint32
	File(parent uint32, name string, a *Attr, may uint32, target, host string, dev, ino uint64) uint32
	Nothing(parent uint32, name string)        // there is no such name
	Unknown(parent uint32, name string) uint32 // the tree is to be asked about the name
	Leads(link, end uint32)                    // a symbolic link leads there
	Complete(dir uint32)                       // there are no other names in it

	// Closes says that a path of the host is no file's or directory's any more. It may be
	// called for any path.
	Closes(host string)
	Ask(parent uint32, name string) // the name is about to mean something else
	Touched(dir uint32)             // its attributes are about to change
	Forget(dir uint32)              // it is about to go elsewhere, or to have other permissions
	Shut()                          // no file may be opened by its path any more
	Other(dev, ino uint64)          // what has these is no file that was told of
}

// telling is what a tree has told.
type telling struct {
	to       Dcache // nil for nobody
	who      *Cred  // who asks, nil for anybody
	dirs     map[*Inode]*told
	scans    int      // directories of which the names were asked about in their order; halved by each other one
	followed []*Inode // symbolic links of the walk that is told of
	file     Inode    // that is just told of
	given    map[fileID]bool
}

// told is what is known of a directory.
type told struct {
	number uint32
	above  uint32 // its directory's
	asked  int    // names in it
	next   int    // when it is next looked whether all can be told
	last   string // name that was asked about
	mixed  bool   // they were not asked about in their order
	listed bool   // somebody has listed it
	names  int    // it has more than so many, as far as that is known
	all    bool
}

// When all names of a directory are told: when so many were asked about, and there are no more
// than a multiple of that. It is larger where it seems that all will be asked about.
const (
	askedEnough  = 2
	orderly      = 3 // names that were asked about in their order
	askedOften   = 4 // from then on it is looked each time that twice as many were
	manyScans    = 4 // directories
	tellEach     = 16
	tellEachOfIt = 64
	tellScanned  = 512
)

// most is how many names a directory may have for all to be told.
func (t *Tree) most(d *told) int {
	switch {
	case t.telling.scans >= manyScans && !d.mixed:
		return tellScanned * d.asked
	case d.listed || d.asked >= orderly && !d.mixed:
		return tellEachOfIt * d.asked
	}
	return tellEach * d.asked
}

// asks notes that a name in a directory was asked about, and reports whether all are to be
// told.
func (t *Tree) asks(d *told, name string) bool {
	if name < d.last && !d.mixed {
		d.mixed = true
		t.telling.scans /= 2
	}
	d.last = name
	d.asked++
	switch {
	case d.asked == orderly && !d.mixed:
		t.telling.scans++
	case t.telling.scans >= manyScans && !d.mixed:
	case d.asked < d.next:
		return false
	}
	d.next = d.asked + 1
	if d.asked >= askedOften {
		d.next = 2 * d.asked
	}
	return true
}

// Tell has c told what names mean to who, nil for anybody, from now on and until the tree is
// used by somebody else ([Tree.Resume]), as far as walks say so ([Walk.Told]). What was told
// before is taken back.
func (t *Tree) Tell(c Dcache, who *Cred) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for dir, d := range t.telling.dirs {
		t.telling.to.Forget(d.number)
		t.telling.to.Closes(dir.lower)
	}
	t.telling = telling{to: c, who: who, dirs: map[*Inode]*told{}, given: t.telling.given}
}

// rights returns which of R_OK and X_OK who asks has.
func (s *telling) rights(in *Inode) (may uint32) {
	for _, want := range [...]uint32{mayRead, mayExec} {
		all := want * 0o111
		if s.who == nil && in.attr.Mode&all == all || s.who != nil && s.who.may(in, want) == nil {
			may |= want
		}
	}
	return may
}

// Told returns the number of a directory, 0 if it has none.
func (t *Tree) Told(dir *Inode) (number uint32) {
	t.ToldAs(dir, func(n uint32) { number = n })
	return number
}

// ToldAs calls do with the number of a directory, if it has one.
func (t *Tree) ToldAs(dir *Inode, do func(number uint32)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.telling.to == nil {
		return
	}
	if d := t.tellDir(dir); d != nil {
		do(d.number)
	}
}

// tellWalk tells what a walk has come to. What can't be found out now will be later.
func (t *Tree) tellWalk(e *entry) {
	if t.telling.to != nil {
		t.tellFollowed()
		t.tellEntry(e)
	}
}

func (t *Tree) tellFollowed() {
	for _, l := range t.telling.followed {
		t.tellLink(l)
	}
	t.telling.followed = t.telling.followed[:0]
}

// tellMissing tells that there is nothing by the name that a walk has come to, and nothing of
// other names, which might be many.
func (t *Tree) tellMissing(e *entry) {
	if t.telling.to == nil || e.last != lastName || e.dir == nil || e.inode != nil {
		return
	}
	t.tellFollowed()
	if d := t.tellDir(e.dir); d != nil && !d.all {
		t.tellName(d, e.dir, e.name, nil)
	}
}

func (t *Tree) tellEntry(e *entry) {
	if e.last != lastName || e.dir == nil {
		if e.inode != nil && e.inode.isDir() {
			t.tellDir(e.inode)
		}
		return
	}
	d := t.tellDir(e.dir)
	if d == nil {
		return
	}
	if d.all {
		switch { // what wasn't known before
		case e.inode == nil:
		case e.inode.isDir() && e.inode.parent == e.dir && e.inode.name == e.name:
			t.tellDir(e.inode)
		case e.inode.isRegular() && e.inode.attr.Nlink > 1 && t.mayTell(e.inode):
			t.tellName(d, e.dir, e.name, e.inode)
		}
		return
	}
	t.tellName(d, e.dir, e.name, e.inode)
	if !t.asks(d, e.name) {
		return
	}
	if err := t.tellAll(d, e.dir); err != nil {
		d.next = math.MaxInt // it may be searched, but not read
	}
}

// tellDir returns what is told of a directory, and tells of those on the way to it. It returns
// nil where that can't be.
func (t *Tree) tellDir(dir *Inode) *told {
	if d := t.telling.dirs[dir]; d != nil {
		if dir == t.root {
			return d
		}
		switch above := t.tellDir(dir.parent); {
		case above == nil:
			return nil
		case above.number == d.above:
			return d
		}
		t.untell(dir) // its directory has got another number
	}
	may := t.telling.rights(dir)
	if dir.foreign != "" || dir.through || dir.devices || dir.template != nil || dir.gone() || may&mayExec == 0 || t.hides && dir.hidden() {
		return nil
	}
	d, host := &told{next: askedEnough}, ""
	if may&mayRead != 0 && !t.mirror.reads {
		host = dir.lower
	}
	if dir == t.root {
		d.number = t.telling.to.Root(dir, dir.unchanged(), may, host)
	} else if above := t.tellDir(dir.parent); above != nil {
		d.above, d.number = above.number, t.telling.to.Dir(above.number, dir.name, dir, dir.unchanged(), may, host)
	}
	if d.number == 0 {
		return nil
	}
	t.telling.dirs[dir] = d
	return d
}

// unchanged returns the attributes of what is the host's, nil if they are the tree's own.
func (in *Inode) unchanged() *Attr {
	if in.own != 0 || in.lower == "" || in.object != nil || in.attr.Nlink != 1 && !in.isRegular() || in.attr.Rdev != 0 {
		return nil
	}
	return &in.attr
}

// tellName tells of a name, nil meaning that there is nothing. It reports false where there is
// no room for that.
func (t *Tree) tellName(d *told, dir *Inode, name string, in *Inode) bool {
	to := t.telling.to
	switch {
	case in == nil:
		to.Nothing(d.number, name)
		return true
	case in.through || in.denied || in.foreign != "" || in.template != nil || in.devices:
	case in.isDir():
		if in.parent == dir && in.name == name && t.tellDir(in) != nil {
			return true
		}
	default:
		if t.mayTell(in) {
			return t.tellFile(d, dir, name, in) != 0
		}
	}
	return to.Unknown(d.number, name) != 0
}

// tellFile tells of a file or a symbolic link that is the host's.
func (t *Tree) tellFile(d *told, dir *Inode, name string, in *Inode) uint32 {
	may, host, id := t.telling.rights(in), "", in.id
	if t.known[id] != nil { // as what it is shown at another place
		id = fileID{}
	}
	if in.isRegular() && may&mayRead != 0 && !t.mirror.reads {
		host = in.lower
		t.see(in.id, dir, name).told = true
	}
	if in.attr.Nlink > 1 {
		s, as := t.see(in.id, dir, name), toldName{dir, name}
		if !slices.Contains(s.names, as) {
			s.names = append(s.names, as)
		}
	}
	return t.telling.to.File(d.number, name, &in.attr, may, in.target, host, id.dev, id.ino)
}

// tellLink tells where a symbolic link leads.
func (t *Tree) tellLink(link *Inode) {
	d := t.tellDir(link.parent)
	if d == nil || link.unchanged() == nil {
		return
	}
	end := t.tellEnd(link, 1)
	if end == 0 {
		return
	}
	if number := t.tellFile(d, link.parent, link.name, link); number != 0 {
		t.telling.to.Leads(number, end)
	}
}

// mostLinks is how many links may lead to each other. Who is told counts no more than 5 of those
// on its way, and the kernel 40.
const mostLinks = 8

// tellEnd tells of where a symbolic link leads, and returns its number. It is 0 unless the link
// leads down from its directory, one above or the root, by names that are where they are in
// the tree, to what is no other link, or to one of which that is so.
func (t *Tree) tellEnd(link *Inode, links int) uint32 {
	cur, down := link.parent, false
	if strings.HasPrefix(link.target, "/") {
		cur = t.root
	}
	names := strings.FieldsFunc(link.target, func(r rune) bool { return r == '/' })
	last := len(names) - 1
	if strings.HasSuffix(link.target, "/") {
		last++ // what it leads to has to be a directory
	}
	for i, name := range names {
		d := t.tellDir(cur)
		switch {
		case d == nil:
			return 0
		case name == ".":
			continue
		case name == "..":
			if cur = cur.up(); down || cur == nil {
				return 0
			}
			continue
		}
		down = true
		in, err := t.child(cur, name)
		switch {
		case err != nil || in == nil || in.through || in.denied:
			return 0
		case in.isSymlink():
			// Where that leads holds as long as both do: all are taken back with one.
			if i == last && links < mostLinks && in.unchanged() != nil && t.tellFile(d, cur, name, in) != 0 {
				return t.tellEnd(in, links+1)
			}
			return 0
		case !in.isDir():
			if t.mayTell(in) && i == last {
				return t.tellFile(d, cur, name, in)
			}
			return 0
		case in.parent != cur || in.name != name:
			return 0
		}
		cur = in
	}
	if d := t.tellDir(cur); d != nil {
		return d.number
	}
	return 0
}

// tellAll tells of all names in a directory, unless they are too many, or who asks may not list
// them.
func (t *Tree) tellAll(d *told, dir *Inode) error {
	most := t.most(d)
	if t.telling.rights(dir)&mayRead == 0 || max(len(dir.entries), d.names) > most {
		return nil
	}
	complete := true
	if dir.lower != "" {
		fd, err := openLower(dir.lower, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		names, err := namesOf(fd, most)
		if err != nil || len(names) > most {
			d.names = len(names) - 1
			return err
		}
		for _, n := range names {
			if _, known := dir.entries[n.name]; known {
				continue
			}
			ok, err := t.tellLower(d, fd, dir, n.name)
			if err != nil {
				return err
			}
			complete = complete && ok
		}
	}
	for name, in := range dir.entries {
		if in != nil {
			complete = t.tellName(d, dir, name, in) && complete
		}
	}
	d.all = true
	if complete {
		t.telling.to.Complete(d.number)
	}
	return nil
}

// tellLower tells what a name in a directory of the host means, which fd is open of. It
// reports false if there is no room for that, or nothing by that name any more.
//
// Where a directory, or a file with several names, is seen first is by whoever asks about it,
// and doesn't depend on what was told.
func (t *Tree) tellLower(d *told, fd int, dir *Inode, name string) (bool, error) {
	var st unix.Stat_t
	switch err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err {
	case nil:
	case unix.ENOENT:
		return false, nil
	default:
		return false, err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	seen := t.seen.get(idOf(&st))
	here := seen != nil && seen.dir == dir && seen.name == name
	switch {
	case isDir && !here, !isDir && st.Nlink > 1 && (seen == nil || t.known[idOf(&st)] != nil || st.Mode&unix.S_IFMT != unix.S_IFREG):
		return t.telling.to.Unknown(d.number, name) != 0, nil
	case isDir || st.Mode&unix.S_IFMT == unix.S_IFLNK:
		in, err := t.child(dir, name)
		if err != nil || in == nil {
			return false, err
		}
		return t.tellName(d, dir, name, in), nil
	}
	in := &t.telling.file
	*in = Inode{tree: t, lower: joinPath(dir.lower, name), id: idOf(&st), attr: t.attrOf(&st)}
	if seen != nil {
		in.attr.Ino = seen.number
	} else {
		in.attr.Ino = dir.origin.add(name).number()
	}
	return t.tellName(d, dir, name, in), nil
}

// differs takes back what is told of a file or directory, which is about to differ from the
// host's.
func (t *Tree) differs(dir *Inode, name string, in *Inode) {
	switch {
	case t.telling.to == nil:
	case in.isDir():
		t.untell(in)
	default:
		t.renames(dir, name)
		t.renames(in.parent, in.name)
		t.telling.to.Closes(in.lower)
		t.takesBack(in.id)
	}
}

// takesBack takes back what is told of a file of the host's, by all its names and when it is
// open.
func (t *Tree) takesBack(id fileID) {
	if t.telling.to == nil {
		return
	}
	t.telling.to.Other(id.dev, id.ino)
	if s := t.seen.get(id); s != nil {
		for _, as := range s.names {
			t.renames(as.dir, as.name)
		}
	}
}

// knows notes which inode a file of the host's is that is the tree's own, or differs from it.
func (t *Tree) knows(id fileID, in *Inode) {
	t.takesBack(id)
	t.known[id] = in
}

// Given says that the command has a file of the host's open from the beginning, and may write to
// it: nothing is told of it.
func (t *Tree) Given(dev, ino uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.telling.given == nil {
		t.telling.given = map[fileID]bool{}
	}
	t.telling.given[fileID{dev, ino}] = true
}

// mayTell reports whether a file may be told of.
func (t *Tree) mayTell(in *Inode) bool {
	s := t.seen.get(in.id)
	return in.unchanged() != nil && !t.telling.given[in.id] && (s == nil || !s.through)
}

// renames takes back what is told of a name.
func (t *Tree) renames(dir *Inode, name string) {
	if t.telling.to == nil || dir == nil {
		return
	}
	if d := t.telling.dirs[dir]; d != nil {
		t.telling.to.Ask(d.number, name)
	}
	if dir.lower != "" {
		t.telling.to.Closes(joinPath(dir.lower, name))
	}
	if in := dir.entries[name]; in != nil && in.isDir() {
		t.untell(in)
	}
}

// untell takes back what is told of a directory, which is about to go elsewhere or to have
// other permissions.
func (t *Tree) untell(dir *Inode) {
	if d := t.telling.dirs[dir]; d != nil {
		t.telling.to.Forget(d.number)
		t.telling.to.Closes(dir.lower)
		delete(t.telling.dirs, dir)
	}
}

// touches takes back what is told of a directory's attributes.
func (t *Tree) touches(dir *Inode, modified bool) {
	switch d := t.telling.dirs[dir]; {
	case d == nil:
	case modified:
		t.telling.to.Touched(d.number)
	default:
		t.untell(dir)
	}
}

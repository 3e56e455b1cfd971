//go:build linux

package cow

import (
	"strings"

	"golang.org/x/sys/unix"
)

// A Walk says from where, for whom and how a path is followed.
type Walk struct {
	Cred *Cred
	Base *Inode // where a relative path begins; nil is the root
	Root *Inode // where an absolute path begins, and above which there is nothing; nil is the tree's
	// Resolve restricts the walk, by the RESOLVE_ flags of openat2(2).
	Resolve uint64
	// File is what an empty path means; nil makes it an error.
	File *File
	// Held, if not 0, is a descriptor of File's bytes, for a file that has lost its name
	// ([File.Nameless]), and HeldAt a path of /proc by which the walker finds it, if there
	// is one.
	Held   int
	HeldAt string
	// Links is how many symbolic links have been followed before.
	Links int
	// NoFollow takes a symbolic link at the end for itself, unless slashes follow it.
	NoFollow bool

	// Check, if not nil, is asked about the path to which the walk has led, without links;
	// an error of it is the walk's.
	Check func(path string) error

	// Told has the tree tell what the walk comes to ([Tree.Tell]).
	Told bool
	// ToldMissing has it tell no more than that there is nothing where the walk has come to.
	ToldMissing bool

	// Opened is set by [Tree.Open] to a directory that it has opened while Told.
	Opened *Inode

	// NoForks has [Tree.Open] keep this process from starting others from when it opens a
	// file of its own, and set Forkless then: the caller ends that, by
	// syscall.ForkLock.RUnlock, when it has closed the descriptor. Meanwhile it must not use
	// the tree, nor wait for who does.
	NoForks, Forkless bool

	// Raised is set by [Tree.Open] to a file that is written to while it may be
	// [File.Outdated].
	Raised *File

	self *Walk // of which it is a copy
	sees bool  // what is denied as well

	// entry is for calls that enter or remove a name: a link at the end is always
	// taken for itself.
	entry bool
	// create is for an open that may create the file: it can't be a directory. anew is for one
	// that doesn't care what is there: the host isn't asked about a name that it is known to
	// lack.
	create, anew bool
}

// A last is what the last component of a path is.
type last uint8

const (
	lastName last = iota
	lastDot
	lastDotDot
	lastRoot
)

// An entry is where a walk ends: a name in a directory, and what it means.
type entry struct {
	dir     *Inode
	name    string
	inode   *Inode // nil if there is nothing
	last    last
	held    int  // see Walk.Held
	slashed bool // slashes follow the last component, which so has to be a directory
}

// maxLinks is how many symbolic links a walk follows, and nameMax how long a name
// may be (fs/namei.c, limits.h).
const (
	maxLinks = 40
	nameMax  = 255
)

// walk follows a path. A missing last component is no error.
func (t *Tree) walk(w *Walk, path string) (entry, error) {
	p := walker{t: t, w: w, root: w.Root, cur: w.Base, links: w.Links}
	if p.root == nil {
		p.root = t.root
	}
	if p.cur == nil {
		p.cur = p.root
	}
	switch {
	case path == "" && w.File != nil:
		e := w.File.e
		e.held = w.Held
		return e, nil
	case path == "":
		return entry{}, unix.ENOENT
	case len(path) >= unix.PathMax:
		return entry{}, unix.ENAMETOOLONG
	}
	if w.Resolve&unix.RESOLVE_IN_ROOT != 0 {
		p.root = p.cur
	}
	if path[0] != '/' && t.hides && p.cur.hidden() {
		return entry{}, unix.EACCES
	}
	e, err := p.follow(path)
	if err == nil && w.Check != nil {
		err = w.Check(e.path())
	}
	return e, err
}

// path is the entry's, by which the walk came to it.
func (e *entry) path() string {
	if e.last != lastName || e.dir == nil {
		return e.inode.where()
	}
	return joinPath(e.dir.path(), e.name)
}

// Where returns the path to which a path leads, without links. There needn't be anything,
// if there is a directory for it.
func (t *Tree) Where(w *Walk, path string) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, err := t.walk(w, path)
	if err != nil {
		return "", err
	}
	return e.path(), nil
}

// Hidden reports whether the file is a directory that nobody may see ([Mount.Denied]), or lies
// in such a one.
func (f *File) Hidden() bool {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	return f.t.hides && f.e.inode.isDir() && f.e.inode.hidden()
}

// hidden reports whether a directory is one that nobody may see, or lies in such a one.
func (in *Inode) hidden() bool {
	for ; in != nil; in = in.parent {
		if in.denied {
			return true
		}
		if in.parent == in {
			break
		}
	}
	return false
}

func (w *Walk) copy() Walk {
	c := *w
	if c.self == nil {
		c.self = w
	}
	return c
}

// A walker is a walk under way.
type walker struct {
	t     *Tree
	w     *Walk
	root  *Inode
	cur   *Inode
	links int
}

func (p *walker) follow(rest string) (entry, error) {
	e := entry{last: lastRoot}
	if err := p.begin(rest); err != nil {
		return e, err
	}
	e.dir, e.inode = p.cur, p.cur
	for {
		rest = strings.TrimLeft(rest, "/")
		if rest == "" {
			return e, nil
		}
		name, after, more := strings.Cut(rest, "/")
		rest = strings.TrimLeft(after, "/")
		e = entry{slashed: more && rest == ""}
		if err := p.enter(); err != nil {
			return e, err
		}
		link, err := p.step(&e, name, rest != "")
		switch {
		case err != nil:
			return e, err
		case link:
			// What follows the link follows its target.
			target := e.inode.target
			if more {
				target += "/" + rest
			}
			rest = target
			if err := p.begin(rest); err != nil {
				return e, err
			}
			e = entry{dir: p.cur, inode: p.cur, last: lastRoot}
		case e.inode != nil && e.inode.foreign != "":
			if p.w.Resolve&(unix.RESOLVE_NO_XDEV|unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0 {
				return e, unix.EXDEV
			}
			from := p.w
			if from.self != nil {
				from = from.self
			}
			return e, &Foreign{Walk: from, NoFollow: p.w.entry || p.w.NoFollow, Host: e.inode.foreign, Path: e.inode.path(), Rest: rest, Parent: e.inode.parent, Links: p.links}
		case rest != "":
			p.cur = e.inode
		}
	}
}

// begin goes to the root for an absolute path.
func (p *walker) begin(path string) error {
	if !strings.HasPrefix(path, "/") {
		return nil
	}
	if p.w.Resolve&unix.RESOLVE_BENEATH != 0 {
		return unix.EXDEV
	}
	p.cur = p.root
	return nil
}

// enter makes sure that names can be looked up where the walk stands.
func (p *walker) enter() error {
	if !p.cur.isDir() {
		return unix.ENOTDIR
	}
	return p.w.Cred.may(p.cur, mayExec)
}

// step takes one component. link says that it is a symbolic link to be followed.
func (p *walker) step(e *entry, name string, more bool) (link bool, err error) {
	e.dir, e.name = p.cur, name
	switch name {
	case ".":
		e.last, e.inode = lastDot, p.cur
		return false, nil
	case "..":
		e.last, e.inode = lastDotDot, p.cur
		if p.cur == p.root {
			if p.w.Resolve&unix.RESOLVE_BENEATH != 0 {
				return false, unix.EXDEV
			}
			return false, nil
		}
		if p.w.Resolve&unix.RESOLVE_BENEATH != 0 && p.cur == p.start() {
			return false, unix.EXDEV
		}
		if e.inode = p.cur.up(); e.inode == nil {
			return false, unix.ENOENT
		}
		return false, nil
	}
	if p.w.create && e.slashed {
		return false, unix.EISDIR
	}
	if len(name) > nameMax {
		return false, unix.ENAMETOOLONG
	}
	if p.w.anew && !more && p.t.lacks(p.cur, name) {
		return false, nil
	}
	if e.inode, err = p.t.child(p.cur, name); err != nil {
		return false, err
	}
	switch in := e.inode; {
	case in == nil && more:
		return false, unix.ENOENT
	case in != nil && in.denied && !p.w.sees:
		return false, unix.EACCES
	case in == nil || !in.isSymlink():
		return false, nil
	case !more && (p.w.entry || p.w.NoFollow && !e.slashed):
		return false, nil
	}
	if p.w.Resolve&unix.RESOLVE_NO_SYMLINKS != 0 {
		return false, unix.ELOOP
	}
	if p.links++; p.links > maxLinks {
		return false, unix.ELOOP
	}
	if p.w.Told || p.w.ToldMissing {
		p.t.telling.followed = append(p.t.telling.followed, e.inode)
	}
	return true, nil
}

func (p *walker) start() *Inode {
	if p.w.Base != nil {
		return p.w.Base
	}
	return p.root
}

// walkEntry follows a path to a name that is to be entered or removed.
func (t *Tree) walkEntry(w *Walk, path string) (entry, error) {
	to := w.copy()
	to.entry = true
	return t.walk(&to, path)
}

// exists reports whether there is something, and that it is a directory if the
// path says so.
func (e *entry) exists() error {
	switch {
	case e.inode == nil:
		return unix.ENOENT
	case e.slashed && !e.inode.isDir():
		return unix.ENOTDIR
	}
	return nil
}

// child returns what a name in a directory means, nil if it means nothing.
func (t *Tree) child(dir *Inode, name string) (*Inode, error) {
	if in, ok := dir.entries[name]; ok {
		if in != nil && !in.present() {
			return nil, nil
		}
		var st unix.Stat_t
		if in != nil && in.mount && in.through && in.isRegular() && t.lstat(in.lower, &st) == nil {
			in.refresh(&st)
		}
		return in, nil
	}
	if dir.template != nil {
		if d := dir.template.Entries[name]; d != nil {
			dir.entries[name] = t.templated(d, dir, name)
		}
		return dir.entries[name], nil
	}
	if dir.lower == "" {
		return nil, nil
	}
	var st unix.Stat_t
	lower := joinPath(dir.lower, name)
	switch err := t.lstat(lower, &st); err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR:
		return nil, nil
	default:
		return nil, err
	}
	if in := t.known[idOf(&st)]; in != nil && (st.Nlink > 1 || in.isDir()) && in.attr.Type() == st.Mode&unix.S_IFMT {
		// A hard link to what has changed, or a directory that is mounted elsewhere.
		switch {
		case in.through:
			in.refresh(&st)
		case !in.isDir() && !dir.through:
			dir.entries[name] = in
			if in.hasLeft() {
				in.parent, in.name = dir, name
			}
		}
		return in, nil
	}
	in := t.fromLower(dir, name, lower, &st)
	switch {
	case in.isDir():
		in.entries = map[string]*Inode{}
		in.parent, in.name = dir, name
		t.known[idOf(&st)] = in
		if !in.through {
			dir.entries[name] = in
		}
	case in.isSymlink():
		target, err := readLink(lower)
		if err != nil {
			return nil, err
		}
		in.target = target
		in.attr.Size = int64(len(target))
		if !in.through {
			dir.entries[name] = in
			if st.Nlink > 1 {
				t.known[idOf(&st)] = in
			}
		}
	}
	return in, nil
}

func readLink(path string) (string, error) {
	buf := make([]byte, unix.PathMax)
	var n int
	err := atHost(path, func(dir int, rel string) (err error) {
		n, err = unix.Readlinkat(dir, rel, buf)
		return err
	})
	return string(buf[:max(n, 0)]), err
}

// hasLower reports whether a directory's lower directory has a name.
func (t *Tree) hasLower(dir *Inode, name string) (bool, error) {
	if dir.lower == "" {
		return false, nil
	}
	var st unix.Stat_t
	switch err := t.lstat(joinPath(dir.lower, name), &st); err {
	case nil:
		return true, nil
	case unix.ENOENT, unix.ENOTDIR:
		return false, nil
	default:
		return false, err
	}
}

//go:build linux

package cow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// errUnread is the error of what needs all that is in a directory.
var errUnread = errors.New("what is in it can't be read on the host, so it can't be written anywhere")

// A comparison finds what differs from the host.
//
// A directory that shows the host's directory of its own place can differ only in
// the names that the tree knows. Any other is compared name by name.
type comparison struct {
	t    *Tree
	list Changes
	err  error // of add
	// unread are the directories, by path, in which there is something that can't be read.
	unread map[string]*Inode // nil for one that is gone
}

// Changes returns what the tree holds that the host doesn't, sorted by path. A file
// that was written to and has the host's bytes and attributes again is no change;
// one that was moved is deleted at one place and added at another. Times don't
// count. What lies below a mount with Through set, or is the host's own, isn't
// looked at. A directory of the host that is gone has nothing in it; one that can't be
// read is listed without what is in it, where that counts. Of a file with several names
// those are listed that lie in directories which somebody has looked into.
func (t *Tree) Changes() (Changes, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &comparison{t: t, unread: map[string]*Inode{}}
	err := t.findLinks()
	if err == nil {
		err = c.dir(t.root, t.root.lower)
	}
	if err == nil {
		c.markUnread()
		err = c.err
	}
	if err != nil {
		return nil, fmt.Errorf("cow: list the changes: %w", err)
	}
	slices.SortFunc(c.list, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return c.list, nil
}

// findLinks looks for the other names that files of the host which have changed have, in
// the directories that are known.
func (t *Tree) findLinks() error {
	wanted := map[fileID]bool{}
	var dirs []*Inode
	for id, in := range t.known {
		switch {
		case in.lower == "" || in.through || in.foreign != "":
		case in.isDir():
			dirs = append(dirs, in)
		default:
			var st unix.Stat_t
			wanted[id] = t.lstat(in.lower, &st) == nil && st.Nlink > 1 && idOf(&st) == id
		}
	}
	if !slices.Contains(slices.Collect(maps.Values(wanted)), true) {
		return nil
	}
	for _, dir := range dirs {
		names, err := lowerNames(dir.lower)
		if err != nil && !vanished(err) && !unreadable(err) {
			return err
		}
		for _, n := range names {
			if !wanted[n.id] {
				continue
			}
			_, err := t.child(dir, n.name) // which enters it
			if err != nil && !vanished(err) && !unreadable(err) {
				return err
			}
		}
	}
	return nil
}

// markUnread notes which of the changes aren't known in full. Where a directory has taken
// the place of one that can't be read, that is a change itself.
func (c *comparison) markUnread() {
	listed := map[string]bool{}
	for i := range c.list {
		ch := &c.list[i]
		_, ch.unread = c.unread[ch.Path]
		listed[ch.Path] = true
	}
	for path, in := range c.unread {
		if in != nil && !listed[path] {
			c.add(Modified, path, in)
			c.list[len(c.list)-1].unread = true
		}
	}
}

// dir compares a directory with the host's at its place, empty if there is none.
func (c *comparison) dir(in *Inode, lower string) error {
	if in.through || in.foreign != "" {
		return nil
	}
	names := map[string]bool{}
	for name := range in.entries {
		names[name] = true
	}
	if in.lower != lower {
		for _, dir := range []string{in.lower, lower} {
			list, err := namesIn(dir)
			if unreadable(err) {
				c.unread[in.path()] = in
			} else if err != nil {
				return err
			}
			for _, n := range list {
				names[n] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if err := c.name(in, name, lower); err != nil {
			return fmt.Errorf("%s: %w", joinPath(in.path(), name), err)
		}
	}
	return nil
}

// vanished reports whether an error of the host says that a file isn't there any more.
func vanished(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

// unreadable reports whether it says that this process may not look.
func unreadable(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }

// namesIn lists a directory of the host, if there is one.
func namesIn(dir string) (names []string, err error) {
	if dir == "" {
		return nil, nil
	}
	list, err := lowerNames(dir)
	if vanished(err) {
		return nil, nil
	}
	for _, n := range list {
		names = append(names, n.name)
	}
	return names, err
}

// name compares what a name in a directory means with what it means on the host.
func (c *comparison) name(dir *Inode, name, lower string) error {
	in, err := c.t.child(dir, name)
	switch {
	case unreadable(err):
		c.unread[dir.path()] = dir
		return nil
	case vanished(err):
	case err != nil:
		return err
	}
	path := joinPath(dir.path(), name)
	if in != nil && in.mount {
		return c.mount(in, dir, name)
	}
	if in != nil && in.isDir() && (in.parent != dir || in.name != name) {
		return nil // it is mounted elsewhere, and compared there
	}
	var st unix.Stat_t
	there := ""
	if lower != "" {
		switch err := c.t.lstat(joinPath(lower, name), &st); {
		case err == nil:
			there = joinPath(lower, name)
		case unreadable(err):
			c.unread[dir.path()] = dir
		case !vanished(err):
			return err
		}
	}
	switch {
	case in == nil && there != "":
		return c.deleted(path, there, &st)
	case in == nil:
		return nil
	case there == "":
		c.add(Added, path, in)
		c.list[len(c.list)-1].missed = lower != "" && c.t.replaced[joinPath(lower, name)]
	case in.attr.Type() != st.Mode&unix.S_IFMT:
		c.add(Modified, path, in)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := c.below(path, there); err != nil {
				return err
			}
		}
		there = ""
	default:
		same, err := c.same(in, there, &st)
		if err != nil && !vanished(err) && !unreadable(err) {
			return err
		}
		if !same {
			c.add(Modified, path, in)
			if in.isRegular() {
				c.list[len(c.list)-1].before = there
			}
		}
	}
	if !in.isDir() {
		return nil
	}
	return c.dir(in, there)
}

// mount compares a mount with what it shows; it is no change itself.
func (c *comparison) mount(in, dir *Inode, name string) error {
	if in.parent != dir || in.name != name {
		return nil
	}
	if in.isDir() {
		return c.dir(in, in.lower)
	}
	if in.object == nil || in.isSymlink() || in.isDevice() || in.template != nil {
		return nil
	}
	if in.text != "" {
		old, err := c.t.readAll(in)
		if err != nil || string(old) == in.text {
			return err
		}
		c.add(Modified, c.t.pathOf(in), in)
		return nil
	}
	var st unix.Stat_t
	same := false
	err := c.t.lstat(in.lower, &st)
	if err == nil {
		same, err = c.same(in, in.lower, &st)
	}
	if err != nil && !vanished(err) && !unreadable(err) {
		return err
	}
	if !same {
		c.add(Modified, c.t.pathOf(in), in)
	}
	return nil
}

func (t *Tree) pathOf(in *Inode) string { return joinPath(in.parent.path(), in.name) }

func (c *comparison) add(kind Kind, path string, in *Inode) {
	if err := c.t.settle(in); err != nil && c.err == nil {
		c.err = fmt.Errorf("%s: %w", path, err)
	}
	c.list = append(c.list, Change{Kind: kind, Path: path, Mode: in.attr.Mode, Size: in.attr.Size, Target: in.target, inode: in})
}

// deleted lists a file of the host that the tree doesn't have any more, with all
// below it.
func (c *comparison) deleted(path, lower string, st *unix.Stat_t) error {
	change := Change{Kind: Deleted, Path: path, Mode: st.Mode, Size: st.Size}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		change.before = lower
	case unix.S_IFLNK:
		target, err := readLink(lower)
		if vanished(err) {
			return nil
		}
		if err != nil {
			return err
		}
		change.Target = target
	case unix.S_IFDIR:
		change.Size = DirSize
		if err := c.below(path, lower); err != nil {
			return err
		}
	}
	c.list = append(c.list, change)
	return nil
}

func (c *comparison) below(path, lower string) error {
	names, err := namesIn(lower)
	if unreadable(err) {
		c.unread[path] = nil
	} else if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		switch err := c.t.lstat(joinPath(lower, name), &st); {
		case vanished(err):
			continue
		case unreadable(err):
			c.unread[path] = nil
			continue
		case err != nil:
			return err
		}
		if err := c.deleted(joinPath(path, name), joinPath(lower, name), &st); err != nil {
			return err
		}
	}
	return nil
}

// same reports whether a file is what the host has, of the same type.
func (c *comparison) same(in *Inode, lower string, st *unix.Stat_t) (bool, error) {
	a := &in.attr
	if a.Mode != st.Mode || a.UID != st.Uid || a.GID != st.Gid {
		return false, nil
	}
	if a.Nlink > 1 && !c.shows(in, lower, st) { // its other names aren't the host's file's
		return false, nil
	}
	switch a.Type() {
	case unix.S_IFLNK:
		target, err := readLink(lower)
		if err != nil || target != in.target {
			return false, err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if a.Rdev != st.Rdev {
			return false, nil
		}
	case unix.S_IFREG:
		if same, err := c.sameBytes(in, lower, st.Size); err != nil || !same {
			return false, err
		}
	}
	return c.sameXattrs(in, lower)
}

// shows reports whether a file is the host's file, by one of its names, changed or not.
func (c *comparison) shows(in *Inode, lower string, st *unix.Stat_t) bool {
	if in.lower == lower {
		return true
	}
	var own unix.Stat_t
	return in.lower != "" && c.t.lstat(in.lower, &own) == nil && idOf(&own) == idOf(st)
}

func (c *comparison) sameXattrs(in *Inode, lower string) (bool, error) {
	if in.own&ownXattrs == 0 && in.lower == lower {
		return true, nil
	}
	own, err := c.t.xattrsOf(in)
	if err != nil {
		return false, err
	}
	theirs, err := lowerXattrs(lower)
	return maps.Equal(own, theirs), err
}

func (c *comparison) sameBytes(in *Inode, lower string, size int64) (bool, error) {
	if in.object == nil && in.lower == lower {
		return true, nil
	}
	if err := c.t.settle(in); err != nil {
		return false, err
	}
	if in.attr.Size != size {
		return false, nil
	}
	a, err := c.t.openToRead(in)
	if err != nil {
		return false, err
	}
	x := os.NewFile(uintptr(a), in.name)
	defer x.Close()
	b, err := openLower(lower, unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	y := os.NewFile(uintptr(b), lower)
	defer y.Close()
	return equalStreams(x, y)
}

func equalStreams(x, y io.Reader) (bool, error) {
	const chunk = 1 << 16
	p, q := make([]byte, chunk), make([]byte, chunk)
	for {
		n, err1 := io.ReadFull(x, p)
		m, err2 := io.ReadFull(y, q)
		if !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		for _, err := range []error{err1, err2} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, err
			}
		}
		if err1 != nil {
			return true, nil
		}
	}
}

func (t *Tree) readAll(in *Inode) ([]byte, error) {
	fd, err := t.openToRead(in)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), in.name)
	defer f.Close()
	return io.ReadAll(f)
}

// Before opens the regular file that the host has in the place of a modified or
// deleted one; nil if there is none.
func (c *Change) Before() (*os.File, error) {
	if c.before == "" {
		return nil, nil
	}
	fd, err := openLower(c.before, unix.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("cow: open what was at %s: %w", c.Path, err)
	}
	return os.NewFile(uintptr(fd), c.Path), nil
}

// Open opens the bytes of a regular file that was added or modified. They are there
// until the tree's upper directory is removed.
func (c *Change) Open() (*os.File, error) {
	if c.inode == nil || !c.inode.isRegular() {
		return nil, fmt.Errorf("cow: open %s: %w", c.Path, errors.ErrUnsupported)
	}
	t := c.inode.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	fd, err := t.openToRead(c.inode)
	if err != nil {
		return nil, fmt.Errorf("cow: open %s: %w", c.Path, err)
	}
	return os.NewFile(uintptr(fd), c.Path), nil
}

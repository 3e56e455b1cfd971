//go:build linux

package cow

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// stage writes what is new and the journal.
func (c *committing) stage() error {
	if err := os.Mkdir(c.staging, 0o700); err != nil {
		return err
	}
	c.date()
	c.stageOpening()
	// What is removed goes first, the deepest first; then everything comes in the
	// order of paths, a directory before what is in it.
	for _, h := range slices.Backward(c.todo) {
		c.stageRemoval(&h)
	}
	for i := range c.todo {
		h := &c.todo[i]
		if h.Kind == Deleted {
			continue
		}
		if err := c.stageFile(i, h); err != nil {
			return fmt.Errorf("%s: %w", h.host, err)
		}
	}
	if err := c.stageDirs(); err != nil {
		return err
	}
	if err := c.hasRoom(); err != nil {
		return err
	}
	return c.writeJournal()
}

// date finds out when, by the host's clock, what was changed by the tree's has been changed:
// now, one after the other.
func (c *committing) date() {
	last, host := c.t.change(), time.Now().UnixNano()
	if c.t.start > c.t.began-second && last <= host {
		return // the tree's clock was the host's
	}
	var times []unix.Timespec
	for _, h := range c.todo {
		if h.Kind == Deleted {
			continue
		}
		if ns := Nanoseconds(h.inode.attr.Mtime); ns > c.t.start && ns <= last {
			times = append(times, h.inode.attr.Mtime)
		}
	}
	slices.SortFunc(times, func(a, b unix.Timespec) int { return cmp.Or(cmp.Compare(a.Sec, b.Sec), cmp.Compare(a.Nsec, b.Nsec)) })
	times = slices.Compact(times)
	c.now = map[unix.Timespec]unix.Timespec{}
	for i, ts := range times {
		c.now[ts] = unix.NsecToTimespec(host - int64(len(times)-1-i))
	}
}

// stageOpening opens directories that couldn't be entered otherwise: those that are closed
// now, and for who does it once more those that are to be in the end.
func (c *committing) stageOpening() {
	open := maps.Clone(c.opened)
	for _, h := range c.todo {
		if h.Kind != Deleted && h.inode.isDir() && h.Mode&0o700 != 0o700 {
			open[h.host] = h.Mode
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(open)) {
		if mode := open[dir]; mode != 0 {
			c.do(journalStep{Do: "mode", Path: rawName(dir), Mode: mode&0o7777 | 0o700})
		}
	}
}

// stageRemoval removes what is deleted, and what can't be replaced in one step.
func (c *committing) stageRemoval(h *hostChange) {
	if h.was == nil {
		return
	}
	was, is := h.was.Mode&unix.S_IFMT, h.Mode&unix.S_IFMT
	switch {
	case was == unix.S_IFDIR && (h.Kind == Deleted || is != was):
		c.do(journalStep{Do: "rmdir", Path: rawName(h.host)})
	case was != unix.S_IFDIR && (h.Kind == Deleted || is == unix.S_IFDIR || is == unix.S_IFSOCK):
		c.do(journalStep{Do: "remove", Path: rawName(h.host)})
	}
}

// stageDirs gives directories their modes and times last, when nothing is entered any
// more, and the deepest first.
func (c *committing) stageDirs() error {
	last := map[string]journalStep{}
	for dir, mode := range c.opened {
		if mode != 0 && c.at[dir] == nil {
			last[dir] = journalStep{Do: "mode", Path: rawName(dir), Mode: mode & 0o7777}
		}
	}
	for i := range c.todo {
		h := &c.todo[i]
		if h.Kind == Deleted || !h.inode.isDir() {
			continue
		}
		s, err := c.step("attr", h)
		if err != nil {
			return fmt.Errorf("%s: %w", h.host, err)
		}
		last[h.host] = s
	}
	for _, dir := range slices.Backward(slices.Sorted(maps.Keys(last))) {
		c.do(last[dir])
	}
	return nil
}

// hasRoom checks that the file system of the staging directory has an inode for everything
// that the steps make.
func (c *committing) hasRoom() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(c.staging, &fs); err != nil || fs.Files == 0 { // it has no fixed number
		return err
	}
	const more = 4 // the journal, and what replaces something for a moment
	needs := uint64(more)
	for _, s := range c.steps {
		switch s.Do {
		case "mkdir", "symlink", "mknod":
			needs++
		}
	}
	if fs.Ffree < needs {
		return fmt.Errorf("%d inodes are needed and %d are free: %w", needs, fs.Ffree, unix.ENOSPC)
	}
	return nil
}

func (c *committing) do(s journalStep) { c.steps = append(c.steps, s) }

// step returns a step that gives a file all its attributes.
func (c *committing) step(do string, h *hostChange) (s journalStep, err error) {
	in := h.inode
	a := &in.attr
	s = journalStep{Do: do, Path: rawName(h.host), Mode: a.Mode & 0o7777, UID: int(a.UID), GID: int(a.GID), Mtime: jsonTime(a.Mtime), Target: rawName(in.target), Rdev: a.Rdev}
	if h.lower != nil && c.t.attrOf(h.lower).Mtime == a.Mtime { // it was never changed
		s.Mtime = jsonTime(h.lower.Mtim)
	} else if now, ok := c.now[a.Mtime]; ok {
		s.Mtime = jsonTime(now)
	}
	if !in.isDir() && !in.isRegular() || in.own&ownXattrs == 0 && h.sameFile() {
		return s, nil
	}
	all, err := c.t.xattrsOf(in)
	if err != nil {
		return s, err
	}
	s.Xattrs = []journalXattr{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if committedXattr(name) {
			s.Xattrs = append(s.Xattrs, journalXattr{rawName(name), []byte(all[name])})
		}
	}
	if len(s.Xattrs) > 0 {
		err = takesXattrs(h.host)
	}
	return s, err
}

// takesXattrs checks that extended attributes can be set where a file is to be.
func takesXattrs(path string) error {
	for {
		_, err := unix.Lgetxattr(path, "user.sandtest", nil)
		switch {
		case err == unix.EOPNOTSUPP:
			return fmt.Errorf("its file system has no extended attributes: %w", err)
		case !vanished(err) || path == "/":
			return nil
		}
		path = filepath.Dir(path)
	}
}

// stageFile sees to one name of a file, and with the first to the file itself.
func (c *committing) stageFile(i int, h *hostChange) error {
	if h.inode.isDir() {
		if !h.sameType() {
			c.do(journalStep{Do: "mkdir", Path: rawName(h.host)}) // for the rest see stageDirs
		}
		return nil
	}
	if h.inode.attr.Type() == unix.S_IFSOCK {
		return nil // nobody listens at it any more
	}
	at, ok := c.files[h.identity()]
	if !ok {
		var err error
		if at, err = c.stageInode(i, h); err != nil {
			return err
		}
		c.files[h.identity()] = at
	}
	if at == h.host || c.inPlace(h) {
		return nil
	}
	s, err := c.step("link", h)
	s.From = rawName(at)
	c.do(s)
	return err
}

// stageInode sees to a file, and returns where it is then: new at one of its names, or the
// host's file itself.
func (c *committing) stageInode(i int, h *hostChange) (at string, err error) {
	in := h.inode
	staged := filepath.Join(c.staging, strconv.Itoa(i))
	kept, same := c.kept(h, staged+"-link")
	if same {
		return kept, nil
	}
	if kept == "" {
		return h.host, c.stageNew(h, staged)
	}
	s, err := c.step("attr", h)
	if err != nil {
		return "", err
	}
	s.Path = rawName(kept)
	if in.rewritten() {
		s.Do, s.From = "rewrite", rawName(staged)
		if err = c.writeBytes(staged, in); err == nil {
			err = canRewrite(kept)
		}
	}
	c.do(s)
	return kept, err
}

// stageNew makes a new file.
func (c *committing) stageNew(h *hostChange, staged string) error {
	kind := h.inode.attr.Type()
	do, ok := map[uint32]string{unix.S_IFREG: "move", unix.S_IFLNK: "symlink", unix.S_IFIFO: "mknod"}[kind]
	if !ok {
		return fmt.Errorf("a %s can't be committed", ModeString(h.inode.attr.Mode))
	}
	s, err := c.step(do, h)
	if err != nil {
		return err
	}
	s.Mode |= kind
	if kind == unix.S_IFREG {
		s.From = rawName(staged)
		err = c.write(s, h.inode)
	}
	c.do(s)
	return err
}

// kept returns a path of the host's file that a file goes on being, empty if there is to be
// a new one; with same it needn't be changed. That is a file at one of its names or, if
// it has got others, at a link that is made for it.
func (c *committing) kept(h *hostChange, link string) (path string, same bool) {
	in := h.inode
	if path, ok := c.stays[h.identity()]; ok {
		return path, false
	}
	if !c.keepsLinks(h) {
		return "", false
	}
	a, st, lost := &in.attr, h.lower, c.lost[idOf(h.lower)]
	same = !in.rewritten() && in.own&ownXattrs == 0 && a.Mode == st.Mode && a.UID == st.Uid && a.GID == st.Gid
	// One that is changed has to lose a name here, and to have another.
	if !same && (lost == 0 || lost == int(st.Nlink) || in.isSymlink()) {
		return "", false
	}
	if unix.Link(in.lower, link) == nil {
		return link, same
	}
	if same && lost == 0 { // it is on another file system, and has this name in the end as well
		return in.lower, true
	}
	return "", false // it is copied
}

// keepsLinks reports whether the host's file that an inode shows will have the inode's
// names if it is kept, and no others. One that was replaced by its like, which is no
// change, still has that name on the host.
func (c *committing) keepsLinks(h *hostChange) bool {
	return h.lower != nil && int(h.lower.Nlink)-c.lost[idOf(h.lower)]+c.won[h.identity()] == int(h.inode.attr.Nlink)
}

// canRewrite checks that a file can be written to, as one that is executed can't.
func canRewrite(path string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		return unix.Close(fd)
	}
	var st unix.Stat_t
	if err == unix.EACCES && unix.Lstat(path, &st) == nil && int(st.Uid) == unix.Geteuid() {
		return nil // its mode is no hindrance
	}
	return fmt.Errorf("it has several names or is somebody else's, and can't be written to: %w", err)
}

// writeBytes writes what a file holds to a new one.
func (c *committing) writeBytes(path string, in *Inode) error {
	from, err := c.t.openToRead(in)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return copyBytes(to, from)
}

// write writes a file to where it is moved from.
func (c *committing) write(s journalStep, in *Inode) error {
	if err := c.writeBytes(string(s.From), in); err != nil {
		return err
	}
	err := setAttr(string(s.From), s)
	if errors.Is(err, unix.EOPNOTSUPP) { // where it belongs they can be set
		s.Xattrs = nil
		err = setAttr(string(s.From), s)
	}
	return err
}

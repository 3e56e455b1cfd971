//go:build linux

package cow

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrHostChanged is the error of a commit over files that somebody else has changed
// since the tree was made.
var ErrHostChanged = errors.New("the host's file has changed since the sandbox began")

// Commit writes changes to the host's files, all or none of them. home is a directory
// of the host on whose file system the new files are written first, in a
// directory of their own that is gone afterwards. What was made at places that the
// host doesn't have, as in a private /tmp, is left out.
//
// A file that has several names on the host stays one file, whichever of them are known:
// what is new is written into it. Directories of this user's that it may not write to
// are opened meanwhile. Files keep the extended attributes user.*, and as root the others
// that the tree knows; a file that was replaced has lost those otherwise.
//
// What was changed by the tree's clock has been changed now, in the same order: what make(1)
// looks at are times. Those that were set stay.
//
// Errors: [ErrHostChanged], and what the host says. Nothing has changed then, unless
// the error says so. A commit that was killed is finished or forgotten by [Recover], and
// by the next one. Commits with the same home wait for each other.
func (t *Tree) Commit(changes Changes, home string) error {
	return alone(home, func() error {
		finished, err := recoverAt(home)
		if err != nil {
			return err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		err = t.commit(changes, home)
		if finished && errors.Is(err, ErrHostChanged) {
			err = fmt.Errorf("%w; a commit that had been killed was finished before this one, and the command had seen the files from before: run it again", err)
		}
		return err
	})
}

func (t *Tree) commit(changes Changes, home string) error {
	staging := filepath.Join(home, stagingName)
	c := newCommitting(t, staging)
	err := c.check(changes)
	if err == nil && len(c.todo) == 0 {
		return nil
	}
	if err == nil {
		err = c.stage()
	}
	if err != nil {
		_ = os.RemoveAll(staging) // without a journal it means nothing
		return fmt.Errorf("cow: commit: %w", err)
	}
	_, err = recoverAt(home)
	return err
}

func newCommitting(t *Tree, staging string) *committing {
	return &committing{
		t: t, staging: staging, real: map[string]string{}, lost: map[fileID]int{}, won: map[identity]int{}, at: map[string]*hostChange{},
		stays: map[identity]string{}, files: map[identity]string{}, opened: map[string]uint32{},
	}
}

type committing struct {
	t       *Tree
	staging string
	todo    []hostChange
	real    map[string]string      // the paths of mounts without symbolic links
	lost    map[fileID]int         // how many names files of the host lose
	won     map[identity]int       // how many names files get
	at      map[string]*hostChange // those of todo, by the host's path
	stays   map[identity]string    // the path of a file that is changed where it is
	files   map[identity]string    // where a file is found once the steps before are done
	opened  map[string]uint32      // directories that are made writable, with their modes; 0 is one that needn't be
	steps   []journalStep
	now     map[unix.Timespec]unix.Timespec // the host's times for those of the tree's clock
}

type hostChange struct {
	Change
	host string
	was  *unix.Stat_t // what is there
	// lower is what the inode shows, there or elsewhere.
	lower *unix.Stat_t
}

// Below returns those of the changes that a commit would make below a directory of the
// host.
func (t *Tree) Below(changes Changes, dir string) (below Changes) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ch := range changes {
		m, rest, ok := t.mountOf(ch.Path)
		if ok && strings.HasPrefix(filepath.Join(m.Host, rest), strings.TrimSuffix(dir, "/")+"/") {
			below = append(below, ch)
		}
	}
	return below
}

// mountOf returns the mount in which a path of the tree lies and where in there, if that is
// a directory of the host that can be written to.
func (t *Tree) mountOf(path string) (best Mount, rest string, ok bool) {
	for _, m := range t.mounts {
		under := m.At == "/" || path == m.At || strings.HasPrefix(path, m.At+"/")
		if under && (!ok || len(m.At) >= len(best.At)) {
			best, ok = m, true
		}
	}
	if !ok || best.Host == "" || best.Target != "" || best.Text != "" || best.Foreign || best.Through {
		return best, "", false
	}
	return best, strings.TrimPrefix(path, strings.TrimSuffix(best.At, "/")), true
}

// hostPath returns where a path of the tree is on the host, without symbolic links, if it
// is.
func (c *committing) hostPath(path string) (string, bool) {
	m, rest, ok := c.t.mountOf(path)
	if !ok {
		return "", false
	}
	if _, ok := c.real[m.Host]; !ok {
		host, err := filepath.EvalSymlinks(m.Host)
		if err != nil {
			host = m.Host
		}
		c.real[m.Host] = host
	}
	return filepath.Join(c.real[m.Host], rest), true
}

// check finds out where the changes belong, that nobody has been there, and that they can
// be made.
func (c *committing) check(changes Changes) error {
	for _, ch := range changes {
		host, ok := c.hostPath(ch.Path)
		if !ok {
			continue
		}
		h := hostChange{Change: ch, host: host}
		if err := mayBeCommitted(host); err != nil {
			return fmt.Errorf("%s: %w", host, err)
		}
		if err := c.look(&h); err != nil {
			return fmt.Errorf("%s: %w", host, err)
		}
		c.todo = append(c.todo, h)
		if h.sameFile() {
			continue
		}
		if h.was != nil {
			c.lost[idOf(h.was)]++
		}
		c.won[h.identity()]++
	}
	for i := range c.todo {
		h := &c.todo[i]
		c.at[h.host] = h
		inPlace := c.inPlace(h)
		err := h.mayOwn(inPlace)
		if inPlace {
			if _, ok := c.stays[h.identity()]; !ok {
				c.stays[h.identity()] = h.host
			}
		} else if err == nil {
			err = c.open(filepath.Dir(h.host))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", h.host, err)
		}
	}
	return nil
}

// mayBeCommitted refuses the names that commits use, and paths at which they couldn't.
func mayBeCommitted(host string) error {
	for name := range strings.SplitSeq(host, "/") {
		if strings.HasPrefix(name, stagingName) {
			return fmt.Errorf("commits have names that begin with %s for themselves: %w", stagingName, unix.EPERM)
		}
	}
	const longestOwn = len("/" + stagingName + "-copy")
	if len(host) >= unix.PathMax || len(filepath.Dir(host))+longestOwn >= unix.PathMax {
		return unix.ENAMETOOLONG
	}
	return nil
}

// look looks at what the host has where a change belongs, and at what it shows.
func (c *committing) look(h *hostChange) error {
	if h.unread {
		return errUnread
	}
	was, err := c.unchanged(h.host)
	switch {
	case h.Kind == Added && (err == nil || err == ErrHostChanged):
		return fmt.Errorf("%w: it has been created", ErrHostChanged)
	case err == nil:
		h.was = was
	case h.Kind != Added || !vanished(err):
		return err
	case h.missed:
		return fmt.Errorf("%w: it has been removed", ErrHostChanged)
	}
	if h.inode == nil || h.inode.lower == "" {
		return nil
	}
	if h.lower, err = c.unchanged(h.inode.lower); err != nil && h.inode.lower == h.host {
		return err
	} else if err != nil {
		return fmt.Errorf("it shows %s: %w", h.inode.lower, err)
	}
	return nil
}

// unchanged tells of a file of the host, if nobody has changed it since the tree was made.
func (c *committing) unchanged(host string) (*unix.Stat_t, error) {
	st, err := lstatUnlinked(host)
	switch {
	case vanished(err):
		return nil, fmt.Errorf("%w: it has been removed: %w", ErrHostChanged, err)
	case err != nil:
		return nil, err
	case st.Ctim.Nano() > c.t.began:
		return nil, ErrHostChanged
	}
	return &st, nil
}

// lstatUnlinked tells of a file of the host, or of a symbolic link itself. What lies behind
// one that a directory has replaced isn't there.
func lstatUnlinked(path string) (st unix.Stat_t, err error) {
	fd, err := openUnlinked(path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}

// inPlace reports whether a change is made to the file that is there.
func (c *committing) inPlace(h *hostChange) bool {
	switch {
	case h.Kind != Modified || !h.sameType() || h.inode.isSymlink():
		return false
	case h.inode.isDir():
		return true
	}
	return h.sameFile() && (!h.inode.rewritten() || h.was.Nlink > 1 || h.isForeign()) && c.keepsLinks(h)
}

// isForeign reports whether a regular file belongs to somebody else, stays so, and may be
// written to by this process, which can change nothing but its bytes.
func (h *hostChange) isForeign() bool {
	a := &h.inode.attr
	return unix.Geteuid() != 0 && h.inode.isRegular() && int(a.UID) != unix.Geteuid() &&
		h.was != nil && a.UID == h.was.Uid && a.GID == h.was.Gid && a.Mode == h.was.Mode &&
		unix.Faccessat(unix.AT_FDCWD, h.host, unix.W_OK, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW) == nil
}

func (h *hostChange) sameType() bool {
	return h.was != nil && h.Mode&unix.S_IFMT == h.was.Mode&unix.S_IFMT
}

// An identity tells files apart: those of the host by what they are there, as names of one
// that hasn't changed have an inode each.
type identity struct {
	host fileID
	made *Inode
}

func (h *hostChange) identity() identity {
	if h.lower != nil {
		return identity{host: idOf(h.lower)}
	}
	return identity{made: h.inode}
}

// rewritten reports whether the file's bytes are its own. A FIFO has none.
func (in *Inode) rewritten() bool { return in.isRegular() && in.object != nil }

// sameFile reports whether the file is what it shows.
func (h *hostChange) sameFile() bool {
	return h.was != nil && h.lower != nil && idOf(h.lower) == idOf(h.was)
}

// mayOwn checks that this process may give the file its owner and mode, or that it needn't.
func (h *hostChange) mayOwn(inPlace bool) error {
	me := unix.Geteuid()
	if me == 0 || h.Kind == Deleted || int(h.inode.attr.UID) == me || inPlace && h.isForeign() {
		return nil
	}
	return fmt.Errorf("only root can make files of user %d: %w", h.inode.attr.UID, unix.EPERM)
}

// open makes sure that names can be made and removed in a directory of the host, if it
// is there already.
func (c *committing) open(dir string) error {
	if _, known := c.opened[dir]; known {
		return nil
	}
	c.opened[dir] = 0
	st, err := lstatUnlinked(dir)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	}
	if err == nil || vanished(err) {
		return nil
	}
	if err == unix.EACCES && int(st.Uid) == unix.Geteuid() {
		c.opened[dir] = st.Mode
		return nil
	}
	return fmt.Errorf("names in %s can't be changed: %w", dir, err)
}

// Keep writes changes to a directory, which is made if need be and must be empty: a file
// "changes" that lists them as [Changes.String] does, and below "files" what was added or
// modified, at its path in the tree.
func (t *Tree) Keep(changes Changes, dir string) error {
	if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return fmt.Errorf("cow: keep changes: %s isn't empty (it has %s): %w", dir, list[0].Name(), unix.ENOTEMPTY)
	}
	files := filepath.Join(dir, "files")
	if err := os.MkdirAll(files, 0o755); err != nil {
		return fmt.Errorf("cow: keep changes: %w", err)
	}
	err := t.keepAt(changes, dir, files)
	if err != nil { // what is there in part is of no use, and would be in the way of the next try
		for _, name := range []string{"files", "changes", "new"} {
			_ = os.RemoveAll(filepath.Join(dir, name))
		}
	}
	return err
}

func (t *Tree) keepAt(changes Changes, dir, files string) error {
	if err := os.WriteFile(filepath.Join(dir, "changes"), []byte(changes.String()), 0o644); err != nil {
		return fmt.Errorf("cow: keep changes: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := newCommitting(t, files)
	for i, ch := range changes {
		if ch.Kind == Deleted {
			continue
		}
		h := hostChange{Change: ch, host: filepath.Join(files, ch.Path)}
		err := c.keep(i, &h)
		if err == nil && ch.unread {
			err = errUnread
		}
		if err != nil {
			return fmt.Errorf("cow: keep %s: %w", ch.Path, err)
		}
	}
	return nil
}

func (c *committing) keep(i int, h *hostChange) error {
	if err := os.MkdirAll(filepath.Dir(h.host), 0o755); err != nil {
		return err
	}
	s, err := c.step("", h)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	s.UID, s.GID = unix.Geteuid(), unix.Getegid()
	switch h.inode.attr.Type() {
	case unix.S_IFDIR:
		return os.MkdirAll(h.host, 0o755)
	case unix.S_IFLNK:
		s.Do = "symlink"
		return s.run()
	case unix.S_IFREG:
		s.From = rawName(filepath.Join(filepath.Dir(c.staging), "new")) // not a name beside it, which may be as long as can be
		if err := c.write(s, h.inode); err != nil {
			return err
		}
		return os.Rename(string(s.From), h.host)
	}
	return nil
}

//go:build linux

package cow

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHostChanged is the error of a commit over files that somebody else has changed
// since the tree was made.
var ErrHostChanged = errors.New("the host's file has changed since the sandbox began")

// A commit is made in two steps. First everything new is written to a staging
// directory, and what is to be done with it to a journal there; that harms nobody.
// Once the journal is complete it is carried out, each step of which may be done
// twice. Whoever is killed before leaves the host as it was, whoever is killed after
// leaves a journal that Recover carries out.
const (
	stagingName = ".sandtest-commit"
	journalName = "journal"
)

// A journalStep is one thing to do to the host.
type journalStep struct {
	Do     string    `json:"do"` // remove, rmdir, mkdir, symlink, mknod, move, attr
	Path   rawName   `json:"path"`
	From   rawName   `json:"from,omitempty"`
	Target rawName   `json:"target,omitempty"`
	Mode   uint32    `json:"mode,omitempty"`
	UID    int       `json:"uid"`
	GID    int       `json:"gid"`
	Mtime  time.Time `json:"mtime"`
	Rdev   uint64    `json:"rdev,omitempty"`
}

// Commit writes changes to the host's files, all or none of them. home is a directory
// of the host on whose file system the new files are written first, in a
// directory of their own that is gone afterwards. What was made at places that the
// host doesn't have, as in a private /tmp, is left out. Symbolic links get no times,
// and nothing gets extended attributes.
//
// Errors: [ErrHostChanged], and what the host says. Nothing has changed then, unless
// the error says so. A commit that was killed is finished or forgotten by [Recover].
func (t *Tree) Commit(changes Changes, home string) error {
	if err := Recover(home); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	staging := filepath.Join(home, stagingName)
	c := &committing{t: t, staging: staging}
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
	return Recover(home)
}

type committing struct {
	t       *Tree
	staging string
	todo    []hostChange
	steps   []journalStep
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
		if host, ok := t.hostPath(ch.Path); ok && strings.HasPrefix(host, strings.TrimSuffix(dir, "/")+"/") {
			below = append(below, ch)
		}
	}
	return below
}

// hostPath returns where a path of the tree is on the host, if it is.
func (t *Tree) hostPath(path string) (string, bool) {
	best := Mount{}
	found := false
	for _, m := range t.mounts {
		under := m.At == "/" || path == m.At || strings.HasPrefix(path, m.At+"/")
		if under && (!found || len(m.At) >= len(best.At)) {
			best, found = m, true
		}
	}
	if !found || best.Host == "" || best.Target != "" || best.Text != "" || best.Foreign || best.Through {
		return "", false
	}
	return filepath.Join(best.Host, strings.TrimPrefix(path, strings.TrimSuffix(best.At, "/"))), true
}

// check finds out where the changes belong, and that nobody has been there.
func (c *committing) check(changes Changes) error {
	for _, ch := range changes {
		host, ok := c.t.hostPath(ch.Path)
		if !ok {
			continue
		}
		h := hostChange{Change: ch, host: host}
		if err := c.look(&h); err != nil {
			return fmt.Errorf("%s: %w", host, err)
		}
		c.todo = append(c.todo, h)
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
	if h.lower, err = c.unchanged(h.inode.lower); err != nil {
		return fmt.Errorf("it shows %s: %w", h.inode.lower, err)
	}
	return nil
}

// unchanged tells of a file of the host, if nobody has changed it since the tree was made.
func (c *committing) unchanged(host string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	switch err := c.t.lstat(host, &st); {
	case vanished(err):
		return nil, fmt.Errorf("%w: it has been removed: %w", ErrHostChanged, err)
	case err != nil:
		return nil, err
	case st.Ctim.Nano() > c.t.began:
		return nil, ErrHostChanged
	}
	return &st, nil
}

// stage writes what is new and the journal.
func (c *committing) stage() error {
	if err := os.Mkdir(c.staging, 0o700); err != nil {
		return err
	}
	// What is removed goes first, the deepest first; then everything comes in the
	// order of paths, a directory before what is in it.
	for _, h := range slices.Backward(c.todo) {
		isDir := h.was != nil && h.was.Mode&unix.S_IFMT == unix.S_IFDIR
		switch {
		case h.Kind == Deleted && isDir:
			c.do(journalStep{Do: "rmdir", Path: rawName(h.host)})
		case h.Kind == Deleted:
			c.do(journalStep{Do: "remove", Path: rawName(h.host)})
		case h.was != nil && h.Mode&unix.S_IFMT != h.was.Mode&unix.S_IFMT && isDir:
			c.do(journalStep{Do: "rmdir", Path: rawName(h.host)})
		case h.was != nil && h.Mode&unix.S_IFMT != h.was.Mode&unix.S_IFMT:
			c.do(journalStep{Do: "remove", Path: rawName(h.host)})
		}
	}
	links := map[*Inode]string{} // files with several names
	for i, h := range c.todo {
		if h.Kind == Deleted {
			continue
		}
		if err := c.stageFile(i, &h, links); err != nil {
			return fmt.Errorf("%s: %w", h.host, err)
		}
	}
	// A directory's time and mode come last, when nothing is entered any more.
	for _, h := range slices.Backward(c.todo) {
		if h.Kind != Deleted && h.inode.isDir() {
			c.do(c.step("attr", &h))
		}
	}
	return c.writeJournal()
}

func (c *committing) do(s journalStep) { c.steps = append(c.steps, s) }

func (c *committing) step(do string, h *hostChange) journalStep {
	a := &h.inode.attr
	return journalStep{Do: do, Path: rawName(h.host), Mode: a.Mode & 0o7777, UID: int(a.UID), GID: int(a.GID), Mtime: time.Unix(0, a.Mtime).UTC(), Target: rawName(h.inode.target), Rdev: a.Rdev}
}

func (c *committing) stageFile(i int, h *hostChange, links map[*Inode]string) error {
	switch in := h.inode; in.attr.Type() {
	case unix.S_IFDIR:
		c.do(c.step("mkdir", h))
	case unix.S_IFLNK:
		c.do(c.step("symlink", h))
	case unix.S_IFREG:
		if first, ok := links[in]; ok {
			c.do(journalStep{Do: "link", Path: rawName(h.host), From: rawName(first)})
			return nil
		}
		links[in] = h.host
		s := c.step("move", h)
		s.From = rawName(filepath.Join(c.staging, strconv.Itoa(i)))
		c.do(s)
		return c.write(s, in)
	case unix.S_IFIFO:
		s := c.step("mknod", h)
		s.Mode |= in.attr.Type()
		c.do(s)
	case unix.S_IFSOCK:
		// Nobody listens at it any more.
	default:
		return fmt.Errorf("a %s can't be committed", ModeString(in.attr.Mode))
	}
	return nil
}

// write writes a file to where it is moved from.
func (c *committing) write(s journalStep, in *Inode) error {
	from, err := c.t.openToRead(in)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := unix.Open(string(s.From), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	if err := copyBytes(to, from); err != nil {
		return err
	}
	return setAttr(string(s.From), s)
}

func (c *committing) writeJournal() error {
	text, err := json.MarshalIndent(c.steps, "", " ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(c.staging, journalName+".new")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	// Everything has to be on the disk before the journal counts.
	err = errors.Join(err, unix.Syncfs(int(f.Fd())), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(c.staging, journalName))
}

// Recover finishes a commit with the given home that was killed after it had
// begun to change the host, or clears away one that had not.
func Recover(home string) error {
	staging := filepath.Join(home, stagingName)
	text, err := os.ReadFile(filepath.Join(staging, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(staging); err != nil {
			return fmt.Errorf("cow: clear an unfinished commit away: %w", err)
		}
		return nil
	}
	var steps []journalStep
	if err == nil {
		err = json.Unmarshal(text, &steps)
	}
	if err != nil {
		return fmt.Errorf("cow: read the journal of a commit: %w", err)
	}
	for _, s := range steps {
		if err := s.run(); err != nil {
			return fmt.Errorf("cow: commit: the host's files are changed in part; %s says what is missing, and the next commit goes on with it: %s %s: %w",
				filepath.Join(staging, journalName), s.Do, s.Path, err)
		}
	}
	if err := os.RemoveAll(staging); err != nil {
		return fmt.Errorf("cow: clear a finished commit away: %w", err)
	}
	return nil
}

// run does a step, which may have been done before.
func (s *journalStep) run() error {
	unless := func(err error, done ...unix.Errno) error {
		for _, d := range done {
			if err == d {
				return nil
			}
		}
		return err
	}
	path, from := string(s.Path), string(s.From)
	switch s.Do {
	case "remove":
		return unless(unix.Unlink(path), unix.ENOENT, unix.EISDIR)
	case "rmdir":
		return unless(unix.Rmdir(path), unix.ENOENT, unix.ENOTDIR)
	case "mkdir":
		return unless(unix.Mkdir(path, 0o700), unix.EEXIST)
	case "symlink":
		if err := unless(unix.Unlink(path), unix.ENOENT); err != nil {
			return err
		}
		if err := unix.Symlink(string(s.Target), path); err != nil {
			return err
		}
		return unless(unix.Lchown(path, s.UID, s.GID))
	case "mknod":
		if err := unless(unix.Mknod(path, s.Mode, int(s.Rdev)), unix.EEXIST); err != nil {
			return err
		}
		return setAttr(path, *s)
	case "link":
		if err := unless(unix.Unlink(path), unix.ENOENT); err != nil {
			return err
		}
		return unix.Link(from, path)
	case "move":
		err := unix.Rename(from, path)
		if err == unix.EXDEV {
			return s.copyOver()
		}
		return unless(err, unix.ENOENT)
	case "attr":
		return setAttr(path, *s)
	}
	return fmt.Errorf("unknown step %q", s.Do)
}

// copyOver moves a file to another file system.
func (s *journalStep) copyOver() (err error) {
	from, err := os.Open(string(s.From))
	if err != nil {
		return err
	}
	defer from.Close()
	path := string(s.Path)
	tmp := filepath.Join(filepath.Dir(path), stagingName+"-"+filepath.Base(string(s.From)))
	to, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Sync(), to.Close()); err == nil {
		if err = setAttr(tmp, *s); err == nil {
			err = os.Rename(tmp, path)
		}
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}

// setAttr sets owner, mode and time.
func setAttr(path string, s journalStep) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if int(st.Uid) != s.UID || int(st.Gid) != s.GID {
		if err := unix.Lchown(path, s.UID, s.GID); err != nil {
			return err
		}
	}
	if err := unix.Chmod(path, s.Mode&0o7777); err != nil {
		return err
	}
	ns := s.Mtime.UnixNano()
	return setTimes(path, ns, ns)
}

// Keep writes changes to a directory, which is made if need be: a file "changes"
// that lists them as [Changes.String] does, and below "files" what was added or
// modified, at its path in the tree.
func (t *Tree) Keep(changes Changes, dir string) error {
	files := filepath.Join(dir, "files")
	if err := os.MkdirAll(files, 0o755); err != nil {
		return fmt.Errorf("cow: keep changes: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "changes"), []byte(changes.String()), 0o644); err != nil {
		return fmt.Errorf("cow: keep changes: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &committing{t: t, staging: files}
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
	s := c.step("", h)
	s.UID, s.GID = unix.Geteuid(), unix.Getegid()
	switch h.inode.attr.Type() {
	case unix.S_IFDIR:
		return os.MkdirAll(h.host, 0o755)
	case unix.S_IFLNK:
		s.Do = "symlink"
		return s.run()
	case unix.S_IFREG:
		s.From = rawName(h.host + stagingName)
		if err := c.write(s, h.inode); err != nil {
			return err
		}
		return os.Rename(string(s.From), h.host)
	}
	return nil
}

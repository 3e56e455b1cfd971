//go:build linux

package cow

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A snapshot is a directory with a list of what a tree holds that the host doesn't, and
// the bytes of its files.
type snapshot struct {
	Version int            `json:"version"`
	Files   []snapshotFile `json:"files"` // sorted by path
}

// snapshotVersion is that of the format.
const snapshotVersion = 1

const (
	snapshotList  = "snapshot.json"
	snapshotBytes = "bytes"
)

type snapshotFile struct {
	Kind   string            `json:"kind"` // A, M or D, as in Changes
	Path   rawName           `json:"path"`
	Mode   uint32            `json:"mode,omitempty"`
	UID    uint32            `json:"uid,omitempty"`
	GID    uint32            `json:"gid,omitempty"`
	Rdev   uint64            `json:"rdev,omitempty"`
	Target rawName           `json:"target,omitempty"`
	Times  [4]jsonTime       `json:"times"` // access, modification, change, birth
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
	Bytes  int               `json:"bytes,omitempty"` // the number of the file that holds them, from 1
	Link   int               `json:"link,omitempty"`  // the number of the entry that it is another name of, from 1
}

// A rawName is a string in JSON, or where it isn't UTF-8 an object with its bytes.
type rawName string

func (n rawName) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(n)) {
		return json.Marshal(string(n))
	}
	return json.Marshal(map[string][]byte{"bytes": []byte(n)})
}

func (n *rawName) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*n = rawName(s)
		return nil
	}
	var raw struct{ Bytes []byte }
	err := json.Unmarshal(b, &raw)
	*n = rawName(raw.Bytes)
	return err
}

// Snapshot writes what the tree holds that the host doesn't to a directory, which must
// be empty or not exist. The times of the host's directories in which nothing but names has
// changed aren't in it. Nobody may change the tree meanwhile.
func (t *Tree) Snapshot(dir string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cow: write a snapshot: %w", err)
		}
	}()
	changes, err := t.Changes()
	if err != nil {
		return err
	}
	if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return fmt.Errorf("%s isn't empty", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, snapshotBytes), 0o755); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := snapshot{Version: snapshotVersion}
	names := map[*Inode]int{}
	for i := range changes {
		f, err := t.snapshotOf(&changes[i], dir, len(s.Files)+1)
		if err != nil {
			return fmt.Errorf("%s: %w", changes[i].Path, err)
		}
		if in := changes[i].inode; in != nil && !in.isDir() {
			if f.Link = names[in]; f.Link == 0 {
				names[in] = len(s.Files) + 1
			}
		}
		s.Files = append(s.Files, f)
	}
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, snapshotList), append(text, '\n'), 0o644)
}

func (t *Tree) snapshotOf(c *Change, dir string, number int) (f snapshotFile, err error) {
	f = snapshotFile{Kind: string(rune(c.Kind)), Path: rawName(c.Path), Mode: c.Mode}
	in := c.inode
	if c.unread {
		return f, errUnread
	}
	if c.Kind == Deleted {
		return f, nil
	}
	a := &in.attr
	f.UID, f.GID, f.Rdev, f.Target, f.Times = a.UID, a.GID, a.Rdev, rawName(in.target), [4]jsonTime{jsonTime(a.Atime), jsonTime(a.Mtime), jsonTime(a.Ctime), jsonTime(a.Btime)}
	xattrs, err := t.xattrsOf(in)
	if err != nil {
		return f, err
	}
	for name, value := range xattrs {
		if f.Xattrs == nil {
			f.Xattrs = map[string][]byte{}
		}
		f.Xattrs[name] = []byte(value)
	}
	if !in.isRegular() {
		return f, nil
	}
	from, err := t.openToRead(in)
	if err != nil {
		return f, err
	}
	defer unix.Close(from)
	f.Bytes = number
	to, err := os.OpenFile(filepath.Join(dir, snapshotBytes, strconv.Itoa(number)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return f, err
	}
	return f, errors.Join(copyBytes(int(to.Fd()), from), to.Close())
}

// Restore puts what a snapshot holds into a tree that nobody has used yet. What the host
// has is as it is now.
func (t *Tree) Restore(dir string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cow: start from the snapshot %s: %w", dir, err)
		}
	}()
	text, err := os.ReadFile(filepath.Join(dir, snapshotList))
	if err != nil {
		return err
	}
	var s snapshot
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if s.Version != snapshotVersion {
		return fmt.Errorf("it has the format %d: want %d", s.Version, snapshotVersion)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	defer func(change func() int64) { t.change = change }(t.change)
	t.change = func() int64 { return t.start }
	defer func() { t.lists = nil }() // nobody has created anything yet
	return t.unlimited(func() error { return t.restoreAll(&s, dir) })
}

// restoreAll makes all files of a snapshot.
func (t *Tree) restoreAll(s *snapshot, dir string) (err error) {
	inodes := make([]*Inode, len(s.Files))
	for i := range s.Files {
		if inodes[i], err = t.restore(&s.Files[i], inodes, dir); err != nil {
			return fmt.Errorf("%s: %w", s.Files[i].Path, err)
		}
	}
	for i, in := range inodes { // at last: making names changes the times of directories
		if in == nil {
			continue
		}
		in.describe(&s.Files[i])
		if err := t.hold(in); err != nil {
			return fmt.Errorf("%s: %w", s.Files[i].Path, err)
		}
	}
	return nil
}

// restore makes one file. It returns nil for one that is to be gone.
func (t *Tree) restore(f *snapshotFile, before []*Inode, dir string) (*Inode, error) {
	e, err := t.walkEntry(&Walk{Cred: superuser}, string(f.Path))
	if f.Kind == string(rune(Deleted)) {
		if err == unix.ENOENT || err == unix.ENOTDIR || err == nil && e.inode == nil {
			return nil, nil // with its directory, or on the host as well
		}
		if err == nil {
			err = t.whiteOut(e.dir, e.name)
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	kind := f.Mode & unix.S_IFMT
	if e.inode != nil && (e.inode.attr.Type() != kind || f.Link > 0 || e.inode.isSymlink()) {
		if err := t.whiteOut(e.dir, e.name); err != nil {
			return nil, err
		}
		e.inode = nil
	}
	in := e.inode
	switch {
	case f.Link > len(before) || f.Link > 0 && before[f.Link-1] == nil:
		return nil, errors.New("it is a link to what isn't there")
	case f.Link > 0:
		in = before[f.Link-1]
		if err := t.anotherName(in); err != nil {
			return nil, err
		}
		in.attr.Nlink++
		t.enter(e, in)
		return in, nil
	case in == nil:
		if in, err = t.createAt(e, &Cred{UID: f.UID, GID: f.GID}, f.Mode, t.filler(f)); err != nil {
			return nil, err
		}
	default:
		if err := t.keep(e.dir, e.name, in); err != nil {
			return nil, err
		}
		if kind == unix.S_IFREG {
			if err := t.copyUp(in, true); err != nil {
				return nil, err
			}
		}
	}
	if kind != unix.S_IFREG {
		return in, nil
	}
	return in, t.fill(in, filepath.Join(dir, snapshotBytes, strconv.Itoa(f.Bytes)))
}

// filler returns what gives a new file of its kind its contents.
func (t *Tree) filler(f *snapshotFile) func(*Inode) error {
	switch f.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFIFO:
		return t.newObject
	case unix.S_IFLNK:
		return func(in *Inode) error {
			in.target, in.attr.Size = string(f.Target), int64(len(f.Target))
			return t.hold(in)
		}
	}
	return func(in *Inode) error {
		in.attr.Rdev = f.Rdev
		return nil
	}
}

// fill gives a file the bytes of another.
func (t *Tree) fill(in *Inode, file string) error {
	from, err := os.Open(file)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(in.object.path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := copyBytes(int(to.Fd()), int(from.Fd())); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(to.Fd()), &st); err != nil {
		return err
	}
	t.note(in.object, &st)
	in.attr.Size = st.Size
	return nil
}

// describe gives a file what else a snapshot holds.
func (in *Inode) describe(f *snapshotFile) {
	a := &in.attr
	a.Mode, a.UID, a.GID = f.Mode, f.UID, f.GID
	for i, to := range []*unix.Timespec{&a.Atime, &a.Mtime, &a.Ctime, &a.Btime} {
		*to = unix.Timespec(f.Times[i])
	}
	in.own |= ownAttr | ownXattrs
	in.xattrs = map[string]string{}
	for name, value := range f.Xattrs {
		in.xattrs[name] = string(value)
	}
}

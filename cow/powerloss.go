//go:build linux

package cow

import (
	"bytes"
	"cmp"
	"io"
	"math/rand/v2"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A journal remembers what a loss of power may undo: the names that were made and
// removed since something was last synced, and what files held when they were.
//
// It is a file system that keeps the order of changes to names, as most do: after a loss of
// power there are the first so many of them, and all that came before a sync. What files
// hold is independent of that: of each page written since the file was last synced the
// old bytes may be there or the new, and of its size as well.
type journal struct {
	op     int // the number of the operation under way
	undo   []undoStep
	synced map[*Inode]string // a copy of what a file held when it was last synced
	always map[*Inode]bool   // that are opened so that each write is synced
}

// An undoStep takes back a part of an operation.
type undoStep struct {
	op int
	do func()
}

// KeepJournal prepares for [Tree.LosePower]. Removed files keep their bytes from now on.
func (t *Tree) KeepJournal() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.journal = &journal{synced: map[*Inode]string{}, always: map[*Inode]bool{}}
}

// begins notes that an operation begins, all of which is undone or nothing.
func (t *Tree) begins() {
	if t.journal != nil {
		t.journal.op++
	}
}

// undoes notes how a step of the operation is taken back.
func (t *Tree) undoes(do func()) {
	if j := t.journal; j != nil {
		j.undo = append(j.undo, undoStep{j.op, do})
	}
}

// undoesName notes what a name means before it is changed.
func (t *Tree) undoesName(dir *Inode, name string) {
	if t.journal == nil {
		return
	}
	before, known := dir.entries[name]
	t.undoes(func() {
		if known {
			dir.entries[name] = before
		} else {
			delete(dir.entries, name)
		}
	})
}

// undoesPlace notes where an inode is before that changes, and how many names it has.
func (t *Tree) undoesPlace(in *Inode) {
	if t.journal == nil {
		return
	}
	parent, name, links := in.parent, in.name, in.attr.Nlink
	t.undoes(func() { in.parent, in.name, in.attr.Nlink = parent, name, links })
}

// Sync makes what was done to names durable, and what the file holds (fsync(2)).
func (t *Tree) Sync(f *File) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.journal == nil {
		return nil
	}
	t.journal.undo = nil
	return t.sync(f.e.inode)
}

// SyncAll makes everything durable (sync(2)).
func (t *Tree) SyncAll() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.journal == nil {
		return nil
	}
	t.journal.undo = nil
	for _, in := range t.written() {
		if err := t.sync(in); err != nil {
			return err
		}
	}
	return nil
}

// written returns the regular files of the layer, in the order of their numbers.
func (t *Tree) written() (list []*Inode) {
	for _, in := range t.known {
		if in.isRegular() && in.object != nil {
			list = append(list, in)
		}
	}
	slices.SortFunc(list, func(a, b *Inode) int { return cmp.Compare(a.attr.Ino, b.attr.Ino) })
	return slices.Compact(list)
}

func (t *Tree) sync(in *Inode) error {
	if !in.isRegular() || in.object == nil {
		return nil
	}
	from, err := unix.Open(in.object.path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	path, ok := t.journal.synced[in]
	if !ok {
		if path, err = t.objectPath(); err != nil {
			return err
		}
	}
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	t.journal.synced[in] = path
	return copyBytes(int(to.Fd()), from)
}

// LosePower leaves the tree as it may be after a loss of power; r draws. Nobody may use it
// meanwhile, and it keeps no journal any more.
func (t *Tree) LosePower(r *rand.Rand) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	j := t.journal
	if j == nil {
		return nil
	}
	t.journal = nil
	if err := t.dropMirror(); err != nil {
		return err
	}
	var ops []int
	for _, step := range j.undo {
		if len(ops) == 0 || ops[len(ops)-1] != step.op {
			ops = append(ops, step.op)
		}
	}
	files := t.written()
	kept := r.IntN(len(ops) + 1)
	for _, step := range slices.Backward(j.undo) {
		if kept < len(ops) && step.op >= ops[kept] {
			step.do()
		}
	}
	for _, in := range files {
		if j.always[in] {
			continue
		}
		if err := in.mix(j.synced[in], r); err != nil {
			return err
		}
	}
	return nil
}

// page is what is written at once or not at all.
const page = 4096

// mix leaves of a file's pages the old ones or the new.
func (in *Inode) mix(synced string, r *rand.Rand) error {
	now, err := os.OpenFile(in.object.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer now.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(now.Fd()), &st); err != nil {
		return err
	}
	old, size, err := in.oldBytes(synced)
	if err != nil {
		return err
	}
	if old != nil {
		defer old.Close()
	}
	if size != st.Size && r.IntN(2) == 0 {
		size = st.Size
	}
	before, after := make([]byte, page), make([]byte, page)
	for at := int64(0); at < max(size, st.Size); at += page {
		if err := cmp.Or(readPage(old, before, at), readPage(now, after, at)); err != nil {
			return err
		}
		if bytes.Equal(before, after) || r.IntN(2) == 0 {
			continue
		}
		if _, err := now.WriteAt(before, at); err != nil {
			return err
		}
	}
	if err := now.Truncate(size); err != nil {
		return err
	}
	if err := unix.Fstat(int(now.Fd()), &st); err != nil {
		return err
	}
	in.tree.note(in.object, &st)
	in.attr.Size = size
	return nil
}

// readPage reads a page of a file, with zeros beyond its end. Without a file there is
// nothing else.
func readPage(f *os.File, b []byte, at int64) error {
	clear(b)
	if f == nil {
		return nil
	}
	if _, err := f.ReadAt(b, at); err != io.EOF {
		return err
	}
	return nil
}

// oldBytes opens what a file held when it was last synced: for one of the host's that
// never was that is what the host has, for a new one nothing.
func (in *Inode) oldBytes(synced string) (f *os.File, size int64, err error) {
	switch {
	case synced != "":
		f, err = os.Open(synced)
	case in.lower != "":
		var fd int
		if fd, err = openLower(in.lower, unix.O_RDONLY); err == nil {
			f = os.NewFile(uintptr(fd), in.lower)
		}
	default:
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

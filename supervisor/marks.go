//go:build linux

package supervisor

import (
	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor/internal/dcache"
	"golang.org/x/sys/unix"
)

// Paths often begin at an open directory, and programs that list directories ask about those
// themselves. Of an open file there is nothing but its position that a process is told for
// little, and that tells no more of the host: so a directory that the supervisor opens for a
// program that is told about files stands at a position that says which it is, its mark, and
// how far it has been listed (internal/dcache, dirorder.go). The mark comes of the directory's
// inode number, and so of its path.

// A markedDir is whose a mark is.
type markedDir struct {
	dir   *cow.Inode
	names int // in each of its listings, 0 before the first; -1 if they differ
}

// mark sets the position at which a directory stands that a program is about to get, so that
// it is known by that.
func (d *dcaching) mark(fd int, dir *cow.Inode) {
	mark, ok := d.markFor(dir)
	if !ok {
		return
	}
	// What can't be positioned, opened with O_PATH or in another way, is asked about.
	if _, err := unix.Seek(fd, positionOf(mark, 0), unix.SEEK_SET); err == nil {
		d.tellMark(mark, dir)
	}
}

// markFor returns the mark of a directory, which its inode number says; false if another one
// has it.
func (d *dcaching) markFor(dir *cow.Inode) (mark int64, ok bool) {
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: similar numbers get far apart
	mark = int64(dir.Number()*golden>>(64-dcache.MarkBits) | 1<<(dcache.MarkBits-1))
	d.marking.Lock()
	defer d.marking.Unlock()
	if known := d.marks[mark]; known != nil {
		return mark, known.dir == dir
	}
	if d.marks == nil {
		d.marks = map[int64]*markedDir{}
	}
	d.marks[mark] = &markedDir{dir: dir}
	return mark, true
}

// listed notes how many names a directory has whose listing begins. Where the mark stands so
// far behind there are no more, unless some listing has another length.
func (d *dcaching) listed(mark int64, names int) {
	if d == nil || mark == 0 {
		return
	}
	d.marking.Lock()
	m := d.marks[mark]
	same := m == nil || m.names == names
	d.marking.Unlock()
	if same {
		return
	}
	d.s.view.tree.ToldAs(m.dir, func(number uint32) {
		d.marking.Lock()
		defer d.marking.Unlock()
		switch m.names {
		case names:
		case 0:
			m.names = names
			d.table.Mark(uint32(mark), number)
			d.table.Listed(uint32(mark), uint32(names))
		default:
			m.names = -1
			d.table.Listed(uint32(mark), 0)
		}
	})
}

// opening returns by which path of the host a directory may be opened, of that which the tree
// says, and the mark that it stands at then.
func (d *dcaching) opening(dir *cow.Inode, host string) (path string, mark uint32) {
	if m, ok := d.markFor(dir); ok {
		return host, uint32(m)
	}
	return "", 0
}

// markOf takes a directory's position apart: its mark, 0 if it has none, and where in it that
// is.
func markOf(position int64) (mark, at int64) {
	if mark := position >> dcache.PositionBits; mark>>(dcache.MarkBits-1) == 1 {
		return mark, position & (1<<dcache.PositionBits - 1)
	}
	return 0, position
}

// positionOf puts a position together. So far behind in a directory there are no marks.
func positionOf(mark, at int64) int64 {
	if at >= 1<<dcache.PositionBits {
		return at
	}
	return mark<<dcache.PositionBits | at
}

// tellBase lets programs know which directory a path begins at that begins at a descriptor.
func (d *dcaching) tellBase(dir *cow.Inode) {
	if mark, ok := d.markFor(dir); ok {
		d.tellMark(mark, dir)
	}
}

func (d *dcaching) tellMark(mark int64, dir *cow.Inode) {
	d.s.view.tree.ToldAs(dir, func(number uint32) { d.table.Mark(uint32(mark), number) })
}

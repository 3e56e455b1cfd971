//go:build linux

package cow

import (
	"golang.org/x/sys/unix"
)

// Before a file is created the host is asked whether it has the name. Who creates some files
// in a directory creates many, so after some its names are listed once. From then on what the
// host puts there isn't seen until the tree is used by somebody else ([Tree.Resume]); what it
// takes away is.

// lowerLists are by the directory.
type lowerLists map[*Inode]*lowerList

type lowerList struct {
	created int                 // files, in the directory
	names   map[string]struct{} // that the host has there; nil if that isn't known
}

const (
	listedAfter = 16   // files were created
	mostListed  = 4096 // names
)

// creates notes that a file is created in a directory.
func (t *Tree) creates(dir *Inode) {
	if dir.lower == "" {
		return
	}
	l := t.lists[dir]
	if l == nil {
		if t.lists == nil {
			t.lists = lowerLists{}
		}
		l = &lowerList{}
		t.lists[dir] = l
	}
	if l.created++; l.created != listedAfter {
		return
	}
	fd, err := openLower(dir.lower, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return // then the host is asked as before
	}
	defer unix.Close(fd)
	if names, err := namesOf(fd, mostListed); err == nil && len(names) <= mostListed {
		l.names = make(map[string]struct{}, len(names))
		for _, n := range names {
			l.names[n.name] = struct{}{}
		}
	}
}

// lacks reports whether the host is known not to have a name in a directory.
func (t *Tree) lacks(dir *Inode, name string) bool {
	if len(t.lists) == 0 {
		return false
	}
	l := t.lists[dir]
	if l == nil || l.names == nil {
		return false
	}
	_, has := l.names[name]
	return !has
}

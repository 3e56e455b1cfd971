//go:build linux

package cow

import (
	"golang.org/x/sys/unix"
)

// Before a file is created the host is asked whether it has the name. Who creates some files
// in a directory creates many, so after some its names are listed once, and from then on the
// host isn't asked by who creates a file and doesn't care for what is there (O_EXCL, O_TRUNC).
// What the host has put there since is hidden by that, and told by [Tree.Commit]. Everybody
// else asks.

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

// lacks reports whether a name in a directory is known to mean nothing, without asking the host.
func (t *Tree) lacks(dir *Inode, name string) bool {
	if _, known := dir.entries[name]; known || dir.template != nil || len(t.lists) == 0 {
		return false
	}
	l := t.lists[dir]
	if l == nil || l.names == nil {
		return false
	}
	_, has := l.names[name]
	return !has
}

//go:build linux

package cow

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Dirent is one entry of a directory.
type Dirent struct {
	Name string
	Ino  uint64
	Type uint32 // one of the S_IF constants
}

// ReadDir returns what a directory holds, "." and ".." first and the rest in the
// order of the bytes of their names (getdents(2)).
func (f *File) ReadDir() ([]Dirent, error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	dir := f.e.inode
	if !dir.isDir() {
		return nil, unix.ENOTDIR
	}
	if dir.gone() {
		return nil, unix.ENOENT
	}
	return f.t.list(dir)
}

// list returns "." and "..", and the names in a directory in their order.
func (t *Tree) list(dir *Inode) ([]Dirent, error) {
	var names []lowerName
	if dir.lower != "" {
		var err error
		if names, err = lowerNames(dir.lower); err != nil {
			return nil, err
		}
		// A file with several names has its number by the first.
		slices.SortFunc(names, func(a, b lowerName) int { return strings.Compare(a.name, b.name) })
	}
	if d := t.telling.dirs[dir]; d != nil {
		d.listed = true
	}
	list := make([]Dirent, 0, 2+len(names)+len(dir.entries))
	list = append(list, Dirent{".", dir.attr.Ino, unix.S_IFDIR}, Dirent{"..", dir.parent.attr.Ino, unix.S_IFDIR})
	sights := make([]sight, 0, len(names))
	for _, n := range names {
		if _, ok := dir.entries[n.name]; ok {
			continue
		}
		s := t.saw(n.id, dir, n.name)
		if s == nil {
			sights = append(sights, sight{number: dir.origin.add(n.name).number(), dir: dir, name: n.name})
			s = &sights[len(sights)-1]
			t.seen.set(n.id, s)
		}
		list = append(list, Dirent{n.name, s.number, n.mode})
	}
	if dir.template != nil {
		for name, d := range dir.template.Entries {
			if _, ok := dir.entries[name]; !ok {
				list = append(list, Dirent{name, dir.origin.add(name).number(), d.mode() & unix.S_IFMT})
			}
		}
	}
	for name, in := range dir.entries {
		if in != nil && in.present() {
			list = append(list, Dirent{name, in.attr.Ino, in.attr.Type()})
		}
	}
	slices.SortFunc(list[2:], func(a, b Dirent) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// A lowerName is an entry of a directory of the host.
type lowerName struct {
	name string
	id   fileID
	mode uint32 // its type, 0 where the file system doesn't tell
}

// lowerNames lists a directory of the host.
func lowerNames(path string) ([]lowerName, error) {
	fd, err := openLower(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return namesOf(fd, math.MaxInt)
}

// namesOf lists a directory of the host that is open, until it has more than so many names.
func namesOf(fd, most int) (names []lowerName, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	room := direntRooms.Get().(*[direntRoom]byte)
	defer direntRooms.Put(room)
	buf := room[:]
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return nil, err
		}
		if n == 0 || len(names) > most {
			return names, nil
		}
		names = appendNames(names, st.Dev, buf[:n])
	}
}

// direntRooms are for what the kernel tells of directories.
var direntRooms = sync.Pool{New: func() any { return new([direntRoom]byte) }}

const (
	direntRoom  = 1 << 15
	usualDirent = 32
)

// appendNames parses struct linux_dirent64 (getdents(2)).
func appendNames(names []lowerName, dev uint64, b []byte) []lowerName {
	const reclen, typ, name = 16, 18, 19
	all := string(b) // the names stay in it
	names = slices.Grow(names, len(b)/usualDirent)
	for at := 0; len(b) > name; {
		size := int(binary.NativeEndian.Uint16(b[reclen:]))
		text, _, _ := strings.Cut(all[at+name:at+size], "\x00")
		at += size
		if text != "." && text != ".." {
			names = append(names, lowerName{text, fileID{dev, binary.NativeEndian.Uint64(b)}, uint32(b[typ]) << 12})
		}
		b = b[size:]
	}
	return names
}

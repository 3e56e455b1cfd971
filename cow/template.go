//go:build linux

package cow

import (
	"strings"

	"golang.org/x/sys/unix"
)

// A Template is a file, a symbolic link, or a directory with all that is in it, that the
// host hasn't. Many trees may show one; it costs them nothing but what they look at. Nobody
// can change what is in it, and who opens one of its files gets an error of type
// [*Special], by whose Path it is to be answered.
type Template struct {
	Entries map[string]*Template // of a directory
	Target  string               // of a symbolic link
	Mode    uint32               // of a file, without its type; 0 means 0444
}

// Dir returns the directory at a path below one. What is missing on the way is made.
func (d *Template) Dir(path string) *Template {
	for name := range strings.SplitSeq(path, "/") {
		if d.Entries[name] == nil {
			d.Entries[name] = Directory()
		}
		d = d.Entries[name]
	}
	return d
}

// Directory returns a template of an empty directory.
func Directory() *Template { return &Template{Entries: map[string]*Template{}} }

func (d *Template) mode() uint32 {
	switch {
	case d.Entries != nil:
		return unix.S_IFDIR | 0o555
	case d.Target != "":
		return unix.S_IFLNK | 0o777
	case d.Mode != 0:
		return unix.S_IFREG | d.Mode
	}
	return unix.S_IFREG | 0o444
}

// templated makes the inode of a template. Where it is, it can't be taken away from.
func (t *Tree) templated(d *Template, dir *Inode, name string) *Inode {
	in := &Inode{tree: t, own: ownAttr | ownXattrs, template: d, target: d.Target, parent: dir, name: name, mount: true, readOnly: true}
	in.attr = Attr{Mode: d.mode(), Nlink: 1, Size: int64(len(d.Target))}
	if dir != nil {
		in.attr.Ino = dir.origin.add(name).number()
	}
	if in.isDir() {
		in.attr.Size, in.attr.Nlink, in.entries = 0, DirLinks, map[string]*Inode{}
		if dir != nil {
			in.origin = dir.origin.add(name).add("/")
		}
	}
	in.old(t.start)
	return in
}

// Within returns the inode of a template that is mounted in what isn't the tree's.
func (t *Tree) Within(at string) *Inode { return t.within[at] }

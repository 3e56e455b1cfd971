//go:build linux

package cow

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// A directory of devices ([Config.Devices]) shows nothing of what the host has in it, but
// the devices that are put there, which come and go while the tree is in use. They are no
// changes, and what is opened of them isn't the tree's business.

// A Device is what is put into a directory of devices.
type Device struct {
	Name           string
	Mode, UID, GID uint32 // the mode without its type
	Rdev           uint64
	// Gone reports whether the device is no more. It is called with the tree locked, and
	// not again after it has returned true.
	Gone func() bool
}

// makeDeviceDirs makes the host's directories those of devices, before anything is mounted.
func (t *Tree) makeDeviceDirs(host *Inode, paths []string) error {
	for _, path := range paths {
		e, err := t.walk(&Walk{Base: host, Root: host, Cred: superuser, sees: true}, path)
		switch {
		case err != nil && err != unix.ENOENT:
		case e.inode == nil: // it is nowhere to be seen, and works
			e.inode = t.newInode(host, strings.TrimPrefix(path, "/"), unix.S_IFDIR, superuser)
			e.inode.parent, e.inode.name, err = host, strings.TrimPrefix(path, "/"), nil
		case !e.inode.isDir():
			err = unix.ENOTDIR
		}
		if err != nil {
			return fmt.Errorf("directory of devices %q: %w", path, err)
		}
		e.inode.lower, e.inode.mount, e.inode.devices = "", true, true
		e.inode.attr.Mode = unix.S_IFDIR | 0o755
		e.inode.old(t.start)
		t.devices[path] = e.inode
	}
	return nil
}

// Put enters a device into a directory of devices, in the place of what there may be of
// that name.
func (t *Tree) Put(dir string, d Device) (*File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.devices[dir]
	if at == nil {
		return nil, unix.ENOENT
	}
	in := &Inode{tree: t, own: ownAttr | ownXattrs, parent: at, name: d.Name, mount: true, isGone: d.Gone}
	in.attr = Attr{Ino: at.origin.add(d.Name).number(), Mode: unix.S_IFCHR | d.Mode&0o7777, UID: d.UID, GID: d.GID, Nlink: 1, Rdev: d.Rdev}
	in.old(t.start)
	at.entries[d.Name] = in
	return &File{t, entry{dir: at, name: d.Name, inode: in}}, nil
}

// isDevice reports whether an inode was put into a directory of devices.
func (in *Inode) isDevice() bool { return in.mount && in.parent != nil && in.parent.devices }

// Take removes a device that was put into a directory of devices.
func (t *Tree) Take(f *File) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.e.inode.take()
}

func (in *Inode) take() {
	if in.parent.entries[in.name] == in {
		delete(in.parent.entries, in.name)
	}
	in.isGone, in.attr.Nlink = nil, 0
}

// present reports whether an inode is still there, and takes a device that isn't.
func (in *Inode) present() bool {
	if in.isGone == nil || !in.isGone() {
		return true
	}
	in.take()
	return false
}

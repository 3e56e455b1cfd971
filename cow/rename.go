//go:build linux

package cow

import (
	"golang.org/x/sys/unix"
)

// Rename moves what is at old to path (rename(2)). flags are RENAME_NOREPLACE and
// RENAME_EXCHANGE; RENAME_WHITEOUT isn't known. Both walks have the same
// credentials.
func (t *Tree) Rename(from *Walk, old string, to *Walk, path string, flags uint32) error {
	const noReplace, exchange, whiteout = unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_WHITEOUT
	if flags&^(noReplace|exchange|whiteout) != 0 || flags&exchange != 0 && flags != exchange {
		return unix.EINVAL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	src, err := t.walkEntry(from, old)
	if err != nil {
		return err
	}
	dst, err := t.walkEntry(to, path)
	if err != nil {
		return err
	}
	m := move{t: t, cred: from.Cred, src: src, dst: dst, exchange: flags == exchange}
	if err := m.named(flags&noReplace != 0); err != nil {
		return err
	}
	if src.inode == dst.inode || dst.inode != nil && src.inode.attr.Ino == dst.inode.attr.Ino {
		return nil // two names of one file
	}
	if err := m.allowed(); err != nil {
		return err
	}
	if src.dir.through != dst.dir.through {
		return unix.EXDEV
	}
	if src.dir.through {
		return m.through(flags)
	}
	t.begins()
	if flags&whiteout != 0 {
		if err := t.occupy(); err != nil { // before anything has moved
			return err
		}
		t.inodes--
	}
	if err := t.tellMove(&m.src, &m.dst, flags&^whiteout); err != nil {
		return err
	}
	if m.exchange {
		return m.swap()
	}
	if err := m.run(); err != nil || flags&whiteout == 0 {
		return err
	}
	// What another overlayfs takes for a removed file is a device like others here.
	_, err = t.createAt(entry{dir: m.src.dir, name: m.src.name}, m.cred, unix.S_IFCHR, nil)
	return err
}

// A move is a rename under way.
type move struct {
	t        *Tree
	cred     *Cred
	src, dst entry
	exchange bool
}

// named checks what the names mean, in the order in which the kernel does
// (do_renameat2, fs/namei.c).
func (m *move) named(noReplace bool) error {
	src, dst := &m.src, &m.dst
	switch {
	case src.last != lastName:
		return unix.EBUSY
	case dst.last != lastName && noReplace:
		return unix.EEXIST
	case dst.last != lastName:
		return unix.EBUSY
	case src.inode == nil:
		return unix.ENOENT
	case noReplace && dst.inode != nil:
		return unix.EEXIST
	case m.exchange && dst.inode == nil:
		return unix.ENOENT
	case m.exchange && dst.slashed && !dst.inode.isDir():
		return unix.ENOTDIR
	case !src.inode.isDir() && (src.slashed || !m.exchange && dst.slashed):
		return unix.ENOTDIR
	case src.inode.isDir() && dst.dir.isUnder(src.inode):
		return unix.EINVAL
	case dst.inode != nil && dst.inode.isDir() && src.dir.isUnder(dst.inode):
		if m.exchange {
			return unix.EINVAL
		}
		return unix.ENOTEMPTY
	}
	return nil
}

// allowed checks that the move is permitted (vfs_rename, fs/namei.c).
func (m *move) allowed() error {
	src, dst := &m.src, &m.dst
	if err := m.cred.mayDelete(src.dir, src.inode, src.inode.isDir()); err != nil {
		return err
	}
	var err error
	switch {
	case dst.inode == nil:
		err = m.cred.mayCreate(dst.dir)
	case m.exchange:
		err = m.cred.mayDelete(dst.dir, dst.inode, dst.inode.isDir())
	default:
		err = m.cred.mayDelete(dst.dir, dst.inode, src.inode.isDir())
	}
	if err != nil {
		return err
	}
	if src.dir != dst.dir {
		// A directory's own entry for its parent changes.
		if src.inode.isDir() {
			err = m.cred.may(src.inode, mayWrite)
		}
		if err == nil && m.exchange && dst.inode.isDir() {
			err = m.cred.may(dst.inode, mayWrite)
		}
		if err != nil {
			return err
		}
	}
	if src.inode.mount || dst.inode != nil && dst.inode.mount {
		return unix.EBUSY
	}
	if dst.inode != nil && !m.exchange && dst.inode.isDir() {
		return m.t.empty(dst.inode)
	}
	return nil
}

func (m *move) run() error {
	src, dst := &m.src, &m.dst
	if err := m.t.keep(src.dir, src.name, src.inode); err != nil {
		return err
	}
	if dst.inode != nil {
		if err := m.t.unlink(*dst); err != nil {
			return err
		}
	}
	if err := m.t.whiteOut(src.dir, src.name); err != nil {
		return err
	}
	src.dir.touch(true)
	m.t.enter(*dst, src.inode)
	src.inode.touch(false)
	return nil
}

func (m *move) swap() error {
	src, dst := &m.src, &m.dst
	for _, e := range []*entry{src, dst} {
		if err := m.t.keep(e.dir, e.name, e.inode); err != nil {
			return err
		}
	}
	m.t.enter(entry{dir: src.dir, name: src.name}, dst.inode)
	m.t.enter(entry{dir: dst.dir, name: dst.name}, src.inode)
	src.inode.touch(false)
	dst.inode.touch(false)
	return nil
}

//go:build linux

package cow

import (
	"slices"

	"golang.org/x/sys/unix"
)

// A Cred is on whose behalf something is done: the file-system ids of a process,
// and those of its capabilities that matter to files (credentials(7),
// capabilities(7)).
type Cred struct {
	UID, GID uint32
	Groups   []uint32

	Override   bool // CAP_DAC_OVERRIDE
	ReadSearch bool // CAP_DAC_READ_SEARCH
	Owner      bool // CAP_FOWNER
	Chown      bool // CAP_CHOWN
	SetID      bool // CAP_FSETID
	Mknod      bool // CAP_MKNOD
	Admin      bool // CAP_SYS_ADMIN: trusted.* attributes
}

// superuser may do everything.
var superuser = &Cred{Override: true, ReadSearch: true, Owner: true, Chown: true, SetID: true, Mknod: true, Admin: true}

// Superuser returns the credentials of root with all capabilities.
func Superuser() *Cred { c := *superuser; return &c }

func (c *Cred) inGroup(gid uint32) bool { return c.GID == gid || slices.Contains(c.Groups, gid) }

func (c *Cred) owns(in *Inode) bool { return c.Owner || c.UID == in.attr.UID }

// MayChown reports whether c may give a file of an owner and group to others, -1 for what is
// to stay: nil, or EPERM (chown_ok and chgrp_ok, fs/attr.c).
func (c *Cred) MayChown(uid, gid uint32, toUID, toGID int32) error {
	switch {
	case c.Chown:
	case toUID != -1 && (c.UID != uid || uint32(toUID) != uid),
		toGID != -1 && (c.UID != uid || uint32(toGID) != gid && !c.inGroup(uint32(toGID))):
		return unix.EPERM
	}
	return nil
}

// What may be asked for, as access(2) has it.
const (
	mayExec  = 1
	mayWrite = 2
	mayRead  = 4
)

// may reports whether c has all the rights in want to an inode: 0, EACCES, or EROFS
// (inode_permission, fs/namei.c).
func (c *Cred) may(in *Inode, want uint32) error {
	readOnly := want&mayWrite != 0 && in.readOnly && (in.isDir() || in.isRegular() || in.isSymlink())
	switch {
	case readOnly && in.isDir():
		return unix.EROFS
	case !c.Allowed(in.attr.Mode, in.attr.UID, in.attr.GID, want):
		return unix.EACCES
	case readOnly:
		return unix.EROFS
	}
	return nil
}

// Allowed reports whether c has all the rights in want, as access(2) has them, to a file of
// a mode and owner.
func (c *Cred) Allowed(mode, uid, gid, want uint32) bool {
	shift := 0
	switch {
	case c.UID == uid:
		shift = 6
	case c.inGroup(gid):
		shift = 3
	}
	switch {
	case mode>>shift&want == want:
		return true
	case mode&unix.S_IFMT == unix.S_IFDIR:
		return c.Override || c.ReadSearch && want&mayWrite == 0
	}
	return c.ReadSearch && want == mayRead || c.Override && (want&mayExec == 0 || mode&0o111 != 0)
}

// mayLink reports whether c may give a file another name where that is protected
// (may_linkat, fs/namei.c).
func (c *Cred) mayLink(in *Inode) bool {
	const setGroup = unix.S_ISGID | 0o010
	safe := in.isRegular() && in.attr.Mode&unix.S_ISUID == 0 && in.attr.Mode&setGroup != setGroup
	return c.owns(in) || safe && c.may(in, mayRead|mayWrite) == nil
}

// mayCreate reports whether c may enter a new name in dir.
func (c *Cred) mayCreate(dir *Inode) error {
	if dir.gone() {
		return unix.ENOENT
	}
	return c.may(dir, mayWrite|mayExec)
}

// mayDelete reports whether c may remove a name from dir, as a directory or as
// something else (may_delete, fs/namei.c).
func (c *Cred) mayDelete(dir, in *Inode, asDir bool) error {
	if err := c.may(dir, mayWrite|mayExec); err != nil {
		return err
	}
	if dir.attr.Mode&unix.S_ISVTX != 0 && c.UID != in.attr.UID && c.UID != dir.attr.UID && !c.Owner {
		return unix.EPERM
	}
	switch {
	case asDir && !in.isDir():
		return unix.ENOTDIR
	case !asDir && in.isDir():
		return unix.EISDIR
	}
	return nil
}

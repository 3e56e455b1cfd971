//go:build linux

package cow

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits of extended attributes (linux/limits.h).
const (
	xattrNameMax = 255
	xattrSizeMax = 65536
)

// Getxattr returns an extended attribute (getxattr(2)).
func (f *File) Getxattr(cred *Cred, name string) (string, error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if err := f.xattr(cred, name, mayRead); err != nil {
		if err == unix.EPERM {
			err = unix.ENODATA
		}
		return "", err
	}
	all, err := f.t.xattrsOf(f.e.inode)
	if err != nil {
		return "", err
	}
	v, ok := all[name]
	if !ok {
		return "", unix.ENODATA
	}
	return v, nil
}

// Listxattr returns the names of the extended attributes in order (listxattr(2)).
func (f *File) Listxattr(cred *Cred) ([]string, error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	all, err := f.t.xattrsOf(f.e.inode)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(all))
	return slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, "trusted.") && !cred.Admin
	}), nil
}

// Setxattr sets an extended attribute. flags are 0, XATTR_CREATE or XATTR_REPLACE
// (setxattr(2)).
func (f *File) Setxattr(cred *Cred, name, value string, flags int) error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	switch {
	case flags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0:
		return unix.EINVAL
	case len(value) > xattrSizeMax:
		return unix.E2BIG
	}
	if err := f.xattr(cred, name, mayWrite); err != nil {
		return err
	}
	in, err := f.own()
	if err != nil {
		return err
	}
	if in.through {
		return inParent(in.lower, func(host string) error { return unix.Lsetxattr(host, name, []byte(value), flags) })
	}
	t := f.t
	all, err := t.ownedXattrs(in)
	if err != nil {
		return err
	}
	switch _, exists := all[name]; {
	case exists && flags&unix.XATTR_CREATE != 0:
		return unix.EEXIST
	case !exists && flags&unix.XATTR_REPLACE != 0:
		return unix.ENODATA
	}
	was, had := all[name]
	all[name] = value
	if err := t.hold(in); err != nil {
		if delete(all, name); had {
			all[name] = was
		}
		return err
	}
	in.touch(false)
	return f.tellAttr(in)
}

// Removexattr removes an extended attribute (removexattr(2)).
func (f *File) Removexattr(cred *Cred, name string) error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if err := f.xattr(cred, name, mayWrite); err != nil {
		return err
	}
	in, err := f.own()
	if err != nil {
		return err
	}
	if in.through {
		return inParent(in.lower, func(host string) error { return unix.Lremovexattr(host, name) })
	}
	all, err := f.t.ownedXattrs(in)
	if err != nil {
		return err
	}
	if _, ok := all[name]; !ok {
		return unix.ENODATA
	}
	delete(all, name)
	_ = f.t.hold(in) // it is less
	in.touch(false)
	return f.tellAttr(in)
}

// xattr checks that the caller may read or write an attribute (xattr_permission,
// fs/xattr.c).
func (f *File) xattr(cred *Cred, name string, want uint32) error {
	if name == "" || len(name) > xattrNameMax {
		return unix.ERANGE
	}
	in := f.e.inode
	space, rest, _ := strings.Cut(name, ".")
	switch {
	case rest == "" && name != "user.":
		return unix.EOPNOTSUPP
	case space == "user":
		if !in.isRegular() && !in.isDir() {
			return unix.EPERM
		}
		if in.isDir() && in.attr.Mode&unix.S_ISVTX != 0 && want == mayWrite && !cred.owns(in) {
			return unix.EPERM
		}
		if rest == "" {
			return unix.EINVAL
		}
		return cred.may(in, want)
	case space == "trusted":
		if !cred.Admin {
			return unix.EPERM
		}
	case space == "security":
		if want == mayWrite && !cred.Admin {
			return unix.EPERM
		}
	default:
		return unix.EOPNOTSUPP
	}
	return nil
}

// xattrsOf returns the extended attributes of an inode, which are not to be
// changed.
func (t *Tree) xattrsOf(in *Inode) (map[string]string, error) {
	if in.own&ownXattrs != 0 {
		return in.xattrs, nil
	}
	return lowerXattrs(in.lower)
}

// lowerXattrs reads the attributes of a file of the host, but for what the host's
// own security modules and access control lists keep there.
func lowerXattrs(lower string) (map[string]string, error) {
	if lower == "" {
		return nil, nil
	}
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(lower, buf)
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all map[string]string
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "trusted.") {
			continue
		}
		n, err := unix.Lgetxattr(lower, name, buf)
		switch {
		case err == unix.ENODATA:
			continue // gone meanwhile
		case err != nil:
			return nil, err
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = string(buf[:n])
	}
	return all, nil
}

//go:build linux

package supervisor

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// credentialsSet notes that a thread may have become somebody else: files are
// opened on its behalf, and who it is is read anew then. The calls run in the
// kernel.
//
// The user namespace of a sandbox without privilege knows one user and one group alone. That
// the others can't be had is told as without such a namespace, and so is of which groups
// the user is a member.
func credentialsSet(s *Sandbox) feature {
	f := feature{name: "credentials"}
	single := s.spaces != nil && s.spaces.single
	for _, set := range setsIDs {
		f.calls = append(f.calls, call{name: set.name, notify: func(c *Call) Answer {
			if single && set.ids > 0 && !c.namesOnly(set.own.only(s.spaces), set.ids) {
				return Errno(unix.EPERM)
			}
			if creds, err := s.view.creds(c.thread); err == nil && set.ids > 0 {
				if id, same := set.own.all(creds); same && c.namesOnly(id, set.ids) {
					return Continue() // it stays who it is, as make and shells see to
				}
			}
			c.thread.creds.Store(nil)
			s.dcache.differs()
			return Continue()
		}})
	}
	if single {
		f.calls = append(f.calls, call{name: "getgroups", notify: s.getgroups})
	}
	return f
}

// setsIDs are the calls that may make a thread somebody else, with how many ids they are
// given, and of what kind. Those with none fail by themselves without a privilege, or as
// they should.
var setsIDs = []struct {
	name string
	ids  int
	own  *idKind
}{
	{"setuid", 1, theUser}, {"setreuid", 2, theUser}, {"setresuid", 3, theUser}, {"setfsuid", 0, nil},
	{"setgid", 1, theGroup}, {"setregid", 2, theGroup}, {"setresgid", 3, theGroup}, {"setfsgid", 0, nil},
	{"setgroups", 0, nil}, {"capset", 0, nil},
}

// An idKind is one of users or of groups.
type idKind struct {
	only func(*namespaces) uint32                      // which a sandbox without privilege knows
	of   func(*credentials) (ids [3]uint32, fs uint32) // which a thread has
}

var (
	theUser  = &idKind{func(n *namespaces) uint32 { return n.uid }, func(c *credentials) ([3]uint32, uint32) { return c.uids, c.fs.UID }}
	theGroup = &idKind{func(n *namespaces) uint32 { return n.gid }, func(c *credentials) ([3]uint32, uint32) { return c.gids, c.fs.GID }}
)

// all returns the id that a thread has, if it has one alone.
func (k *idKind) all(c *credentials) (id uint32, same bool) {
	ids, fs := k.of(c)
	return fs, ids == [3]uint32{fs, fs, fs}
}

// namesOnly reports whether the first arguments are an id, or -1, which is none.
func (c *Call) namesOnly(id uint32, n int) bool {
	for i := range n {
		if arg := uint32(c.Arg(i)); arg != id && arg != 1<<32-1 {
			return false
		}
	}
	return true
}

// getgroups answers with the groups that the user has outside of the namespace.
func (s *Sandbox) getgroups(c *Call) Answer {
	creds, err := s.view.creds(c.thread)
	if err != nil {
		return c.refusedWith(err)
	}
	groups := creds.fs.Groups
	switch room := c.Int(0); {
	case room < 0 || room > 0 && int(room) < len(groups):
		return Errno(unix.EINVAL)
	case room == 0:
		return Return(int64(len(groups)))
	}
	var b []byte
	for _, g := range groups {
		b = binary.NativeEndian.AppendUint32(b, g)
	}
	if len(b) > 0 {
		if _, err := c.Write(c.Arg(1), b); err != nil {
			return c.failed(err)
		}
	}
	return Return(int64(len(groups)))
}

//go:build linux

package supervisor

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// What has no name in the tree: pipes, sockets, and memory (memfd_create(2)). The kernel
// makes them for the program, and what a program does to one, by its descriptor or the link to
// it in /proc, the supervisor does to the same one.
//
// Source: their numbers, which the kernel counts for the whole host, and their times.
// Normalised: a number follows from who looks at it first, and how many it has looked at
// before; times within the run are when the sandbox began, those that were set stay.
//
// What remains: where several processes look at the same for the first time at once, chance
// decides whose number it has.

// An unnamedKind is what there is without a name.
type unnamedKind struct {
	prefix string // of its link in /proc/PID/fd
	dev    uint64 // that which the kernel commonly gives it
	shared bool   // by the whole host: nothing is changed
}

var unnamedKinds = []unnamedKind{
	{prefix: "pipe:[", dev: unix.Mkdev(0, 14)},
	{prefix: "socket:[", dev: unix.Mkdev(0, 8)},
	{prefix: memoryLink, dev: unix.Mkdev(0, 1)},
	{prefix: "anon_inode:", dev: unix.Mkdev(0, 15), shared: true},
}

const memoryLink = "/memfd:"

// An unnamed is an open file that has no name, and is none of the host's.
type unnamed struct {
	*unnamedKind
	link string // as /proc tells it
	st   unix.Stat_t
	text bool // it stands for a synthetic file
}

// unnamed returns what a descriptor has open, nil if that has a name, or is one of the
// host's files.
func (s *Sandbox) unnamed(fd int) (*unnamed, error) {
	link, err := fdPath(fd)
	if err != nil {
		return nil, err
	}
	for i := range unnamedKinds {
		kind := &unnamedKinds[i]
		if !strings.HasPrefix(link, kind.prefix) {
			continue
		}
		n := &unnamed{unnamedKind: kind, link: link}
		if err := unix.Fstat(fd, &n.st); err != nil {
			return nil, err
		}
		if kind.prefix == memoryLink && (n.st.Nlink != 0 || n.st.Mode&unix.S_IFMT != unix.S_IFREG) {
			return nil, nil // a file of the host's with such a name
		}
		_, n.text = s.standIns.text(link)
		return n, nil
	}
	return nil, nil
}

// told makes of what the kernel tells of a nameless file what the program is told.
func (n *unnamed) told(s *Sandbox, by *Process, st *unix.Stat_t) {
	const tick = 10 * time.Millisecond // by which the kernel's own times may lag (HZ=100)
	began := unix.NsecToTimespec(s.clock.start.UnixNano())
	for _, t := range []*unix.Timespec{&st.Atim, &st.Mtim, &st.Ctim} {
		if n.prefix != memoryLink || t.Nano() >= s.began.Add(-tick).UnixNano() {
			*t = began
		}
	}
	st.Dev, st.Ino = n.dev, n.number(s, by)
}

// statUnnamed makes of what the kernel tells of an open file that isn't in the tree what
// the program is told.
func (s *Sandbox) statUnnamed(by *Process, fd int, st *unix.Stat_t) error {
	stands, err := s.standIns.stat(fd, st)
	if stands || err != nil {
		return err
	}
	n, err := s.unnamed(fd)
	if n != nil {
		n.told(s, by, st)
	}
	return err
}

func (n *unnamed) number(s *Sandbox, by *Process) uint64 {
	if n.shared {
		return 1
	}
	return s.numbers.of(n.prefix, n.st.Ino, func() uint64 {
		return s.view.tree.Number(fmt.Sprintf("%s%s %d", n.prefix, by.Lineage, by.looked.Add(1)))
	})
}

// name is what a link in /proc says, as the program knows it.
func (n *unnamed) name(s *Sandbox, by *Process) string {
	if !strings.HasSuffix(n.prefix, "[") {
		return n.link
	}
	return n.prefix + strconv.FormatUint(n.number(s, by), 10) + "]"
}

// unnamedNumbers holds the numbers by which programs know what has no name. Those at which
// nobody has looked for long are forgotten.
type unnamedNumbers struct {
	mu       sync.Mutex
	now, old map[numberKey]uint64
	taken    [2]map[uint64]bool // of now and old
}

type numberKey struct {
	kind string
	ino  uint64
}

// of returns the number of what is the kernel's ino, made by fresh if it has none yet, which
// is called until nothing else has it.
func (n *unnamedNumbers) of(kind string, ino uint64, fresh func() uint64) uint64 {
	const most = 1 << 15
	n.mu.Lock()
	defer n.mu.Unlock()
	key := numberKey{kind, ino}
	if number, ok := n.now[key]; ok {
		return number
	}
	if len(n.now) == most || n.now == nil {
		n.old, n.taken[1] = n.now, n.taken[0]
		n.now, n.taken[0] = map[numberKey]uint64{}, map[uint64]bool{}
	}
	number, ok := n.old[key]
	for !ok {
		number = uint64(uint32(fresh()) >> 1) // sock_diag(7) has 32 bits for it
		ok = !n.taken[0][number] && !n.taken[1][number]
	}
	n.now[key], n.taken[0][number] = number, true
	return number
}

// A mayChange says whether somebody may do something to a file.
type mayChange = func(cred *cow.Cred, st *unix.Stat_t) error

// changed answers a call that sets attributes, where a walk to the file has ended with err. An
// open file that the command was given stays as it is, and the program is told that it
// isn't: it may have its own attributes, which nobody else sees.
func (c *Call) changed(err error, may mayChange, do func(to string) error) Answer {
	if o := isOutside(err); o != nil && o.path == "" && !o.readOnly {
		return c.changedOwn(err, Return(0), may, do)
	}
	return c.changedOwn(err, Errno(unix.EPERM), may, do)
}

// changedOwn lets a call do what it does to a file to what has no name: to is a path that
// leads to it. What is in /proc, or the command was given from outside, is answered with given.
func (c *Call) changedOwn(err error, given Answer, may mayChange, do func(to string) error) Answer {
	o := isOutside(err)
	if o == nil {
		return c.done(err)
	}
	defer unix.Close(o.fd)
	if o.path != "" {
		return given
	}
	n, err := c.s.unnamed(o.fd)
	switch {
	case err != nil:
		return c.refusedWith(err)
	case n == nil || n.text:
		return given
	case n.shared:
		return Errno(unix.EOPNOTSUPP) // as since Linux 6.15 (anon_inode_setattr, fs/anon_inodes.c)
	}
	own, err := c.s.view.creds(c.thread)
	if err == nil {
		err = may(own.fs, &n.st)
	}
	if err == nil {
		err = do(fdName(o.fd))
	}
	return c.done(err)
}

// owns says whether somebody may change what its owner may.
func owns(cred *cow.Cred, st *unix.Stat_t) error {
	if !cred.Owner && cred.UID != st.Uid {
		return unix.EPERM
	}
	return nil
}

// anybody says that everybody may.
func anybody(*cow.Cred, *unix.Stat_t) error { return nil }

// ownsOrWrites says whether somebody may set the times to now.
func ownsOrWrites(cred *cow.Cred, st *unix.Stat_t) error {
	if owns(cred, st) == nil {
		return nil
	}
	return allows(unix.W_OK)(cred, st)
}

// allows says whether somebody may do what want says, as access(2) has it.
func allows(want uint32) mayChange {
	return func(cred *cow.Cred, st *unix.Stat_t) error {
		if !cred.Allowed(st.Mode, st.Uid, st.Gid, want) {
			return unix.EACCES
		}
		return nil
	}
}

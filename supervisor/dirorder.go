//go:build linux

package supervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/det"
	"golang.org/x/sys/unix"
)

// dirOrder answers getdents64 and getdents in the order of names.
//
// Source: the order of a directory's entries, which depends on the file system
// and its history. Ordered: "." and "..", then by the bytes of the name.
//
// The position of a listing is the directory's own file offset, kept by the
// kernel: the number of entries already returned. It is therefore right on a
// dup'ed or inherited descriptor, after lseek and after rewinddir. The list
// itself is read when a listing begins (offset 0) and kept until it has been
// returned whole, so that entries which stay are returned exactly once whatever
// is created or removed meanwhile.
func dirOrder(s *Sandbox) feature {
	return feature{name: "dirorder", calls: []call{
		{name: "getdents64", notify: func(c *Call) Answer { return s.getdents(c, det.AppendDirent64) }},
		{name: "getdents", notify: func(c *Call) Answer { return s.getdents(c, det.AppendDirent) }},
	}}
}

// processDirs holds the listings that a process has begun, by descriptor.
type processDirs struct {
	mu   sync.Mutex
	open map[int32]*listing
}

// A listing is the sorted list of one open directory.
type listing struct {
	dev, ino uint64
	list     []det.Dirent // nil when the listing has ended
	count    int64
}

func (d *processDirs) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = nil
}

type appendDirent func(buf []byte, e det.Dirent, next int64, limit int) ([]byte, bool)

// maxDirBuffer bounds what one call returns, as large buffers are filled in
// several calls natively too.
const maxDirBuffer = 1 << 20

// quickDir is how large a directory may be and is still read before the next call is
// taken. Others let another receiver go on meanwhile, which costs a change of threads.
const quickDir = 64 << 10

// waitFor locks a mutex that another call may hold for long.
func (c *Call) waitFor(mu *sync.Mutex) {
	if !mu.TryLock() {
		c.Yield()
		mu.Lock()
	}
}

func (s *Sandbox) getdents(c *Call, add appendDirent) Answer {
	fd, err := c.fd(c.Int(0))
	if err != nil {
		if errors.Is(err, unix.EBADF) {
			return Errno(unix.EBADF)
		}
		return c.failed(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Fatal(fmt.Errorf("stat a directory: %w", err))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_PATH != 0 {
			return Errno(unix.EBADF)
		}
		return Errno(unix.ENOTDIR)
	}
	// One call at a time moves the offset of a directory, as the kernel's own lock
	// ensures, whichever processes share it.
	lock := &s.dirLocks[(st.Dev^st.Ino)%uint64(len(s.dirLocks))]
	c.waitFor(lock)
	defer lock.Unlock()
	if st.Size > quickDir {
		c.Yield()
	}
	pos, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	if err != nil {
		return Errno(unix.EBADF) // opened with O_PATH
	}
	mark, pos := markOf(pos)
	c.tellsAbout(c.Int(0))
	n, next, a := s.listDir(c, fd, &st, mark, pos, add)
	if _, err := unix.Seek(fd, positionOf(mark, next), unix.SEEK_SET); err != nil {
		return Fatal(fmt.Errorf("position a directory: %w", err))
	}
	if a.kind != answerGoOn {
		return a
	}
	return Return(int64(n))
}

// listDir stores the next entries in the caller's memory. It returns how many
// bytes, and the position after them.
func (s *Sandbox) listDir(c *Call, fd int, st *unix.Stat_t, mark, pos int64, add appendDirent) (int, int64, Answer) {
	limit := int(min(max(c.Int(2), 0), maxDirBuffer)) // the kernel counts with a sign
	buf, a := s.fillDirents(c, fd, st, mark, pos, c.scratch(limit)[:0], limit, add)
	if a.kind != answerGoOn {
		return 0, pos, a
	}
	written, err := c.Write(c.Arg(1), buf)
	// Like the kernel: whole entries before a bad page count.
	n := 0
	for n < len(buf) {
		reclen := int(binary.NativeEndian.Uint16(buf[n+16:]))
		if n+reclen > written {
			break
		}
		n += reclen
		pos++
	}
	if err != nil && n == 0 {
		return 0, pos, c.failed(err)
	}
	return n, pos, goOn
}

// fillDirents appends the entries from a position on to buf.
func (s *Sandbox) fillDirents(c *Call, fd int, st *unix.Stat_t, mark, pos int64, buf []byte, limit int, add appendDirent) ([]byte, Answer) {
	dirs := &c.Process.dirs
	c.waitFor(&dirs.mu)
	defer dirs.mu.Unlock()
	l, err := dirs.at(c, fd, st, mark, pos)
	if err != nil {
		var errno unix.Errno
		if errors.As(err, &errno) && !ours(err) {
			return nil, Errno(errno) // ENOENT for a directory that was removed, EACCES
		}
		return nil, Fatal(fmt.Errorf("read a directory: %w", err))
	}
	for pos < int64(len(l.list)) {
		var ok bool
		if buf, ok = add(buf, l.list[pos], pos+1, limit); !ok {
			break
		}
		pos++
	}
	if len(buf) == 0 {
		if pos < int64(len(l.list)) {
			return nil, Errno(unix.EINVAL) // no room for one entry
		}
		l.list = nil // it has been returned whole; that it has ended is remembered
	}
	return buf, goOn
}

// at returns the listing that an open directory is in.
func (d *processDirs) at(c *Call, fd int, st *unix.Stat_t, mark, pos int64) (*listing, error) {
	num := c.Int(0)
	if pos != 0 {
		if l := c.Process.findListing(fd, num, st); l != nil && (l.list != nil || pos >= l.count) {
			return l, c.s.view.stillIs(fd, st)
		}
	}
	list, err := c.s.view.readDir(fd, st)
	if err != nil {
		return nil, err
	}
	l := &listing{dev: st.Dev, ino: st.Ino, list: list, count: int64(len(list))}
	if d.open == nil {
		d.open = map[int32]*listing{}
	}
	d.forgetClosed(c)
	d.open[num] = l
	c.s.dcache.listed(mark, len(list))
	return l, nil
}

// manyListings is how many listings a process may have before closed ones are
// looked for.
const manyListings = 16

// forgetClosed drops listings whose descriptor no longer is the directory.
func (d *processDirs) forgetClosed(c *Call) {
	if len(d.open) < manyListings {
		return
	}
	for num, l := range d.open {
		fd, err := c.Process.fdIfLent(int(c.n.PID), num)
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(fd, &st)
			unix.Close(fd)
		}
		if err != nil && err != errNotLent || err == nil && !l.of(&st) {
			delete(d.open, num)
		}
	}
}

func (l *listing) of(st *unix.Stat_t) bool { return l.dev == st.Dev && l.ino == st.Ino }

// findListing looks for a listing begun on the same open directory: on the same
// descriptor, on one that was duplicated, or by a process from which it was
// inherited. The caller holds p.dirs.mu.
func (p *Process) findListing(fd int, num int32, st *unix.Stat_t) *listing {
	if l := p.dirs.open[num]; l != nil && l.of(st) {
		return l
	}
	for other, l := range p.dirs.open {
		if l.of(st) && p.sameFile(num, other) {
			return l
		}
	}
	for a := p.parent; a != nil; a = a.parent {
		a.dirs.mu.Lock()
		l := a.dirs.open[num]
		if l != nil && l.of(st) {
			copied := *l
			l = &copied
		} else {
			l = nil
		}
		a.dirs.mu.Unlock()
		if l != nil {
			if p.dirs.open == nil {
				p.dirs.open = map[int32]*listing{}
			}
			p.dirs.open[num] = l
			return l
		}
	}
	return nil
}

// sameFile reports whether two descriptors of the process are one open file
// (kcmp(2), KCMP_FILE). Without kcmp the answer is no, and a listing is read
// anew, which is right as long as the directory doesn't change.
func (p *Process) sameFile(a, b int32) bool { return sameOpenFile(p, a, p, b) }

// sameOpenFile is sameFile for descriptors of two processes.
func sameOpenFile(p *Process, a int32, q *Process, b int32) bool {
	const kcmpFile = 0
	r, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(p.TGID), uintptr(q.TGID), kcmpFile, uintptr(a), uintptr(b), 0)
	return e == 0 && r == 0
}

// readDir lists an open directory: one of the tree as the tree knows it, one of
// /proc as the kernel does, but for processes that aren't the sandbox's.
func (v *view) readDir(fd int, st *unix.Stat_t) ([]det.Dirent, error) {
	list, err := v.sortedDir(fd, st)
	if order := v.s.cfg.Order; err == nil && order != (det.Order{}) {
		order.Arrange(list)
	}
	return list, err
}

func (v *view) sortedDir(fd int, st *unix.Stat_t) ([]det.Dirent, error) {
	f, err := v.fileOf(fd, st, true)
	if err != nil {
		return nil, err
	}
	if f != nil {
		entries, err := f.ReadDir()
		if err != nil {
			return nil, err
		}
		return direntsOf(entries), nil
	}
	list, err := readDir(fd)
	if err != nil {
		return nil, err
	}
	at, err := fdPath(fd)
	if err != nil || !isProc(at) {
		return list, err
	}
	list = slices.DeleteFunc(list, func(e det.Dirent) bool { return !v.inProc(at, e.Name) })
	for i := range list {
		list[i].Ino = v.s.procNumber(filepath.Join(at, string(list[i].Name)))
	}
	return list, nil
}

// stillIs returns ENOENT for an open directory that was removed, of which nothing is listed any
// more (iterate_dir, fs/readdir.c).
func (v *view) stillIs(fd int, st *unix.Stat_t) error {
	f, err := v.fileOf(fd, st, false)
	if err != nil || f == nil {
		return err
	}
	if _, is := f.Inode().Path(); !is {
		return unix.ENOENT
	}
	return nil
}

// direntsOf turns entries into the kernel's, with all names in one piece of memory.
func direntsOf(entries []cow.Dirent) []det.Dirent {
	size := 0
	for _, e := range entries {
		size += len(e.Name)
	}
	names, list := make([]byte, 0, size), make([]det.Dirent, len(entries))
	for i, e := range entries {
		at := len(names)
		names = append(names, e.Name...)
		list[i] = det.Dirent{Ino: e.Ino, Type: uint8(e.Type >> 12), Name: names[at:len(names):len(names)]}
	}
	return list
}

// readDir reads an open directory from its beginning, sorted. It leaves the
// offset anywhere.
func readDir(fd int) ([]det.Dirent, error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	var list []det.Dirent
	for size := 32 << 10; ; size = min(2*size, maxDirBuffer) {
		buf := make([]byte, size) // the names stay in it
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if list, err = det.ParseDirents64(list, buf[:n]); err != nil {
			return nil, err
		}
	}
	if list == nil {
		list = []det.Dirent{}
	}
	det.SortDirents(list)
	return list, nil
}

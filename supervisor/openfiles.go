//go:build linux

package supervisor

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// openFiles answers the opening of files.
//
// Source: the host's files. Eliminated: a path leads through the sandbox's view,
// what it means there is opened by the supervisor, and the program gets a
// descriptor: of the host's file where it is only read, of the layer's where it is
// written to. The kernel reads no path of the program's. A program that opens many files opens
// some itself (opens.go).
//
// What remains: what a file of the host's is mapped to before it is first written to keeps
// the host's bytes, and so does a descriptor that can't be replaced (catchup.go).
func openFiles(s *Sandbox) feature {
	return feature{name: "open", close: s.view.end, calls: []call{
		{name: "open", notify: func(c *Call) Answer { return s.open(c, unix.AT_FDCWD, 0, c.Arg(1), c.Arg(2), 0) }},
		{name: "openat", notify: func(c *Call) Answer { return s.open(c, c.Int(0), 1, c.Arg(2), c.Arg(3), 0) }},
		{name: "openat2", notify: s.openat2},
		{name: "creat", notify: func(c *Call) Answer {
			return s.open(c, unix.AT_FDCWD, 0, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, c.Arg(1), 0)
		}},
		{name: "open_by_handle_at", errno: unix.EPERM},
		{name: "name_to_handle_at", errno: unix.EOPNOTSUPP},
	}}
}

const pageSize = 4096

// knownOpenFlags are those that there are (VALID_OPEN_FLAGS, linux/fcntl.h).
const knownOpenFlags = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_NOCTTY | unix.O_TRUNC | unix.O_APPEND | unix.O_NONBLOCK | unix.O_SYNC |
	unix.O_ASYNC | unix.O_DIRECT | 0o100000 | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NOATIME | unix.O_CLOEXEC | unix.O_PATH | unix.O_TMPFILE

// resolveCached asks for what can be answered without waiting (openat2(2)).
const resolveCached = 0x20

// openat2 reads the call's struct open_how.
func (s *Sandbox) openat2(c *Call) Answer {
	var how [24]byte
	if c.madeAnew(1) {
		return Continue()
	}
	size := c.Arg(3)
	if size < uint64(len(how)) {
		return Errno(unix.EINVAL)
	}
	if size > pageSize {
		return Errno(unix.E2BIG)
	}
	all := c.scratch(int(size))
	if err := c.Read(c.Arg(2), all); err != nil {
		return c.failed(err)
	}
	if slices.Max(append(all[copy(how[:], all):], 0)) != 0 {
		return Errno(unix.E2BIG) // nobody knows yet what more would mean
	}
	flags, mode, resolve := binary.NativeEndian.Uint64(how[:]), binary.NativeEndian.Uint64(how[8:]), binary.NativeEndian.Uint64(how[16:])
	const known = unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH | unix.RESOLVE_IN_ROOT | resolveCached
	creates := flags&unix.O_CREAT != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE
	switch {
	case resolve&^known != 0, resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) == unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT,
		mode&^0o7777 != 0, mode != 0 && !creates, flags&^knownOpenFlags != 0, flags&unix.O_PATH != 0 && flags&^cow.PathFlags != 0:
		return Errno(unix.EINVAL)
	case resolve&resolveCached != 0:
		return Errno(unix.EAGAIN) // the caller asks again without
	}
	return s.open(c, c.Int(0), 1, flags, mode, resolve)
}

// open opens the file of which argument is the number of the path's.
func (s *Sandbox) open(c *Call, dirfd int32, argument int, flagsArg, mode, resolve uint64) Answer {
	if c.madeAnew(argument) {
		return Continue()
	}
	flags := int(int32(flagsArg))
	if flags&unix.O_PATH != 0 {
		flags &= cow.PathFlags // others mean nothing beside it (build_open_flags, fs/open.c)
		flagsArg = uint64(flags)
	}
	name, err := c.String(c.Arg(argument))
	if err != nil {
		return c.failed(err)
	}
	if flags&(unix.O_CREAT|unix.O_TRUNC) != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE {
		if room, err := c.Process.hasRoom(int(c.n.PID)); err != nil || !room {
			return c.refusedWith(cmp.Or(err, error(unix.EMFILE)))
		}
	}
	fd := -1
	follow := unless(flags&unix.O_NOFOLLOW == 0)
	if flags&unix.O_CREAT == 0 && resolve == 0 {
		follow |= c.tellsAbout(dirfd)
	}
	var raised *cow.File
	var dir *cow.Inode
	var forkless bool
	var heldAt string
	err = s.view.atRestricted(c.thread, dirfd, string(name), follow, resolve, func(w *cow.Walk, path string) (err error) {
		w.NoForks = true
		fd, err = s.view.tree.Open(w, path, flags, c.mode(mode))
		raised, dir, forkless, heldAt = w.Raised, w.Opened, w.Forkless, w.HeldAt
		return err
	})
	if forkless && raised != nil {
		syscall.ForkLock.RUnlock() // other processes' descriptors are looked at, which may take long
		forkless = false
	}
	if err == nil && raised != nil {
		c.catchUp(raised)
	}
	if err == nil && dir != nil {
		s.dcache.mark(fd, dir)
	}
	cloexec := flags&unix.O_CLOEXEC != 0
	var special *cow.Special
	switch o := isOutside(err); {
	case err == nil:
	case o != nil:
		defer unix.Close(o.fd)
		if flags&unix.O_PATH == 0 {
			if err := s.view.mayOpen(c.thread, o, flags); err != nil {
				return c.done(err)
			}
		}
		if text, ok := syntheticFiles[o.path]; ok && !o.link && flags&unix.O_PATH == 0 {
			return c.openOutsideText(o, text, flagsArg)
		}
		if text, within := s.processFile(o); within && !o.link {
			if text == nil {
				return Errno(unix.ENOENT)
			}
			return c.openOutsideText(o, text, flagsArg)
		}
		if flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL {
			return Errno(unix.EEXIST)
		}
		if flags&unix.O_PATH != 0 {
			return c.again(argument, o.name())
		}
		if st, ok, err := s.standIns.device(o.fd); err != nil || ok {
			if err != nil {
				return c.refusedWith(err)
			}
			*c.statBuf() = st
			return s.openRandom(c, cloexec)
		}
		if fd, err = o.openAgain(flags); err != nil {
			return c.refusedWith(err)
		}
	case errors.As(err, &special) && special.Nameless && heldAt != "":
		return c.again(argument, heldAt) // the program's own descriptor
	case errors.As(err, &special):
		return s.openSpecial(c, special, flags)
	default:
		return c.done(err)
	}
	return Answer{kind: answerInject, file: &injected{fd: fd, cloexec: cloexec, forkless: forkless}}
}

// openOutsideText answers the open of a synthetic file that isn't in the tree.
func (c *Call) openOutsideText(o *outside, text func(*Call) string, flags uint64) Answer {
	if err := c.s.statOutside(c.Process, o, c.statBuf()); err != nil {
		return c.refusedWith(err)
	}
	return c.openText(o.path, text, flags, c.statBuf())
}

// hasRoom reports whether a process may have one more descriptor. The kernel looks before it
// makes or empties a file.
func (p *Process) hasRoom(tid int) (bool, error) {
	limit, err := mostDescriptors(p.TGID)
	if err != nil || limit == 0 || limit > math.MaxInt32 {
		return limit > 0, err
	}
	switch last, err := p.fdIfLent(tid, int32(limit-1)); err {
	case nil:
		unix.Close(last)
	case errNotLent:
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/task/%d/fd/%d", p.TGID, tid, limit-1)); errors.Is(err, os.ErrNotExist) {
			return true, nil
		}
	case unix.EBADF:
		return true, nil
	default:
		return false, err
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/task/%d/fd", p.TGID, tid))
	below := uint64(0)
	for _, fd := range fds {
		if n, err := strconv.ParseUint(fd.Name(), 10, 64); err == nil && n < limit {
			below++
		}
	}
	return below < limit, err
}

// mostDescriptors returns the limit to a process's descriptors (RLIMIT_NOFILE). Of one that
// has become another user the kernel may tell it by /proc/PID/limits alone.
func mostDescriptors(pid int) (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != unix.EPERM {
		return limit.Cur, err
	}
	text, err := readKernelFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0, err
	}
	_, line, _ := strings.Cut(string(text), "Max open files")
	f := strings.Fields(line)
	if len(f) == 0 {
		return 0, fmt.Errorf("/proc/%d/limits tells no most of open files", pid)
	}
	if f[0] == "unlimited" {
		return math.MaxUint64, nil
	}
	return strconv.ParseUint(f[0], 10, 64)
}

// openSpecial opens a FIFO or a device, or lets the program do so.
func (s *Sandbox) openSpecial(c *Call, sp *cow.Special, flags int) Answer {
	cloexec := flags&unix.O_CLOEXEC != 0
	switch {
	case sp.Flags&unix.O_PATH != 0:
		return c.againOpen(sp, flags)
	case sp.Attr.Type() == unix.S_IFREG:
		text, ok := s.textAt(sp.Path)
		if !ok {
			return Fatal(fmt.Errorf("open %s: it has no text", sp.Path))
		}
		fillStat(c.statBuf(), &sp.Attr)
		return c.openText(sp.Path, text, uint64(flags), c.statBuf())
	case isRandomDevice(sp.Attr.Mode, sp.Attr.Rdev):
		fillStat(c.statBuf(), &sp.Attr)
		return s.openRandom(c, cloexec)
	case sp.Attr.Type() == unix.S_IFIFO:
		fd, waits, err := s.view.openFIFO(sp)
		switch {
		case err != nil:
			return c.refusedWith(err)
		case waits:
			return c.againOpen(sp, flags)
		}
		return InjectLast(fd, cloexec)
	case isTerminal(sp.Attr.Mode, sp.Attr.Rdev):
		return s.openTerminal(c, sp, flags)
	case !harmlessDevice(sp.Attr.Mode, sp.Attr.Rdev):
		return Errno(unix.EACCES)
	}
	fd, err := sp.Open(sp.Flags)
	if err != nil {
		return c.refusedWith(err)
	}
	return InjectFD(fd, cloexec)
}

// harmlessDevice reports whether a device tells nothing about the host and changes
// nothing there: null, zero and full (Documentation/admin-guide/devices.txt).
func harmlessDevice(mode uint32, dev uint64) bool {
	minor := unix.Minor(dev)
	return mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(dev) == 1 && (minor == 3 || minor == 5 || minor == 7)
}

// isTerminal reports whether a device is a pseudo terminal, their multiplexer, or
// the process's own terminal.
func isTerminal(mode uint32, dev uint64) bool {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return mode&unix.S_IFMT == unix.S_IFCHR && (major == 5 && (minor == 0 || minor == 2) || major >= 136 && major <= 143)
}

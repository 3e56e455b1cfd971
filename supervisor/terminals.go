//go:build linux

package supervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// terminals gives a sandbox pseudo terminals of its own (pts(4)).
//
// Source: the numbers of the host's terminals, which depend on who else has one open, and
// by which those of the same user could be written to. Normalised: a sandbox knows the
// terminals that it was given, and those that are opened in it. They are numbered from 0
// in that order, and no number is used twice; /dev/pts holds these alone, and whatever
// tells of a terminal (its name, device, TIOCGPTN, /proc) says that number. A terminal of
// another kind that the command was given, such as a console, is shown as one of these.
//
// The supervisor opens terminals itself, but for who would get his controlling terminal by
// that: he is given the host's path, and meanwhile the supervisor has the terminal open, so
// that nobody else gets its number.
func terminals(s *Sandbox) feature {
	return feature{name: "terminals", close: s.terminals.close,
		load: func(im *image) error {
			if im.th.proc != im.t.root || im.th.proc.execs != 1 {
				return nil
			}
			return s.terminals.given(im.th.proc)
		},
		calls: []call{
			{name: "ioctl", notify: s.terminalNumber, conds: is(1, unix.TIOCGPTN)},
			{name: "ioctl", notify: s.terminalDevice, conds: is(1, tiocgdev)},
			{name: "ioctl", errno: unix.ENOTTY, conds: is(1, tiocgexcl)}, // it tells of others on the host
		},
	}
}

// Requests that package unix has only for some machines (asm-generic/ioctls.h).
const (
	tiocgdev  = 0x80045432
	tiocgexcl = 0x80045440
)

// Where the host has its pseudo terminals.
const (
	devPTS      = "/dev/pts"
	multiplexer = "ptmx"
)

// A terminalSet is the terminals that a sandbox knows.
type terminalSet struct {
	s      *Sandbox
	mu     sync.Mutex
	byDev  map[uint64]*terminal // by the host's device
	number []*terminal          // by the sandbox's number
	held   int                  // of those before, nothing is held
	shown  *cow.File            // the multiplexer in /dev/pts
}

// A terminal is one of the sandbox's.
type terminal struct {
	n      int
	handle int // of its name on the host (O_PATH), -1 if that isn't known
	dead   bool
	file   *cow.File
}

// dev is the terminal's device in the sandbox.
func (t *terminal) dev() uint64 { return unix.Mkdev(firstPTSMajor, uint32(t.n)) }

// gone reports whether the other end was closed.
func (t *terminal) gone() bool {
	var st unix.Stat_t
	return t.dead || t.handle >= 0 && (unix.Fstat(t.handle, &st) != nil || st.Nlink == 0)
}

// Of pseudo terminals (Documentation/admin-guide/devices.txt).
const (
	firstPTSMajor, lastPTSMajor = 136, 143
	ttyMajor                    = 5 // of the own terminal, the console and the multiplexer
)

func isPTS(mode uint32, dev uint64) bool {
	major := unix.Major(dev)
	return mode&unix.S_IFMT == unix.S_IFCHR && major >= firstPTSMajor && major <= lastPTSMajor
}

func isMultiplexer(mode uint32, dev uint64) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(dev) == ttyMajor && unix.Minor(dev) == 2
}

// isOneTerminal reports whether an open file is a terminal that has a number: neither the
// multiplexer, nor the name of whatever terminal one has.
func isOneTerminal(fd int, st *unix.Stat_t) bool {
	switch {
	case isPTS(st.Mode, st.Rdev):
		return true
	case st.Mode&unix.S_IFMT != unix.S_IFCHR || harmlessDevice(st.Mode, st.Rdev), isRandomDevice(st.Mode, st.Rdev),
		unix.Major(st.Rdev) == ttyMajor && unix.Minor(st.Rdev) != 1:
		return false
	}
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// show makes the directory of terminals.
func (ts *terminalSet) show() (err error) {
	ts.byDev = map[uint64]*terminal{}
	ts.shown, err = ts.s.view.tree.Put(devPTS, cow.Device{Name: multiplexer, Mode: 0o666, Rdev: unix.Mkdev(ttyMajor, 2)})
	return err
}

// given numbers the terminals that the command has open. Its controlling terminal has its
// turn when somebody asks which that is.
func (ts *terminalSet) given(p *Process) error {
	for n := range int32(3 + len(ts.s.cmd.ExtraFiles)) {
		fd, err := p.fdIfLent(p.TGID, n)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil {
			_, err = ts.of(fd, &st)
		}
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// controllingTerminal returns the device that a line of /proc/PID/stat tells, 0 for none.
func controllingTerminal(stat string) uint64 {
	_, rest := cutLast(stat, ") ")
	var state, parent, group, session string
	var dev int64
	if _, err := fmt.Sscan(rest, &state, &parent, &group, &session, &dev); err != nil {
		return 0
	}
	return decodeDev(uint32(dev))
}

// decodeDev reads a device number as the kernel writes it into 32 bits (new_encode_dev,
// linux/kdev_t.h), and encodeDev writes it.
func decodeDev(n uint32) uint64 { return unix.Mkdev(n>>8&0xfff, n&0xff|n>>12&0xfff00) }

func encodeDev(dev uint64) uint32 {
	minor := unix.Minor(dev)
	return minor&0xff | unix.Major(dev)<<8 | minor&^0xff<<12
}

// of returns the file of the terminal that a descriptor has open, nil if it is none. What
// the sandbox sees of a terminal for the first time, it was given.
func (ts *terminalSet) of(fd int, st *unix.Stat_t) (*cow.File, error) {
	if !isOneTerminal(fd, st) {
		return nil, nil
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.byDev[st.Rdev]; t != nil && (st.Nlink == 0 || !t.gone()) {
		return t.file, nil
	}
	handle, err := unix.Open(fdName(fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("hold a terminal: %w", err)
	}
	t, err := ts.add(st.Rdev, handle, st.Uid)
	if err != nil {
		return nil, err
	}
	return t.file, nil
}

// controlling returns the terminal of a host's device, which is some process's of the
// sandbox; nil for device 0.
func (ts *terminalSet) controlling(dev uint64) (*terminal, error) {
	if dev == 0 {
		return nil, nil
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.byDev[dev]; t != nil {
		return t, nil
	}
	handle, owner := -1, uint32(unix.Geteuid())
	if unix.Major(dev) == firstPTSMajor {
		var st unix.Stat_t
		fd, err := unix.Open(fmt.Sprintf("%s/%d", devPTS, unix.Minor(dev)), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil && unix.Fstat(fd, &st) == nil && st.Rdev == dev {
			handle, owner = fd, st.Uid
		} else if err == nil {
			unix.Close(fd)
		}
	}
	return ts.add(dev, handle, owner)
}

// shownAs returns a controlling terminal as /proc/PID/stat is to tell it, by what the kernel
// tells.
func (ts *terminalSet) shownAs(field string) int64 {
	n, _ := strconv.ParseInt(field, 10, 64)
	t, err := ts.controlling(decodeDev(uint32(n)))
	if err != nil {
		ts.s.fail(fmt.Errorf("supervisor: tell which terminal controls a process: %w", err))
	}
	if t == nil {
		return 0
	}
	return int64(encodeDev(t.dev()))
}

// add numbers a terminal. The handle is the set's from now on.
func (ts *terminalSet) add(dev uint64, handle int, owner uint32) (t *terminal, err error) {
	t = &terminal{n: len(ts.number), handle: handle}
	const groupOfTerminals = 5
	t.file, err = ts.s.view.tree.Put(devPTS, cow.Device{
		Name: strconv.Itoa(t.n), Mode: 0o620, UID: owner, GID: groupOfTerminals, Rdev: t.dev(), Gone: t.gone,
	})
	if err != nil {
		ts.drop(t)
		return nil, fmt.Errorf("give a terminal a number: %w", err)
	}
	ts.forget()
	ts.number, ts.byDev[dev] = append(ts.number, t), t
	return t, nil
}

// forget closes what is held of terminals that are gone.
func (ts *terminalSet) forget() {
	for ; ts.held < len(ts.number) && ts.number[ts.held].gone(); ts.held++ {
		ts.drop(ts.number[ts.held])
	}
}

func (ts *terminalSet) drop(t *terminal) {
	if t.file != nil {
		ts.s.view.tree.Take(t.file) // which asks no more whether it is gone
	}
	t.dead = true
	if t.handle >= 0 {
		unix.Close(t.handle)
		t.handle = -1
	}
}

func (ts *terminalSet) close() error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.number {
		ts.drop(t)
	}
	if ts.shown != nil {
		ts.s.view.tree.Take(ts.shown)
	}
	ts.number, ts.byDev, ts.shown = nil, nil, nil
	return nil
}

// handleOf returns a descriptor of the name of the terminal that has a device in the
// sandbox (O_PATH).
func (ts *terminalSet) handleOf(dev uint64) (int, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	n := int(unix.Minor(dev))
	if unix.Major(dev) != firstPTSMajor || n >= len(ts.number) || ts.number[n].handle < 0 {
		return -1, unix.ENXIO
	}
	return unix.FcntlInt(uintptr(ts.number[n].handle), unix.F_DUPFD_CLOEXEC, 0)
}

// openTerminal opens one of the sandbox's terminals, or their multiplexer.
func (s *Sandbox) openTerminal(c *Call, sp *cow.Special, flags int) Answer {
	cloexec := flags&unix.O_CLOEXEC != 0
	switch {
	case isMultiplexer(sp.Attr.Mode, sp.Attr.Rdev):
		fd, err := s.newTerminal(c, sp, flags)
		if err != nil {
			return c.done(err)
		}
		return InjectLast(fd, cloexec)
	case !isPTS(sp.Attr.Mode, sp.Attr.Rdev):
		return c.againOpen(sp, flags) // the caller's own, whichever that is
	case !sp.Put:
		return Errno(unix.ENXIO)
	}
	handle, err := s.terminals.handleOf(sp.Attr.Rdev)
	if err != nil {
		return c.refusedWith(err)
	}
	defer unix.Close(handle)
	if flags&unix.O_NOCTTY == 0 && c.thread.wantsTerminal() {
		return c.takeTerminal(handle, flags)
	}
	fd, err := unix.Open(fdName(handle), openedBy(flags), 0)
	if err != nil {
		return c.refusedWith(err)
	}
	return InjectLast(fd, cloexec)
}

// openedBy are flags with which the supervisor opens a terminal.
func openedBy(flags int) int {
	return cow.HostFlags(flags)&^unix.O_NOFOLLOW | unix.O_NOCTTY | unix.O_CLOEXEC
}

// takeTerminal lets a program open a terminal that so becomes its own. Meanwhile it is
// open, so that the host's name for it is no other's.
func (c *Call) takeTerminal(handle, flags int) Answer {
	pin, err := unix.Open(fdName(handle), openedBy(unix.O_RDWR|unix.O_NONBLOCK), 0)
	if err != nil {
		return c.refusedWith(err)
	}
	var st, there unix.Stat_t
	host, err := fdPath(pin)
	if err = errors.Join(err, unix.Fstat(pin, &st)); err == nil {
		if there, err = cow.StatUnlinked(host); err == nil && (there.Dev != st.Dev || there.Ino != st.Ino || there.Rdev != st.Rdev) {
			err = unix.EIO // the host has no name for it here
		}
	}
	if err != nil {
		unix.Close(pin)
		return c.refusedWith(err)
	}
	return c.makeAnew(&again{argument: 1, bytes: append([]byte(host), 0), opens: true, flags: flags &^ unix.O_NOFOLLOW, pin: os.NewFile(uintptr(pin), host)})
}

// wantsTerminal reports whether the terminal that a thread opens would become the one that
// controls its session: it leads one that has none (tty_open_proc_set_tty,
// drivers/tty/tty_io.c).
func (th *thread) wantsTerminal() bool {
	session, err := unix.Getsid(th.proc.TGID)
	if err != nil || session != th.proc.TGID {
		return false
	}
	stat, err := readKernelFile("/proc/" + strconv.Itoa(th.proc.TGID) + "/stat")
	return err == nil && controllingTerminal(string(stat)) == 0
}

// newTerminal opens the multiplexer for a program, and numbers what comes of it.
func (s *Sandbox) newTerminal(c *Call, sp *cow.Special, flags int) (fd int, err error) {
	own, err := s.view.creds(c.thread)
	if err != nil {
		return -1, err
	}
	if flags = openedBy(flags); !sp.Put {
		fd, err = sp.Open(flags)
	} else if fd, err = unix.Open("/dev/"+multiplexer, flags, 0); err != nil {
		fd, err = unix.Open(devPTS+"/"+multiplexer, flags, 0)
	}
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	peer, err := peerOf(fd)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(peer, &st); err == nil && st.Uid != own.fs.UID {
		err = unix.Fchownat(unix.AT_FDCWD, fdName(peer), int(own.fs.UID), -1, 0)
	}
	if err != nil {
		unix.Close(peer)
		return -1, err
	}
	s.terminals.mu.Lock()
	defer s.terminals.mu.Unlock()
	_, err = s.terminals.add(st.Rdev, peer, own.fs.UID)
	return fd, err
}

// peerOf returns a descriptor of the name of the terminal whose other end an open file is
// (O_PATH).
func peerOf(fd int) (int, error) {
	peer, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_PATH|unix.O_CLOEXEC)
	if e != 0 {
		return -1, e
	}
	return int(peer), nil
}

// terminalNumber answers TIOCGPTN.
func (s *Sandbox) terminalNumber(c *Call) Answer {
	return s.aboutTerminal(c, func(fd int) (uint32, error) {
		if _, err := unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
			return 0, err
		}
		dev, err := s.terminals.behind(fd)
		return unix.Minor(dev), err
	})
}

// terminalDevice answers TIOCGDEV.
func (s *Sandbox) terminalDevice(c *Call) Answer {
	return s.aboutTerminal(c, func(fd int) (uint32, error) {
		n, err := unix.IoctlGetInt(fd, tiocgdev)
		if err != nil {
			return 0, err
		}
		if _, err := unix.IoctlGetInt(fd, unix.TIOCGPTN); err == nil {
			dev, err := s.terminals.behind(fd)
			return encodeDev(dev), err
		}
		t, err := s.terminals.controlling(decodeDev(uint32(n)))
		if err != nil {
			return 0, err
		}
		return encodeDev(t.dev()), nil
	})
}

// behind returns the device, in the sandbox, of the terminal whose other end an open file is.
func (ts *terminalSet) behind(fd int) (uint64, error) {
	peer, err := peerOf(fd)
	if err != nil {
		return 0, err
	}
	defer unix.Close(peer)
	var st unix.Stat_t
	if err := unix.Fstat(peer, &st); err != nil {
		return 0, err
	}
	f, err := ts.of(peer, &st)
	if err != nil {
		return 0, err
	}
	a, err := f.Stat()
	return a.Rdev, err
}

func (s *Sandbox) aboutTerminal(c *Call, ask func(fd int) (uint32, error)) Answer {
	fd, err := c.fd(c.Int(0))
	if err != nil {
		return c.refusedWith(err)
	}
	defer unix.Close(fd)
	n, err := ask(fd)
	if err != nil {
		return c.refusedWith(err)
	}
	return c.reply(c.Arg(2), binary.NativeEndian.AppendUint32(nil, n))
}

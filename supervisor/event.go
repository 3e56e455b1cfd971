//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"golang.org/x/sys/unix"
)

// An event is a system call at its entry, on whichever channel it has come.
type event struct {
	s    *Sandbox
	th   *thread
	nr   int
	args [6]uint64
	sig  *signature

	next int // the watch that is asked after this one

	call *Call // where it is a notification
	stop *Stop // where it is a stop
}

func (c *Call) event() event {
	nr := int(c.n.Nr)
	return event{s: c.s, th: c.thread, nr: nr, args: c.n.Args, sig: signatureOf(nr), call: c}
}

func (st *Stop) event() event {
	return event{s: st.t.s, th: st.th, nr: st.Nr(), args: st.regs.Args(), sig: signatureOf(st.Nr()), stop: st}
}

// int returns argument i as the kernel reads an int.
func (e *event) int(i int) int32 { return int32(e.args[i]) }

func (e *event) read(at uint64, buf []byte) error { return tracee.ReadMem(e.th.tid, at, buf) }

// string reads a path or another string.
func (e *event) string(at uint64) (string, error) {
	b, err := tracee.ReadString(e.th.tid, at, make([]byte, unix.PathMax))
	return string(b), err
}

// strings reads a vector of at most so many strings, each of at most so many bytes. more
// says that there are more.
func (e *event) strings(at uint64, most, size int) (list []string, more bool, err error) {
	const usual = 512
	buf := make([]byte, min(size, usual))
	for i := range most {
		var b [8]byte
		if err := e.read(at+uint64(8*i), b[:]); err != nil {
			return list, false, err
		}
		ptr := binary.NativeEndian.Uint64(b[:])
		if ptr == 0 {
			return list, false, nil
		}
		s, err := tracee.ReadString(e.th.tid, ptr, buf)
		if err == unix.ENAMETOOLONG && len(buf) < size {
			buf = make([]byte, size)
			s, err = tracee.ReadString(e.th.tid, ptr, buf)
		}
		if err == unix.ENAMETOOLONG {
			b := make([]byte, size-1)
			err = e.read(ptr, b)
			s = append(b, "..."...)
		}
		if err != nil {
			return list, false, err
		}
		list = append(list, string(s))
	}
	return list, true, nil
}

// String returns the call as it is written in C, with what its pointers point to where
// that is an argument to it. Process ids are lineages, so that it is the same in every
// run.
func (e *event) String() string {
	var b strings.Builder
	b.WriteString(e.sig.name)
	b.WriteByte('(')
	for i, kind := range e.sig.kinds {
		if kind == "mode" && i > 0 && e.sig.kinds[i-1] == argOpen && e.args[i-1]&(unix.O_CREAT|tmpfile) == 0 {
			break // nobody looks at what follows
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(e.argument(i, kind))
	}
	b.WriteByte(')')
	return b.String()
}

func (e *event) argument(i int, kind argKind) string {
	v := e.args[i]
	if e.sig.name == "fcntl" && i == 2 && e.int(1) == unix.F_SETOWN {
		kind = "pid"
	}
	switch kind {
	case argFD, "int":
		return strconv.Itoa(int(int32(v)))
	case argDirFD:
		if int32(v) == unix.AT_FDCWD {
			return "AT_FDCWD"
		}
		return strconv.Itoa(int(int32(v)))
	case argPath, argName, "str":
		return e.quoted(v)
	case argOpen:
		return flagText(v&(1<<32-1), openFlags, accessModes[v&unix.O_ACCMODE], unix.O_ACCMODE)
	case "mode":
		return fmt.Sprintf("%#o", v&0o177777)
	case argAt:
		return flagText(v&(1<<32-1), atFlags, "", 0)
	case argSize:
		return strconv.FormatInt(int64(v), 10)
	case argSocket:
		return e.address(v, e.int(i+1))
	case argArgv:
		return e.vector(v)
	case argData:
		return e.data(v, e.args[i+1])
	case "envp":
		const most = 4096
		list, _, err := e.strings(v, most, 2)
		if err != nil {
			return pointerText(v)
		}
		return fmt.Sprintf("%d variables", len(list))
	case "pid":
		return e.s.nameOfPID(int(int32(v)))
	case "sig":
		if name := unix.SignalName(unix.Signal(int32(v))); name != "" {
			return name
		}
		return strconv.Itoa(int(int32(v)))
	case "family":
		if name := families[int32(v)]; name != "" {
			return name
		}
		return strconv.Itoa(int(int32(v)))
	case "socktype":
		return flagText(v&(1<<32-1)&^0xf, socketFlags, socketTypes[v&0xf], 0)
	case "time":
		var ts [16]byte
		if v == 0 || e.read(v, ts[:]) != nil {
			return pointerText(v)
		}
		sec, nsec := int64(binary.NativeEndian.Uint64(ts[:])), int64(binary.NativeEndian.Uint64(ts[8:]))
		return fmt.Sprintf("%d.%09d", sec, nsec)
	case "hex":
		return "0x" + strconv.FormatUint(v&(1<<32-1), 16)
	}
	return pointerText(v)
}

// pointerText stands for memory of which nothing is shown: an address is the machine's
// business.
func pointerText(v uint64) string {
	if v == 0 {
		return "NULL"
	}
	return "..."
}

func (e *event) quoted(at uint64) string {
	if at == 0 {
		return "NULL"
	}
	s, err := e.string(at)
	if err != nil {
		return "?"
	}
	return strconv.Quote(e.s.stablePath(s))
}

// stablePath names a process in a path below /proc by its lineage.
func (s *Sandbox) stablePath(path string) string {
	pid, _, ok := pidOf(path)
	if !ok {
		return path
	}
	f := strings.SplitN(path, "/", 4)
	f[2] = s.nameOfPID(pid)
	if len(f) == 4 && strings.HasPrefix(f[3], "task/") {
		g := strings.SplitN(f[3], "/", 3)
		if tid, err := strconv.Atoi(g[1]); err == nil {
			g[1] = s.nameOfPID(tid)
			f[3] = strings.Join(g, "/")
		}
	}
	return strings.Join(f, "/")
}

// nameOfPID returns the lineage of a process, with a thread's number if it isn't the
// first. What isn't the sandbox's keeps its number.
func (s *Sandbox) nameOfPID(pid int) string {
	sign := ""
	n := pid
	if n < -1 { // a group, named after its leader
		sign, n = "-", -n
	}
	if th := s.threadBy(n); th != nil {
		return sign + th.name()
	}
	if name := s.tracing.past(n); name != "" {
		return sign + name
	}
	return strconv.Itoa(pid)
}

// name is the thread's: its process's lineage, and its number if it isn't the first.
func (th *thread) name() string {
	if th.index == 1 {
		return string(th.proc.Lineage)
	}
	return string(th.proc.Lineage) + "/" + strconv.Itoa(th.index)
}

// How much of long arguments is shown.
const (
	shownData    = 32
	shownStrings = 16
	shownString  = 128
)

func (e *event) data(at, size uint64) string {
	b := make([]byte, min(size, shownData))
	if e.read(at, b) != nil {
		return "?"
	}
	text := strconv.Quote(string(b))
	if size > shownData {
		text += "..."
	}
	return text
}

func (e *event) vector(at uint64) string {
	if at == 0 {
		return "NULL"
	}
	list, more, err := e.strings(at, shownStrings, shownString)
	if err != nil {
		return "?"
	}
	for i := range list {
		list[i] = strconv.Quote(list[i])
	}
	if more {
		list = append(list, "...")
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// address returns a socket's address as people write it.
func (e *event) address(at uint64, size int32) string {
	if at == 0 {
		return "NULL"
	}
	if size < 2 || size > mostOfAnAddress {
		return "?"
	}
	b := make([]byte, size)
	if e.read(at, b) != nil {
		return "?"
	}
	switch family := binary.NativeEndian.Uint16(b); family {
	case unix.AF_UNIX:
		name, _ := unixName(b)
		return strconv.Quote(name)
	case unix.AF_INET, unix.AF_INET6:
		if a, err := parseAddress(b); err == nil {
			return a.String()
		}
		return "?"
	default:
		if name := families[int32(family)]; name != "" {
			return name
		}
		return strconv.Itoa(int(family))
	}
}

// A flag is a bit of an argument, or several, and its name.
type flagName struct {
	bits uint64
	name string
}

// flagText names the bits of v that names knows, those with more bits first; first
// stands for the bits of mask.
func flagText(v uint64, names []flagName, first string, mask uint64) string {
	var list []string
	if first != "" {
		list = append(list, first)
	}
	v &^= mask
	for _, f := range names {
		if v&f.bits == f.bits {
			list = append(list, f.name)
			v &^= f.bits
		}
	}
	if v != 0 || len(list) == 0 {
		list = append(list, "0x"+strconv.FormatUint(v, 16))
	}
	if len(list) == 1 && list[0] == "0x0" {
		return "0"
	}
	return strings.Join(list, "|")
}

var accessModes = [...]string{"O_RDONLY", "O_WRONLY", "O_RDWR", "3"}

var openFlags = []flagName{
	{unix.O_TMPFILE, "O_TMPFILE"}, {unix.O_SYNC, "O_SYNC"}, {unix.O_CREAT, "O_CREAT"}, {unix.O_EXCL, "O_EXCL"}, {unix.O_NOCTTY, "O_NOCTTY"},
	{unix.O_TRUNC, "O_TRUNC"}, {unix.O_APPEND, "O_APPEND"}, {unix.O_NONBLOCK, "O_NONBLOCK"}, {unix.O_DSYNC, "O_DSYNC"}, {unix.O_DIRECT, "O_DIRECT"},
	{largeFile, "O_LARGEFILE"}, {unix.O_DIRECTORY, "O_DIRECTORY"}, {unix.O_NOFOLLOW, "O_NOFOLLOW"}, {unix.O_NOATIME, "O_NOATIME"},
	{unix.O_CLOEXEC, "O_CLOEXEC"}, {unix.O_PATH, "O_PATH"},
}

// tmpfile is the bit that makes O_TMPFILE more than O_DIRECTORY.
const tmpfile = unix.O_TMPFILE &^ unix.O_DIRECTORY

// largeFile is O_LARGEFILE, which package unix has as 0 on machines that need no such
// flag, and some programs set all the same.
const largeFile = 0o100000

var atFlags = []flagName{
	{unix.AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"}, {unix.AT_REMOVEDIR, "AT_REMOVEDIR"}, {unix.AT_SYMLINK_FOLLOW, "AT_SYMLINK_FOLLOW"},
	{unix.AT_NO_AUTOMOUNT, "AT_NO_AUTOMOUNT"}, {unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"},
}

var families = map[int32]string{
	unix.AF_UNSPEC: "AF_UNSPEC", unix.AF_UNIX: "AF_UNIX", unix.AF_INET: "AF_INET", unix.AF_INET6: "AF_INET6",
	unix.AF_NETLINK: "AF_NETLINK", unix.AF_PACKET: "AF_PACKET", unix.AF_ALG: "AF_ALG", unix.AF_VSOCK: "AF_VSOCK",
}

var socketTypes = [16]string{unix.SOCK_STREAM: "SOCK_STREAM", unix.SOCK_DGRAM: "SOCK_DGRAM", unix.SOCK_RAW: "SOCK_RAW", unix.SOCK_SEQPACKET: "SOCK_SEQPACKET"}

var socketFlags = []flagName{{unix.SOCK_CLOEXEC, "SOCK_CLOEXEC"}, {unix.SOCK_NONBLOCK, "SOCK_NONBLOCK"}}

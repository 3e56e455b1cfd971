//go:build linux

package supervisor

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sandtest/go-sandtest/cow"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// execFiles lets programs execute what their paths mean in the view.
//
// Source: the host's files. Eliminated: at the entry of execve the path is resolved
// and replaced by one of the host's at which the kernel finds the file; a script is
// turned into the call of its interpreter, as the kernel would (binfmt_script). The
// path lies where no program can write; a script's arguments lie in the program's own
// memory, in a place that is the supervisor's.
//
// The interpreter of a dynamic program (ld.so) is the sandbox's, see interpreters.go.
func execFiles(s *Sandbox) feature {
	return feature{
		name: "exec",
		calls: []call{
			{name: "execve", stop: func(st *Stop) { s.exec(st, unix.AT_FDCWD, 0, 0) }},
			{name: "execveat", stop: func(st *Stop) { s.exec(st, int32(st.Arg(0)), 1, int32(st.Arg(4))) }},
		},
		load: nameProgram,
	}
}

// A program whose path was replaced still reads the one that was asked for at
// AT_EXECFN.
func nameProgram(im *image) error {
	name := im.th.execName
	im.th.execName = ""
	region := im.th.proc.region.Load()
	if name == "" || region == 0 {
		return nil
	}
	at := region + vdso.ExecOffset
	if _, err := tracee.WriteMem(im.th.tid, at, append([]byte(name), 0)); err != nil {
		return fmt.Errorf("write the program's path: %w", err)
	}
	if im.th.script != nil { // whose name the process has, not its interpreter's (begin_new_exec, fs/exec.c)
		calls := im.sys.List()
		calls.Add("prctl(PR_SET_NAME)", unix.SYS_PRCTL, unix.PR_SET_NAME, at+uint64(strings.LastIndexByte(name, '/')+1))
		if err := calls.Run(); err != nil {
			return err
		}
	}
	return im.auxv.Replace(im.th.tid, im.sys.SP(), tracee.ATExecFn, tracee.ATExecFn, at)
}

// The place for execve's arguments: after a page for the path of a program that
// has started, so many slots.
const (
	execSlots = 4
	slotSize  = (vdso.ExecSize - vdso.PageSize) / execSlots
)

// slotAt returns where the thread's slot lies, 0 if there is none.
func (th *thread) slotAt() uint64 {
	region := th.proc.region.Load()
	if region == 0 {
		return 0
	}
	if th.slot == 0 {
		i := slices.Index(th.proc.rooms.slots[:], false)
		if i < 0 {
			return 0
		}
		th.proc.rooms.slots[i] = true
		th.slot, th.slotIn = i+1, th.proc.rooms
	}
	return region + vdso.ExecOffset + vdso.PageSize + uint64(th.slot-1)*slotSize
}

func (th *thread) leaveSlot() {
	if th.slot != 0 {
		th.slotIn.slots[th.slot-1] = false
		th.slot, th.slotIn = 0, nil
	}
}

// An execution is what execve is to be told.
type execution struct {
	host   string   // where the kernel finds it; empty leaves the call as it is
	bytes  string   // where it lies, if that has another name; host may be a link to it
	script []string // arguments to go before those that were given, but for the first
}

// exec executes what the path means to the thread. argument is the number of the
// path's.
func (s *Sandbox) exec(st *Stop, dirfd int32, argument int, flags int32) {
	path, err := st.String(st.Arg(argument))
	if err != nil {
		st.refuse(err)
		return
	}
	e := st.event()
	st.th.execPath = e.programPath(dirfd, path)
	p, err := s.view.program(st.th, dirfd, path, flags, s.dcache.tellsMissing(st.th.proc))
	if err == unix.ENOENT {
		s.dcache.learnExec(st)
	}
	st.th.script = p.script
	if err == nil && p.host != "" {
		st.th.executes, err = p.identify()
	}
	s.receivers.closed()
	if err == nil && p.host != "" && (p.script != nil || p.host != path || argument != 0) {
		err = st.execute(p, argument)
		st.th.execName = path
	}
	if err != nil {
		st.refuse(err)
	}
}

// An executed is a program that is to be executed: where on the host, and which file that
// is. The kernel looks for it once more, and follows whatever link has come to be in its
// path.
type executed struct {
	file     string // without symbolic links
	dev, ino uint64
}

// identify looks which file it is.
func (p *execution) identify() (executed, error) {
	file := p.host
	if p.bytes != "" {
		file = p.bytes
	}
	if isProc(file) {
		return executed{}, nil // an open file of the program's, without a name
	}
	st, err := cow.StatUnlinked(file)
	if err != nil {
		return executed{}, err
	}
	return executed{file, st.Dev, st.Ino}, nil
}

// isExecuted reports whether a process executes the program, or one that has taken its
// place since.
func (x *executed) isExecuted(pid int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/exe", &st); err != nil {
		return false, err
	}
	if st.Dev == x.dev && st.Ino == x.ino {
		return true, nil
	}
	now, err := cow.StatUnlinked(x.file)
	return err == nil && st.Dev == now.Dev && st.Ino == now.Ino, nil
}

// refuse skips the call, which fails with an error of the view's.
func (st *Stop) refuse(err error) {
	var errno unix.Errno
	switch o := isOutside(err); {
	case o != nil:
		unix.Close(o.fd)
		errno = unix.EACCES
	case errors.Is(err, errMoved):
		errno = unix.EACCES
	case errors.As(err, &errno) && (!ours(err) || errno == unix.ENOMEM):
	case errno == unix.ESRCH || errno == unix.EINTR:
		errno = unix.EINTR // it is being killed
	default:
		st.t.s.fail(fmt.Errorf("supervisor: %s in process %s: %w", seccomp.Name(uint32(st.Nr())), st.th.proc.Lineage, err))
		errno = unix.EIO
	}
	st.skip(errno)
}

// skip lets the call fail without being made.
func (st *Stop) skip(errno unix.Errno) {
	st.regs.SetNr(-1)
	st.regs.SetResult(-int64(errno))
	_ = st.regs.Store(st.th.tid) // it fails only when the thread was killed
}

// maxInterpreters is how many scripts may be each other's interpreters
// (exec_binprm, fs/exec.c).
const maxInterpreters = 5

// program finds what a path means.
func (v *view) program(th *thread, dirfd int32, path string, flags int32, told walkFlags) (p execution, err error) {
	if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
		return p, unix.EINVAL
	}
	name := path
	for level := 0; ; level++ {
		if level > maxInterpreters {
			return p, unix.ELOOP
		}
		head, f, host, err := v.executable(th, dirfd, name, followFlag(flags)|told)
		if o := isOutside(err); o != nil && o.path == "" && level == 0 {
			unix.Close(o.fd)
			// A file without a name: the kernel finds it by its descriptor, and behind a path
			// by the magic link to which that leads here, wherever it would lead there.
			return execution{host: o.magic}, nil
		}
		if err != nil {
			return p, err
		}
		interpreter, argument, ok, err := parseScript(head[:min(len(head), scriptHead)])
		if err != nil {
			return p, err
		}
		if !ok && f.Nameless() {
			return execution{host: host}, nil // as above
		}
		if !ok {
			as := name
			if as == "" {
				as = f.Path()
			}
			if p.host, err = v.interpreted(th, f, as, head, host); p.host == host {
				p.bytes = f.HostPath()
			}
			return p, err
		}
		if name == "" || dirfd != unix.AT_FDCWD && name[0] != '/' {
			// The interpreter would find nothing at a descriptor that is closed by then.
			if flags, err := fdinfo(th.taskDir(), int(dirfd), "flags:", 8); err != nil || flags&unix.O_CLOEXEC != 0 {
				return p, cmp.Or(err, error(unix.ENOENT))
			}
			name = fmt.Sprintf("/dev/fd/%d/%s", dirfd, name)
			if path == "" {
				name = name[:len(name)-1]
			}
		}
		before := []string{interpreter}
		if argument != "" {
			before = append(before, argument)
		}
		before = append(before, name)
		if p.script != nil {
			before = append(before, p.script[1:]...)
		}
		p.script = before
		name, dirfd, flags = interpreter, unix.AT_FDCWD, 0
	}
}

// scriptHead is how much of a file the kernel looks at to see whether it is a script
// (BINPRM_BUF_SIZE).
const scriptHead = 256

// executable returns the first bytes of a file that may be executed, the file, and where
// the kernel finds it.
func (v *view) executable(th *thread, dirfd int32, name string, flags walkFlags) (head []byte, f *cow.File, host string, err error) {
	err = v.at(th, dirfd, name, flags, func(w *cow.Walk, path string) (err error) {
		if f, err = v.tree.Lookup(w, path); err != nil {
			return err
		}
		if f.IsSymlink() {
			return unix.ELOOP
		}
		as := name
		if as == "" {
			as = f.Path()
		}
		if host, err = f.Executable(w.Cred, as); err != nil {
			return err
		}
		if w.Held != 0 {
			host = w.HeldAt
		}
		fd, err := f.Bytes() // the kernel wouldn't let the program be prepared if this may not be read
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		head = make([]byte, pageSize)
		n, err := unix.Pread(fd, head, 0)
		head = head[:max(n, 0)]
		if bytes.HasPrefix(head, []byte("#!")) && f.IsWritten(fd) { // of others the kernel says it
			return unix.ETXTBSY
		}
		return err
	})
	return head, f, host, err
}

// parseScript reads the first line of a script (load_script, fs/binfmt_script.c).
func parseScript(head []byte) (interpreter, argument string, ok bool, err error) {
	line, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return "", "", false, nil
	}
	line, _, whole := bytes.Cut(line, []byte("\n"))
	if !whole && len(head) == scriptHead {
		line = line[:len(line)-1] // the kernel ends what it reads with a zero
	}
	line = bytes.TrimLeft(line, " \t")
	if !whole && len(head) == scriptHead && !bytes.ContainsAny(line, " \t\x00") {
		return "", "", false, unix.ENOEXEC // the interpreter's path may be cut off
	}
	line = bytes.TrimRight(line, " \t")
	if len(line) == 0 && (whole || len(head) == scriptHead) {
		return "", "", false, unix.ENOEXEC
	}
	first, rest := line, []byte(nil)
	if i := bytes.IndexAny(line, " \t\x00"); i >= 0 {
		first, rest = line[:i], line[i:]
	}
	rest, _, _ = bytes.Cut(rest, []byte{0})
	rest = bytes.TrimLeft(rest, " \t")
	if len(first) == 0 {
		return "", "", false, unix.EACCES // an empty path leads to the working directory
	}
	return string(first), string(rest), true, nil
}

// execute makes the call one of execve, with the program's path in a place of the
// thread's and the arguments of a script in its slot.
func (st *Stop) execute(p execution, argument int) error {
	host, mem, err := st.t.take(st.th, pathPlace)
	if err != nil {
		return err
	}
	if len(p.host) >= len(mem) {
		return unix.ENAMETOOLONG
	}
	copy(mem, append([]byte(p.host), 0))
	argv := st.Arg(argument + 1)
	if p.script != nil {
		at := st.th.slotAt()
		if at == 0 {
			return unix.EAGAIN
		}
		var buf []byte
		given, err := st.argv(argv)
		if err != nil {
			return err
		}
		var pointers []uint64
		for _, s := range p.script {
			pointers = append(pointers, at+uint64(len(buf)))
			buf = append(append(buf, s...), 0)
		}
		if len(given) > 0 {
			pointers = append(pointers, given[1:]...)
		}
		for len(buf)%8 != 0 {
			buf = append(buf, 0)
		}
		argv = at + uint64(len(buf))
		for _, ptr := range append(pointers, 0) {
			buf = binary.NativeEndian.AppendUint64(buf, ptr)
		}
		if len(buf) > slotSize {
			return unix.E2BIG
		}
		if _, err := tracee.WriteMem(st.th.tid, at, buf); err != nil {
			return err
		}
	}
	given := st.regs
	st.regs.SetNr(unix.SYS_EXECVE)
	envp := st.Arg(argument + 2)
	st.regs.SetArg(0, host)
	st.regs.SetArg(1, argv)
	st.regs.SetArg(2, envp)
	if err := st.regs.Store(st.th.tid); err != nil {
		return err
	}
	st.OnExit(func(st *Stop) {
		// It has failed: otherwise the program is another one.
		st.th.leaveSlot()
		st.t.giveBack(st.th, pathPlace)
		st.th.execName = ""
		for i := range 6 {
			st.regs.SetArg(i, given.Arg(i))
		}
		_ = st.regs.Store(st.th.tid)
	})
	return nil
}

// argv reads the pointers of an argument vector, which may be none.
func (st *Stop) argv(at uint64) (list []uint64, err error) {
	if at == 0 {
		return nil, nil
	}
	const chunk = 512
	b := make([]byte, 8*chunk)
	for len(list) < slotSize/8 {
		n := (vdso.PageSize - int(at%vdso.PageSize)) / 8 * 8
		if n == 0 {
			n = 8 // a pointer across two pages
		}
		if err := st.Read(at, b[:n]); err != nil {
			return nil, err
		}
		for i := 0; i < n; i += 8 {
			ptr := binary.NativeEndian.Uint64(b[i:])
			if ptr == 0 {
				return list, nil
			}
			list = append(list, ptr)
		}
		at += uint64(n)
	}
	return nil, unix.E2BIG
}

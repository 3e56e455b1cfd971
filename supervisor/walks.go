//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// A path means something to a thread: it begins at its root, its working
// directory or one of its descriptors, and leads through the tree. The tree walks
// it. Where it enters /proc it leaves the tree, and is followed here by names, for
// what /proc/self or a magic link (/proc/PID/fd/N, cwd, root, exe) is depends on
// who asks; a magic link leads back into the tree. This is the one place where
// paths are interpreted.

// A walkFlags says how a path is followed.
type walkFlags uint8

const (
	noFollow     walkFlags = 1 << iota // a symbolic link at the end is taken for itself
	emptyPath                          // an empty path means what it begins at
	forIO                              // a descriptor that is only a path's (O_PATH) is none
	tells                              // the program is told what it comes to (dcache.go)
	tellsMissing                       // it is told if there is nothing
	asReal                             // for who the thread really is, as access(2) asks
)

// follow returns noFollow if flag, one of the AT_ flags, is among flags.
func unless(follow bool) walkFlags {
	if follow {
		return 0
	}
	return noFollow
}

// An outside is the error of a walk that ends outside of the tree: in /proc, or at
// an open file that has no name there.
type outside struct {
	fd       int    // stands for it, or is it; the receiver of the error closes it
	path     string // its canonical path below /proc, empty if it has none
	magic    string // the magic link that led to it, if it has none
	link     bool   // it is a symbolic link
	readOnly bool   // it may not be opened to write
}

func (o *outside) Error() string { return "outside of the tree: " + o.path }

// name is a path by which the program itself finds it.
func (o *outside) name() string {
	if o.path == "" {
		return o.magic
	}
	return o.path
}

// isOutside returns err as an outside, nil if it is none.
func isOutside(err error) *outside {
	var o *outside
	errors.As(err, &o)
	return o
}

// at calls do with a walk and a path of the tree to which a thread's path leads. It
// may call it again, after do has returned a [cow.Foreign]. Other errors are those of
// do, [outside], what the kernel would answer, or the supervisor's own trouble.
func (v *view) at(th *thread, dirfd int32, path string, flags walkFlags, do func(w *cow.Walk, path string) error) error {
	return v.atRestricted(th, dirfd, path, flags, 0, do)
}

func (v *view) atRestricted(th *thread, dirfd int32, path string, flags walkFlags, resolve uint64, do func(w *cow.Walk, path string) error) error {
	w := &cow.Walk{NoFollow: flags&noFollow != 0, Told: flags&tells != 0, ToldMissing: flags&tellsMissing != 0, Resolve: resolve, Check: v.s.policy.check(th, dirfd, path)}
	own, err := v.creds(th)
	if err != nil {
		return err
	}
	if w.Cred = own.fs; flags&asReal != 0 {
		w.Cred = own.real
	}
	defer func() {
		if w.Held != 0 {
			unix.Close(w.Held)
		}
	}()
	f, err := v.begin(th, w, dirfd, path, flags)
	if err != nil {
		return err
	}
	for {
		if f == nil {
			err := do(w, path)
			if !errors.As(err, &f) || f.Walk != w {
				return err
			}
		}
		if path, err = v.leave(th, w, f); err != nil {
			return v.checkOutside(w, err)
		}
		f = nil
	}
}

// checkOutside asks the walk's check about a file outside of the tree.
func (v *view) checkOutside(w *cow.Walk, err error) error {
	o := isOutside(err)
	if o == nil || o.path == "" || w.Check == nil {
		return err
	}
	if refused := w.Check(v.s.stablePath(o.path)); refused != nil {
		unix.Close(o.fd)
		return refused
	}
	return err
}

// begin finds where a path begins. A Foreign means that it is in /proc.
func (v *view) begin(th *thread, w *cow.Walk, dirfd int32, path string, flags walkFlags) (*cow.Foreign, error) {
	switch {
	case path == "" && flags&emptyPath == 0:
		return nil, nil // the tree says ENOENT when its turn has come
	case len(path) >= unix.PathMax:
		return nil, unix.ENAMETOOLONG
	case strings.HasPrefix(path, "/") && w.Resolve&unix.RESOLVE_IN_ROOT == 0:
		return nil, nil
	case dirfd == unix.AT_FDCWD:
		at := th.fs.Load().at()
		if at.dir == nil {
			return inProc(w, at.foreign, path), nil
		}
		w.Base, w.File = at.dir, at.dir.File()
		return nil, nil
	}
	return v.beginAt(th, w, dirfd, path, flags)
}

// beginAt lets a path begin at a descriptor.
func (v *view) beginAt(th *thread, w *cow.Walk, dirfd int32, path string, flags walkFlags) (f *cow.Foreign, err error) {
	if flags&forIO == 0 {
		if done, err := v.beginAtOwn(th, w, dirfd, path); done || err != nil {
			return nil, err
		}
	}
	fd, err := th.proc.fd(th.tid, dirfd)
	if err != nil {
		return nil, err
	}
	keep := false
	defer func() {
		if !keep {
			unix.Close(fd)
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if flags&forIO != 0 {
		if kept, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || kept&unix.O_PATH != 0 {
			return nil, unix.EBADF
		}
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if path != "" && !isDir {
		return nil, unix.ENOTDIR
	}
	if w.File, err = v.s.terminals.of(fd, &st); err != nil || w.File != nil {
		return nil, err
	}
	if w.File = v.tree.Descriptor(&st); w.File != nil {
		w.Base = w.File.Inode()
		if w.Told && isDir && path != "" {
			v.s.dcache.tellBase(w.Base)
		}
		keep = retain(w, fd, "")
		return nil, nil
	}
	host, err := fdPath(fd)
	if err != nil {
		return nil, err
	}
	proc := isProc(host)
	if st.Mode&unix.S_IFMT == unix.S_IFCHR { // a terminal, whose name programs look for
		if w.File, err = v.shown(host, &st); err != nil || w.File != nil {
			return nil, err
		}
	}
	if path == "" && (!isDir || proc) {
		if !proc {
			host = ""
		}
		keep = true
		return nil, &outside{fd: fd, path: host}
	}
	if proc {
		return inProc(w, host, path), nil
	}
	// A directory that the command was given.
	if w.File, err = v.shown(host, &st); err != nil {
		return nil, err
	}
	if w.File == nil {
		return nil, unix.EACCES
	}
	w.Base = w.File.Inode()
	return nil, nil
}

// beginAtOwn does so where that is a file or directory of the tree's with a name, which is most
// often the case. It needs no descriptor for longer than a look.
func (v *view) beginAtOwn(th *thread, w *cow.Walk, dirfd int32, path string) (done bool, err error) {
	st, err := th.proc.look(th.tid, dirfd, nil)
	if err != nil {
		return false, err
	}
	kind := st.Mode & unix.S_IFMT
	switch {
	case kind == unix.S_IFREG && path != "":
		return false, unix.ENOTDIR
	case kind != unix.S_IFREG && kind != unix.S_IFDIR:
		return false, nil
	}
	f := v.tree.Descriptor(&st)
	if f == nil || f.Nameless() {
		return false, nil
	}
	w.File, w.Base = f, f.Inode()
	if w.Told && kind == unix.S_IFDIR && path != "" {
		v.s.dcache.tellBase(w.Base)
	}
	return true, nil
}

// retain lets a walk have the descriptor of its file, if it needs that.
func retain(w *cow.Walk, fd int, at string) bool {
	if w.Held != 0 || !w.File.Nameless() {
		return false
	}
	w.Held, w.HeldAt = fd, at
	return true
}

// shown finds a file of the host by its path, nil if the tree doesn't show it.
func (v *view) shown(host string, st *unix.Stat_t) (*cow.File, error) {
	inner, ok := v.tree.Inner(host)
	if !ok {
		return nil, nil
	}
	if _, err := v.tree.Lookup(&cow.Walk{Cred: cow.Superuser()}, inner); err != nil {
		if ours(err) {
			return nil, err
		}
		return nil, nil
	}
	return v.tree.Descriptor(st), nil
}

// inProc is a path that begins at a directory of /proc.
func inProc(w *cow.Walk, dir, path string) *cow.Foreign {
	rest := strings.TrimPrefix(strings.TrimPrefix(dir, "/proc"), "/")
	return &cow.Foreign{Walk: w, Host: "/proc", Path: "/proc", Rest: strings.TrimPrefix(rest+"/"+path, "/"), NoFollow: w.NoFollow}
}

// maxSymlinks is how many links a walk follows, as in the kernel (fs/namei.c).
const maxSymlinks = 40

// A passage is a walk through /proc.
type passage struct {
	v     *view
	th    *thread
	w     *cow.Walk
	f     *cow.Foreign
	cur   int // O_PATH
	links int
	todo  []string
	slash bool // slashes end the path
}

// leave follows a path where it has left the tree. It returns the path at which it
// is to go on in the tree, with w changed accordingly, or an outside.
func (v *view) leave(th *thread, w *cow.Walk, f *cow.Foreign) (string, error) {
	fd, err := v.s.openProc(f.Host, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return "", err
	}
	p := &passage{v: v, th: th, w: w, f: f, cur: fd, links: f.Links, todo: strings.Split(f.Rest, "/"), slash: strings.HasSuffix(f.Rest, "/")}
	w.File, w.Base = nil, nil
	back, path, err := p.run()
	w.Links = p.links
	if err != nil || back {
		unix.Close(p.cur)
		return path, err
	}
	o := &outside{fd: p.cur}
	var st unix.Stat_t
	if err = unix.Fstat(o.fd, &st); err == nil {
		o.path, err = fdPath(o.fd)
	}
	if err != nil {
		unix.Close(o.fd)
		return "", err
	}
	o.link = st.Mode&unix.S_IFMT == unix.S_IFLNK
	if p.slash && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		unix.Close(o.fd)
		return "", unix.ENOTDIR
	}
	own := false
	if pid, _, ok := pidOf(o.path); ok {
		own = v.s.showsPID(pid)
	}
	o.readOnly = !own
	return "", o
}

func (p *passage) step(fd int) {
	unix.Close(p.cur)
	p.cur = fd
}

// rest is what is left of the path.
func (p *passage) rest() string { return strings.Join(p.todo, "/") }

// run walks until the path ends, or leads back into the tree.
func (p *passage) run() (back bool, path string, err error) {
	for len(p.todo) > 0 {
		name := p.todo[0]
		p.todo = p.todo[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." && p.atTop() {
			p.w.Base = p.f.Parent
			return true, "./" + p.rest(), nil
		}
		if in := p.within(name); in != nil {
			p.w.Base = in
			return true, "./" + p.rest(), nil
		}
		fd, err := p.lookup(name)
		if err != nil {
			return false, "", err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return false, "", err
		}
		last := len(p.todo) == 0
		if st.Mode&unix.S_IFMT != unix.S_IFLNK || p.f.NoFollow && last {
			p.step(fd)
			continue
		}
		back, path, err := p.follow(fd, name)
		unix.Close(fd)
		if err != nil || back {
			return back, path, err
		}
	}
	return false, "", nil
}

// atTop reports whether the walk stands where it has left the tree.
func (p *passage) atTop() bool {
	path, err := fdPath(p.cur)
	return err == nil && path == p.f.Host
}

// within returns the inode of what the tree shows in place of an entry of /proc, nil if it
// shows nothing there.
func (p *passage) within(name string) *cow.Inode {
	if dir, err := fdPath(p.cur); err != nil || dir != "/proc" {
		return nil
	}
	return p.v.tree.Within("/proc/" + name)
}

// lookup opens an entry. Processes that aren't the sandbox's don't exist, nor does most
// of what tells about the host.
func (p *passage) lookup(name string) (int, error) {
	dir, err := fdPath(p.cur)
	if err != nil {
		return -1, err
	}
	if !p.v.inProc(dir, []byte(name)) {
		return -1, unix.ENOENT
	}
	if guardedDirs[path.Base(dir)] {
		if err := p.v.mayUse(p.th, dir, p.cur, unix.X_OK); err != nil {
			return -1, err
		}
	}
	return unix.Openat(p.cur, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// follow follows a symbolic link, of which fd is the link itself.
func (p *passage) follow(fd int, name string) (back bool, path string, err error) {
	if p.links++; p.links > maxSymlinks || p.w.Resolve&unix.RESOLVE_NO_SYMLINKS != 0 {
		return false, "", unix.ELOOP
	}
	target, magic, err := p.v.readProcLink(p.th, p.cur, fd, name)
	if err != nil {
		return false, "", err
	}
	if !magic {
		if strings.HasPrefix(target, "/") {
			return true, strings.TrimSuffix(target+"/"+p.rest(), "/"), nil
		}
		p.todo = append(strings.Split(target, "/"), p.todo...)
		return false, "", nil
	}
	if p.w.Resolve&unix.RESOLVE_NO_MAGICLINKS != 0 {
		return false, "", unix.ELOOP
	}
	return p.jump(name)
}

// jump follows a magic link.
func (p *passage) jump(name string) (back bool, path string, err error) {
	dir, err := fdPath(p.cur)
	if err != nil {
		return false, "", err
	}
	if err := p.v.mayLookInto(p.th, dir); err != nil {
		return false, "", err
	}
	switch name {
	case "root":
		return true, "/" + p.rest(), nil
	case "cwd":
		if other := p.v.threadOf(dir); other != nil {
			at := other.fs.Load().at()
			if at.dir == nil {
				return true, strings.TrimSuffix(at.foreign+"/"+p.rest(), "/"), nil
			}
			return p.jumpToDir(at.dir.File())
		}
	}
	fd, err := unix.Openat(p.cur, name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, "", err
	}
	var st, link unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = unix.Fstatat(p.cur, name, &link, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		unix.Close(fd)
		return false, "", err
	}
	file, err := p.v.fileOf(fd, &st, name == "exe")
	var host string
	if err == nil {
		host, err = fdPath(fd)
	}
	if err != nil {
		unix.Close(fd)
		return false, "", err
	}
	more := p.rest() != "" || p.slash
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if file != nil {
		isDir = file.IsDir() // what stands for it may be of another kind
	}
	switch {
	case more && !isDir:
		err = unix.ENOTDIR
	case file != nil && isDir:
		unix.Close(fd)
		return p.jumpToDir(file)
	case file != nil:
		if p.w.Check != nil {
			if err = p.w.Check(file.Path()); err != nil {
				break
			}
		}
		if p.w.File = file; retain(p.w, fd, dir+"/"+name) {
			return true, path, nil
		}
	case isProc(host):
		p.step(fd)
		return false, "", nil
	case more:
		err = unix.EACCES // a directory that the command was given
	default:
		// An open file without a name: of what the command was given a new descriptor may do
		// what that one may.
		o := &outside{fd: fd, magic: dir + "/" + name}
		if link.Mode&0o200 == 0 && st.Mode&unix.S_IFMT == unix.S_IFREG {
			n, err := p.v.s.unnamed(fd)
			if err != nil {
				unix.Close(fd)
				return false, "", err
			}
			o.readOnly = n == nil || n.text
		}
		return false, "", o
	}
	unix.Close(fd)
	return err == nil, path, err
}

// jumpToDir goes on at a directory of the tree. That itself needs no right to search it.
func (p *passage) jumpToDir(dir *cow.File) (back bool, path string, err error) {
	if p.w.Base = dir.Inode(); p.rest() != "" {
		return true, "./" + p.rest(), nil
	}
	if dir.Hidden() {
		return false, "", unix.EACCES
	}
	if p.w.Check != nil {
		err = p.w.Check(dir.Path())
	}
	p.w.File = p.w.Base.File()
	return err == nil, "", err
}

// fileOf finds the file of the tree that an open file is, nil if it is none.
func (v *view) fileOf(fd int, st *unix.Stat_t, byPath bool) (*cow.File, error) {
	kind := st.Mode & unix.S_IFMT
	if f, err := v.s.terminals.of(fd, st); err != nil || f != nil {
		return f, err
	}
	if f := v.tree.Descriptor(st); f != nil || !byPath && kind != unix.S_IFDIR && kind != unix.S_IFCHR {
		return f, nil
	}
	host, err := fdPath(fd)
	if err != nil || isProc(host) {
		return nil, err
	}
	return v.shown(host, st)
}

func isProc(host string) bool { return host == "/proc" || strings.HasPrefix(host, "/proc/") }

// threadOf returns the thread of the sandbox that a directory of /proc tells
// about, nil if there is none.
func (v *view) threadOf(dir string) *thread {
	pid, tid, ok := pidOf(dir)
	if !ok {
		return nil
	}
	if tid != 0 {
		pid = tid
	}
	return v.s.threadBy(pid)
}

// pidOf parses /proc/PID/... and /proc/PID/task/TID/...
func pidOf(path string) (pid, tid int, ok bool) {
	f := strings.Split(path, "/")
	if len(f) < 3 || f[1] != "proc" {
		return 0, 0, false
	}
	pid, err := strconv.Atoi(f[2])
	if err != nil {
		return 0, 0, false
	}
	if len(f) >= 5 && f[3] == "task" {
		tid, _ = strconv.Atoi(f[4])
	}
	return pid, tid, true
}

// readProcLink reads a symbolic link of /proc for the thread: fd is the link, name its
// name in dir. magic says that its target is no path but the kernel's own
// reference.
func (v *view) readProcLink(th *thread, dir, fd int, name string) (target string, magic bool, err error) {
	at, err := fdPath(dir)
	switch {
	case err != nil:
		return "", false, err
	case at == "/proc" && name == "self":
		return strconv.Itoa(v.s.innerOf(th.proc)), false, nil
	case at == "/proc" && name == "thread-self":
		return strconv.Itoa(v.s.innerOf(th.proc)) + "/task/" + strconv.Itoa(v.s.inner(th)), false, nil
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", false, err
	}
	return string(buf[:n]), at != "/proc", nil
}

func fdPath(fd int) (string, error) {
	buf := make([]byte, unix.PathMax+1)
	n, err := unix.Readlink(fdName(fd), buf)
	return string(buf[:max(n, 0)]), err
}

// fdName is a path at which the supervisor finds what a descriptor has open.
func fdName(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// ours reports whether an error is the supervisor's own trouble, which must not be
// taken for an answer to the program.
func ours(err error) bool {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return true
	}
	switch errno {
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EINTR, unix.EIO, unix.ENOSYS, unix.EAGAIN, unix.ESRCH:
		return true
	}
	return false
}

// at follows a path in the caller's memory.
func (c *Call) at(dirfd int32, path uint64, flags walkFlags, do func(w *cow.Walk, path string) error) error {
	name, err := c.String(path)
	if err != nil {
		return &badPath{c.failed(err)}
	}
	return c.s.view.at(c.thread, dirfd, string(name), flags, do)
}

// A badPath is the error of a path that can't be read, and holds the answer.
type badPath struct{ answer Answer }

func (b *badPath) Error() string { return "a path that can't be read" }

// done makes an answer of what a walk has come to.
func (c *Call) done(err error) Answer {
	var bad *badPath
	var errno unix.Errno
	switch {
	case err == nil:
		return Return(0)
	case errors.Is(err, errMoved):
		return Answer{kind: answerJudge}
	case errors.As(err, &bad):
		return bad.answer
	case isOutside(err) != nil:
		unix.Close(isOutside(err).fd)
		return Errno(unix.EPERM)
	case errors.As(err, &errno) && !ours(err):
		return Errno(errno)
	case c.stillThere() != nil:
		return Errno(unix.EINTR) // nobody is there to see it
	}
	return Fatal(fmt.Errorf("%s of process %s: %w", c.Name(), c.Process.Lineage, err))
}

// lookup finds what a path in the caller's memory leads to.
func (c *Call) lookup(dirfd int32, path uint64, flags walkFlags, do func(f *cow.File, cred *cow.Cred) error) error {
	return c.at(dirfd, path, flags, func(w *cow.Walk, path string) error {
		f, err := c.s.view.tree.Lookup(w, path)
		if err != nil {
			return err
		}
		return do(f, w.Cred)
	})
}

// lookupFD finds what a descriptor of the caller has open.
func (c *Call) lookupFD(fd int32, flags walkFlags, do func(f *cow.File, cred *cow.Cred) error) error {
	if fd < 0 {
		return unix.EBADF // AT_FDCWD is no descriptor
	}
	return c.lookupEmpty(fd, flags, do)
}

// lookupEmpty finds what an empty path means: dirfd itself.
func (c *Call) lookupEmpty(dirfd int32, flags walkFlags, do func(f *cow.File, cred *cow.Cred) error) error {
	return c.s.view.at(c.thread, dirfd, "", emptyPath|flags, func(w *cow.Walk, path string) error {
		f, err := c.s.view.tree.Lookup(w, path)
		if err != nil {
			return err
		}
		return do(f, w.Cred)
	})
}

// openAgain opens what an outside stands for.
func (o *outside) openAgain(flags int) (int, error) {
	if o.readOnly && (flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0) {
		return -1, unix.EACCES
	}
	if o.link {
		if flags&unix.O_PATH == 0 {
			return -1, unix.ELOOP
		}
		return unix.FcntlInt(uintptr(o.fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	flags &^= unix.O_NOFOLLOW | unix.O_CREAT | unix.O_EXCL
	return unix.Open(fdName(o.fd), flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
}

// pathInside is how the sandbox knows what an open file of the host is, by what
// the kernel says of it.
func (v *view) pathInside(fd int, byKernel string) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	f, err := v.fileOf(fd, &st, true)
	if err != nil || f == nil {
		return byKernel, err
	}
	return f.Path(), nil
}

//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A resolver finds out which object a path means to a process. It is the one
// place where paths are interpreted.
//
// The kernel walks the path for it, as far as the result is the same for the
// supervisor as for the process. It isn't below /proc/self, and behind a magic
// link (/proc/PID/fd/N, cwd, root, exe) a walk isn't one by names; there it goes
// on component by component.
type resolver struct {
	names    map[string]bool // last components of the files that may be synthetic
	virtual  map[uint64]bool // devices of /proc and /sys
	hostname [2]uint64       // device and inode of /etc/hostname
}

func newResolver() *resolver {
	r := &resolver{names: syntheticNames, virtual: virtualDevices()}
	var st unix.Stat_t
	if unix.Stat("/etc/hostname", &st) == nil {
		r.hostname = [2]uint64{st.Dev, st.Ino}
	}
	return r
}

// virtualDevices finds the devices of /proc and /sys, which stay what they are.
var virtualDevices = sync.OnceValue(func() map[uint64]bool {
	devices := map[uint64]bool{}
	var st unix.Stat_t
	for _, dir := range []string{"/proc", "/sys"} {
		if unix.Stat(dir, &st) == nil {
			devices[st.Dev] = true
		}
	}
	return devices
})

// A place is what a path resolves to.
type place struct {
	path string // canonical host path; may be that of a file that doesn't exist
	stat unix.Stat_t
	ok   bool // the object exists and stat is valid
}

// maxSymlinks is how many links a walk follows, as in the kernel (fs/namei.c).
const maxSymlinks = 40

// resolve finds what name means to the thread, relative to dirfd. An error is
// what the kernel would answer, unless it is the supervisor's own trouble.
func (r *resolver) resolve(c *Call, dirfd int32, name string, nofollow bool) (place, error) {
	if name == "" {
		return place{}, unix.ENOENT
	}
	base, rel := unix.AT_FDCWD, name
	if name[0] != '/' || c.Process.rootChanged.Load() {
		var err error
		if base, err = openBase(c, dirfd, name[0] == '/'); err != nil {
			return place{}, err
		}
		defer unix.Close(base)
		if rel = strings.TrimLeft(name, "/"); rel == "" {
			rel = "."
		}
	}
	fd, err := openat2(base, rel, nofollow, unix.RESOLVE_NO_MAGICLINKS)
	switch {
	case err == nil:
		defer unix.Close(fd)
		return r.identify(c, fd)
	case err == unix.ELOOP:
		return r.walk(c, base, rel, nofollow)
	case err == unix.ENOENT:
		return r.missing(c, base, rel, nofollow)
	}
	return place{}, err
}

// openBase opens the directory at which a walk begins.
func openBase(c *Call, dirfd int32, root bool) (int, error) {
	at := "/proc/" + strconv.Itoa(int(c.n.PID))
	switch {
	case root:
		at += "/root"
	case dirfd == unix.AT_FDCWD:
		at += "/cwd"
	case dirfd < 0:
		return -1, unix.EBADF
	default:
		at += "/fd/" + strconv.Itoa(int(dirfd))
	}
	fd, err := unix.Open(at, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT && dirfd >= 0 {
		err = unix.EBADF
	}
	return fd, err
}

func openat2(base int, rel string, nofollow bool, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve}
	if nofollow {
		how.Flags |= unix.O_NOFOLLOW
	}
	return unix.Openat2(base, rel, &how)
}

// identify names an object that an O_PATH descriptor stands for.
func (r *resolver) identify(c *Call, fd int) (place, error) {
	p := place{ok: true}
	if err := unix.Fstat(fd, &p.stat); err != nil {
		return p, err
	}
	if !r.virtual[p.stat.Dev] && r.hostname != [2]uint64{p.stat.Dev, p.stat.Ino} {
		return p, nil
	}
	var err error
	if p.path, err = fdPath(fd); err != nil {
		return p, err
	}
	// What went through /proc/self is the supervisor's entry, the process means
	// its own.
	if rest, ok := strings.CutPrefix(p.path, selfProc); ok && (rest == "" || rest[0] == '/') {
		p.path = "/proc/" + strconv.Itoa(c.Process.TGID) + rest
	}
	return p, nil
}

var selfProc = "/proc/" + strconv.Itoa(unix.Getpid())

func fdPath(fd int) (string, error) {
	buf := make([]byte, unix.PathMax+1)
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf)
	return string(buf[:max(n, 0)]), err
}

// missing resolves a path at whose end the kernel found nothing. That holds for
// the process too if the directory lies outside of /proc and the last component
// isn't a link: then it is named, in case it is synthetic. Otherwise the path may
// lead through the process's own entry in /proc, and is walked.
func (r *resolver) missing(c *Call, base int, rel string, nofollow bool) (place, error) {
	dir, file := path.Split(strings.TrimRight(rel, "/"))
	if dir == "" {
		dir = "."
	}
	fd, err := openat2(base, dir, false, unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return r.walk(c, base, rel, nofollow)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return place{}, err
	}
	if r.virtual[st.Dev] || unix.Fstatat(fd, file, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return r.walk(c, base, rel, nofollow)
	}
	if !r.names[file] {
		return place{}, unix.ENOENT
	}
	at, err := fdPath(fd)
	return place{path: path.Join(at, file)}, err
}

// walk resolves a path that goes through magic links.
func (r *resolver) walk(c *Call, base int, rel string, nofollow bool) (place, error) {
	var cur int
	var err error
	if base == unix.AT_FDCWD {
		cur, err = openBase(c, unix.AT_FDCWD, true)
	} else {
		cur, err = unix.FcntlInt(uintptr(base), unix.F_DUPFD_CLOEXEC, 0)
	}
	if err != nil {
		return place{}, err
	}
	defer func() { unix.Close(cur) }()
	step := func(fd int) { unix.Close(cur); cur = fd }
	todo := strings.Split(rel, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if name == "" || name == "." {
			continue
		}
		fd, err := unix.Openat(cur, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return place{}, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return place{}, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK || nofollow && len(todo) == 0 {
			step(fd)
			continue
		}
		if links++; links > maxSymlinks {
			unix.Close(fd)
			return place{}, unix.ELOOP
		}
		target, magic, err := readLink(c, cur, fd, name)
		unix.Close(fd)
		switch {
		case err != nil:
			return place{}, err
		case magic:
			if fd, err = unix.Openat(cur, name, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
				return place{}, err
			}
			step(fd)
		case strings.HasPrefix(target, "/"):
			if fd, err = openBase(c, unix.AT_FDCWD, true); err != nil {
				return place{}, err
			}
			step(fd)
			fallthrough
		default:
			todo = append(strings.Split(target, "/"), todo...)
		}
	}
	return r.identify(c, cur)
}

// readLink reads a symbolic link for the thread: fd is the link, name its name
// in dir. magic says that its target is no path but the kernel's own reference.
func readLink(c *Call, dir, fd int, name string) (target string, magic bool, err error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", false, err
	}
	target = string(buf[:n])
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return target, false, err
	}
	tgid := strconv.Itoa(c.Process.TGID)
	at, err := fdPath(dir)
	switch {
	case err != nil:
		return "", false, err
	case at == "/proc" && name == "self":
		return tgid, false, nil
	case at == "/proc" && name == "thread-self":
		return tgid + "/task/" + strconv.Itoa(int(c.n.PID)), false, nil
	case at == "/proc":
		return target, false, nil // mounts, net
	}
	return target, true, nil
}

// ours reports whether an error of a resolution is the supervisor's own trouble,
// which must not be taken for an answer to the program.
func ours(err error) bool {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return true
	}
	switch errno {
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EINTR, unix.EIO, unix.ENOSYS, unix.EAGAIN:
		return true
	}
	return false
}

// path reads the path argument i of a call and resolves it against the dirfd
// given.
func (c *Call) path(dirfd int32, at uint64, nofollow bool) (place, Answer, bool) {
	name, err := c.String(at)
	if err != nil {
		return place{}, c.failed(err), false
	}
	p, err := c.s.resolver.resolve(c, dirfd, string(name), nofollow)
	if err != nil && ours(err) {
		return place{}, Fatal(fmt.Errorf("%s %q of process %s: resolve: %w", c.Name(), name, c.Process.Lineage, err)), false
	}
	return p, goOn, true
}

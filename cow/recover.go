//go:build linux

package cow

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A commit is made in two steps. First everything new is written to a staging
// directory, and what is to be done with it to a journal there; that harms nobody.
// Once the journal is complete it is carried out, each step of which may be done
// twice. Whoever is killed before leaves the host as it was, whoever is killed after
// leaves a journal that Recover carries out.
//
// So no step may rely on what the steps before it have left, but on what may be there
// when they are done once more: one that removes follows no symbolic link, which may have
// taken the place of a directory since.
const (
	stagingName = ".sandtest-commit"
	journalName = "journal"
)

// A journalStep is one thing to do to the host.
type journalStep struct {
	// Do is mode, remove, rmdir, mkdir, symlink, mknod, link, move, rewrite or attr.
	Do     string   `json:"do"`
	Path   rawName  `json:"path"`
	From   rawName  `json:"from,omitempty"`
	Target rawName  `json:"target,omitempty"`
	Mode   uint32   `json:"mode,omitempty"`
	UID    int      `json:"uid"`
	GID    int      `json:"gid"`
	Mtime  jsonTime `json:"mtime"`
	Rdev   uint64   `json:"rdev,omitempty"`
	// Xattrs are all that there are to be; nil leaves them alone.
	Xattrs []journalXattr `json:"xattrs"`
}

type journalXattr struct {
	Name  rawName `json:"name"`
	Value []byte  `json:"value"`
}

func (c *committing) writeJournal() error {
	text, err := json.MarshalIndent(c.steps, "", " ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(c.staging, journalName+".new")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	// Everything has to be on the disk before the journal counts.
	err = errors.Join(err, unix.Syncfs(int(f.Fd())), f.Close())
	if err == nil {
		err = markJournal(filepath.Dir(c.staging), text)
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(c.staging, journalName))
}

// Recover finishes a commit with the given home that was killed after it had
// begun to change the host, or clears away one that had not. It waits for one that is
// under way.
func Recover(home string) error {
	return alone(home, func() error {
		_, err := recoverAt(home)
		return err
	})
}

// Unfinished reports whether a commit of this user's with the given home was killed after it
// had begun to change the host. It waits for one that is under way.
func Unfinished(home string) (unfinished bool, err error) {
	look := func() error {
		text, err := os.ReadFile(filepath.Join(home, stagingName, journalName))
		if err == nil {
			_, err = checkJournal(home, text)
		}
		unfinished = err == nil
		return nil
	}
	if _ = look(); unfinished {
		err = alone(home, look)
	}
	return unfinished, err
}

// alone calls do while nobody else commits with the given home. The lock goes with the process
// that has it.
func alone(home string, do func() error) error {
	dir, err := unix.Open(home, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.EACCES && unix.Faccessat(unix.AT_FDCWD, home, unix.W_OK, unix.AT_EACCESS) == unix.EACCES {
		return do() // nobody who runs as this user commits anything there
	}
	if err != nil {
		return fmt.Errorf("cow: commit: open %s: %w", home, err)
	}
	defer unix.Close(dir)
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(dir, unix.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("cow: commit: lock %s, so that nobody else commits there: %w", home, err)
	}
	return do()
}

// recoverAt does what Recover does, and reports whether there was something to finish.
func recoverAt(home string) (finished bool, err error) {
	staging := filepath.Join(home, stagingName)
	text, err := os.ReadFile(filepath.Join(staging, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(staging); err != nil {
			return false, fmt.Errorf("cow: clear an unfinished commit away: %w", err)
		}
		return false, nil
	}
	var steps []journalStep
	var mark string
	if err == nil {
		mark, err = checkJournal(home, text)
	}
	if err == nil {
		err = json.Unmarshal(text, &steps)
	}
	if err != nil {
		return false, fmt.Errorf("cow: read the journal of a commit, %s: %w", filepath.Join(staging, journalName), err)
	}
	for _, s := range steps {
		if err := s.run(); err != nil {
			return false, fmt.Errorf("cow: commit: the host's files are changed in part; %s says what is missing, and the next commit goes on with it: %s %s: %w",
				filepath.Join(staging, journalName), s.Do, s.Path, err)
		}
	}
	if err := os.RemoveAll(staging); err != nil {
		return false, fmt.Errorf("cow: clear a finished commit away: %w", err)
	}
	if err := os.Remove(mark); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("cow: clear a finished commit away: %w", err)
	}
	return true, nil
}

// run does a step, which may have been done before.
func (s *journalStep) run() error {
	path, from := string(s.Path), string(s.From)
	switch s.Do {
	case "mode":
		return s.setMode()
	case "remove":
		return s.remove(0, unix.ENOENT, unix.EISDIR)
	case "rmdir":
		return s.remove(unix.AT_REMOVEDIR, unix.ENOENT, unix.ENOTDIR)
	case "mkdir":
		return unless(unix.Mkdir(path, 0o700), unix.EEXIST)
	case "symlink":
		return s.replace(func(tmp string) error { return s.symlink(tmp) })
	case "mknod":
		return s.replace(func(tmp string) error {
			if err := unix.Mknod(tmp, s.Mode, int(s.Rdev)); err != nil {
				return err
			}
			return setAttr(tmp, *s)
		})
	case "link":
		err := s.replace(func(tmp string) error { return unix.Link(from, tmp) })
		if err == unix.EXDEV {
			return s.copyOver()
		}
		return err
	case "move":
		err := unix.Rename(from, path)
		if err == unix.EXDEV {
			return s.copyOver()
		}
		if err == unix.ENOENT && unix.Access(from, unix.F_OK) == unix.ENOENT {
			return nil
		}
		return err
	case "rewrite":
		return s.rewrite()
	case "attr":
		return setAttr(path, *s)
	}
	return fmt.Errorf("unknown step %q", s.Do)
}

// unless forgets an error that says that a step has been done.
func unless(err error, done ...unix.Errno) error {
	for _, d := range done {
		if err == d {
			return nil
		}
	}
	return err
}

// setMode changes the mode of a directory, if it still is one.
func (s *journalStep) setMode() error {
	fd, err := openUnlinked(string(s.Path), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return unless(err, unix.ENOENT, unix.ENOTDIR)
	}
	defer unix.Close(fd)
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), s.Mode)
}

// remove removes a name from the directory in which it was found.
func (s *journalStep) remove(flags int, done ...unix.Errno) error {
	fd, err := openUnlinked(filepath.Dir(string(s.Path)), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return unless(err, unix.ENOENT, unix.ENOTDIR)
	}
	defer unix.Close(fd)
	return unless(unix.Unlinkat(fd, filepath.Base(string(s.Path)), flags), done...)
}

// replace makes something, and puts it in the place of whatever is there.
func (s *journalStep) replace(create func(tmp string) error) error {
	path := string(s.Path)
	tmp := filepath.Join(filepath.Dir(path), stagingName+"-new")
	if err := unless(unix.Unlink(tmp), unix.ENOENT); err != nil {
		return err
	}
	err := create(tmp)
	if err == nil {
		err = unix.Rename(tmp, path)
	}
	_ = unix.Unlink(tmp) // it is left with an error, or if both are names of one file
	return err
}

func (s *journalStep) symlink(path string) error {
	if err := unix.Symlink(string(s.Target), path); err != nil {
		return err
	}
	if err := unix.Lchown(path, s.UID, s.GID); err != nil {
		return err
	}
	return setTimes(path, unix.Timespec(s.Mtime), unix.Timespec(s.Mtime))
}

// rewrite writes into a file. What it writes stays until all steps are done.
func (s *journalStep) rewrite() (err error) {
	from, err := os.Open(string(s.From))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openWritable(string(s.Path))
	if err != nil {
		return err
	}
	err = unix.Ftruncate(to, 0)
	if err == nil {
		err = copyBytes(to, int(from.Fd()))
	}
	if err = errors.Join(err, unix.Fsync(to), unix.Close(to)); err != nil {
		return err
	}
	return setAttr(string(s.Path), *s)
}

// openWritable opens a file whose mode may forbid that, and is set afterwards.
func openWritable(path string) (fd int, err error) {
	const flags = unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	if fd, err = unix.Open(path, flags, 0); err != unix.EACCES {
		return fd, err
	}
	if err := chmodItself(path, 0o600); err != nil {
		return -1, err
	}
	return unix.Open(path, flags, 0)
}

// copyOver copies a file to another file system.
func (s *journalStep) copyOver() (err error) {
	from, err := os.Open(string(s.From))
	if err != nil {
		return err
	}
	defer from.Close()
	path := string(s.Path)
	tmp := filepath.Join(filepath.Dir(path), stagingName+"-copy")
	to, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Sync(), to.Close()); err == nil {
		if err = setAttr(tmp, *s); err == nil {
			err = os.Rename(tmp, path)
		}
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}

// setAttr sets owner, extended attributes, mode and time.
func setAttr(path string, s journalStep) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if int(st.Uid) != s.UID || int(st.Gid) != s.GID {
		if err := unix.Lchown(path, s.UID, s.GID); err != nil {
			return err
		}
	}
	err := s.setXattrs(path)
	if err == unix.EACCES { // who may not write to it may not change them
		if err = unix.Chmod(path, st.Mode&0o7777|0o700); err == nil {
			err = s.setXattrs(path)
		}
	}
	if err != nil {
		return err
	}
	if int(st.Uid) != unix.Geteuid() && st.Mode&0o7777 == s.Mode&0o7777 && unix.Geteuid() != 0 {
		return nil // somebody else's, that was written to: its time is that of the write
	}
	if err := unix.Chmod(path, s.Mode&0o7777); err != nil {
		return err
	}
	return setTimes(path, unix.Timespec(s.Mtime), unix.Timespec(s.Mtime))
}

// committedXattr reports whether a commit writes an extended attribute.
func committedXattr(name string) bool {
	return strings.HasPrefix(name, "user.") || unix.Geteuid() == 0
}

// setXattrs makes the extended attributes of a file those of the step.
func (s *journalStep) setXattrs(path string) error {
	if s.Xattrs == nil {
		return nil
	}
	old, err := lowerXattrs(path)
	if err != nil {
		return err
	}
	for _, x := range s.Xattrs {
		name := string(x.Name)
		if was, ok := old[name]; !ok || was != string(x.Value) {
			if err := unix.Lsetxattr(path, name, x.Value, 0); err != nil {
				return err
			}
		}
		delete(old, name)
	}
	for name := range old {
		if !committedXattr(name) {
			continue
		}
		if err := unless(unix.Lremovexattr(path, name), unix.ENODATA); err != nil {
			return err
		}
	}
	return nil
}

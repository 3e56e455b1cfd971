//go:build linux

package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// A layerDir holds what a sandbox writes. It is locked as long as the sandbox is in
// use (flock(2)), so that one whose supervisor was killed is told from one in use, and
// removed by the next sandbox of the same user, if the sweeper hasn't done so.
type layerDir struct {
	path string
	lock int
}

// A sharedLayer is the directories of a sandbox, or of several, one after another. That for
// bytes is made when there are some: many a command writes none, and to make and remove a
// directory takes ext4 a good part of a start. The one for what holds no bytes lies in
// memory where it can.
type sharedLayer struct {
	small layerDir
	tmp   string // where the one for bytes is made
	mu    sync.Mutex
	uses  int
	large *layerDir // nil until it is made
}

func newSharedLayer() (*sharedLayer, error) {
	tmp, err := filepath.EvalSymlinks(os.TempDir()) // no symbolic link is followed there later
	if err != nil {
		return nil, err
	}
	if err := mayHaveLayers(tmp); err != nil {
		return nil, err
	}
	l := &sharedLayer{tmp: tmp, uses: 1}
	// Before there is any. It can't wait until there are bytes: who makes the layer for them
	// may hold what keeps this process from starting others.
	sweeps.watch(filepath.Join(layerHome("/dev/shm"), layerPrefix()), filepath.Join(layerHome(tmp), layerPrefix()))
	for _, dir := range []string{"/dev/shm", tmp} {
		if dir == tmp || inMemory(dir) {
			if l.small, err = newLayerDir(dir); err == nil {
				break
			}
		}
	}
	if filepath.Dir(filepath.Dir(l.small.path)) == tmp || err != nil {
		l.large = &l.small
	}
	return l, err
}

// mayHaveLayers finds out, before a command starts, whether there can be a layer.
func mayHaveLayers(tmp string) error {
	home := layerHome(tmp)
	switch err := checkOwnDir(home); {
	case err == nil:
		sweepLayers(home)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := unix.Faccessat(unix.AT_FDCWD, tmp, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &os.PathError{Op: "write to", Path: tmp, Err: err}
	}
	return nil
}

// inMemory reports whether a directory's files are in memory.
func inMemory(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC
}

// path returns the directory for bytes.
func (l *sharedLayer) path() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.large == nil {
		dir, err := newLayerDir(l.tmp)
		if err != nil {
			return "", fmt.Errorf("make a directory for what is written: %w", err)
		}
		l.large = &dir
	}
	return l.large.path, nil
}

// share notes one more, unless the directory is gone.
func (l *sharedLayer) share() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.uses == 0 {
		return false
	}
	l.uses++
	return true
}

// leave removes the directory with the last.
func (l *sharedLayer) leave() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.uses--; l.uses > 0 {
		return nil
	}
	if l.large == nil || l.large == &l.small {
		return l.small.remove()
	}
	return errors.Join(l.large.remove(), l.small.remove())
}

// layerHome is the directory of the user's own in which layers lie.
func layerHome(tmp string) string {
	return filepath.Join(tmp, "sandtest-"+strconv.Itoa(os.Geteuid()))
}

// newLayerDir makes a directory below one of the user's own in tmp.
func newLayerDir(tmp string) (layerDir, error) {
	home := layerHome(tmp)
	const tries = 1000 // others come and go at the same time
	for range tries {
		if err := ownDir(home); err != nil {
			return layerDir{}, err
		}
		spreadOut(home)
		sweepLayers(home)
		path, err := os.MkdirTemp(home, layerPrefix())
		if err == nil {
			// Whatever the umask is: a program that has become somebody else executes what it
			// has written.
			err = os.Chmod(path, 0o711)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // the last sandbox has taken one of them away
		}
		if err != nil {
			return layerDir{}, err
		}
		if lock, ok := lockDir(path); ok {
			return layerDir{path, lock}, nil
		}
		// Somebody took it for one that was left behind.
	}
	return layerDir{}, fmt.Errorf("no directory below %s could be locked (flock) in %d tries", home, tries)
}

// ownDir makes sure that a directory is there which nobody else can write.
func ownDir(dir string) error {
	const mode = 0o711
	err := os.Mkdir(dir, mode)
	if err == nil {
		if err = os.Chmod(dir, mode); errors.Is(err, fs.ErrNotExist) { // whatever the umask is
			return ownDir(dir) // the last sandbox has taken it away
		}
		return err
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := checkOwnDir(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return ownDir(dir)
}

// checkOwnDir makes sure that nobody else can write a directory.
func checkOwnDir(dir string) error {
	err := cow.CheckOwnDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w, or set TMPDIR", err)
	}
	return err
}

// spreadOut has ext4 give each directory in dir a group of blocks of its own, as it does
// those in its root. Elsewhere they lie in one, where a new file passes by every inode that
// was freed within the last five seconds (recently_deleted, fs/ext4/ialloc.c): those of the
// sandbox before. This is a matter of speed alone; other file systems have no such
// attribute, and do without.
func spreadOut(dir string) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	const topDir = 0x00020000 // FS_TOPDIR_FL, linux/fs.h
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && flags&topDir == 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags|topDir)
	}
}

// lockDir locks a directory, unless somebody else has or it is gone.
func lockDir(dir string) (fd int, ok bool) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, false
	}
	var st unix.Stat_t
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil || unix.Fstat(fd, &st) != nil || st.Nlink == 0 {
		unix.Close(fd)
		return -1, false
	}
	return fd, true
}

// sweepLayers removes directories that nobody holds. What can't be removed now may be
// another time.
func sweepLayers(home string) {
	list, err := os.ReadDir(home)
	if err != nil {
		return
	}
	for _, e := range list {
		path := filepath.Join(home, e.Name())
		if fd, ok := lockDir(path); ok {
			removeLeft(path)
			_ = os.RemoveAll(path)
			unix.Close(fd)
		}
	}
}

// remove removes the directory.
func (d *layerDir) remove() error {
	err := os.RemoveAll(d.path)
	if d.lock > 0 {
		unix.Close(d.lock)
		d.lock = 0
	}
	_ = os.Remove(filepath.Dir(d.path)) // it stays while there are others
	return err
}

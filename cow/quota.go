//go:build linux

package cow

import (
	"slices"

	"golang.org/x/sys/unix"
)

// What counts for [Config.MaxBytes] are the bytes of the layer's files, and what names and
// attributes hold besides them: targets of symbolic links and extended attributes that
// were set. For [Config.MaxInodes] each file, directory and link that was made does.
//
// A file that has lost its name counts as long as somebody has it open or mapped. Where
// there is a limit its object keeps a name on the host until nobody has: the kernel gives
// a lease to write only then (fcntl(2), F_SETLEASE). That is looked at when the limit is
// reached, or there are many such files.

// occupy counts one more inode, unless there are as many as there may be.
func (t *Tree) occupy() error {
	if t.maxInodes > 0 && t.inodes >= t.maxInodes {
		if len(t.nameless) > 0 {
			t.vacate()
		}
		if t.inodes >= t.maxInodes {
			return unix.ENOSPC
		}
	}
	t.inodes++
	return nil
}

// limited reports whether it matters how much there is.
func (t *Tree) limited() bool { return t.maxBytes > 0 || t.maxInodes > 0 }

// hold makes room for what an inode holds in memory, if that is more than before.
func (t *Tree) hold(in *Inode) error {
	size := max(sizeOf(in.xattrs)-in.below, 0)
	if in.own&made != 0 {
		size += int64(len(in.target))
	}
	if more := size - in.holds; more > 0 && t.reserve(more) < more {
		return unix.ENOSPC
	}
	t.inMemory += size - in.holds
	in.holds = size
	return nil
}

// sizeOf is how much extended attributes hold.
func sizeOf(xattrs map[string]string) (size int64) {
	for name, value := range xattrs {
		size += int64(len(name) + len(value))
	}
	return size
}

// manyNameless is how many files without a name are kept before somebody looks which of
// them are open.
const manyNameless = 1024

// loseName notes that a file has no name.
func (t *Tree) loseName(in *Inode) {
	if in.nameless {
		return // it had none before
	}
	if len(t.nameless) >= t.manyNameless {
		t.vacate()
		t.manyNameless = max(manyNameless, 2*len(t.nameless))
	}
	in.nameless = true
	t.nameless = append(t.nameless, in)
}

// vacate gives up the files without a name that nobody has open, and returns the bytes of
// the others.
func (t *Tree) vacate() (sum int64) {
	t.nameless = slices.DeleteFunc(t.nameless, func(in *Inode) bool {
		if in.attr.Nlink > 0 { // it was given one
			in.nameless = false
			return true
		}
		size, open := openSize(in.object.path)
		if !open {
			t.giveUp(in)
			return true
		}
		sum += size
		return false
	})
	return sum
}

// giveUp frees what a file has held that is no more.
func (t *Tree) giveUp(in *Inode) {
	if o := in.object; o != nil {
		var st unix.Stat_t
		if unix.Lstat(o.path, &st) == nil && t.known[idOf(&st)] == in {
			delete(t.known, idOf(&st))
		}
		o.dropped = true
		_ = unix.Unlink(o.path) // what is left goes with the upper directory
	}
	t.forget(in)
}

// forget counts an inode no longer.
func (t *Tree) forget(in *Inode) {
	if in.own&made != 0 {
		t.inodes--
	}
	t.inMemory -= in.holds
	in.holds = 0
}

// openSize returns the size of an object, and whether somebody has it open or mapped.
func openSize(path string) (size int64, open bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0, false
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	if err == nil {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) // closing would do as well
	}
	return st.Size, err == unix.EAGAIN
}

// unlimited carries something out that counts and isn't refused.
func (t *Tree) unlimited(do func() error) error {
	bytes, inodes := t.maxBytes, t.maxInodes
	t.maxBytes, t.maxInodes = 0, 0
	err := do()
	t.maxBytes, t.maxInodes = bytes, inodes
	if t.limited() {
		t.reserved = t.used()
	}
	return err
}

// A Space is how much of something there may be, and is. Without a limit Most is 0.
type Space struct{ Most, Used int64 }

// Space returns how many bytes and inodes count.
func (t *Tree) Space() (bytes, inodes Space) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.limited() {
		return bytes, inodes
	}
	t.reserved = t.used()
	return Space{t.maxBytes, t.reserved}, Space{t.maxInodes, t.inodes}
}

//go:build linux

package conformance

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	"golang.org/x/sys/unix"
)

// SequenceHeld returns n random operations as [SequenceWithin] does, half of them on files
// that are held open meanwhile. They can be carried out once.
func SequenceHeld(seed uint64, n int) []Op {
	r := rand.New(rand.NewPCG(seed, 2))
	h := new(held)
	list := SequenceWithin(seed, n)
	for i := range list {
		if r.IntN(2) == 0 {
			list[i] = h.random(r, i)
		}
	}
	return list
}

// held are files that are open, by numbers of their own.
type held [4]holding

type holding struct {
	fd    int // 0 if there is none
	reads bool
}

var heldPaths = []string{"f", "a/f", "a/l", "a/b/f", "c/l", "new", "b", "s", "a/new"}

// random is an operation on one of them.
func (h *held) random(r *rand.Rand, number int) Op {
	slot, path := r.IntN(len(h)), heldPaths[r.IntN(len(heldPaths))]
	switch r.IntN(10) {
	case 0, 1:
		return h.open(slot, path, []int{unix.O_RDWR, unix.O_RDWR | unix.O_CREAT, unix.O_RDWR | unix.O_APPEND, unix.O_RDONLY, unix.O_RDWR | unix.O_TRUNC}[r.IntN(5)])
	case 2:
		return h.open(slot, "a", unix.O_TMPFILE|unix.O_RDWR)
	case 3:
		return h.op("read", slot, func(fd int) (any, error) {
			if !h[slot].reads {
				return "", nil // what the host has
			}
			b := make([]byte, 1<<12)
			n, err := unix.Pread(fd, b, 0)
			return string(b[:max(n, 0)]), err
		})
	case 4:
		at := int64(r.IntN(3)) * 5
		return h.op("write", slot, func(fd int) (any, error) { return unix.Pwrite(fd, fmt.Appendf(nil, "held %d\n", number), at) })
	case 5:
		size := int64(r.IntN(30))
		return h.op("ftruncate "+strconv.FormatInt(size, 10), slot, func(fd int) (any, error) { return "", unix.Ftruncate(fd, size) })
	case 6:
		mode := []uint32{0o600, 0o640, 0o755}[r.IntN(3)]
		return h.op(fmt.Sprintf("fchmod %o", mode), slot, func(fd int) (any, error) { return "", unix.Fchmod(fd, mode) })
	case 7:
		flags := []int{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC}[r.IntN(3)]
		return h.op(fmt.Sprintf("reopen %#x", flags), slot, func(fd int) (any, error) { return h.reopen(slot, fd, flags) })
	case 8:
		return Op{fmt.Sprintf("link held %d %s", slot, path), func(f Files) string {
			b, ok := f.(Bare)
			if !ok || h[slot].fd == 0 {
				return "none"
			}
			return outcome(unix.Linkat(unix.AT_FDCWD, fdPath(h[slot].fd), b.Dir, path, unix.AT_SYMLINK_FOLLOW))
		}}
	}
	return h.op("fstat", slot, func(fd int) (any, error) {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		return fmt.Sprint(st.Mode, st.Nlink, st.Size, st.Uid), err
	})
}

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// open holds a file instead of the one before.
func (h *held) open(slot int, path string, flags int) Op {
	return Op{fmt.Sprintf("hold %d %s %#x", slot, path, flags), func(f Files) string {
		b, ok := f.(Bare)
		if !ok {
			return "none"
		}
		fd, err := unix.Openat(b.Dir, path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(fd, &st)
		}
		if err != nil {
			return outcome(err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return outcome(unix.Close(fd), "no regular file")
		}
		if h[slot].fd != 0 {
			_ = unix.Close(h[slot].fd)
		}
		h[slot] = holding{fd, flags&unix.O_ACCMODE == unix.O_RDWR}
		return outcome(nil)
	}}
}

// reopen opens a file by its descriptor, and uses it.
func (h *held) reopen(slot, fd, flags int) (any, error) {
	again, err := unix.Open(fdPath(fd), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(again)
	if flags&unix.O_ACCMODE != unix.O_RDONLY {
		return unix.Pwrite(again, []byte("again"), 2)
	}
	if !h[slot].reads {
		return "", nil
	}
	b := make([]byte, 1<<12)
	n, err := unix.Pread(again, b, 0)
	return string(b[:max(n, 0)]), err
}

func (h *held) op(name string, slot int, do func(fd int) (any, error)) Op {
	return Op{fmt.Sprintf("%s of held %d", name, slot), func(Files) string {
		if h[slot].fd == 0 {
			return "none"
		}
		what, err := do(h[slot].fd)
		return outcome(err, what)
	}}
}

package dcache

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"
)

// A program opens a file that is the host's and unchanged by a path that lies in memory which
// only the supervisor writes: it can't open anything else so, whatever it jumps to, as a
// filter that lets openat2(2) through for a path of that memory alone looks at where the path
// and how it is to be opened lie, and that memory can neither be replaced nor removed
// (mseal(2)). What lies there are whole slots, none of which begins within a path.

// How it may be opened, by the bits of the slot's number, and what else is always so: what has
// come to be a symbolic link isn't followed.
const (
	oNonblock  = 0x800 // linux/fcntl.h
	oDirectory = 0x10000
	oNofollow  = 0x20000
	oCloexec   = 0x80000

	resolveNoMagic    = 0x02 // linux/openat2.h
	resolveNoSymlinks = 0x04
)

var howFlags = [...]uint64{oNonblock, oCloexec, oDirectory, oNofollow}

func (t *Table) placeHow() {
	for i := range uint32(HowSlots) {
		flags := uint64(0)
		for bit, flag := range howFlags {
			if i>>bit&1 == 1 {
				flags |= flag
			}
		}
		how := t.mem[PathsOffset+i*PathSlot:]
		binary.LittleEndian.PutUint64(how, flags)
		binary.LittleEndian.PutUint64(how[16:], resolveNoMagic|resolveNoSymlinks)
	}
	t.paths = HowSlots * PathSlot
}

// An opening says how something is opened.
type opening struct {
	path uint32 // where its path is, behind PathsOffset; 0 if it can't be
	mark uint32 // of a directory
}

// Opens lets programs open files by their paths from now on, or not.
func (t *Table) Opens(may bool) {
	v := uint32(0)
	if may {
		v = 1
	}
	t.store(opensOffset, v)
}

// Executes lets programs find out themselves that there is nothing to execute, from now on.
func (t *Table) Executes() { t.store(execsOffset, 1) }

// path places a path, and returns where behind PathsOffset it lies; 0 if it is too long, or
// there is no room. A path lies in one slot alone.
func (t *Table) path(host string) uint32 {
	if at := t.slots[host]; at != 0 {
		return at
	}
	at := t.paths
	if host == "" || len(host) >= PathSlot || at == PathsSize {
		return 0
	}
	t.paths += PathSlot
	t.readyPaths = t.readyUpTo(PathsOffset+t.paths, t.readyPaths)
	var slot [PathSlot]byte
	copy(slot[:], host)
	copy(t.mem[PathsOffset+at+pathWord:][:PathSlot-pathWord], slot[pathWord:])
	t.storePath(at, binary.NativeEndian.Uint64(slot[:])) // until here it leads nowhere
	if t.slots == nil {
		t.slots = map[string]uint32{}
	}
	t.slots[host] = at
	return at
}

// pathWord is how much of a path is stored at once.
const pathWord = 8

func (t *Table) storePath(at uint32, begin uint64) {
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&t.mem[PathsOffset+at])), begin)
}

// Closes makes a path one that leads nowhere, whatever says that it may be opened.
func (t *Table) Closes(host string) {
	if at := t.slots[host]; at != 0 {
		t.storePath(at, 0)
		delete(t.slots, host)
	}
}

//go:build linux

package supervisor

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// disk keeps what the sandbox writes within a limit: ENOSPC beyond.
//
// What grows a file of the layer stops, and the tree is asked for room; where there is
// room for a part, a call that may transfer less does. Space that is free again, because
// a file has become shorter or is gone, is found when it is needed. Without a limit
// nothing stops.
//
// Removed files count until nobody has them open (package cow, quota.go). statfs tells what
// is left.
//
// What remains: of a file with holes the holes count.
func disk(s *Sandbox) feature {
	f := feature{name: "disk"}
	if s.cfg.Limits.Disk == 0 {
		return f
	}
	for _, w := range diskWrites {
		f.calls = append(f.calls, call{name: w.name, on: byStop, watch: func(e *event) Answer { return s.grow(e, w) }})
	}
	// Who can't write in the background writes as others do.
	f.calls = append(f.calls, call{name: "io_setup", errno: unix.ENOSYS})
	return f
}

// A diskWrite is a call that may make a file longer: its descriptor, and which arguments
// the position and the number of bytes are, or -1.
type diskWrite struct {
	name                 string
	fd, offset, count    int
	from                 int  // the descriptor that is read, where there is one, from 1
	vector, indirect     bool // count is one of buffers; offset is a pointer to it
	truncates, allocates bool
}

var diskWrites = []diskWrite{
	{name: "write", offset: -1, count: 2},
	{name: "pwrite64", offset: 3, count: 2},
	{name: "writev", offset: -1, count: 2, vector: true},
	{name: "pwritev", offset: 3, count: 2, vector: true},
	{name: "pwritev2", offset: 3, count: 2, vector: true},
	{name: "sendfile", offset: -1, count: 3, from: 2},
	{name: "copy_file_range", fd: 2, offset: 3, count: 4, indirect: true, from: 1},
	{name: "splice", fd: 2, offset: 3, count: 4, indirect: true, from: 1},
	{name: "ftruncate", offset: 1, count: -1, truncates: true},
	{name: "fallocate", offset: 2, count: 3, allocates: true},
}

// grow makes room for what a call writes.
func (s *Sandbox) grow(e *event, w diskWrite) Answer {
	fd, err := e.th.proc.fd(e.th.tid, e.int(w.fd))
	if err != nil {
		return goOn // the kernel says what is wrong with it
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return goOn
	}
	if f := s.view.tree.Descriptor(&st); f == nil || !f.InLayer() {
		return goOn
	}
	count := e.bytes(w)
	end := e.position(w, fd, &st) + count
	if w.truncates {
		end = int64(e.args[w.offset])
	}
	growth := end - st.Size
	if growth <= 0 || count < 0 {
		return goOn
	}
	room := s.view.tree.Reserve(growth)
	switch left := count - (growth - room); {
	case room >= growth:
		return goOn
	case left <= 0 || w.vector || w.truncates || w.allocates:
		return Errno(unix.ENOSPC)
	default:
		given := e.args[w.count]
		e.stop.setArg(w.count, uint64(left))
		e.stop.OnExit(func(st *Stop) { st.setArg(w.count, given) })
		return goOn
	}
}

// bytes returns how many bytes a call is to write.
func (e *event) bytes(w diskWrite) (sum int64) {
	switch {
	case w.truncates:
		return 0
	case w.from > 0:
		return min(int64(min(e.args[w.count], maxRW)), e.rest(w.from-1))
	case !w.vector:
		return int64(min(e.args[w.count], maxRW))
	}
	const sizeOfIovec, most = 16, 1024 // UIO_MAXIOV
	n := min(e.args[w.count], most)
	b := make([]byte, n*sizeOfIovec)
	if e.read(e.args[1], b) != nil {
		return 0
	}
	for ; len(b) > 0; b = b[sizeOfIovec:] {
		sum += int64(min(binary.NativeEndian.Uint64(b[8:]), maxRW))
	}
	return min(sum, maxRW)
}

// rest returns how many bytes there are at most to be read from a descriptor, whose
// position is the argument after it, a pointer.
func (e *event) rest(arg int) int64 {
	fd, err := e.th.proc.fd(e.th.tid, e.int(arg))
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return maxRW
	}
	at, _ := unix.Seek(fd, 0, unix.SEEK_CUR)
	var b [8]byte
	if ptr := e.args[arg+1]; ptr != 0 && e.read(ptr, b[:]) == nil {
		at = int64(binary.NativeEndian.Uint64(b[:]))
	}
	return max(st.Size-at, 0)
}

// position returns where in the file a call begins to write.
func (e *event) position(w diskWrite, fd int, st *unix.Stat_t) int64 {
	if w.allocates {
		const keepSize = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE
		if e.args[1]&keepSize == unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE {
			return -int64(e.args[w.count]) // it frees
		}
		return int64(e.args[w.offset])
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	switch {
	case err == nil && flags&unix.O_APPEND != 0:
		return st.Size
	case w.indirect && e.args[w.offset] != 0:
		var b [8]byte
		if e.read(e.args[w.offset], b[:]) == nil {
			return int64(binary.NativeEndian.Uint64(b[:]))
		}
	case w.offset >= 0 && !w.indirect:
		if at := int64(e.args[w.offset]); at >= 0 {
			return at
		}
	}
	at, _ := unix.Seek(fd, 0, unix.SEEK_CUR)
	return at
}

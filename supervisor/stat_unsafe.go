//go:build linux

package supervisor

import (
	"unsafe"

	"github.com/sandtest/go-sandtest/cow"
	"golang.org/x/sys/unix"
)

// statBytes returns the bytes of a struct as the kernel lays it out.
func statBytes(st *unix.Stat_t) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(st)), unsafe.Sizeof(*st))
}

func statfsBytes(fs *unix.Statfs_t) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(fs)), unsafe.Sizeof(*fs))
}

func statxBytes(a *cow.Attr, dev uint64) []byte {
	ts := func(t unix.Timespec) unix.StatxTimestamp {
		return unix.StatxTimestamp{Sec: t.Sec, Nsec: uint32(t.Nsec)}
	}
	x := &unix.Statx_t{
		Mask: unix.STATX_BASIC_STATS | unix.STATX_BTIME, Blksize: cow.BlockSize, Nlink: a.Nlink, Uid: a.UID, Gid: a.GID, Mode: uint16(a.Mode),
		Ino: a.Ino, Size: uint64(a.Size), Blocks: uint64(a.Blocks()), Atime: ts(a.Atime), Btime: ts(a.Btime), Ctime: ts(a.Ctime), Mtime: ts(a.Mtime),
		Rdev_major: unix.Major(a.Rdev), Rdev_minor: unix.Minor(a.Rdev), Dev_major: unix.Major(dev), Dev_minor: unix.Minor(dev),
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(x)), unsafe.Sizeof(*x))
}

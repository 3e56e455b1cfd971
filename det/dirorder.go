package det

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
)

// A Dirent is one entry of a directory as getdents64(2) reports it.
type Dirent struct {
	Ino  uint64
	Type uint8 // DT_REG and its kin, readdir(3)
	Name []byte
}

// ErrDirent is the error for bytes that aren't a list of directory entries.
var ErrDirent = errors.New("malformed directory entry")

// The kernel's struct linux_dirent64 and struct linux_dirent (fs/readdir.c).
const (
	dirent64Name = 19 // offset of d_name in linux_dirent64
	direntName   = 18 // offset of d_name in linux_dirent
)

// ParseDirents64 appends the entries in buf, the result of one getdents64(2),
// to list. The names alias buf.
func ParseDirents64(list []Dirent, buf []byte) ([]Dirent, error) {
	for len(buf) > 0 {
		if len(buf) < dirent64Name+1 {
			return list, fmt.Errorf("%w: %d bytes left", ErrDirent, len(buf))
		}
		reclen := int(binary.NativeEndian.Uint16(buf[16:]))
		if reclen < dirent64Name+1 || reclen > len(buf) {
			return list, fmt.Errorf("%w: length %d of %d bytes", ErrDirent, reclen, len(buf))
		}
		name := buf[dirent64Name:reclen]
		end := bytes.IndexByte(name, 0)
		if end <= 0 {
			return list, fmt.Errorf("%w: name without end or empty", ErrDirent)
		}
		list = append(list, Dirent{
			Ino:  binary.NativeEndian.Uint64(buf),
			Type: buf[18],
			Name: name[:end:end],
		})
		buf = buf[reclen:]
	}
	return list, nil
}

// SortDirents puts "." and ".." first and the rest in the order of their names'
// bytes.
func SortDirents(list []Dirent) {
	// Most comparisons are decided by eight bytes after what all names share.
	type keyed struct {
		key uint64
		e   Dirent
	}
	skip := commonPrefix(list)
	keys := make([]keyed, len(list))
	for i, e := range list {
		keys[i] = keyed{sortKey(e.Name, skip), e}
	}
	slices.SortFunc(keys, func(a, b keyed) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		return bytes.Compare(a.e.Name, b.e.Name)
	})
	for i := range keys {
		list[i] = keys[i].e
	}
}

// sortKey returns the first eight bytes of a name after skip, so that keys are in
// the order of names, or in doubt equal. Zero is left to "." and "..", which no
// other key can be: a name has no zero byte.
func sortKey(name []byte, skip int) uint64 {
	if isDot(name) {
		return 0
	}
	if len(name)-skip >= 8 {
		return binary.BigEndian.Uint64(name[skip:])
	}
	var b [8]byte
	if copy(b[:], name[min(skip, len(name)):]) == 0 {
		return 1 // the name is the common prefix itself, and comes first
	}
	return binary.BigEndian.Uint64(b[:])
}

// commonPrefix is how many bytes all names but "." and ".." begin with.
func commonPrefix(list []Dirent) int {
	var first []byte
	n := 0
	for _, e := range list {
		switch {
		case isDot(e.Name):
		case first == nil:
			first, n = e.Name, len(e.Name)
		default:
			n = min(n, len(e.Name))
			for n > 0 && !bytes.Equal(first[:n], e.Name[:n]) {
				n--
			}
		}
	}
	return n
}

func isDot(name []byte) bool { return string(name) == "." || string(name) == ".." }

// AppendDirent64 appends e as getdents64(2) would write it, with next as its
// d_off. It returns false, with buf as it was, when that would take buf beyond
// limit bytes.
func AppendDirent64(buf []byte, e Dirent, next int64, limit int) ([]byte, bool) {
	reclen := align8(dirent64Name + len(e.Name) + 1)
	if len(buf)+reclen > limit || reclen > math.MaxUint16 {
		return buf, false
	}
	at := len(buf)
	buf = appendHeader(buf, e, next, reclen)
	buf[at+18] = e.Type
	copy(buf[at+dirent64Name:], e.Name)
	return buf, true
}

// AppendDirent is AppendDirent64 for the older getdents(2), in which the type
// stands in the last byte of the entry.
func AppendDirent(buf []byte, e Dirent, next int64, limit int) ([]byte, bool) {
	reclen := align8(direntName + len(e.Name) + 2)
	if len(buf)+reclen > limit || reclen > math.MaxUint16 {
		return buf, false
	}
	at := len(buf)
	buf = appendHeader(buf, e, next, reclen)
	copy(buf[at+direntName:], e.Name)
	buf[at+reclen-1] = e.Type
	return buf, true
}

// appendHeader appends reclen bytes that begin with the fields both layouts
// share.
func appendHeader(buf []byte, e Dirent, next int64, reclen int) []byte {
	buf = binary.NativeEndian.AppendUint64(buf, e.Ino)
	buf = binary.NativeEndian.AppendUint64(buf, uint64(next))
	buf = binary.NativeEndian.AppendUint16(buf, uint16(reclen))
	for range reclen - 18 {
		buf = append(buf, 0)
	}
	return buf
}

func align8(n int) int { return (n + 7) &^ 7 }

// An Order is how the names of a directory are listed.
type Order struct {
	// Reversed lists the last name first.
	Reversed bool
	// Shuffle, if not 0, lists names in an order that is drawn from it and them.
	Shuffle uint64
}

// Arrange puts "." and ".." first and the rest in an order, that of names for the zero
// Order.
func (o Order) Arrange(list []Dirent) {
	SortDirents(list)
	names := list
	for len(names) > 0 && isDot(names[0].Name) {
		names = names[1:]
	}
	if o.Reversed {
		slices.Reverse(names)
	}
	if o.Shuffle == 0 {
		return
	}
	h := fnv.New64a()
	for _, e := range names {
		_, _ = h.Write(append(e.Name, 0))
	}
	r := rand.New(rand.NewPCG(o.Shuffle, h.Sum64()))
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
}

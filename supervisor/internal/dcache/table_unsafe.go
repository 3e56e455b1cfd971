package dcache

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// A Table is the writer's side. One goroutine at a time may call its methods.
type Table struct {
	mem   []byte
	next  uint32 // where the next entry will lie
	sites sites
	links []uint32 // those that lead somewhere
	paths uint32   // where the next path will lie, behind PathsOffset
	slots map[string]uint32

	ready, readyPaths uint32 // up to where there is memory already
}

// New begins a table in mem, Size bytes of zeroes that programs map shared.
func New(mem []byte) (*Table, error) {
	if len(mem) < Size {
		return nil, fmt.Errorf("dcache: %d bytes of memory, want %d", len(mem), Size)
	}
	t := &Table{mem: mem[:Size], next: firstEntry}
	t.placeHow()
	return t, t.placeCode()
}

// Attr is what stat(2) tells of a file that is no device.
type Attr struct {
	Ino          uint64
	Mode         uint32 // with its type
	UID, GID     uint32
	Links        uint32 // names
	Size         int64
	Mtime, Ctime Time   // the time of access is Mtime, that of birth the earlier
	May          uint32 // which of R_OK and X_OK whoever asks has
}

// A Time is a number of seconds since 1970, and nanoseconds (struct timespec).
type Time struct{ Sec, Nsec int64 }

func (a *Attr) born() Time {
	if a.Ctime.Sec < a.Mtime.Sec || a.Ctime.Sec == a.Mtime.Sec && a.Ctime.Nsec < a.Mtime.Nsec {
		return a.Ctime
	}
	return a.Mtime
}

func (t *Table) word(at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&t.mem[at])) }

func (t *Table) load(at uint32) uint32 { return atomic.LoadUint32(t.word(at)) }

func (t *Table) store(at, v uint32) { atomic.StoreUint32(t.word(at), v) }

// readyUpTo has the kernel make the memory up to an offset, some at a time: that takes half of
// what it takes when each page is made as it is touched. It returns up to where it is there.
func (t *Table) readyUpTo(end, ready uint32) uint32 {
	const some = 16 * 4096
	if end <= ready {
		return ready
	}
	from := end / some * some
	populate(t.mem[from:min(from+some, Size)])
	return from + some
}

func hashOf(dir uint32, name string) uint32 {
	h := dir * hashSeed
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * hashStep
	}
	return h
}

func bucketOf(hash uint32) uint32 { return bucketsOffset + 4*((hash^hash>>hashFold)%buckets) }

// find returns the last entry of a name in a directory, 0 if there is none.
func (t *Table) find(dir uint32, name string) uint32 {
	h := hashOf(dir, name)
	for e := t.load(bucketOf(h)); e != 0; e = t.load(e + entNext) {
		if t.load(e+entHash) == h && t.load(e+entParent) == dir && t.name(e) == name {
			return e
		}
	}
	return 0
}

func (t *Table) name(e uint32) string {
	n := uint32(binary.LittleEndian.Uint16(t.mem[e+entNameLen:]))
	return unsafe.String(&t.mem[e+entName], n) // it is never written to again
}

// enter makes an entry. It returns 0 if there is no room.
func (t *Table) enter(dir uint32, name string, flags uint32, a *Attr, target string) uint32 {
	return t.enterAt(hashOf(dir, name), dir, name, flags, a, target, opening{})
}

func (t *Table) enterAt(h, dir uint32, name string, flags uint32, a *Attr, target string, o opening) uint32 {
	const align = 8
	size := uint32(entName+len(name)+len(target)+align-1) / align * align
	if len(name) > nameMax || size > endOfEntries-t.next {
		return 0
	}
	e := t.next
	t.next += size
	t.ready = t.readyUpTo(t.next, t.ready)
	m := t.mem[e : e+size]
	put := binary.LittleEndian
	put.PutUint32(m[entParent:], dir)
	put.PutUint32(m[entHash:], h)
	put.PutUint32(m[entFlags:], flags)
	put.PutUint16(m[entNameLen:], uint16(len(name)))
	put.PutUint16(m[entTargetLen:], uint16(len(target)))
	if a != nil {
		put.PutUint32(m[entMode:], a.Mode)
		put.PutUint32(m[entUID:], a.UID)
		put.PutUint32(m[entGID:], a.GID)
		put.PutUint32(m[entLinks:], a.Links)
		put.PutUint64(m[entIno:], a.Ino)
		put.PutUint64(m[entSize:], uint64(a.Size))
		for _, at := range [...]struct {
			sec, nsec uint32
			Time
		}{{entMtime, entMtimeNsec, a.Mtime}, {entCtime, entCtimeNsec, a.Ctime}, {entBtime, entBtimeNsec, a.born()}} {
			put.PutUint64(m[at.sec:], uint64(at.Sec))
			put.PutUint32(m[at.nsec:], uint32(at.Nsec))
		}
	}
	put.PutUint32(m[entOpens:], o.path)
	put.PutUint32(m[entMark:], o.mark)
	copy(m[entName+copy(m[entName:], name):], target)
	b := bucketOf(h)
	put.PutUint32(m[entNext:], t.load(b))
	t.store(b, e) // from here on it is seen
	return e
}

func flagsOf(a *Attr) uint32 {
	if a == nil {
		return 0
	}
	return flagAttr | a.May<<rightsShift
}

// Root enters the root directory as Dir does others.
func (t *Table) Root(a *Attr, host string, mark uint32) uint32 {
	e := t.Dir(0, "", a, host, mark)
	t.store(e+entParent, e)
	t.store(rootOffset, e)
	return e
}

// Dir enters a directory that whoever asks may search, of which nothing is known but its names
// if a is nil. It may be opened by the path of the host that host is, if it isn't empty, and
// stands at mark then. Like the other methods that enter something it returns its number, 0 if
// there is no room.
func (t *Table) Dir(parent uint32, name string, a *Attr, host string, mark uint32) uint32 {
	o := opening{t.path(host), mark}
	e := t.enterAt(hashOf(parent, name), parent, name, flagDir|flagWalk|flagsOf(a), a, "", o)
	if e != 0 && o.path != 0 {
		t.Mark(mark, e)
	}
	return e
}

// File enters what is no directory, unless it is there and known. Of a symbolic link
// target is where it leads. A regular file may be opened for reading by the path of the host
// that host is, if it isn't empty, and is what is open with the host's device and number then,
// unless those are none.
func (t *Table) File(parent uint32, name string, a *Attr, target, host string, id Identity) uint32 {
	if e := t.find(parent, name); e != 0 && t.load(e+entFlags) != 0 {
		return e
	}
	const typeMask, link = 0o170000, 0o120000
	flags := flagsOf(a)
	if a.Mode&typeMask == link {
		flags |= flagLink
	}
	if len(target) > longPath {
		return t.enter(parent, name, 0, nil, "")
	}
	o := opening{t.path(host), 0}
	e := t.enterAt(hashOf(parent, name), parent, name, flags, a, target, o)
	if e != 0 && o.path != 0 && id != (Identity{}) {
		t.identify(id, e)
	}
	return e
}

// An Identity tells a file of the host's apart: its device and its number (st_dev, st_ino).
type Identity struct{ Dev, Ino uint64 }

// identify says what a file is that is open, until that is [Table.Other]. Of two names of one, as
// bind mounts make them, the first counts.
func (t *Table) identify(id Identity, e uint32) {
	if t.identified(id) == 0 {
		t.enterAt(id.hash(), identityParent, "", 0, &Attr{Ino: id.Ino, Size: int64(id.Dev)}, "", opening{path: e}) // where entLeads is
	}
}

// Other makes a file one to ask about: what has its device and number is another.
func (t *Table) Other(dev, ino uint64) {
	if at := t.identified(Identity{dev, ino}); at != 0 {
		t.Forget(t.load(at + entLeads))
	}
}

func (id Identity) hash() uint32 { return uint32(id.Ino)*hashSeed ^ uint32(id.Dev) }

// identified returns the entry of an identity, 0 if there is none.
func (t *Table) identified(id Identity) uint32 {
	h := id.hash()
	for at := t.load(bucketOf(h)); at != 0; at = t.load(at + entNext) {
		if m := t.mem[at:]; t.load(at+entHash) == h && t.load(at+entParent) == identityParent &&
			binary.LittleEndian.Uint64(m[entIno:]) == id.Ino && binary.LittleEndian.Uint64(m[entSize:]) == id.Dev {
			return at
		}
	}
	return 0
}

// Nothing enters that there is no such name, unless it is entered.
func (t *Table) Nothing(parent uint32, name string) {
	if t.load(parent+entFlags)&flagComplete == 0 && t.find(parent, name) == 0 {
		t.enter(parent, name, flagNone, nil, "")
	}
}

// Unknown enters a name of which the kernel is to be asked, unless it is entered.
func (t *Table) Unknown(parent uint32, name string) uint32 {
	if e := t.find(parent, name); e != 0 {
		return e
	}
	return t.enter(parent, name, 0, nil, "")
}

// Leads says that a symbolic link leads to what is no other, until any directory or symbolic
// link isn't where it was any more.
func (t *Table) Leads(link, end uint32) {
	if t.load(link+entFlags)&flagLink == 0 {
		return
	}
	was := t.load(link + entLeads)
	t.store(link+entLeads, end)
	if was == 0 {
		t.links = append(t.links, link)
	}
}

// Mark says which directory is open where the position says mark.
func (t *Table) Mark(mark, dir uint32) {
	if e := t.marked(mark); e != 0 {
		t.store(e+entLeads, dir)
	}
}

// Listed says at which position below the mark all names have been listed, 0 for none.
func (t *Table) Listed(mark, end uint32) {
	if e := t.marked(mark); e != 0 {
		t.store(e+entListed, end)
	}
}

// marked returns the entry of a mark, 0 if there is no room.
func (t *Table) marked(mark uint32) uint32 {
	for e := t.load(bucketOf(mark)); e != 0; e = t.load(e + entNext) {
		if t.load(e+entHash) == mark && t.load(e+entParent) == markParent {
			return e
		}
	}
	return t.enterAt(mark, markParent, "", 0, nil, "", opening{})
}

// Complete says that a directory has no other names than those that are entered.
func (t *Table) Complete(dir uint32) { t.store(dir+entFlags, t.load(dir+entFlags)|flagComplete) }

// Ask takes back what is said of a name, because it is about to mean something else.
func (t *Table) Ask(parent uint32, name string) {
	if e := t.find(parent, name); e != 0 {
		t.Forget(e)
		return
	}
	if t.load(parent+entFlags)&flagComplete != 0 && t.enter(parent, name, 0, nil, "") == 0 {
		t.store(parent+entFlags, t.load(parent+entFlags)&^flagComplete)
	}
}

// Forget takes back everything that is said of an entry. A directory's number isn't to be
// used again.
func (t *Table) Forget(e uint32) {
	was := t.load(e + entFlags)
	t.store(e+entFlags, 0)
	if was&(flagDir|flagLink) == 0 {
		return
	}
	for _, link := range t.links {
		t.store(link+entLeads, 0)
	}
	t.links = t.links[:0]
}

// Touched takes back what is said of a directory's attributes.
func (t *Table) Touched(dir uint32) { t.store(dir+entFlags, t.load(dir+entFlags)&^flagAttr) }

package dcache

import "github.com/sandtest/go-sandtest/vdso"

// Where things lie in a table, in bytes from its beginning.
const (
	// Size is that of a table. It takes memory only as far as it is filled.
	Size = vdso.NamesSize

	rootOffset  = 0  // uint32: the root directory
	opensOffset = 4  // uint32: not 0 if files may be opened by their paths
	execsOffset = 8  // uint32: not 0 if execve(2) may find nothing
	noPath      = 16 // a byte that is 0

	codeOffset  = 4096 // what looks paths up
	codeSize    = 4096
	sitesOffset = codeOffset + codeSize // pieces of siteSize bytes that lead there
	siteSize    = 64
	mostSites   = 8192

	bucketsOffset = sitesOffset + mostSites*siteSize // uint32 each: its last entry, 0 for none
	buckets       = 1 << 17
	firstEntry    = bucketsOffset + 4*buckets
	endOfEntries  = PathsOffset

	// PathsOffset is where PathsSize bytes begin that hold paths by which files may be opened,
	// each in a slot of PathSlot bytes. The first HowSlots hold how: a struct open_how each.
	PathsOffset = 32 << 20
	PathsSize   = Size - PathsOffset
	PathSlot    = 128
	HowSlots    = 16
	// HowSize is the size of that struct (openat2(2)).
	HowSize = 24
	// PathsAt is where every program has those paths once more: an address that a filter of
	// system calls can know. It is below what the kernel maps by itself, and where programs
	// with shadow memory (sanitizers) expect others'.
	PathsAt = 0x7e90_0000_0000
	// IdentityAt is where, before them, the kernel is told to put what fstat(2) says: the
	// device and the number of a file, which tell it apart. There is no room for more, as
	// what follows can't be written to, so that nothing else of the host's is told. It is at
	// the end of a page of the program's own, at OwnAt.
	IdentityAt = PathsAt - 16
	OwnAt      = PathsAt - 4096

	// CwdOffset is where, behind the table, a program has a uint32 of its own: the entry of
	// its working directory, 0 if that isn't known.
	CwdOffset = Size + vdso.NamesSlot
	// OffOffset is where it has one that isn't 0 if it is to ask about everything.
	OffOffset = CwdOffset + 4
	// OpeningOffset is where it counts its threads that open something at the moment.
	OpeningOffset = CwdOffset + 8
	// IdentifyingOffset is where it has one that isn't 0 while a thread uses IdentityAt.
	IdentifyingOffset = CwdOffset + 12
)

// A directory that a program has open stands at a position by which it is known: above
// PositionBits, which say where in the directory, its mark, a number of MarkBits of which the
// uppermost is set. ext4 allows no position of 44 bits in a directory. A regular file may stand
// there, 8 TiB from its beginning, and is taken for that directory then.
const (
	PositionBits = 16
	MarkBits     = 28
)

// Fields of an entry. Its name follows, and then the target of a symbolic link.
const (
	entNext      = 0  // uint32: of the same bucket
	entParent    = 4  // uint32: its directory
	entHash      = 8  // uint32
	entFlags     = 12 // uint32
	entNameLen   = 16 // uint16
	entTargetLen = 18 // uint16
	entMode      = 20 // uint32
	entListed    = 20 // uint32: of a mark, where a directory has no more names; 0 if that isn't known
	entUID       = 24 // uint32
	entGID       = 28 // uint32
	entIno       = 32 // uint64
	entSize      = 40 // int64
	entBtime     = 48 // int64: seconds
	entMtime     = 56 // int64: seconds
	entMtimeNsec = 64 // uint32
	entCtimeNsec = 68 // uint32
	entCtime     = 72 // int64
	entBtimeNsec = 80 // uint32
	entLeads     = 84 // uint32: where a symbolic link leads, 0 if that isn't known
	entOpens     = 84 // uint32: of anything else, where its path begins behind PathsAt, 0 if it has none
	entMark      = 88 // uint32: of a directory, where it is to stand when it was opened
	entLinks     = 92 // uint32
	entName      = 96
)

// What flags say. An entry without any is one to ask about.
const (
	flagAttr     = 1 << iota // its attributes hold
	flagDir                  // it is a directory
	flagLink                 // it is a symbolic link
	flagNone                 // there is no such name
	flagWalk                 // of a directory: whoever asks may look names up in it, and it is where it was
	flagComplete             // of a directory: what isn't in the table isn't there

	rightsShift = 8 // above: which of R_OK and X_OK whoever asks has
)

const (
	markParent     = 1 // the directory of entries that say what a mark means; there is none
	identityParent = 2 // and of those that say what file of the host's it is, by entIno and its device in entSize

	nameMax  = 255        // limits.h
	longPath = 4000       // paths that are longer are left to the kernel
	hashStep = 0x01000193 // FNV-1a of 32 bits
	hashSeed = 0x9e3779b1 // 2^32 divided by the golden ratio: directories are far apart
	hashFold = 15         // the upper bits count, too
)

// What every file has in common, as package cow says it.
const (
	Device    = 100  // st_dev: major 0, and this the minor
	BlockSize = 4096 // st_blksize
)

// A Patch is what so many bytes before a system call become.
type Patch struct {
	Before int
	Text   []byte
}

// A FoundCall is a system call in a program's text, which can be patched.
type FoundCall struct{ At, Nr int }

// SiteText is how many bytes before a system call decide whether it can be patched.
const SiteText = 1 + moveSize + mostMoves

const (
	moveSize  = 5  // mov eax, nr
	mostMoves = 16 // bytes of others that may follow it
)

// A Way says how a program goes on whose access to memory has failed in the code.
type Way struct {
	PC    uint64 // by its distance from the table; 0 for where CX points
	Stack uint64 // is taken from the stack
}

// Opener is the call by which the code opens a path that lies in the table: openat2, which has
// the same number on all machines.
const Opener = 437

// GoHop is how much room GoSite needs near the calls, and GoMoves how many bytes before the
// call its jump is to lie.
const (
	GoHop   = 13
	GoMoves = 12
)

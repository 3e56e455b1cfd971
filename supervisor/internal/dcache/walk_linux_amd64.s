#include "textflag.h"
#include "go_asm.h"

// What a system call about a path is, in R15 below.
#define OP_STAT     1
#define OP_STATX    2
#define OP_ACCESS   3
#define OP_READLINK 4
#define OP_OPEN     5
#define OP_LIST     6
#define OP_EXEC     7
#define OP_MASK     0xff
#define NOFOLLOW    0x100 // as AT_SYMLINK_NOFOLLOW
#define AT          0x200 // the first argument is where a relative path begins
#define EMPTY       0x400 // and is meant itself by an empty one
#define ONE_LINK    (1<<16)
#define MANY_LINKS  (6<<16) // each may stand for eight, and no more than 40 are followed (fs/namei.c)

#define SEEK_SET       0
#define SEEK_CUR       1
#define AT_FDCWD       (-100)
#define NO_AUTOMOUNT   0x800
#define EMPTY_PATH     0x1000
#define O_CREAT        0x40
#define O_TRUNC        0x200
#define O_TMPFILE      0x400000
#define O_DIRECTORY    0x10000
#define O_NOFOLLOW     0x20000
#define OPEN_FLAGS     0xb8900 // these, O_CLOEXEC, O_NONBLOCK, and O_NOCTTY and O_LARGEFILE, which make no difference
#define ENOENT         (-2)
#define EINVAL         (-22)
#define STATX_ALL      0xfff // STATX_BASIC_STATS, STATX_BTIME

// st_blocks of a regular file without holes, from its size in AX and its mode in BX; 0 of
// anything else.
#define BLOCKS \
	ADDQ	$4095, AX; \
	SHRQ	$12, AX;  \
	SHLQ	$3, AX;   \
	XORL	CX, CX;   \
	ANDL	$0xf000, BX; \
	CMPL	BX, $0x8000; \
	CMOVQNE	CX, AX

// The last entry of the bucket of hash BP, in R9.
#define BUCKET \
	MOVL	BP, R9; \
	SHRL	$const_hashFold, R9; \
	XORL	BP, R9; \
	ANDL	$(const_buckets-1), R9; \
	MOVL	const_bucketsOffset(R11)(R9*4), R9

// The code that programs execute: it is copied, and so refers to nothing but registers.
//
// It is entered with the registers of a system call, but for R11, which holds where the table
// lies, and CX, which holds where to go on. It goes on there with the registers as they were,
// if the call is to be made, or 16 bytes further with its result in AX. As with a call, CX and
// R11 are lost; the flags are, too.
//
// It begins with a jump over the way back, so that this lies at a known place: where memory
// can't be read, or written to, a supervisor lets it go on there. Until registers are saved it
// has changed none but SP.
TEXT ·walk(SB), NOSPLIT|NOFRAME, $0-0
	JMP	begin
ask:
	MOVQ	8(SP), AX
	XORL	R11, R11
	JMP	leave
answer: // with AX
	MOVL	$const_answered, R11
leave:
	MOVQ	0(SP), CX
	MOVQ	16(SP), BX
	MOVQ	24(SP), BP
	MOVQ	32(SP), DX
	MOVQ	40(SP), DI
	MOVQ	48(SP), SI
	MOVQ	56(SP), R8
	MOVQ	64(SP), R9
	MOVQ	72(SP), R10
	MOVQ	80(SP), R12
	MOVQ	88(SP), R13
	MOVQ	96(SP), R14
	MOVQ	104(SP), R15
	ADDQ	R11, CX
	LEAQ	const_frameSize(SP), SP
	JMP	CX

begin:
	LEAQ	-const_frameSize(SP), SP
	MOVQ	CX, 0(SP)
	MOVQ	AX, 8(SP)
	MOVQ	BX, 16(SP)
	MOVQ	BP, 24(SP)
	MOVQ	DX, 32(SP)
	MOVQ	DI, 40(SP)
	MOVQ	SI, 48(SP)
	MOVQ	R8, 56(SP)
	MOVQ	R9, 64(SP)
	MOVQ	R10, 72(SP)
	MOVQ	R12, 80(SP)
	MOVQ	R13, 88(SP)
	MOVQ	R14, 96(SP)
	MOVQ	R15, 104(SP)

	CMPL	const_OffOffset(R11), $0
	JNE	ask

	// R12: the path. R14: where to write, or the mode or flags. R10: how many bytes.
	CMPL	AX, $const_sysNewfstatat
	JEQ	newfstatat
	CMPL	AX, $const_sysOpenat
	JEQ	openat
	CMPL	AX, $const_sysStatx
	JEQ	statx
	CMPL	AX, $const_sysReadlinkat
	JEQ	readlinkat
	CMPL	AX, $const_sysFaccessat
	JEQ	faccessat
	CMPL	AX, $const_sysFaccessat2
	JEQ	faccessat2
	CMPL	AX, $const_sysLstat
	JEQ	lstat
	CMPL	AX, $const_sysStat
	JEQ	stat
	CMPL	AX, $const_sysAccess
	JEQ	access
	CMPL	AX, $const_sysReadlink
	JEQ	readlink
	CMPL	AX, $const_sysFstat
	JEQ	fstat
	CMPL	AX, $const_sysGetdents64
	JEQ	getdents
	CMPL	AX, $const_sysExecve
	JEQ	execve
	CMPL	AX, $const_sysOpen
	JNE	ask
	MOVQ	DI, R12
	MOVL	SI, R14
	MOVL	$OP_OPEN, R15
	JMP	opening
execve: // of what isn't there
	CMPL	const_execsOffset(R11), $0
	JEQ	ask
	MOVQ	DI, R12
	MOVL	$OP_EXEC, R15
	JMP	start
openat:
	MOVQ	SI, R12
	MOVL	DX, R14
	MOVL	$(OP_OPEN|AT), R15
opening:
	TESTL	$(O_CREAT|O_TRUNC|O_TMPFILE), R14 // for which there has to be more than a path
	JNE	ask
	MOVL	R14, AX
	ANDL	$O_NOFOLLOW, AX
	SHRL	$9, AX // NOFOLLOW
	ORL	AX, R15
	JMP	start
fstat:
	MOVL	$(OP_STAT|AT|EMPTY), R15
	MOVQ	SI, R14
	JMP	itsDescriptor
getdents:
	MOVL	$(OP_LIST|AT|EMPTY), R15
itsDescriptor:
	LEAQ	const_noPath(R11), R12
	JMP	start
newfstatat:
	MOVL	R10, AX
	MOVL	R10, R15
	ANDL	$~(NOFOLLOW|NO_AUTOMOUNT|EMPTY_PATH), AX
	JNE	ask
	ANDL	$(NOFOLLOW|EMPTY_PATH), R15
	BTRL	$12, R15 // EMPTY_PATH
	JCC	notEmpty
	ORL	$EMPTY, R15
notEmpty:
	ORL	$(OP_STAT|AT), R15
	MOVQ	SI, R12
	MOVQ	DX, R14
	JMP	start
statx:
	TESTL	R10, R10 // STATX__RESERVED
	JLT	ask
	MOVL	DX, AX
	MOVL	DX, R15
	ANDL	$~(NOFOLLOW|NO_AUTOMOUNT|EMPTY_PATH), AX
	JNE	ask
	ANDL	$(NOFOLLOW|EMPTY_PATH), R15
	BTRL	$12, R15 // EMPTY_PATH
	JCC	notEmptyX
	ORL	$EMPTY, R15
notEmptyX:
	ORL	$(OP_STATX|AT), R15
	MOVQ	SI, R12
	MOVQ	R8, R14
	JMP	start
lstat:
	MOVL	$(OP_STAT|NOFOLLOW), R15
	JMP	pathAndPlace
stat:
	MOVL	$OP_STAT, R15
	JMP	pathAndPlace
access:
	MOVL	$OP_ACCESS, R15
	JMP	pathAndPlace
readlink:
	MOVL	DX, R10
	MOVL	$(OP_READLINK|NOFOLLOW), R15
pathAndPlace:
	MOVQ	DI, R12
	MOVQ	SI, R14
	JMP	start
readlinkat:
	MOVL	$(OP_READLINK|NOFOLLOW|AT), R15
	JMP	pathAndPlaceAt
faccessat:
	MOVL	$(OP_ACCESS|AT), R15
	JMP	pathAndPlaceAt
faccessat2: // AT_EACCESS makes no difference here
	MOVL	R10, AX
	MOVL	R10, R15
	ANDL	$~(NOFOLLOW|0x200), AX
	JNE	ask
	ANDL	$NOFOLLOW, R15
	ORL	$(OP_ACCESS|AT), R15
pathAndPlaceAt:
	MOVQ	SI, R12
	MOVQ	DX, R14

	// BX: the directory.
start:
	TESTQ	R12, R12
	JEQ	ask
	LEAQ	const_longPath(R12), R8
	MOVBLZX	(R12), AX
	CMPL	AX, $'/'
	JNE	relative
	MOVL	const_rootOffset(R11), BX
	JMP	begun
relative:
	TESTL	AX, AX
	JNE	named
	TESTL	$EMPTY, R15
	JNE	descriptor
	JMP	ask
named:
	TESTL	$AT, R15
	JEQ	here
	CMPL	DI, $AT_FDCWD
	JEQ	here
descriptor: // where it stands says which directory it is
	MOVL	$const_sysLseek, AX
	XORL	SI, SI
	MOVL	$SEEK_CUR, DX
	MOVQ	R11, R13
	SYSCALL
	MOVQ	R13, R11
	TESTQ	AX, AX
	JLT	ask
	MOVWLZX	AX, R13 // where in the directory
	SHRQ	$const_PositionBits, AX
	MOVQ	AX, BP
	SHRQ	$(const_MarkBits-1), AX
	CMPQ	AX, $1
	JNE	file
	BUCKET
marked:
	TESTL	R9, R9
	JEQ	ask
	CMPL	BP, const_entHash(R11)(R9*1)
	JNE	unmarked
	CMPL	const_entParent(R11)(R9*1), $const_markParent
	JNE	unmarked
	MOVL	const_entLeads(R11)(R9*1), BX
	MOVL	R15, AX
	ANDL	$OP_MASK, AX
	CMPL	AX, $OP_LIST
	JNE	begun
	// All names have been listed, and it is still there.
	TESTL	R13, R13
	JEQ	ask
	CMPL	R13, const_entListed(R11)(R9*1)
	JNE	ask
	TESTL	$const_flagWalk, const_entFlags(R11)(BX*1)
	JEQ	ask
	JMP	zero
unmarked:
	MOVL	const_entNext(R11)(R9*1), R9
	JMP	marked

	// What is no directory that is known by where it stands the kernel tells apart.
file:
	CMPB	(R12), $0
	JNE	ask
	MOVL	R15, AX
	ANDL	$OP_MASK, AX
	CMPL	AX, $OP_STAT
	JEQ	identify
	CMPL	AX, $OP_STATX
	JNE	ask
identify:
	CMPL	const_opensOffset(R11), $0
	JEQ	ask
	MOVL	$1, AX
	XCHGL	AX, const_IdentifyingOffset(R11)
	TESTL	AX, AX
	JNE	ask // another thread is just doing this
	MOVL	$const_sysFstat, AX
	MOVQ	$const_IdentityAt, SI
	MOVQ	R11, R13
	SYSCALL
	MOVQ	R13, R11
	CMPQ	AX, $-const_told
	JNE	identified
	MOVQ	0(SI), DX // its device
	MOVQ	8(SI), R13 // its number
	MOVQ	$0, 0(SI) // which differ from machine to machine
	MOVQ	$0, 8(SI)
identified:
	MOVL	$0, const_IdentifyingOffset(R11)
	CMPQ	AX, $-const_told
	JNE	ask
	MOVL	R13, BP
	IMUL3L	$const_hashSeed, BP, BP
	XORL	DX, BP
	BUCKET
identity:
	TESTL	R9, R9
	JEQ	ask
	CMPL	BP, const_entHash(R11)(R9*1)
	JNE	other
	CMPL	const_entParent(R11)(R9*1), $const_identityParent
	JNE	other
	CMPQ	R13, const_entIno(R11)(R9*1)
	JNE	other
	CMPQ	DX, const_entSize(R11)(R9*1)
	JNE	other
	MOVL	const_entLeads(R11)(R9*1), R9
	MOVL	const_entFlags(R11)(R9*1), DI
	JMP	itself
other:
	MOVL	const_entNext(R11)(R9*1), R9
	JMP	identity

here:
	MOVL	const_CwdOffset(R11), BX
begun:
	TESTL	BX, BX
	JEQ	ask

	// R13: a component. R9: what it means.
component:
	MOVBLZX	(R12), AX
	CMPL	AX, $'/'
	JNE	word
	INCQ	R12
	JMP	component
word:
	MOVL	const_entFlags(R11)(BX*1), DI // before the entries, see Complete
	MOVL	BX, R9
	TESTL	AX, AX
	JEQ	slashed
	MOVQ	R12, R13
	MOVL	BX, BP
	IMUL3L	$const_hashSeed, BP, BP
	JMP	hash
slashed: // the path ends with slashes, or is the root
	CMPQ	R12, R8
	JHI	ask
	TESTL	$const_flagDir, DI
	JNE	found
	JMP	ask
hash:
	XORL	AX, BP
	IMUL3L	$const_hashStep, BP, BP
	INCQ	R12
	MOVBLZX	(R12), AX
	TESTL	AX, AX
	JEQ	hashed
	CMPL	AX, $'/'
	JNE	hash
hashed:
	CMPQ	R12, R8
	JHI	ask
	TESTL	$const_flagWalk, DI
	JEQ	ask
	MOVQ	R12, CX
	SUBQ	R13, CX // its length
	CMPB	(R13), $'.'
	JNE	name
	CMPL	CX, $1
	JEQ	component // "."
	CMPL	CX, $2
	JNE	name
	CMPB	1(R13), $'.'
	JNE	name
	MOVL	const_entParent(R11)(BX*1), BX
	JMP	component
name:
	CMPL	CX, $const_nameMax
	JHI	ask
	BUCKET
chain:
	TESTL	R9, R9
	JEQ	absent
	CMPL	BP, const_entHash(R11)(R9*1)
	JNE	next
	CMPL	BX, const_entParent(R11)(R9*1)
	JNE	next
	CMPW	CX, const_entNameLen(R11)(R9*1)
	JNE	next
	// Compare from the end, with R9 at the entry and R13+CX at the path.
	LEAQ	const_entName(R11)(R9*1), AX
	JMP	compare
same:
	TESTL	CX, CX
	JEQ	equal
compare:
	DECL	CX
	MOVBLZX	(R13)(CX*1), DX
	CMPB	DX, (AX)(CX*1)
	JEQ	same
	MOVQ	R12, CX
	SUBQ	R13, CX
next:
	MOVL	const_entNext(R11)(R9*1), R9
	JMP	chain
absent:
	TESTL	$const_flagComplete, DI
	JEQ	ask
missing: // if the path is none that is too long, or can't be read
	MOVBLZX	(R12), AX
	TESTL	AX, AX
	JEQ	noEntry
	INCQ	R12
	CMPQ	R12, R8
	JLS	missing
	JMP	ask
noEntry:
	MOVQ	$ENOENT, AX
	JMP	answer
equal:
	MOVL	const_entFlags(R11)(R9*1), DI
	TESTL	$const_flagNone, DI
	JNE	missing
	CMPB	(R12), $0
	JEQ	found
	MOVL	R9, BX
	TESTL	$const_flagDir, DI
	JNE	component
	TESTL	$const_flagLink, DI
	JEQ	ask
	MOVL	const_entLeads(R11)(R9*1), BX
	TESTL	BX, BX
	JEQ	ask
	ADDL	$ONE_LINK, R15
	CMPL	R15, $MANY_LINKS
	JCS	component
	JMP	ask

	// R9: what the path means, with flags DI.
found:
	TESTL	$const_flagLink, DI
	JEQ	itself
	TESTL	$NOFOLLOW, R15
	JNE	itself
	MOVL	const_entLeads(R11)(R9*1), R9
	TESTL	R9, R9
	JEQ	ask
	ADDL	$ONE_LINK, R15
	CMPL	R15, $MANY_LINKS
	JCC	ask
	MOVL	const_entFlags(R11)(R9*1), DI
itself:
	MOVL	R15, AX
	ANDL	$OP_MASK, AX
	CMPL	AX, $OP_OPEN
	JEQ	open
	TESTL	$const_flagAttr, DI
	JEQ	ask
	CMPL	AX, $OP_STAT
	JEQ	fillStat
	CMPL	AX, $OP_ACCESS
	JEQ	mayAccess
	CMPL	AX, $OP_STATX
	JEQ	fillStatx
	CMPL	AX, $OP_READLINK
	JEQ	target
	JMP	ask

	// It is opened by the path that the supervisor has placed, if it is to be read.
open:
	TESTL	$~OPEN_FLAGS, R14
	JNE	ask
	CMPL	const_opensOffset(R11), $0
	JEQ	ask
	TESTL	$const_flagLink, DI
	JNE	ask
	TESTL	$const_flagDir, DI
	JNE	openDirectory
	TESTL	$const_flagAttr, DI
	JEQ	ask
	TESTL	$O_DIRECTORY, R14
	JNE	ask
	JMP	openPath
openDirectory:
	TESTL	$const_flagWalk, DI
	JEQ	ask
openPath:
	MOVL	const_entOpens(R11)(R9*1), SI
	TESTL	SI, SI
	JEQ	ask
	MOVQ	$const_PathsAt, DX
	ADDQ	DX, SI
	MOVL	R14, AX // the slot that says how
	SHRL	$(16-2), AX
	ANDL	$12, AX // O_DIRECTORY, O_NOFOLLOW
	BTL	$11, R14 // O_NONBLOCK
	JCC	waits
	ORL	$1, AX
waits:
	BTL	$19, R14 // O_CLOEXEC
	JCC	survives
	ORL	$2, AX
survives:
	IMULL	$const_PathSlot, AX
	ADDQ	AX, DX
	MOVQ	$AT_FDCWD, DI
	MOVL	$const_HowSize, R10
	MOVL	$const_Opener, AX
	MOVQ	R11, R13
	LOCK
	INCL	const_OpeningOffset(R13)
	SYSCALL
	LOCK
	DECL	const_OpeningOffset(R13)
	TESTQ	AX, AX
	JLT	ask // the supervisor knows why
	MOVL	const_entMark(R13)(R9*1), SI
	TESTL	SI, SI
	JEQ	answer
	MOVQ	AX, R12
	MOVQ	AX, DI
	SHLQ	$const_PositionBits, SI
	MOVL	$SEEK_SET, DX
	MOVL	$const_sysLseek, AX
	SYSCALL
	MOVQ	R12, AX // one that can't be positioned is asked about
	JMP	answer

mayAccess:
	TESTL	$~5, R14 // to write, the file system would have to allow it
	JNE	ask
	SHRL	$const_rightsShift, DI
	ANDL	R14, DI
	CMPL	DI, R14
	JNE	ask
	JMP	zero

target:
	TESTL	R10, R10
	JLE	ask
	TESTL	$const_flagLink, DI
	MOVQ	$EINVAL, AX
	JEQ	answer
	MOVWLZX	const_entNameLen(R11)(R9*1), CX
	LEAQ	const_entName(R11)(R9*1), R13
	ADDQ	CX, R13
	MOVWLZX	const_entTargetLen(R11)(R9*1), AX
	CMPL	AX, R10
	JLS	fits
	MOVL	R10, AX
fits:
	MOVL	AX, CX
copy:
	DECL	CX
	JLT	answer
	MOVBLZX	(R13)(CX*1), BX
	MOVB	BX, (R14)(CX*1)
	JMP	copy

fillStat: // struct stat (asm/stat.h)
	MOVQ	$const_Device, 0(R14)
	MOVQ	const_entIno(R11)(R9*1), AX
	MOVQ	AX, 8(R14)
	MOVL	const_entLinks(R11)(R9*1), AX
	MOVQ	AX, 16(R14)
	MOVL	const_entMode(R11)(R9*1), BX
	MOVL	BX, 24(R14)
	MOVL	const_entUID(R11)(R9*1), AX
	MOVL	AX, 28(R14)
	MOVL	const_entGID(R11)(R9*1), AX
	MOVQ	AX, 32(R14)
	MOVQ	$0, 40(R14) // the device that it is
	MOVQ	const_entSize(R11)(R9*1), AX
	MOVQ	AX, 48(R14)
	MOVQ	$const_BlockSize, 56(R14)
	BLOCKS
	MOVQ	AX, 64(R14)
	MOVQ	const_entMtime(R11)(R9*1), AX
	MOVL	const_entMtimeNsec(R11)(R9*1), CX
	MOVQ	AX, 72(R14)
	MOVQ	CX, 80(R14)
	MOVQ	AX, 88(R14)
	MOVQ	CX, 96(R14)
	MOVQ	const_entCtime(R11)(R9*1), AX
	MOVL	const_entCtimeNsec(R11)(R9*1), CX
	MOVQ	AX, 104(R14)
	MOVQ	CX, 112(R14)
	XORL	AX, AX
	MOVQ	AX, 120(R14)
	MOVQ	AX, 128(R14)
	MOVQ	AX, 136(R14)
	JMP	answer

fillStatx: // struct statx (linux/stat.h)
	MOVL	$STATX_ALL, 0(R14)
	MOVL	$const_BlockSize, 4(R14)
	MOVQ	$0, 8(R14)
	MOVL	const_entLinks(R11)(R9*1), AX
	MOVL	AX, 16(R14)
	MOVL	const_entUID(R11)(R9*1), AX
	MOVL	AX, 20(R14)
	MOVL	const_entGID(R11)(R9*1), AX
	MOVL	AX, 24(R14)
	MOVL	const_entMode(R11)(R9*1), BX
	MOVWLZX	BX, AX
	MOVL	AX, 28(R14)
	MOVQ	const_entIno(R11)(R9*1), AX
	MOVQ	AX, 32(R14)
	MOVQ	const_entSize(R11)(R9*1), AX
	MOVQ	AX, 40(R14)
	BLOCKS
	MOVQ	AX, 48(R14)
	MOVQ	$0, 56(R14)
	MOVQ	const_entMtime(R11)(R9*1), AX
	MOVL	const_entMtimeNsec(R11)(R9*1), CX
	MOVQ	AX, 64(R14)
	MOVQ	CX, 72(R14)
	MOVQ	AX, 112(R14)
	MOVQ	CX, 120(R14)
	MOVQ	const_entBtime(R11)(R9*1), AX
	MOVL	const_entBtimeNsec(R11)(R9*1), CX
	MOVQ	AX, 80(R14)
	MOVQ	CX, 88(R14)
	MOVQ	const_entCtime(R11)(R9*1), AX
	MOVL	const_entCtimeNsec(R11)(R9*1), CX
	MOVQ	AX, 96(R14)
	MOVQ	CX, 104(R14)
	MOVQ	$0, 128(R14) // the device that it is
	MOVQ	$(const_Device<<32), AX // major 0
	MOVQ	AX, 136(R14)
	MOVL	$144, CX
	XORL	AX, AX
rest:
	MOVQ	AX, (R14)(CX*1)
	ADDL	$8, CX
	CMPL	CX, $256
	JLT	rest
zero:
	XORL	AX, AX
	JMP	answer
	QUAD	$0x64632d7473646e61 // where it ends
	QUAD	$0x646e652d65686361

// func walkStart() *byte
TEXT ·walkStart(SB), NOSPLIT, $0-8
	LEAQ	·walk(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

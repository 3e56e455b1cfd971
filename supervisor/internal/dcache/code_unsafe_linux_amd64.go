package dcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call numbers, and the distance from where a call is made to where it has its answer, for the
// assembler.
const (
	sysExecve     = unix.SYS_EXECVE
	sysOpen       = unix.SYS_OPEN
	sysStat       = unix.SYS_STAT
	sysLstat      = unix.SYS_LSTAT
	sysAccess     = unix.SYS_ACCESS
	sysReadlink   = unix.SYS_READLINK
	sysOpenat     = unix.SYS_OPENAT
	sysNewfstatat = unix.SYS_NEWFSTATAT
	sysReadlinkat = unix.SYS_READLINKAT
	sysFaccessat  = unix.SYS_FACCESSAT
	sysStatx      = unix.SYS_STATX
	sysFaccessat2 = unix.SYS_FACCESSAT2
	sysFstat      = unix.SYS_FSTAT
	sysGetdents64 = unix.SYS_GETDENTS64
	sysLseek      = unix.SYS_LSEEK

	answered = 16

	// told is the error with which fstat fails that has told what there is room for.
	told = uintptr(unix.EFAULT)

	// frameSize is how much of the program's stack is used: below it lies what a function
	// without a frame may have there, and then fourteen registers.
	frameSize = 128 + 8*14
)

// Makes is a call that the code makes itself, lseek, to see where a directory stands. The others
// are Opener and Identifier.
const Makes = sysLseek

// Identifier is the call that tells an open file apart, fstat.
const Identifier = sysFstat

// Calls are those that the table may answer.
var Calls = []int{sysOpen, sysStat, sysLstat, sysAccess, sysReadlink, sysOpenat, sysNewfstatat, sysReadlinkat, sysFaccessat, sysStatx, sysFaccessat2, sysFstat, sysGetdents64}

// Executer is a call that the table may answer when there is no such file, and where
// [Table.Executes] says so.
const Executer = sysExecve

// walk is the code. It can't be called.
func walk()

var _ = walk // only copied

const _ = told // by the code alone

// walkStart returns where it lies.
func walkStart() *byte

// code is that code as bytes.
var code = sync.OnceValues(func() ([]byte, error) {
	all := unsafe.Slice(walkStart(), codeSize)
	end := bytes.Index(all, binary.LittleEndian.AppendUint64(nil, codeEnd))
	const shortJump, jump = 0xeb, 2
	if end < 0 || all[0] != shortJump {
		return nil, errors.New("dcache: the linker has laid out the code in another way")
	}
	return all[:end], nil
})

// codeEnd is what follows it.
const codeEnd = 0x64632d7473646e61

func (t *Table) placeCode() error {
	text, err := code()
	copy(t.mem[codeOffset:], text)
	return err
}

// saved is where in the code the registers have been saved: before the first comparison.
var saved = sync.OnceValue(func() uint64 {
	text, _ := code()
	compare := binary.LittleEndian.AppendUint32([]byte{0x41, 0x83, 0xbb}, OffOffset) // cmp dword [r11+OffOffset], imm8
	return uint64(max(bytes.Index(text, compare), 0))
})

// Ask returns how a program leaves a call to the kernel that has come to pc, by its distance
// from the table, and false if that isn't in the code.
func Ask(pc uint64) (Way, bool) {
	const jump = 2 // over the way back
	switch {
	case pc < codeOffset || pc >= codeOffset+codeSize:
		return Way{}, false
	case pc < codeOffset+saved():
		return Way{Stack: frameSize}, true
	}
	return Way{PC: codeOffset + jump}, true
}

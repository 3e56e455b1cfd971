package vdso

import (
	"errors"
	"fmt"
)

// ErrUnsupported is the error of an architecture for which there are no
// replacement functions; it is also an [errors.ErrUnsupported].
var ErrUnsupported = fmt.Errorf("vdso: no replacement functions for this architecture: %w", errors.ErrUnsupported)

// A Kind says what the clock functions are replaced with.
type Kind int

const (
	// Frozen functions read the data page, which holds the clock itself.
	Frozen Kind = iota
	// Shifted functions call the original and add what the data page holds.
	Shifted
	// Untouched leaves the clock functions alone; getcpu and getrandom are
	// replaced all the same.
	Untouched
)

// Sizes of the region, in bytes.
const (
	PageSize   = 4096
	CodeOffset = PageSize // the code page
	// MessageOffset is where MessageSize bytes begin that no program can write, for
	// structs that a supervisor has checked.
	MessageOffset = 2 * PageSize
	MessageSize   = 256 * PageSize
	// PathOffset is where PathSize more of them begin, for paths.
	PathOffset = MessageOffset + MessageSize
	PathSize   = 512 * PageSize
	// DetourOffset is where Detours pieces of code of DetourSize bytes begin, which a
	// supervisor writes, see Detour, and DetourData where as much data for each does.
	DetourOffset = PathOffset + PathSize
	DetourData   = DetourOffset + Detours*DetourSize
	Detours      = 512
	DetourSize   = 64
	DetourResume = 2                               // behind the system call in it
	SlotOffset   = DetourData + Detours*DetourSize // the slot page
	// SharedSize is how much of the region is the same in every process, OwnSize how
	// much is each process's own: the slot page, and in and after it room for a
	// supervisor that passes structs to system calls.
	SharedSize = SlotOffset
	OwnSize    = 16 * PageSize
	// RoomOffset is where that room begins.
	RoomOffset = SlotOffset + 64
	// ExecOffset is where, after it, ExecSize bytes begin that a supervisor passes to
	// execve.
	ExecOffset = SlotOffset + OwnSize
	ExecSize   = 1025 * PageSize
	// NamesSize bytes before the region may hold, for every process, what a supervisor lets
	// programs know of names of files, and code that looks there. Sixteen bytes from NamesSlot
	// on, in the slot page, belong to that.
	NamesSize = 48 << 20
	NamesSlot = SlotOffset + 8
)

// Offsets in the data page.
const (
	offSeq   = 0   // uint32, odd while the page is being written
	pairs    = 4   // realtime, monotonic, boottime, TAI
	offPairs = 16  // per scale: seconds and nanoseconds, 8 bytes each
	offHost  = 96  // per scale: the host's clock that Shifted functions read, one byte each
	offTable = 128 // clock id -> scale, one byte each, 0xff for "ask the kernel"

	// ZeroOffset and NapOffset are where a program finds a struct timespec of zero
	// and one of a millisecond.
	ZeroOffset = 160
	NapOffset  = 176
)

// Reads is how often Frozen functions of a process answer at one instant before
// they ask the kernel. They count without locking: threads that read at the same
// time may get a few more.
const Reads = 1 << 20

// MaxClock is the largest clock id the replacement functions answer themselves.
const MaxClock = 11

// clockScale maps a clock id (clock_gettime(2)) to the index of its pair:
// realtime, monotonic, boottime, TAI. CPU-time clocks go to the kernel.
var clockScale = [MaxClock + 1]byte{
	0:  0,    // CLOCK_REALTIME
	1:  1,    // CLOCK_MONOTONIC
	2:  0xff, // CLOCK_PROCESS_CPUTIME_ID
	3:  0xff, // CLOCK_THREAD_CPUTIME_ID
	4:  1,    // CLOCK_MONOTONIC_RAW
	5:  0,    // CLOCK_REALTIME_COARSE
	6:  1,    // CLOCK_MONOTONIC_COARSE
	7:  2,    // CLOCK_BOOTTIME
	8:  0,    // CLOCK_REALTIME_ALARM
	9:  2,    // CLOCK_BOOTTIME_ALARM
	10: 0xff, // unused
	11: 3,    // CLOCK_TAI
}

// hostClock is the host's clock that is read for each scale: the fine one, so
// that coarse and raw clocks agree with it.
var hostClock = [pairs]byte{0, 1, 7, 11}

// ScaleOf returns the index of the pair that a clock id reads, and false for a
// clock that has none.
func ScaleOf(clock int32) (int, bool) {
	if clock < 0 || clock > MaxClock || clockScale[clock] == 0xff {
		return 0, false
	}
	return int(clockScale[clock]), true
}

// Resolution returns what clock_getres(2) reports for a clock that ScaleOf
// knows, in nanoseconds: 1, or one tick of a 250 Hz kernel for the coarse ones.
func Resolution(clock int32) int64 {
	if clock == 5 || clock == 6 {
		return coarseRes
	}
	return 1
}

const coarseRes = 4_000_000

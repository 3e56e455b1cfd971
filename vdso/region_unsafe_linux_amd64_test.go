package vdso_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/internal/call"
	"github.com/sandtest/go-sandtest/vdso"
)

// A region is the three pages as a sandboxed process has them, mapped into this
// one.
type region struct {
	file    *os.File       // what processes share
	data    *vdso.Data     // the supervisor's side
	base    unsafe.Pointer // the process's side
	entries map[string]int
	slots   []byte // the page of the process's own
}

// newRegion maps a region. Of a kind that calls original functions, originals
// gives their addresses.
func newRegion(tb testing.TB, kind vdso.Kind, originals map[string]uintptr) *region {
	tb.Helper()
	code, entries, err := vdso.Code(kind)
	if err != nil {
		tb.Fatal(err)
	}
	fd, err := unix.MemfdCreate("vdso test", unix.MFD_CLOEXEC)
	if err != nil {
		tb.Fatalf("memfd_create: %v", err)
	}
	r := &region{file: os.NewFile(uintptr(fd), "vdso test"), entries: entries}
	tb.Cleanup(func() { r.file.Close() })
	if err := r.file.Truncate(vdso.SharedSize); err != nil {
		tb.Fatal(err)
	}
	if _, err := r.file.WriteAt(code, vdso.CodeOffset); err != nil {
		tb.Fatal(err)
	}
	r.data = dataOf(tb, r.file)

	const size = vdso.SharedSize + vdso.PageSize
	// Reserve the range, then map each page with the rights that it has there.
	if r.base, err = unix.MmapPtr(-1, 0, nil, size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		tb.Fatalf("mmap: %v", err)
	}
	tb.Cleanup(func() { unix.MunmapPtr(r.base, size) })
	place := func(fd, offset, prot, flags int) unsafe.Pointer {
		at := unsafe.Add(r.base, offset)
		if fd < 0 {
			offset = 0
		}
		if _, err := unix.MmapPtr(fd, int64(offset), at, vdso.PageSize, prot, flags|unix.MAP_FIXED); err != nil {
			tb.Fatalf("mmap the page at %#x: %v", offset, err)
		}
		return at
	}
	place(fd, 0, unix.PROT_READ, unix.MAP_SHARED)
	place(fd, vdso.CodeOffset, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED)
	r.slots = unsafe.Slice((*byte)(place(-1, vdso.SlotOffset, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)), vdso.PageSize)
	for i, fn := range vdso.SlotFunctions(kind) {
		if originals[fn] == 0 {
			tb.Fatalf("no address for the slot of %s", fn)
		}
		binary.NativeEndian.PutUint64(r.slots[8*i:], uint64(originals[fn]))
	}
	if kind != vdso.Frozen { // which counts there
		if err := unix.Mprotect(r.slots, unix.PROT_READ); err != nil {
			tb.Fatalf("mprotect: %v", err)
		}
	}
	return r
}

// recount makes Frozen functions begin to count their reads anew, so that they
// never ask the kernel.
func (r *region) recount() { clear(r.slots[:4]) }

// dataOf maps the data page of a region's file writable, as the supervisor does.
func dataOf(tb testing.TB, f *os.File) *vdso.Data {
	tb.Helper()
	mem, err := unix.Mmap(int(f.Fd()), 0, vdso.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		tb.Fatalf("mmap the data page: %v", err)
	}
	tb.Cleanup(func() { unix.Munmap(mem) })
	return vdso.NewData(mem)
}

// fn returns the address of a replacement function.
func (r *region) fn(name string) uintptr {
	at, ok := r.entries[name]
	if !ok {
		panic("no replacement for " + name)
	}
	return uintptr(unsafe.Add(r.base, at))
}

// call calls a replacement function that returns an int.
func (r *region) call(name string, args ...uintptr) int32 {
	return int32(callC(r.fn(name), args...))
}

func callC(fn uintptr, args ...uintptr) uintptr {
	var a [5]uintptr
	copy(a[:], args)
	return call.Call(fn, a[0], a[1], a[2], a[3], a[4])
}

// machineCode returns the address of a function of the given bytes.
func machineCode(tb testing.TB, code ...byte) uintptr {
	tb.Helper()
	m := newMemory(tb)
	copy(m, code)
	if err := unix.Mprotect(m, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		tb.Fatalf("mprotect: %v", err)
	}
	return m.at(0)
}

// A memory is a page that C code may write to: unlike a Go variable it stays
// where it is.
type memory []byte

const poison = 0xa5

func newMemory(tb testing.TB) memory {
	tb.Helper()
	mem, err := unix.Mmap(-1, 0, vdso.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		tb.Fatalf("mmap: %v", err)
	}
	tb.Cleanup(func() { unix.Munmap(mem) })
	m := memory(mem)
	m.poison()
	return m
}

func (m memory) poison() { copy(m, bytes.Repeat([]byte{poison}, len(m))) }

// at returns the address of a byte.
func (m memory) at(i int) uintptr { return uintptr(unsafe.Pointer(&m[i])) }

func (m memory) int64(i int) int64 { return int64(binary.NativeEndian.Uint64(m[i:])) }

func (m memory) uint32(i int) uint32 { return binary.NativeEndian.Uint32(m[i:]) }

// written reports the range of bytes that were written to since the last call,
// from the first to behind the last, and forgets them.
func (m memory) written() (lo, hi int) {
	for i, b := range m {
		if b != poison {
			if hi == 0 {
				lo = i
			}
			hi = i + 1
		}
	}
	m.poison()
	return lo, hi
}

//go:build linux

package tracee_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
)

const pageSize = 4096

// mapped returns pages of memory after which nothing is mapped, and the address
// of the first.
func mapped(tb testing.TB, pages int) ([]byte, uint64) {
	tb.Helper()
	mem, err := unix.Mmap(-1, 0, (pages+1)*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { unix.Munmap(mem) })
	if err := unix.Mprotect(mem[pages*pageSize:], unix.PROT_NONE); err != nil {
		tb.Fatal(err)
	}
	return mem[:pages*pageSize], uint64(uintptr(unsafe.Pointer(&mem[0])))
}

// readString is what ReadString must return for the bytes from at on.
func readString(mem []byte, at, size int) (string, error) {
	end := bytes.IndexByte(mem[at:], 0)
	switch {
	case end >= 0 && end < size:
		return string(mem[at : at+end]), nil
	case len(mem)-at < size:
		return "", unix.EFAULT
	}
	return "", unix.ENAMETOOLONG
}

func checkReadString(t *testing.T, mem []byte, base uint64, at, size int) {
	t.Helper()
	buf := bytes.Repeat([]byte{0x55}, size+8)
	got, err := tracee.ReadString(os.Getpid(), base+uint64(at), buf[:size:size])
	want, wantErr := readString(mem, at, size)
	if string(got) != want || err != wantErr {
		t.Errorf("at %d with a buffer of %d: %d bytes, %v; want %d bytes, %v", at, size, len(got), err, len(want), wantErr)
	}
	if tail := buf[size:]; string(tail) != strings.Repeat("\x55", 8) {
		t.Errorf("at %d with a buffer of %d: wrote beyond it: %x", at, size, tail)
	}
}

func FuzzReadString(f *testing.F) {
	const pages = 4
	mem, base := mapped(f, pages)
	for _, at := range []int{0, 1, pageSize - 1, pageSize, 2*pageSize - 5, pages*pageSize - 1, pages*pageSize - 2, pages*pageSize - 4096} {
		for _, length := range []int{0, 1, 4, 255, 4094, 4095, 4096, 5000, 9000} {
			f.Add(at, length, unix.PathMax)
			f.Add(at, length, 16)
			f.Add(at, length, 1)
			f.Add(at, length, 0)
			f.Add(at, length, 3*pageSize)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		f.Add(rng.IntN(pages*pageSize), rng.IntN(2*pageSize), rng.IntN(2*pageSize))
	}
	f.Fuzz(func(t *testing.T, at, length, size int) {
		at = max(at, 0) % (pages * pageSize)
		length, size = max(length, 0)%(3*pageSize), max(size, 0)%(3*pageSize)
		for i := range mem {
			mem[i] = byte('a' + i%26)
		}
		if end := at + length; end < len(mem) {
			mem[end] = 0
		}
		checkReadString(t, mem, base, at, size)
	})
}

// A string that doesn't begin in memory, or doesn't end there.
func TestReadStringFaults(t *testing.T) {
	mem, base := mapped(t, 2)
	for i := range mem {
		mem[i] = 'x'
	}
	buf := make([]byte, 100)
	for _, addr := range []uint64{0, 1, base + uint64(len(mem)), base + uint64(len(mem)) - 10, 1 << 47, ^uint64(0), ^uint64(0) - 4095, 0xffff800000000000} {
		if s, err := tracee.ReadString(os.Getpid(), addr, buf); err != unix.EFAULT {
			t.Errorf("at %#x: %q, %v, want EFAULT", addr, s, err)
		}
	}
	if _, err := tracee.ReadString(os.Getpid(), base, buf); err != unix.ENAMETOOLONG {
		t.Errorf("a long string: %v, want ENAMETOOLONG", err)
	}
	// No process has this number: it is above the kernel's maximum.
	if _, err := tracee.ReadString(1<<30, base, buf); err != unix.ESRCH {
		t.Errorf("of nobody: %v, want ESRCH", err)
	}
}

func TestReadWriteMem(t *testing.T) {
	mem, base := mapped(t, 2)
	for i := range mem {
		mem[i] = byte(i)
	}
	pid, end := os.Getpid(), base+uint64(len(mem))
	buf := make([]byte, 100)
	for _, at := range []int{0, 1, pageSize - 50, len(mem) - 100} {
		if err := tracee.ReadMem(pid, base+uint64(at), buf); err != nil || !bytes.Equal(buf, mem[at:at+100]) {
			t.Errorf("read at %d: %v", at, err)
		}
	}
	for _, addr := range []uint64{end - 99, end, 0, 1 << 63} {
		if err := tracee.ReadMem(pid, addr, buf); err != unix.EFAULT {
			t.Errorf("read at %#x: %v, want EFAULT", addr, err)
		}
	}
	if err := tracee.ReadMem(pid, end, nil); err != nil {
		t.Errorf("read nothing: %v", err)
	}
	if n, err := tracee.WriteMem(pid, end, nil); n != 0 || err != nil {
		t.Errorf("wrote nothing: %d, %v", n, err)
	}
	text := bytes.Repeat([]byte("w"), pageSize+100)
	if n, err := tracee.WriteMem(pid, base+50, text); n != len(text) || err != nil || !bytes.Equal(mem[50:50+n], text) {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	// As much as fits is written, and told.
	if n, err := tracee.WriteMem(pid, end-100, text); n != 100 || err != unix.EFAULT {
		t.Errorf("wrote %d bytes over the edge, %v; want 100 and EFAULT", n, err)
	}
	if n, err := tracee.WriteMem(pid, end, text); n != 0 || err != unix.EFAULT {
		t.Errorf("wrote %d bytes behind the edge, %v; want EFAULT", n, err)
	}
	// What the process can't write isn't written.
	if err := unix.Mprotect(mem[pageSize:], unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	if n, err := tracee.WriteMem(pid, base+pageSize-10, text); n != 10 || err != unix.EFAULT {
		t.Errorf("wrote %d bytes before a read-only page, %v; want 10 and EFAULT", n, err)
	}
}

func TestAuxv(t *testing.T) {
	auxv, err := tracee.ReadAuxv(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const atPageSize = 6
	if v, ok := auxv.Get(atPageSize); !ok || v != uint64(os.Getpagesize()) {
		t.Errorf("AT_PAGESZ is %d, %v", v, ok)
	}
	if v, ok := auxv.Get(tracee.ATEntry); !ok || v == 0 {
		t.Errorf("AT_ENTRY is %#x, %v", v, ok)
	}
	if v, ok := auxv.Get(0x7777); ok {
		t.Errorf("an unknown key has the value %#x", v)
	}
	if v, ok := (tracee.Auxv{}).Get(tracee.ATRandom); ok {
		t.Errorf("an empty vector has the value %#x", v)
	}
}

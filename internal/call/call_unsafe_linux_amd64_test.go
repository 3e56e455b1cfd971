package call_test

import (
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/internal/call"
)

// load maps machine code as executable and returns its address.
func load(t *testing.T, code ...byte) uintptr {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatalf("mmap: %v", err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	copy(mem, code)
	if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		t.Fatalf("mprotect: %v", err)
	}
	return uintptr(unsafe.Pointer(&mem[0]))
}

func TestCallArguments(t *testing.T) {
	// Each argument lands in digits of its own.
	fn := load(t,
		0x48, 0xc1, 0xe6, 0x04, // shl rsi, 4
		0x48, 0xc1, 0xe2, 0x08, // shl rdx, 8
		0x48, 0xc1, 0xe1, 0x0c, // shl rcx, 12
		0x49, 0xc1, 0xe0, 0x10, // shl r8, 16
		0x48, 0x8d, 0x04, 0x37, // lea rax, [rdi+rsi]
		0x48, 0x01, 0xd0, // add rax, rdx
		0x48, 0x01, 0xc8, // add rax, rcx
		0x4c, 0x01, 0xc0, // add rax, r8
		0xc3, // ret
	)
	if got := call.Call(fn, 1, 2, 3, 4, 5); got != 0x54321 {
		t.Errorf("Call(fn, 1, 2, 3, 4, 5) = %#x, want 0x54321", got)
	}
}

func TestCallAlignsStack(t *testing.T) {
	fn := load(t,
		0x48, 0x89, 0xe0, // mov rax, rsp
		0x48, 0x83, 0xe0, 0x0f, // and rax, 15
		0xc3, // ret
	)
	// At a function's entry the return address has just been pushed.
	if got := call.Call(fn, 0, 0, 0, 0, 0); got != 8 {
		t.Errorf("stack pointer at entry = %d modulo 16, want 8", got)
	}
}

// A new goroutine has a stack that is much smaller than the callee's, so each
// of these calls makes it grow first, and the callee overwrites what it was
// promised. Locals of the caller must come out whole.
func TestCallGrowsStack(t *testing.T) {
	fn := load(t,
		0x48, 0x8d, 0xbc, 0x24, 0x00, 0xc1, 0xff, 0xff, // lea rdi, [rsp-0x3f00]
		0xb9, 0x00, 0x3f, 0x00, 0x00, // mov ecx, 0x3f00
		0xb8, 0xff, 0x00, 0x00, 0x00, // mov eax, 0xff
		0xf3, 0xaa, // rep stosb
		0xc3, // ret
	)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			var local [64]int
			for j := range local {
				local[j] = i + j
			}
			if got := call.Call(fn, 0, 0, 0, 0, 0); got != 0xff {
				t.Errorf("Call = %#x, want 0xff", got)
			}
			for j := range local {
				if local[j] != i+j {
					t.Errorf("goroutine %d: local %d = %#x after the call, want %#x", i, j, local[j], i+j)
				}
			}
		})
	}
	wg.Wait()
}

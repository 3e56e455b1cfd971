package supervisor

import (
	"fmt"
	"os"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func init() { programs["residency"] = tellResidency }

// tellResidency prints what mincore says of memory that was never touched, of a file, and of
// what isn't mapped.
func tellResidency([]string) error {
	page := os.Getpagesize()
	memory, err := unix.Mmap(-1, 0, 4*page, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	at := uintptr(unsafe.Pointer(&memory[0]))
	hole, _, e := unix.Syscall(unix.SYS_MUNMAP, at+uintptr(2*page), uintptr(page), 0)
	if e != 0 {
		return fmt.Errorf("munmap: %d, %w", hole, e)
	}
	ask := func(at, size uintptr) {
		vector := make([]byte, 4)
		_, _, e := unix.Syscall(unix.SYS_MINCORE, at, size, uintptr(unsafe.Pointer(&vector[0])))
		fmt.Println(vector, int(e))
	}
	ask(at, uintptr(page))
	ask(at, uintptr(2*page-1))
	ask(at, uintptr(4*page))
	ask(at+uintptr(2*page), 1)
	ask(at+uintptr(3*page), uintptr(page))
	ask(at+1, 1)
	ask(at, 0)
	ask(0, ^uintptr(0)>>1)
	_, _, e = unix.Syscall(unix.SYS_MINCORE, at, uintptr(page), 1)
	fmt.Println(int(e))
	fd, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	const noWait = 8
	_, err = unix.Preadv2(fd, [][]byte{make([]byte, 16)}, 0, noWait)
	fmt.Println(err)
	_, err = os.Stat("/proc/self/pagemap")
	fmt.Println(err)
	return nil
}

// What of its memory is in the host's is nothing that a program learns.
func TestResidency(t *testing.T) {
	want := "[1 0 0 0] 0\n[1 1 0 0] 0\n[1 1 0 0] 12\n[0 0 0 0] 12\n[1 0 0 0] 0\n[0 0 0 0] 22\n[0 0 0 0] 0\n[0 0 0 0] 12\n14\noperation not supported\nstat /proc/self/pagemap: no such file or directory\n"
	if diff := cmp.Diff(lines(want), lines(output(t, Config{}, program(t, "residency")))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

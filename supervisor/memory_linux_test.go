package supervisor

import (
	"math"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/det"
)

// hasZeroPage reports whether pages that nobody has written to are one and the same.
func hasZeroPage(t *testing.T) bool {
	t.Helper()
	const size = 32 << 20
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil {
		t.Fatal(err)
	}
	before, _ := kilobytes("/proc/self/status", "RssAnon:")
	sum := byte(0)
	for i := 0; i < size; i += os.Getpagesize() {
		sum += mem[i]
	}
	after, ok := kilobytes("/proc/self/status", "RssAnon:")
	if !ok || sum != 0 {
		t.Fatalf("the sum of zeros is %d, /proc/self/status is read: %v", sum, ok)
	}
	return after-before < size/2
}

// Memory counts that no process has mapped, and counts once.
func TestHoardedMemory(t *testing.T) {
	path := compileC(t, "hoard", false)
	const limit = 64 << 20
	for _, kind := range []string{"file", "mapped", "sent", "segment", "deleted", "named", "tables", "spawned"} {
		t.Run(kind, func(t *testing.T) {
			if testing.Short() && (kind == "mapped" || kind == "spawned") {
				t.Skip("takes seconds")
			}
			if kind == "deleted" || kind == "named" {
				if !inMemory("/dev/shm") {
					t.Skip("/dev/shm is no tmpfs")
				}
				t.Setenv("TMPDIR", "/dev/shm")
			}
			if kind == "tables" && !hasZeroPage(t) {
				t.Skip("on this kernel a page that was only read takes memory, too")
			}
			cfg := Config{Clock: det.Running, Limits: Limits{Memory: limit}}
			if state, out := run(t, cfg, cmdC(path, kind, "48", "again and again")); state.OutOfMemory || out != "done\n" {
				t.Errorf("48 MiB ten times: %+v, %q", state, out)
			}
			if kind == "spawned" {
				return
			}
			if state, out := run(t, cfg, cmdC(path, kind, "80")); !state.OutOfMemory || state.Signal != unix.SIGKILL {
				t.Errorf("80 MiB: %+v, %q", state, out)
			}
		})
	}
}

// However much is left, the time until the next look is no less than it takes to write it.
func TestMemoryCheck(t *testing.T) {
	for _, tt := range []struct {
		left int64
		want time.Duration
	}{{0, 0}, {memoryPace / 8, 125 * time.Millisecond}, {memoryPace, time.Second}, {16 << 30, 4 * time.Second}, {math.MaxInt64, 2147483648 * time.Second}} {
		if got := memoryCheck(tt.left); got < tt.want || got > tt.want+tt.want/1000+time.Millisecond {
			t.Errorf("for %d bytes: %v, want %v", tt.left, got, tt.want)
		}
	}
}

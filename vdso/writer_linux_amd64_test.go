package vdso_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/vdso"
)

const writerEnv = "VDSO_TEST_WRITER"

func TestMain(m *testing.M) {
	if os.Getenv(writerEnv) != "" {
		writePairs()
	}
	os.Exit(m.Run())
}

// writePairs moves the clock of the region on descriptor 3 without end, such
// that in every pair the seconds and the nanoseconds are the same number, a
// multiple of 1000. It ends with its standard input.
func writePairs() {
	mem, err := unix.Mmap(3, 0, vdso.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mmap:", err)
		os.Exit(1)
	}
	data := vdso.NewData(mem)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for n := int64(0); ; n = (n + 1000) % 1e9 {
		now := n*1e9 + n
		data.Set(now, now, now, now)
	}
}

// A reader never sees the seconds of one instant with the nanoseconds of
// another. The writer is a process of its own, as the supervisor is: in this
// one, a collector that has stopped the writer amid Set would wait for the
// reader, and the reader for the writer.
func TestFrozenIsConsistent(t *testing.T) {
	r, m := newRegion(t, vdso.Frozen, nil), newMemory(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), writerEnv+"=1")
	cmd.ExtraFiles = []*os.File{r.file}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	defer func() {
		stdin.Close()
		<-ended
	}()

	const reads, enough = 1e6, 100
	const ts, tv = 0, 16
	gettime, gettimeofday, at, tvAt := r.fn("clock_gettime"), r.fn("gettimeofday"), m.at(ts), m.at(tv)
	changes, last := 0, int64(-1)
	// Go on until the writer is known to have been at work meanwhile.
	for i := 0; i < reads || changes < enough; i++ {
		callC(gettime, uintptr(i%2), at) // realtime and monotonic
		if sec, nsec := m.int64(ts), m.int64(ts+8); sec != nsec {
			t.Fatalf("read %d: clock_gettime = %d s %d ns, a torn pair", i, sec, nsec)
		} else if sec != last {
			changes, last = changes+1, sec
		}
		callC(gettimeofday, tvAt)
		if sec, usec := m.int64(tv), m.int64(tv+8); sec != usec*1000 {
			t.Fatalf("read %d: gettimeofday = %d s %d us, a torn pair", i, sec, usec)
		}
		if i%1000 == 0 {
			r.recount() // the writer may not have run for long
			select {
			case <-ended:
				t.Fatalf("the writer ended: %v", cmd.ProcessState)
			default:
			}
		}
	}
}

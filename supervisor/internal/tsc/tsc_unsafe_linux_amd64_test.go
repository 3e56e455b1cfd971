package tsc

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/sandtest/go-sandtest/internal/call"
	"golang.org/x/sys/unix"
)

// needsFaults skips a test where a read of the counter doesn't fault.
func needsFaults(t *testing.T) {
	t.Helper()
	if !Obeyed() {
		t.Skip("the machine's hypervisor doesn't let a read of the counter fault")
	}
}

// forbidden runs f on a thread that is kept from the counter, dear or not.
func forbidden(t *testing.T, f func()) {
	t.Helper()
	needsFaults(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if !installed() {
		t.Fatal("the handler can't be installed")
	}
	if !set(unix.PR_TSC_SIGSEGV) {
		t.Fatal("the counter can't be forbidden")
	}
	defer set(unix.PR_TSC_ENABLE)
	f()
}

// code returns a function of machine code, which has to end with a return.
func code(t *testing.T, insns ...byte) func() uintptr {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatalf("mmap: %v", err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	copy(mem, insns)
	if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		t.Fatalf("mprotect: %v", err)
	}
	return func() uintptr { return call.Call(uintptr(unsafe.Pointer(&mem[0])), 0, 0, 0, 0, 0) }
}

// TestReads: the instructions and the clock give what they give otherwise.
func TestReads(t *testing.T) {
	both := []byte{
		0x48, 0xc1, 0xe2, 0x20, // shl rdx, 32
		0x48, 0x09, 0xd0, // or rax, rdx
		0xc3, // ret
	}
	rdtsc := code(t, append([]byte{0x0f, 0x31}, both...)...)
	rdtscp := code(t, append([]byte{0x0f, 0x01, 0xf9}, both...)...)
	aux := code(t, 0x0f, 0x01, 0xf9, // rdtscp
		0x48, 0x89, 0xc8, // mov rax, rcx
		0xc3) // ret

	before, began, reads := rdtsc(), time.Now(), readSoFar()
	var first, second, cpu, want uintptr
	var then time.Time
	forbidden(t, func() {
		var one unix.CPUSet
		if err := unix.SchedGetaffinity(0, &one); err != nil {
			t.Fatal(err)
		}
		defer unix.SchedSetaffinity(0, &one)
		for want = 0; !one.IsSet(int(want)); want++ {
		}
		last := unix.CPUSet{}
		last.Set(int(want))
		if err := unix.SchedSetaffinity(0, &last); err != nil {
			t.Fatal(err)
		}
		first, second, cpu, then = rdtsc(), rdtscp(), aux(), time.Now()
	})
	after := rdtsc()
	if !(before < first && first < second && second < after) {
		t.Errorf("read %d, %d between %d and %d", first, second, before, after)
	}
	if cpu&0xfff != want {
		t.Errorf("rdtscp told CPU %d, want %d", cpu&0xfff, want)
	}
	if since := then.Sub(began); since <= 0 || since > time.Minute {
		t.Errorf("the clock moved by %v", since)
	}
	if got := readSoFar() - reads; got < 4 {
		t.Errorf("%d reads were carried out, want 4 or more", got)
	}
}

// TestOtherFaults: what isn't a read of the counter is Go's own matter, and stays a panic.
func TestOtherFaults(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for name, at := range map[string]uintptr{"nil": 0, "not canonical": 1 << 63} {
		forbidden(t, func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			*(*int)(*(*unsafe.Pointer)(unsafe.Pointer(&at))) = 1
		})
	}
}

// TestRuntime: garbage is collected, goroutines are preempted, timers run out, and
// processors are taken away from threads that may not read the counter.
func TestRuntime(t *testing.T) {
	done := make(chan bool)
	for range 4 {
		go func() {
			defer func() { done <- true }()
			forbidden(t, func() {
				var keep [][]byte
				for i := range 2000 {
					keep = append(keep, make([]byte, 4096))
					if i%100 == 0 {
						keep = nil
						runtime.Gosched()
						time.Sleep(10 * time.Microsecond)
						_ = unix.Nanosleep(&unix.Timespec{Nsec: 50_000}, nil)
					}
				}
				runtime.KeepAlive(keep)
				runtime.GC()
			})
		}()
	}
	for range 4 {
		<-done
	}
}

// TestProfile: the profiler, which reads the clock in a signal handler, takes its samples
// of such a thread.
func TestProfile(t *testing.T) {
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		t.Skip(err) // go test -cpuprofile
	}
	spent := func() int64 {
		var used unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &used); err != nil {
			t.Fatal(err)
		}
		return used.Utime.Nano() + used.Stime.Nano()
	}
	forbidden(t, func() {
		for began := spent(); spent()-began < int64(200*time.Millisecond); {
		}
	})
	pprof.StopCPUProfile()
	if profile.Len() == 0 {
		t.Error("there is no profile")
	}
}

// TestTraceback: what prints the goroutines' stacks, which reads the clock for those that
// have waited for long, gets to its end.
func TestTraceback(t *testing.T) {
	needsFaults(t)
	const quits = "TSC_TEST_QUITS"
	if os.Getenv(quits) == "" {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestTraceback$")
		cmd.Env = append(os.Environ(), quits+"=1", "GOTRACEBACK=all")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || strings.Count(string(out), "chan receive") < 20 {
			t.Errorf("%v, want exit status 2 and all goroutines in\n%s", err, out)
		}
		return
	}
	for range 20 {
		go func() { <-make(chan bool) }()
	}
	for range 3 { // the collector notes since when they wait
		time.Sleep(time.Millisecond)
		runtime.GC()
	}
	forbidden(t, func() {
		_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGQUIT)
		select {}
	})
}

// TestForbid: whether it is worth it here or not, the clock can be read and the thread is
// as it was in the end.
func TestForbid(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	Forbid()
	began := time.Now()
	may := state(t)
	Allow()
	if time.Since(began) < 0 {
		t.Error("the clock goes back")
	}
	if want := map[bool]int32{false: unix.PR_TSC_ENABLE, true: unix.PR_TSC_SIGSEGV}[Dear()]; may != want {
		t.Errorf("the thread's state was %d, want %d", may, want)
	}
	if now := state(t); now != unix.PR_TSC_ENABLE {
		t.Errorf("the thread's state is %d in the end", now)
	}
}

func state(t *testing.T) (v int32) {
	if _, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_TSC, uintptr(unsafe.Pointer(&v)), 0); errno != 0 {
		t.Fatal(errno)
	}
	return v
}

//go:build linux

package supervisor

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
)

func init() {
	// What a process draws, in one write: a name, 32 bytes of getrandom(2), and
	// its AT_RANDOM.
	programs["draw"] = func(args []string) error {
		var b [32]byte
		if _, err := unix.Getrandom(b[:], 0); err != nil {
			return err
		}
		auxv, err := os.ReadFile("/proc/self/auxv")
		if err != nil {
			return err
		}
		mem, err := os.Open("/proc/self/mem")
		if err != nil {
			return err
		}
		var at [16]byte
		for ; len(auxv) >= 16; auxv = auxv[16:] {
			if binary.NativeEndian.Uint64(auxv) == tracee.ATRandom {
				_, err = mem.ReadAt(at[:], int64(binary.NativeEndian.Uint64(auxv[8:])))
			}
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s %x %x\n", args[0], b, at)
		return nil
	}
	// One Read of a device, as big as its buffer.
	programs["readdevice"] = func(args []string) error {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		for _, size := range []int{16, 1 << 20, 3 << 20} {
			n, err := io.ReadFull(f, make([]byte, size))
			fmt.Println(n, err)
		}
		return nil
	}
}

// Processes that run at the same time each draw the same in every run, whatever
// the order in which they come to it; with another seed all of it is different.
func TestRandomOfConcurrentProcesses(t *testing.T) {
	const processes = 50
	runs := 20
	if testing.Short() || raceEnabled {
		runs = 2
	}
	const script = `i=0; while [ $i -lt $1 ]; do "$0" $2 $i & i=$((i+1)); done; wait`
	path := compileC(t, "random", false)
	goProgram := program(t, "draw")
	for _, tt := range []struct {
		name, path, arg string
		env             []string
	}{
		{"c", path, "draw", environ()},
		{"static", compileC(t, "random", true), "draw", environ()},
		{"go", goProgram.Path, "", goProgram.Env},
	} {
		t.Run(tt.name, func(t *testing.T) {
			draw := func(seed uint64) map[string]string {
				cmd := cmdC("/bin/sh", "-c", script, tt.path, fmt.Sprint(processes), tt.arg)
				cmd.Env = tt.env
				m := fields(t, succeeds(t, Config{Seed: seed}, cmd))
				if len(m) != processes {
					t.Fatalf("%d of %d processes told what they drew", len(m), processes)
				}
				return m
			}
			want := draw(7)
			seen := map[string]string{}
			for name, values := range want {
				for _, v := range strings.Fields(values)[:2] {
					if seen[v] != "" {
						t.Errorf("processes %s and %s drew the same: %s", name, seen[v], v)
					}
					seen[v] = name
				}
			}
			runs := runs
			if tt.name != "c" {
				runs = max(runs/4, 2)
			}
			for range runs - 1 {
				if diff := cmp.Diff(want, draw(7)); diff != "" {
					t.Fatalf("what each process drew (-first run +this one):\n%s", diff)
				}
			}
			for name, other := range draw(8) {
				a, b := strings.Fields(want[name]), strings.Fields(other)
				if a[0] == b[0] || a[1] == b[1] {
					t.Errorf("process %s drew %s with seed 7 and %s with seed 8", name, want[name], other)
				}
			}
		})
	}
}

// Sizes and flags of getrandom.
func TestGetrandomSizes(t *testing.T) {
	dynamicAndStatic(t, "random", func(t *testing.T, path string) {
		want := succeeds(t, Config{}, cmdC(path, "sizes"))
		if got := succeeds(t, Config{}, cmdC(path, "sizes")); got != want {
			t.Errorf("another run:\n%swant\n%s", got, want)
		}
		other := lines(succeeds(t, Config{Seed: 1}, cmdC(path, "sizes")))
		// All but the hash is as natively; no two hashes are equal.
		hash := regexp.MustCompile(` [0-9a-f]{16}\n$`)
		seen := map[string]string{}
		for i, line := range lines(bare(t, cmdC(path, "sizes"))) {
			got := lines(want)[i]
			if hash.ReplaceAllString(got, "") != hash.ReplaceAllString(line, "") {
				t.Errorf("%q, bare %q", got, line)
			}
			for _, l := range []string{got, other[i]} {
				h := hash.FindString(l)
				if !strings.HasPrefix(l, "0 ") && !strings.HasPrefix(l, "1 ") && seen[h] != "" {
					t.Errorf("the same bytes for %q and %q", l, seen[h])
				}
				seen[h] = l
			}
		}
	})
}

func TestGetrandomErrors(t *testing.T) {
	dynamicAndStatic(t, "random", func(t *testing.T, path string) {
		sameAsBare(t, Config{}, func() *exec.Cmd { return cmdC(path, "errors") })
	})
}

// A call that is interrupted and restarted draws once.
func TestRestartedCallsDrawOnce(t *testing.T) {
	n := count(20_000, 20_000)
	path := compileC(t, "random", false)
	want := succeeds(t, Config{}, cmdC(path, "stream", n))
	if !strings.HasSuffix(want, " failed 0\n") {
		t.Fatalf("without a timer: %s", want)
	}
	if _, got := endsWithin(t, storms, realTimers, cmdC(path, "stream", n, "timer")); got != want {
		t.Errorf("under a timer the stream is %swant %s", got, want)
	}
}

// The devices, opened in every way. All but the bytes is as natively.
func TestRandomDevices(t *testing.T) {
	bytesOf := regexp.MustCompile(`bytes ([0-9a-f]+)`)
	for _, dev := range []string{"/dev/urandom", "/dev/random"} {
		dynamicAndStatic(t, "random", func(t *testing.T, path string) {
			link := filepath.Join(t.TempDir(), "link")
			if err := os.Symlink(dev, link); err != nil {
				t.Fatal(err)
			}
			native := bare(t, cmdC(path, "device", dev, link))
			first := succeeds(t, Config{}, cmdC(path, "device", dev, link))
			if diff := cmp.Diff(lines(bytesOf.ReplaceAllString(native, "")), lines(bytesOf.ReplaceAllString(first, ""))); diff != "" {
				t.Errorf("%s (-bare +sandbox):\n%s", dev, diff)
			}
			if again := succeeds(t, Config{}, cmdC(path, "device", dev, link)); again != first {
				t.Errorf("%s in another run (-first +second):\n%s", dev, cmp.Diff(lines(first), lines(again)))
			}
			seen := map[string]bool{}
			for _, b := range bytesOf.FindAllStringSubmatch(first, -1) {
				if seen[b[1]] {
					t.Errorf("%s: two descriptors gave %s", dev, b[1])
				}
				seen[b[1]] = true
			}
			if other := succeeds(t, Config{Seed: 1}, cmdC(path, "device", dev, link)); other == first {
				t.Errorf("%s gives the same with another seed", dev)
			}
		})
	}
}

// A device never makes anybody wait, and never says that it would.
func TestRandomDeviceIsReady(t *testing.T) {
	path := compileC(t, "random", false)
	sameAsBare(t, Config{}, func() *exec.Cmd { return cmdC(path, "ready", "/dev/urandom") })
}

// Go makes what it opens non-blocking where it can be waited for, so one Read may
// return less than it does natively.
func TestRandomDeviceInGo(t *testing.T) {
	sameAsBare(t, Config{}, func() *exec.Cmd { return program(t, "readdevice", "/dev/urandom") })
}

func TestRandomDeviceIsEndless(t *testing.T) {
	path := compileC(t, "random", false)
	const size = 64 << 20
	first := succeeds(t, Config{}, cmdC(path, "endless", "/dev/urandom", fmt.Sprint(size)))
	if !strings.Contains(first, " bytes ") {
		t.Error(first)
	}
	if again := succeeds(t, Config{}, cmdC(path, "endless", "/dev/urandom", fmt.Sprint(size))); again != first {
		t.Errorf("first %s, then %s", first, again)
	}
}

// What shell scripts do with the devices.
func TestRandomDeviceInScripts(t *testing.T) {
	for _, tt := range []struct{ name, script, want string }{
		{"dd", "dd if=/dev/urandom bs=1M count=3 2>/dev/null | wc -c", "3145728\n"},
		{"dd of random", "dd if=/dev/random bs=1M count=3 2>/dev/null | wc -c", "3145728\n"},
		{"dd one byte a time", "dd if=/dev/urandom bs=1 count=1000 2>/dev/null | wc -c", "1000\n"},
		{"head", "head -c 5000000 /dev/urandom | wc -c", "5000000\n"},
		{"redirection", "head -c 100 </dev/urandom | wc -c", "100\n"},
		{"relative", "cd /; head -c 100 dev/urandom | wc -c; cd /dev; head -c 10 urandom | wc -c", "100\n10\n"},
		{"write", "echo entropy >/dev/urandom && echo more >>/dev/random && dd if=/dev/zero of=/dev/urandom bs=1M count=1 2>/dev/null && echo ok", "ok\n"},
		{"inherited", "exec 3</dev/urandom; (head -c 10 <&3; head -c 10 <&3) | wc -c", "20\n"},
		{"closed by a reader that ends", "cat /dev/urandom | head -c 1000 | wc -c", "1000\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := succeeds(t, Config{}, sh(tt.script)); strings.ReplaceAll(got, " ", "") != tt.want {
				t.Errorf("output %q, want %q", got, tt.want)
			}
		})
	}
}

// Identifiers that the kernel makes up.
func TestUUIDs(t *testing.T) {
	const script = `cd /proc/sys/kernel/random
		cat uuid uuid; cat uuid; read u <uuid; echo $u; (read u <uuid; echo $u)
		cat boot_id boot_id; (cat boot_id); sh -c 'cat /proc/sys/kernel/random/boot_id'`
	first := succeeds(t, Config{}, sh(script))
	if again := succeeds(t, Config{}, sh(script)); again != first {
		t.Errorf("another run:\n%swant\n%s", again, first)
	}
	all := strings.Fields(first)
	if len(all) != 9 {
		t.Fatalf("got %q", all)
	}
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]int{}
	for i, id := range all {
		if !form.MatchString(id) {
			t.Errorf("%q is no UUID of version 4", id)
		}
		if at, twice := seen[id]; twice != (i > 5) || twice && at != 5 {
			t.Errorf("identifier %d, %s: it came before: %v", i, id, twice)
		}
		if _, twice := seen[id]; !twice {
			seen[id] = i
		}
	}
	for i, id := range strings.Fields(succeeds(t, Config{Seed: 1}, sh(script))) {
		if id == all[i] {
			t.Errorf("identifier %d is %s with either seed", i, id)
		}
	}
}

// Who waits for more random bytes isn't idle: the supervisor is about to write them. The
// clock doesn't move meanwhile, and nothing is deadlocked.
func TestRandomIsNoWait(t *testing.T) {
	for range 5 {
		state, out := run(t, Config{}, sh("sleep 1000 & for i in 1 2 3 4 5 6 7 8 9 10; do head -c 300000 /dev/urandom >/dev/null; done; date +%s; wait; head -c 3000000 /dev/urandom | wc -c"))
		if want := "946684800\n3000000\n"; out != want || state.Deadlock != nil {
			t.Errorf("it says %q, want %q; deadlock %v", out, want, state.Deadlock)
		}
	}
}

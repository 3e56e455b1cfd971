//go:build linux

package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/seccomp"
)

// beside runs a benchmark bare and in a sandbox, and reports the second as a
// ratio to the first. make returns a command that does something n times; what
// it costs to start it is measured with n = 0 and left out. more are other sandboxes to
// run it in.
func beside(b *testing.B, make func(n int) *exec.Cmd, more ...variant) {
	var bare float64
	measure := func(b *testing.B, run func(*exec.Cmd)) float64 {
		timed := func(n int) time.Duration {
			start := time.Now()
			run(make(n))
			return time.Since(start)
		}
		empty := min(timed(0), timed(0), timed(0))
		b.ResetTimer()
		ns := float64(max(timed(b.N)-empty, 0)) / float64(b.N)
		b.StopTimer()
		b.ReportMetric(ns, "ns/op")
		return ns
	}
	b.Run("bare", func(b *testing.B) {
		bare = measure(b, func(cmd *exec.Cmd) {
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
		})
	})
	for _, v := range append([]variant{{"sandbox", Config{}}, {"host-tsc", Config{HostTSC: true}}}, more...) {
		b.Run(v.name, func(b *testing.B) {
			ns := measure(b, func(cmd *exec.Cmd) { output(b, v.cfg, cmd) })
			b.ReportMetric(ns/bare, "x-bare")
			b.ReportMetric((ns-bare)/1000, "us-above-bare")
		})
	}
}

// A variant is a sandbox to measure.
type variant struct {
	name string
	cfg  Config
}

func besideProgram(b *testing.B, name string, args ...string) {
	beside(b, func(n int) *exec.Cmd {
		return program(b, name, append([]string{strconv.Itoa(n)}, args...)...)
	})
}

func BenchmarkClockRead(b *testing.B) { besideProgram(b, "clock") }
func BenchmarkGetrandom(b *testing.B) { besideProgram(b, "getrandom") }
func BenchmarkForkExec(b *testing.B)  { besideProgram(b, "fork") }
func BenchmarkOpen(b *testing.B)      { besideProgram(b, "open") }

func BenchmarkGetdents10000(b *testing.B) {
	dir := b.TempDir()
	for i := range 10_000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("name-%d", i*7919%10_000)), nil, 0o666); err != nil {
			b.Fatal(err)
		}
	}
	besideProgram(b, "getdents", dir)
}

// BenchmarkJump tells how long it takes until the clock has moved to the next of
// so many threads that sleep. Bare, sleeping takes the time itself.
func BenchmarkJump(b *testing.B) {
	path := compileC(b, "waiters", false)
	for _, threads := range []int{1, 10, 100} {
		b.Run(strconv.Itoa(threads), func(b *testing.B) {
			timed := func(n int) time.Duration {
				began := time.Now()
				output(b, Config{}, cmdC(path, "jump", strconv.Itoa(threads), strconv.Itoa(n)))
				return time.Since(began)
			}
			empty := min(timed(0), timed(0), timed(0))
			n := (b.N + threads - 1) / threads * threads
			b.ResetTimer()
			ns := float64(max(timed(n)-empty, 0)) / float64(n)
			b.StopTimer()
			b.ReportMetric(ns, "ns/op")
		})
	}
}

// BenchmarkTimedWake is a wait that is over before its time, and waking it.
func BenchmarkTimedWake(b *testing.B) {
	path := compileC(b, "waiters", false)
	beside(b, func(n int) *exec.Cmd { return cmdC(path, "pingpong", strconv.Itoa(n)) })
}

// BenchmarkNetwork is a connection made, accepted and closed, a datagram there and
// back, and bytes there and back on a connection.
func BenchmarkNetwork(b *testing.B) {
	path := compileC(b, "netloop", false)
	for _, what := range []string{"connect", "datagram", "stream"} {
		b.Run(what, func(b *testing.B) {
			beside(b, func(n int) *exec.Cmd { return cmdC(path, what, strconv.Itoa(n)) })
		})
	}
}

// BenchmarkMalloc allocates and frees memory of which there is a limit.
func BenchmarkMalloc(b *testing.B) {
	path := compileC(b, "mallocs", false)
	beside(b, func(n int) *exec.Cmd { return cmdC(path, strconv.Itoa(n)) }, variant{"limited", Config{Limits: Limits{Memory: 4 << 30}}})
}

// BenchmarkRoundTrip compares an answered call with the least a supervisor in Go can do: a
// loop of the two ioctls. uname needs a third and a write to the program's memory.
func BenchmarkRoundTrip(b *testing.B) {
	measure := func(b *testing.B, name string, minimal func(*receivers)) float64 {
		timed := func(n int) time.Duration {
			cmd := program(b, name, strconv.Itoa(n))
			began := time.Now()
			s, err := start(cmd, Config{}, hooks{receive: minimal})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := s.Wait(); err != nil {
				b.Fatal(err)
			}
			return time.Since(began)
		}
		empty := min(timed(0), timed(0), timed(0))
		b.ReportAllocs()
		b.ResetTimer()
		ns := float64(max(timed(b.N)-empty, 0)) / float64(b.N)
		b.StopTimer()
		b.ReportMetric(ns, "ns/op")
		return ns
	}
	var two float64
	b.Run("two-ioctls", func(b *testing.B) { two = measure(b, "uname", twoIoctls) })
	for _, name := range []string{"answered", "uname"} {
		b.Run(name, func(b *testing.B) { b.ReportMetric(measure(b, name, nil)/two, "x-two-ioctls") })
	}
}

// twoIoctls serves uname with nothing but RECV and SEND; what else the program
// calls is left to the receivers' own code.
func twoIoctls(rs *receivers) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	uname, _ := seccomp.Number("uname")
	c := &Call{s: rs.s, rs: rs, yielded: true}
	for {
		if err := rs.listener.Recv(&c.n); err != nil {
			if rs.listener.Alive() {
				continue
			}
			return
		}
		if c.n.Nr != int32(uname) {
			rs.serve(c)
			continue
		}
		if err := rs.listener.Send(&seccomp.Resp{ID: c.n.ID}); err != nil {
			return
		}
	}
}

func BenchmarkStart(b *testing.B) {
	var bare float64
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
		bare = float64(b.Elapsed()) / float64(b.N)
	})
	for _, v := range []struct {
		name string
		cfg  Config
	}{{"sandbox", Config{}}, {"host-tsc", Config{HostTSC: true}}} {
		b.Run(v.name, func(b *testing.B) {
			for b.Loop() {
				s, err := Start(exec.Command("/bin/true"), v.cfg)
				if err == nil {
					_, err = s.Wait()
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			ns := float64(b.Elapsed()) / float64(b.N)
			b.ReportMetric((ns-bare)/1000, "us-above-bare")
			b.ReportMetric(ns/bare, "x-bare")
		})
	}
}

// BenchmarkGoBuild builds a small module from scratch with a warm cache for the
// standard library.
func BenchmarkGoBuild(b *testing.B) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			b.Fatal(err)
		}
	}
	write("go.mod", "module small\n\ngo 1.26\n")
	write("main.go", "package main\n\nimport (\n\t\"fmt\"\n\t\"net/http\"\n)\n\nfunc main() { fmt.Println(http.StatusText(200)) }\n")
	command := func() *exec.Cmd {
		// The source differs each time, so nothing of it is in the cache
		write("n.go", fmt.Sprintf("package main\n\nvar _ = %d\n", time.Now().UnixNano()))
		cmd := exec.Command(goTool, "build", "-o", filepath.Join(dir, "out"), ".")
		cmd.Dir = dir
		return cmd
	}
	output(b, Config{Clock: det.Host}, command())
	var bare float64
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			if out, err := command().CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
		}
		bare = float64(b.Elapsed()) / float64(b.N)
	})
	b.Run("sandbox", func(b *testing.B) {
		for b.Loop() {
			// In a clock before the files' times, the go command takes each of them for
			// new and uses no index. It starts as many compilers as it sees CPUs.
			output(b, Config{Time: time.Now(), Identity: det.Identity{CPUs: runtime.NumCPU()}}, command())
		}
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/bare, "x-bare")
	})
}

// BenchmarkPolicy tells what a callback costs beyond an answered call: uname is asked
// about or not.
func BenchmarkPolicy(b *testing.B) {
	timed := func(n int, cfg Config) time.Duration {
		began := time.Now()
		run(b, cfg, program(b, "uname", strconv.Itoa(n)))
		return time.Since(began)
	}
	asked := 0
	with := Config{Events: []string{"uname"}, OnSyscall: func(e *Event) Verdict {
		if e.Name == "uname" {
			asked++
		}
		return Allow
	}}
	least := func(cfg Config) time.Duration { return min(timed(0, cfg), timed(0, cfg), timed(0, cfg)) }
	empty, emptyWith := least(Config{}), least(with)
	b.ResetTimer()
	plain, held := timed(b.N, Config{})-empty, timed(b.N, with)-emptyWith
	b.StopTimer()
	b.ReportMetric(float64(held-plain)/float64(b.N), "ns-more/event")
	b.ReportMetric(float64(held)/float64(max(plain, 1)), "x-unasked")
	if asked < b.N {
		b.Fatalf("asked %d times of %d", asked, b.N)
	}
}

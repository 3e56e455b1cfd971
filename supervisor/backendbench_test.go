//go:build linux

package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandtest/go-sandtest/det"
)

// What whole programs take in a sandbox made of namespaces and in one without, beside what
// they take bare in the same run. Each runs once for an iteration; -benchtime 3x is enough.

// onBackends runs commands bare and on both backends. prepare, which isn't measured, returns
// the next one, and may change what its sandbox is like; nil is none.
func onBackends(b *testing.B, cfg Config, prepare func(b *testing.B, cfg *Config) *exec.Cmd) {
	var bare float64
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			cmd := prepare(b, nil)
			b.StartTimer()
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
		}
		bare = float64(b.Elapsed()) / float64(b.N)
	})
	for _, v := range []struct {
		name    string
		backend Backend
	}{{"namespaces", BackendNamespaces}, {"seccomp", BackendSeccomp}} {
		b.Run(v.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				cfg := cfg
				cfg.Backend = v.backend
				cmd := prepare(b, &cfg)
				b.StartTimer()
				output(b, cfg, cmd)
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/bare, "x-bare")
		})
	}
}

func inDir(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	return cmd
}

// writeFiles writes files below a directory, by their names.
func writeFiles(b *testing.B, dir string, files map[string]string) {
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			b.Fatal(err)
		}
	}
}

// asMany is a sandbox that shows all CPUs, in the present: the go command takes files of the
// future for new ones.
func asMany() Config {
	return Config{Time: time.Now(), Identity: det.Identity{CPUs: runtime.NumCPU()}}
}

func needs(b *testing.B, names ...string) {
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			b.Skip(err)
		}
	}
}

// BenchmarkGoBuildAll compiles a module of 200 packages anew, with the standard library
// that it uses.
func BenchmarkGoBuildAll(b *testing.B) {
	needs(b, "go")
	dir := b.TempDir()
	files := map[string]string{"go.mod": "module many\n\ngo 1.26\n"}
	var imports, uses strings.Builder
	for i := range 200 {
		files[fmt.Sprintf("p%d/p.go", i)] = fmt.Sprintf("package p%d\n\nimport \"strings\"\n\nfunc F() int { return len(strings.Repeat(\"x\", %d)) }\n", i, i)
		fmt.Fprintf(&imports, "\t\"many/p%d\"\n", i)
		fmt.Fprintf(&uses, "\tprintln(p%d.F())\n", i)
	}
	files["main.go"] = "package main\n\nimport (\n" + imports.String() + ")\n\nfunc main() {\n" + uses.String() + "}\n"
	writeFiles(b, dir, files)
	onBackends(b, asMany(), func(b *testing.B, _ *Config) *exec.Cmd {
		cmd := inDir(dir, "go", "build", "-a", "-o", filepath.Join(b.TempDir(), "out"), ".")
		cmd.Env = append(os.Environ(), "GOCACHE="+b.TempDir())
		return cmd
	})
}

// BenchmarkMake builds a C project of 500 files, two at a time.
func BenchmarkMake(b *testing.B) {
	needs(b, "make", "gcc")
	files := map[string]string{"common.h": "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"}
	var objects strings.Builder
	for i := range 500 {
		files[fmt.Sprintf("f%d.c", i)] = fmt.Sprintf("#include \"common.h\"\nint f%d(const char *s) { return (int)strlen(s) + %d; }\n", i, i)
		fmt.Fprintf(&objects, " f%d.o", i)
	}
	files["main.c"] = "#include \"common.h\"\nint main(void) { puts(\"built\"); return 0; }\n"
	files["Makefile"] = "all: main.o" + objects.String() + "\n\tgcc -o prog $^\n%.o: %.c common.h\n\tgcc -c -o $@ $<\n"
	onBackends(b, asMany(), func(b *testing.B, _ *Config) *exec.Cmd {
		dir := b.TempDir()
		writeFiles(b, dir, files)
		return inDir(dir, "make", "-s", "-j2")
	})
}

// BenchmarkUnpack unpacks 20,000 small files, as the installation of packages does.
func BenchmarkUnpack(b *testing.B) {
	path := archive(b, 20_000)
	onBackends(b, Config{}, func(b *testing.B, _ *Config) *exec.Cmd { return inDir(b.TempDir(), "tar", "xmf", path) })
}

// BenchmarkGitStatus looks for changes in a repository of 50,000 files. The index that git
// has made on the host tells of the host's inodes and times, so the first look in a sandbox
// reads all files, and the next one, which is measured, none; unless they are as young as
// the index, which is why they get older.
func BenchmarkGitStatus(b *testing.B) {
	needs(b, "git")
	dir := plantTree(b, 50_000)
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"}} {
		if out, err := inDir(dir, "git", args...).CombinedOutput(); err != nil {
			b.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	start := time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC)
	onBackends(b, Config{Time: start, Inputs: start.Add(-time.Hour)}, func(b *testing.B, cfg *Config) *exec.Cmd {
		status := func() *exec.Cmd { return inDir(dir, "git", "-c", "safe.directory=*", "status", "--short") }
		if cfg != nil {
			first, err := Start(status(), Config{Backend: cfg.Backend, Time: cfg.Time, Inputs: cfg.Inputs, KeepLayer: true})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := first.Wait(); err != nil {
				b.Fatal(err)
			}
			cfg.Continue = first
			b.Cleanup(func() {
				if err := first.Discard(); err != nil {
					b.Error(err)
				}
			})
		}
		return status()
	})
}

// BenchmarkFindAll walks over 200,000 files.
func BenchmarkFindAll(b *testing.B) {
	dir := plantTree(b, 200_000)
	onBackends(b, Config{}, func(*testing.B, *Config) *exec.Cmd { return inDir(dir, "find", ".", "-name", "file7") })
}

// BenchmarkStart64 starts 64 programs at once and waits for all of them.
func BenchmarkStart64(b *testing.B) {
	const many = 64
	all := func(b *testing.B, run func() error) {
		errs := make(chan error, many)
		for b.Loop() {
			var wg sync.WaitGroup
			for range many {
				wg.Go(func() { errs <- run() })
			}
			wg.Wait()
			for range many {
				if err := <-errs; err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	var bare float64
	b.Run("bare", func(b *testing.B) {
		all(b, func() error { return exec.Command("/bin/true").Run() })
		bare = float64(b.Elapsed()) / float64(b.N)
	})
	for _, backend := range []Backend{BackendNamespaces, BackendSeccomp} {
		b.Run(backend.String(), func(b *testing.B) {
			all(b, func() error {
				s, err := Start(exec.Command("/bin/true"), Config{Backend: backend})
				if err == nil {
					_, err = s.Wait()
				}
				return err
			})
			ns := float64(b.Elapsed()) / float64(b.N)
			b.ReportMetric((ns-bare)/many/1000, "us-above-bare")
			b.ReportMetric(ns/bare, "x-bare")
		})
	}
}

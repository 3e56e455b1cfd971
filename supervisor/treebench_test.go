//go:build linux

package supervisor

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func BenchmarkStat(b *testing.B) { besideProgram(b, "stat") }
func BenchmarkRead(b *testing.B) { besideProgram(b, "read") }

// BenchmarkCreate is a new file of a line.
func BenchmarkCreate(b *testing.B) {
	beside(b, func(n int) *exec.Cmd {
		cmd := program(b, "create", fmt.Sprint(n))
		cmd.Dir = b.TempDir()
		return cmd
	})
}

// whole runs commands, bare and in a sandbox, from start to end.
func whole(b *testing.B, make func() *exec.Cmd) {
	var bare float64
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			cmd := make()
			b.StartTimer()
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
		}
		bare = float64(b.Elapsed()) / float64(b.N)
	})
	b.Run("sandbox", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			cmd := make()
			b.StartTimer()
			output(b, Config{}, cmd)
		}
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/bare, "x-bare")
	})
}

// plantTree makes so many small files, a hundred to a directory.
func plantTree(b *testing.B, files int) (dir string) {
	dir = b.TempDir()
	for i := range files {
		sub := filepath.Join(dir, fmt.Sprintf("d%d/e%d", i/1000, i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o777); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%d", i)), []byte("text\n"), 0o666); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// BenchmarkFind walks over 100,000 files.
func BenchmarkFind(b *testing.B) {
	dir := plantTree(b, 100_000)
	for _, test := range []string{"-name", "-newer"} {
		b.Run(test[1:], func(b *testing.B) {
			whole(b, func() *exec.Cmd {
				cmd := exec.Command("find", ".", test, "file7")
				if test == "-newer" {
					cmd.Args[3] = "/etc/passwd"
				}
				cmd.Dir = dir
				return cmd
			})
		})
	}
}

// archive makes one of so many small files.
func archive(b *testing.B, files int) (path string) {
	path = filepath.Join(b.TempDir(), "files.tar")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := tar.NewWriter(f)
	for i := range files {
		text := fmt.Sprintf("this is file %d\n", i)
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/file%d", i/100, i), Mode: 0o644, Size: int64(len(text))}); err != nil {
			b.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkUntar unpacks 5,000 files.
func BenchmarkUntar(b *testing.B) {
	path := archive(b, 5000)
	whole(b, func() *exec.Cmd {
		cmd := exec.Command("tar", "xf", path)
		cmd.Dir = b.TempDir()
		return cmd
	})
}

// BenchmarkStartOverTree starts a program in an empty directory and over 200,000 files.
func BenchmarkStartOverTree(b *testing.B) {
	for _, files := range []int{0, 200_000} {
		dir := plantTree(b, files)
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			for b.Loop() {
				cmd := exec.Command("/bin/true")
				cmd.Dir = dir
				output(b, Config{}, cmd)
			}
		})
	}
}

//go:build linux

package cow_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandtest/go-sandtest/internal/conformance"
	"golang.org/x/sys/unix"
)

const length = 1000 // of a random sequence

// Random operations on a small name space do in a tree what they do on the host. The
// smallest part of a sequence that doesn't is kept in testdata.
func TestRandom(t *testing.T) {
	seeds := 50
	if testing.Short() {
		seeds = 10
	}
	if os.Getenv("SANDTEST_LONG") != "" {
		seeds = 1000
	}
	first := 0
	if s := os.Getenv("SANDTEST_SEED"); s != "" {
		first, _ = strconv.Atoi(s)
		seeds = 1
	}
	for seed := first; seed < first+seeds; seed++ {
		p := part{seed: uint64(seed), ops: make([]int, length)}
		for i := range p.ops {
			p.ops[i] = i
		}
		wrong := p.wrong(t)
		if wrong == "" {
			continue
		}
		p.shrink(func(p part) bool { return p.wrong(t) != "" })
		file := filepath.Join("testdata", "sequences", fmt.Sprintf("%d-%d", seed, p.ops[len(p.ops)-1]))
		if err := os.WriteFile(file, []byte(p.String()), 0o666); err != nil {
			t.Error(err)
		}
		t.Fatalf("seed %d: %s\nsmallest sequence that fails, now in %s:\n%s\n%s", seed, wrong, file, p, p.wrong(t))
	}
}

// What has failed once goes on being tried.
func TestSequences(t *testing.T) {
	files, err := filepath.Glob("testdata/sequences/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := parsePart(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(text), p.String()); diff != "" {
				t.Fatalf("its seed gives other operations now (-then +now):\n%s", diff)
			}
			if wrong := p.wrong(t); wrong != "" {
				t.Error(wrong)
			}
		})
	}
}

// A part is some of the operations of a random sequence.
type part struct {
	seed uint64
	ops  []int // ascending
}

func (p part) list() (list []conformance.Op) {
	all := conformance.Sequence(p.seed, length)
	for _, i := range p.ops {
		list = append(list, all[i])
	}
	return list
}

// String is the seed, and an operation a line.
func (p part) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d\n", p.seed)
	for i, o := range p.list() {
		fmt.Fprintf(&b, "%d %s\n", p.ops[i], o.Name)
	}
	return b.String()
}

func parsePart(text string) (p part, err error) {
	first, rest, _ := strings.Cut(text, "\n")
	if _, err := fmt.Sscanf(first, "seed %d", &p.seed); err != nil {
		return p, err
	}
	for line := range strings.Lines(rest) {
		number, _, _ := strings.Cut(line, " ")
		i, err := strconv.Atoi(number)
		if err != nil || i >= length {
			return p, fmt.Errorf("%q isn't an operation of a sequence: %v", line, err)
		}
		p.ops = append(p.ops, i)
	}
	return p, nil
}

func (p part) wrong(t *testing.T) string { return both(t, conformance.Sample, p.list()) }

// shrink leaves out what isn't needed to fail.
func (p *part) shrink(fails func(part) bool) {
	for size := len(p.ops) / 2; size > 0; size /= 2 {
		for i := 0; i+size <= len(p.ops); {
			if less := (part{p.seed, slices.Concat(p.ops[:i], p.ops[i+size:])}); fails(less) {
				*p = less
			} else {
				i += size
			}
		}
	}
}

func TestMain(m *testing.M) {
	unix.Umask(0) // what the tests give is what they mean
	os.Exit(m.Run())
}

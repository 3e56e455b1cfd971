//go:build linux

package cow_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sandtest/go-sandtest/internal/conformance"
	"golang.org/x/sys/unix"
)

// Random operations on a small name space do in a tree what they do on the host.
func TestRandom(t *testing.T) {
	seeds, length := 50, 1000
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
		list := conformance.Sequence(uint64(seed), length)
		wrong := both(t, conformance.Sample, list)
		if wrong == "" {
			continue
		}
		list = shrink(list, func(l []conformance.Op) bool { return both(t, conformance.Sample, l) != "" })
		var names []string
		for _, o := range list {
			names = append(names, o.Name)
		}
		t.Fatalf("seed %d: %s\nsmallest sequence that fails:\n\t%s\n%s", seed, wrong, strings.Join(names, "\n\t"), both(t, conformance.Sample, list))
	}
}

// shrink leaves out what isn't needed to fail.
func shrink(list []conformance.Op, fails func([]conformance.Op) bool) []conformance.Op {
	for size := len(list) / 2; size > 0; size /= 2 {
		for i := 0; i+size <= len(list); {
			if less := slices.Concat(list[:i], list[i+size:]); fails(less) {
				list = less
			} else {
				i += size
			}
		}
	}
	return list
}

func TestMain(m *testing.M) {
	unix.Umask(0) // what the tests give is what they mean
	os.Exit(m.Run())
}

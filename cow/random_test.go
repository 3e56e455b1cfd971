//go:build linux

package cow_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

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
		list := sequence(uint64(seed), length)
		wrong := both(t, sample, list)
		if wrong == "" {
			continue
		}
		list = shrink(list, func(l []op) bool { return both(t, sample, l) != "" })
		var names []string
		for _, o := range list {
			names = append(names, o.name)
		}
		t.Fatalf("seed %d: %s\nsmallest sequence that fails:\n\t%s\n%s", seed, wrong, strings.Join(names, "\n\t"), both(t, sample, list))
	}
}

// shrink leaves out what isn't needed to fail.
func shrink(list []op, fails func([]op) bool) []op {
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

// sample fills a directory with a little of everything.
func sample(dir string) {
	b, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	defer unix.Close(b)
	for _, o := range ops(
		mkdir("a"), mkdir("a/b"), mkdir("c"), write("f", "text of f\n"), write("a/f", "text of a/f\n"), write("a/b/f", "text of a/b/f\n"),
		link("a/f", "a/l"), link("f", "c/l"), symlink("f", "s"), symlink("../a", "c/s"), symlink("nowhere", "a/s"), symlink("loop", "loop"),
		mkfifo("c/p"), chmod("a/b/f", 0o600), chmod("c", 0o700), setxattr("f", "user.k", "value", 0),
	) {
		if got := o.do(bare{b}); got[:2] != "ok" && !strings.HasPrefix(o.name, "setxattr") {
			panic(o.name + ": " + got)
		}
	}
}

func sequence(seed uint64, n int) []op {
	r := rand.New(rand.NewPCG(seed, 1))
	names := []string{"a", "b", "c", "f", "l", "s", "p", "new", ".", "..", "loop"}
	path := func() string {
		p := names[r.IntN(8)]
		for r.IntN(2) == 0 {
			p += "/" + names[r.IntN(len(names))]
		}
		if strings.Count(p, "..") > 2 {
			return "a"
		}
		switch r.IntN(20) {
		case 0:
			p += "/"
		case 1:
			p = "./" + p
		}
		return p
	}
	flags := []int{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_CREAT, unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC,
		unix.O_WRONLY | unix.O_APPEND, unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, unix.O_RDONLY | unix.O_DIRECTORY,
		unix.O_RDONLY | unix.O_NOFOLLOW, unix.O_PATH, unix.O_RDONLY | unix.O_TRUNC, unix.O_RDONLY | unix.O_CREAT}
	modes := []uint32{0o755, 0o644, 0o600, 0o000, 0o1777, 0o2755, 0o4711, 0o555, 0o444}
	list := make([]op, n)
	for i := range list {
		p, q, mode := path(), path(), modes[r.IntN(len(modes))]
		switch r.IntN(24) {
		case 0, 1, 2, 3:
			f := flags[r.IntN(len(flags))]
			text := ""
			if f&unix.O_ACCMODE != unix.O_RDONLY && f&unix.O_PATH == 0 {
				text = fmt.Sprintf("written by %d\n", i)
			}
			list[i] = open(p, f, 0o644, text)
		case 4, 5:
			list[i] = mkdir(p)
		case 6:
			list[i] = mkdirMode(p, mode)
		case 7:
			list[i] = symlink(q, p)
		case 8, 9:
			list[i] = link(p, q)
		case 10, 11:
			list[i] = unlink(p)
		case 12:
			list[i] = rmdir(p)
		case 13, 14, 15:
			list[i] = rename(p, q)
		case 16:
			list[i] = exchange(p, q)
		case 17:
			list[i] = noReplace(p, q)
		case 18:
			list[i] = chmod(p, mode)
		case 19:
			list[i] = truncate(p, int64(r.IntN(20)))
		case 20:
			list[i] = cat(p)
		case 21:
			list[i] = readlink(p)
		case 22:
			list[i] = stat(p)
		case 23:
			list[i] = mkfifo(p)
		}
	}
	return list
}

func TestMain(m *testing.M) {
	unix.Umask(0) // what the tests give is what they mean
	os.Exit(m.Run())
}

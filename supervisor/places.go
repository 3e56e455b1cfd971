//go:build linux

package supervisor

import (
	"slices"

	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// What the kernel is to be told in the place of a program's own words lies in memory that
// every program of the sandbox maps and none can write: neither another thread nor
// another process changes it between the supervisor's look and the kernel's. Where the
// kernel has mseal (Linux 6.10) no program can map other memory over it either.

// A placeKind is what a place is for.
type placeKind int

const (
	messagePlace placeKind = iota // a struct msghdr, an address and control messages
	pathPlace                     // a path, and after it a struct open_how
	detourPlace                   // what a call's way back loads (detours.go)
	placeKinds
)

var placeSizes = [placeKinds]struct{ offset, size, all int }{
	messagePlace: {vdso.MessageOffset, vdso.PageSize / 2, vdso.MessageSize},
	pathPlace:    {vdso.PathOffset, 2 * vdso.PageSize, vdso.PathSize},
	detourPlace:  {vdso.DetourData, vdso.DetourSize, vdso.Detours * vdso.DetourSize},
}

// places is who has which place. It belongs to the tracer.
type places struct{ taken [placeKinds][]bool }

// take returns a place of the thread's, which is its own until it leaves it: where it
// lies for the program, and for the supervisor.
func (t *tracer) take(th *thread, kind placeKind) (at uint64, mem []byte, err error) {
	region := th.proc.region.Load()
	if region == 0 {
		return 0, nil, unix.ENOMEM
	}
	sizes, taken := placeSizes[kind], &t.places.taken[kind]
	if *taken == nil {
		*taken = make([]bool, sizes.all/sizes.size)
	}
	if th.places[kind] == 0 {
		i := slices.Index(*taken, false)
		if i < 0 {
			return 0, nil, unix.ENOBUFS
		}
		(*taken)[i] = true
		th.places[kind] = i + 1
	}
	from := sizes.offset + (th.places[kind]-1)*sizes.size
	return region + uint64(from), t.s.page.mem[from : from+sizes.size], nil
}

// giveBack gives a thread's place back.
func (t *tracer) giveBack(th *thread, kind placeKind) {
	if th.places[kind] != 0 {
		t.places.taken[kind][th.places[kind]-1] = false
		th.places[kind] = 0
	}
}

// giveAllBack gives all places of a thread back.
func (t *tracer) giveAllBack(th *thread) {
	for kind := range placeKinds {
		t.giveBack(th, kind)
	}
}

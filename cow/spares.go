//go:build linux

package cow

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// A new file needs an object, and to make one takes the host's file system longer than all the
// rest of its creation. Who makes some files makes many, so from then on objects are made
// before they are needed, while the program goes on: a fourth of what it has made. They aren't
// open: a process that this one starts would have them open as well, until it executes its
// program.
//
// With a journal each is made when it is needed: the journal says when.
type spares struct {
	files  int // that were made so far
	list   []spare
	making bool
	made   sync.WaitGroup // what is being made
}

// A spare is an empty object.
type spare struct {
	path string
	st   unix.Stat_t
}

const (
	firstSpares = 16  // files are made before there are spares
	mostSpares  = 128 // at a time
	sparesShare = 4
	sparesStep  = 8 // so many are told of at a time
)

// spare returns an empty object that is there already. There is none if it has to lie
// elsewhere.
func (t *Tree) spare(o *object) (_ spare, ok bool) {
	if o.told {
		return spare{}, false
	}
	s := &t.spares
	s.files++
	if t.journal != nil || s.files < firstSpares || t.upper == "" {
		return spare{}, false
	}
	want := min(s.files/sparesShare, mostSpares)
	if !s.making && len(s.list) <= want/2 {
		s.making = true
		first := t.objects
		t.objects += uint64(want)
		s.made.Add(1)
		go t.makeSpares(t.upper, first, want)
	}
	last := len(s.list) - 1
	if last < 0 {
		return spare{}, false
	}
	one := s.list[last]
	s.list = s.list[:last]
	return one, true
}

// makeSpares makes objects. One that can't be made is left to who needs it.
func (t *Tree) makeSpares(dir string, first uint64, want int) {
	defer t.spares.made.Done()
	for made := 0; ; {
		var list []spare
		for ; made < want && len(list) < sparesStep; made++ {
			s := spare{path: objectName(dir, first+uint64(made)+1)}
			if unix.Mknod(s.path, unix.S_IFREG|0o600, 0) != nil || unix.Lstat(s.path, &s.st) != nil {
				want = made
				break
			}
			list = append(list, s)
		}
		t.mu.Lock()
		t.spares.list = append(t.spares.list, list...)
		t.spares.making = made < want
		t.mu.Unlock()
		if made >= want {
			return
		}
	}
}

// Rest waits until nothing is done any more that nobody waits for. It is for whoever removes
// Upper.
func (t *Tree) Rest() { t.spares.made.Wait() }

func objectName(dir string, number uint64) string {
	return dir + "/" + strconv.FormatUint(number, 10)
}

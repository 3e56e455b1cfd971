//go:build linux

package cow

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// A new file needs an object, and to make one takes the host's file system longer than all the
// rest of its creation. Who makes some files makes many, so from then on objects are made
// before they are needed, while the program goes on: a fourth of what it has made.
//
// With a journal each is made when it is needed: the journal says when.
type spares struct {
	files  int      // that were made so far
	paths  []string // of empty objects
	making bool
	made   sync.WaitGroup // what is being made
}

const (
	firstSpares = 16  // files are made before there are spares
	mostSpares  = 128 // at a time
	sparesShare = 4
	sparesStep  = 8 // so many are told of at a time
)

// spare returns the path of an empty object that is there already, "" if there is none, or it
// has to lie elsewhere.
func (t *Tree) spare(o *object) (path string) {
	if o.told {
		return ""
	}
	s := &t.spares
	s.files++
	if t.journal != nil || s.files < firstSpares || t.upper == "" {
		return ""
	}
	want := min(s.files/sparesShare, mostSpares)
	if !s.making && len(s.paths) <= want/2 {
		s.making = true
		first := t.objects
		t.objects += uint64(want)
		s.made.Add(1)
		go t.makeSpares(t.upper, first, want)
	}
	if last := len(s.paths) - 1; last >= 0 {
		path, s.paths = s.paths[last], s.paths[:last]
	}
	return path
}

// makeSpares makes objects. One that can't be made is left to who needs it.
func (t *Tree) makeSpares(dir string, first uint64, want int) {
	defer t.spares.made.Done()
	for made := 0; ; {
		var paths []string
		for ; made < want && len(paths) < sparesStep; made++ {
			path := objectName(dir, first+uint64(made)+1)
			if unix.Mknod(path, unix.S_IFREG|0o600, 0) != nil {
				want = made
				break
			}
			paths = append(paths, path)
		}
		t.mu.Lock()
		t.spares.paths = append(t.spares.paths, paths...)
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

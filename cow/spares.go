//go:build linux

package cow

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// A new file needs an object, and to make one takes the host's file system longer than all the
// rest of its creation. Who makes some files makes many, so from then on objects are made
// before they are needed, while the program goes on: a fourth of what it has made. They are
// open as the last one that was needed.
//
// With a journal each is made when it is needed: the journal says when.
type spares struct {
	files  int // that were made so far
	list   []spare
	access int // O_WRONLY, for one: of the last one
	making bool
	made   sync.WaitGroup // what is being made
}

// A spare is an empty object.
type spare struct {
	path   string
	fd     int // -1 if it isn't open
	access int
	st     unix.Stat_t // if it is
}

const (
	firstSpares = 16 // files are made before there are spares
	mostSpares  = 32 // at a time: each is a descriptor
	sparesShare = 4
	sparesStep  = 8 // so many are told of at a time
)

// spare returns an empty object that is there already. There is none if it has to lie
// elsewhere.
func (t *Tree) spare(o *object, access int) (_ spare, ok bool) {
	if o.told {
		return spare{}, false
	}
	s := &t.spares
	s.files++
	s.access = access
	if t.journal != nil || s.files < firstSpares || t.upper == "" {
		return spare{}, false
	}
	want := min(s.files/sparesShare, mostSpares)
	if !s.making && len(s.list) <= want/2 {
		s.making = true
		first := t.objects
		t.objects += uint64(want)
		s.made.Add(1)
		go t.makeSpares(t.upper, first, want, access)
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
func (t *Tree) makeSpares(dir string, first uint64, want, access int) {
	defer t.spares.made.Done()
	for made := 0; ; {
		var list []spare
		for ; made < want && len(list) < sparesStep; made++ {
			s, err := newSpare(objectName(dir, first+uint64(made)+1), access)
			if err != nil {
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

func newSpare(path string, access int) (s spare, err error) {
	s = spare{path: path, access: access}
	if s.fd, err = unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|access, 0o600); err != nil {
		return s, err
	}
	if err := unix.Fstat(s.fd, &s.st); err != nil {
		s.shut()
	}
	return s, nil
}

// open opens it with flags, for which it often is open already.
func (s *spare) open(flags int) (fd int, err error) {
	const (
		later     = unix.O_APPEND | unix.O_NONBLOCK // can be set
		largeFile = 0o100000                        // is as good as set
	)
	if rest := flags &^ (unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_ACCMODE | largeFile); s.fd >= 0 && flags&unix.O_ACCMODE == s.access && rest&^later == 0 {
		if rest == 0 {
			return s.fd, nil
		}
		if _, err := unix.FcntlInt(uintptr(s.fd), unix.F_SETFL, rest); err == nil {
			return s.fd, nil
		}
	}
	s.shut()
	if fd, err = unix.Open(s.path, flags, 0o600); err != nil {
		return -1, err
	}
	if err := unix.Fstat(fd, &s.st); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s *spare) shut() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
	s.fd = -1
}

// Rest waits until nothing is done any more that nobody waits for, and closes what was opened
// before it is needed. It is for when nobody uses the tree, and for whoever removes Upper.
func (t *Tree) Rest() {
	t.spares.made.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.spares.list {
		t.spares.list[i].shut()
	}
}

func objectName(dir string, number uint64) string {
	return dir + "/" + strconv.FormatUint(number, 10)
}

//go:build linux

package supervisor

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// standIns knows what those of the supervisor's files stand for that programs have open: a text
// in memory for a file that describes the machine, a socket for a random device. fstat(2)
// tells of them what stat(2) tells of the others.
//
// What remains: of texts beyond so many paths (mostText), as of processes in a very long run, it
// tells that they are memory, and of the host's time.
type standIns struct {
	mu      sync.Mutex
	texts   []standIn
	numbers map[string]int // of texts, by path
	sockets map[uint64]unix.Stat_t
}

type standIn struct {
	path string
	st   unix.Stat_t
}

// The name of a text in memory (memfd_create(2)) is its number behind this. Programs can make
// memory with such a name, but not with another mode than textMode's (see memory.go).
const (
	textName = "synthetic-"
	textMode = 0o777 // that which all others have
	mostText = 1 << 16
)

// number returns the number of the text of a path of which stat tells st.
func (s *standIns) number(path string, st *unix.Stat_t) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, known := s.numbers[path]
	if !known {
		if len(s.texts) == mostText {
			return mostText // nobody will know it
		}
		if s.numbers == nil {
			s.numbers = map[string]int{}
		}
		n = len(s.texts)
		s.numbers[path] = n
		s.texts = append(s.texts, standIn{})
	}
	s.texts[n] = standIn{path, *st}
	return n
}

// text finds a text by what /proc says that a descriptor is open of.
func (s *standIns) text(link string) (standIn, bool) {
	name, isText := strings.CutPrefix(strings.TrimSuffix(link, " (deleted)"), "/memfd:"+textName)
	n, err := strconv.Atoi(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !isText || err != nil || n < 0 || n >= len(s.texts) {
		return standIn{}, false
	}
	return s.texts[n], true
}

// socket notes what a socket stands for, until forget.
func (s *standIns) socket(fd int, st *unix.Stat_t) (forget func(), err error) {
	var own unix.Stat_t
	if err := unix.Fstat(fd, &own); err != nil {
		return nil, fmt.Errorf("look at a socket: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sockets == nil {
		s.sockets = map[uint64]unix.Stat_t{}
	}
	s.sockets[own.Ino] = *st
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.sockets, own.Ino)
	}, nil
}

// device returns what a descriptor of a random device stands for.
func (s *standIns) device(fd int) (as unix.Stat_t, ok bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return as, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	as, ok = s.sockets[st.Ino]
	return as, ok && st.Mode&unix.S_IFMT == unix.S_IFSOCK, nil
}

// stat replaces what the kernel tells of a descriptor, if that stands for something.
func (s *standIns) stat(fd int, st *unix.Stat_t) (stands bool, err error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		s.mu.Lock()
		defer s.mu.Unlock()
		if as, ok := s.sockets[st.Ino]; ok {
			*st = as
			return true, nil
		}
	case unix.S_IFREG:
		if st.Nlink != 0 || st.Mode&0o777 == textMode {
			return false, nil
		}
		link, err := fdPath(fd)
		if err != nil {
			return false, err
		}
		if as, ok := s.text(link); ok {
			*st = as.st
			return true, nil
		}
	}
	return false, nil
}

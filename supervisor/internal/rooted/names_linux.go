package rooted

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Scaffold makes directories in an empty directory root such that a path of a Unix socket
// leads to a free place there. It returns that place, and the working directory for a path
// that is relative, as the root has it. EADDRINUSE means that the path doesn't end in a name.
func Scaffold(root, path string) (file, dir string, err error) {
	names := strings.Split(path, "/")
	last := names[len(names)-1]
	if last == "" || last == "." || last == ".." {
		return "", "", unix.EADDRINUSE
	}
	s := scaffold{root: root, own: "d", deep: strings.Count(path, "..")}
	for strings.Contains(path, s.own) {
		s.own += "d"
	}
	at := ""
	if !strings.HasPrefix(path, "/") {
		if at, err = s.place(); err != nil {
			return "", "", err
		}
	}
	dir = "/" + at
	for _, name := range names[:len(names)-1] {
		switch name {
		case "", ".":
		case "..":
			if at = filepath.Dir(at); at == "." {
				at = ""
			}
		default:
			if at, err = s.enter(filepath.Join(at, name)); err != nil {
				return "", "", err
			}
		}
	}
	return filepath.Join(root, at, last), dir, nil
}

// A scaffold makes places, each a directory below as many of its own as a path leads upwards.
// So where ".." leads to there is nothing that a name of the path means.
type scaffold struct {
	root, own string
	deep      int
	places    int
}

// place makes one, and returns where it is in the root.
func (s *scaffold) place() (string, error) {
	s.places++
	at := "." + s.own + strconv.Itoa(s.places) + strings.Repeat("/"+s.own, s.deep)
	return at, os.MkdirAll(filepath.Join(s.root, at), 0o777)
}

// enter makes a name mean a directory, and returns where that is. Without ".." no place is
// entered twice, and a directory will do.
func (s *scaffold) enter(at string) (string, error) {
	if s.deep == 0 {
		return at, os.MkdirAll(filepath.Join(s.root, at), 0o777)
	}
	if to, err := os.Readlink(filepath.Join(s.root, at)); err == nil {
		return to[1:], nil
	}
	to, err := s.place()
	if err == nil {
		err = os.Symlink("/"+to, filepath.Join(s.root, at))
	}
	return to, err
}

package cow

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Kind says what happened to a file.
type Kind byte

// The kinds of changes.
const (
	Added    Kind = 'A'
	Modified Kind = 'M' // its bytes, its type, its mode, its owner, its extended attributes or its target
	Deleted  Kind = 'D'
)

// A Change is one file that differs from the host's.
type Change struct {
	Kind   Kind
	Path   string // in the tree
	Mode   uint32 // st_mode, of the file that was there for Deleted
	Size   int64  // in bytes
	Target string // of a symbolic link

	inode  *Inode
	before string // the host's file that was there
	unread bool   // of a directory: not all that is in it is known
	missed bool   // what it replaces was there, and isn't any more
}

// Changes are sorted by path.
type Changes []Change

// String returns the change as a line: its kind, its mode as ls(1) shows it, its
// path, and the target of a symbolic link, both as [Quote] has them.
func (c Change) String() string {
	s := fmt.Sprintf("%c %s %s", c.Kind, ModeString(c.Mode), Quote(c.Path))
	if c.Target != "" {
		s += " -> " + Quote(c.Target)
	}
	return s
}

// Quote returns a name as it can stand in a line of text: as it is, or as a Go string
// where it isn't UTF-8, holds control characters, begins or ends with a space, or begins
// with a quotation mark.
func Quote(name string) string {
	odd := !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) ||
		strings.TrimSpace(name) != name || strings.HasPrefix(name, `"`)
	if odd {
		return strconv.Quote(name)
	}
	return name
}

// String returns a line for each change.
func (cs Changes) String() string {
	s := ""
	for _, c := range cs {
		s += c.String() + "\n"
	}
	return s
}

// Regular reports whether the change has bytes that can be read: it is a regular
// file that was added or modified.
func (c Change) Regular() bool { return c.Kind != Deleted && c.Mode&typeMask == typeRegular }

// SHA256 returns the sum of a regular file that was added or modified, in hexadecimal.
func (c *Change) SHA256() (string, error) {
	f, err := c.Open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Perm returns the permissions.
func (c Change) Perm() fs.FileMode { return fs.FileMode(c.Mode & 0o777) }

// The types of files in st_mode (inode(7)).
const (
	typeMask    = 0o170000
	typeRegular = 0o100000
)

// ModeString shows st_mode as ls(1) does.
func ModeString(mode uint32) string {
	kinds := map[uint32]byte{0o140000: 's', 0o120000: 'l', typeRegular: '-', 0o060000: 'b', 0o040000: 'd', 0o020000: 'c', 0o010000: 'p'}
	b := []byte("?rwxrwxrwx")
	if k, ok := kinds[mode&typeMask]; ok {
		b[0] = k
	}
	for i := range 9 {
		if mode&(0o400>>i) == 0 {
			b[1+i] = '-'
		}
	}
	for i, special := range []struct {
		bit uint32
		yes byte
		no  byte
	}{{0o4000, 's', 'S'}, {0o2000, 's', 'S'}, {0o1000, 't', 'T'}} {
		if mode&special.bit == 0 {
			continue
		}
		at := 3 + 3*i
		if b[at] == 'x' {
			b[at] = special.yes
		} else {
			b[at] = special.no
		}
	}
	return string(b)
}

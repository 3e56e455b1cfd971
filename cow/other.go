//go:build !linux

package cow

import (
	"errors"
	"os"
)

// A Tree is a copy-on-write file tree. On this platform there is none.
type Tree struct{}

// The methods return [errors.ErrUnsupported].
func (*Tree) Commit(Changes, string) error { return errors.ErrUnsupported }
func (*Tree) Keep(Changes, string) error   { return errors.ErrUnsupported }

// Below returns nothing.
func (*Tree) Below(Changes, string) Changes { return nil }

// Snapshot returns [errors.ErrUnsupported].
func (*Tree) Snapshot(string) error { return errors.ErrUnsupported }

// Changes returns [errors.ErrUnsupported].
func (*Tree) Changes() (Changes, error) { return nil, errors.ErrUnsupported }

// Unfinished reports that nothing is.
func Unfinished(string) (bool, error) { return false, nil }

// Recover returns [errors.ErrUnsupported].
func Recover(string) error { return errors.ErrUnsupported }

// An Inode is a file of a tree. On this platform there is none.
type Inode struct{}

// A Mount shows a directory, see the Linux version.
type Mount struct {
	At, Host                           string
	Foreign, Through, Denied, ReadOnly bool
	Target, Text                       string
	Mode, UID, GID                     uint32
}

// Open returns [errors.ErrUnsupported].
func (c *Change) Open() (*os.File, error) { return nil, errors.ErrUnsupported }

// Before returns [errors.ErrUnsupported].
func (c *Change) Before() (*os.File, error) { return nil, errors.ErrUnsupported }

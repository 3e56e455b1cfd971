//go:build !linux || !amd64

package dcache

import (
	"errors"
	"fmt"
)

// Makes is no call.
const Makes = 1 << 30

// Identifier is none either.
const Identifier = Makes

// Executer is none either.
const Executer = Makes

// Calls are those that the table may answer: none.
var Calls []int

type sites struct{}

func (t *Table) placeCode() error {
	return fmt.Errorf("dcache: no code for this system: %w", errors.ErrUnsupported)
}

// Site knows none.
func (t *Table) Site(uint64, int, []byte) (p Patch, ok bool) { return Patch{}, false }

// CanPatch knows none.
func CanPatch(int, []byte) bool { return false }

// FindCalls finds none.
func FindCalls([]byte) []FoundCall { return nil }

// GoSite knows none.
func (t *Table) GoSite(base, at, hop uint64) (jump, hopText []byte, ok bool) { return nil, nil, false }

// FindGoCalls finds none.
func FindGoCalls([]byte) (call, hop int, ok bool) { return 0, 0, false }

// AreGoCalls knows none.
func AreGoCalls(text, room []byte) bool { return false }

// Ask knows no code.
func Ask(uint64) (Way, bool) { return Way{}, false }

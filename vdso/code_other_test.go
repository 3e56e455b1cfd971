//go:build !amd64

package vdso_test

import (
	"errors"
	"testing"

	"github.com/sandtest/go-sandtest/vdso"
)

func TestCodeUnsupported(t *testing.T) {
	for _, k := range []vdso.Kind{vdso.Frozen, vdso.Shifted, vdso.Untouched} {
		_, _, err := vdso.Code(k)
		for _, want := range []error{vdso.ErrUnsupported, errors.ErrUnsupported} {
			if !errors.Is(err, want) {
				t.Errorf("Code(%d): error = %v, want %v", k, err, want)
			}
		}
	}
}

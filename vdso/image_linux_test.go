package vdso_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/sandtest/go-sandtest/vdso"
)

func FuzzParse(f *testing.F) {
	seeds := [][]byte{nil, buildImage(), buildImage(clockSyms...)}
	if self, err := vdso.Self(); err == nil { // not so on 32-bit machines
		seeds = append(seeds, self.Raw)
	}
	for _, raw := range seeds {
		f.Add(raw)
		for n := 16; n < len(raw); n *= 2 {
			f.Add(raw[:n])
		}
		// Flip bits in the headers, where they matter most.
		for at := 4; at < min(len(raw), 512); at += 11 {
			flipped := bytes.Clone(raw)
			flipped[at] ^= 1 << (at % 8)
			f.Add(flipped)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		img, err := vdso.Parse(raw)
		if err != nil {
			if img != nil {
				t.Error("an image beside the error")
			}
			return
		}
		before := bytes.Clone(raw)
		entries := map[string]int{"clock_gettime": 0x1000, "gettimeofday": 0x1040, "time": 0x1080,
			"clock_getres": 0x10c0, "getcpu": 0x1100, "getrandom": 0x1140}
		base, region := uint64(0x7fff00000000), uint64(0x7ffe00000000)
		offset, patch, err := img.Redirect(base, region, entries)
		if size := uint64(len(raw)); offset > size || uint64(len(patch)) > size-offset {
			t.Fatalf("patch of %d bytes at %#x of %#x", len(patch), offset, size)
		}
		for fn, at := range entries {
			value := binary.LittleEndian.AppendUint64(nil, region+uint64(at)-base)
			if _, ok := img.Lookup(fn); ok && err == nil && !bytes.Contains(patch, value) {
				t.Errorf("%s is still where it was", fn)
			}
		}
		if at, size := img.Text(); at+size != uint64(len(raw)) || size > at+size {
			t.Errorf("Text() = %#x, %#x in an image of %#x bytes", at, size, len(raw))
		}
		if !bytes.Equal(raw, before) {
			t.Error("the image itself changed")
		}
	})
}

package compare

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// zeros is a file of so many zeros, with a text at an offset.
func zeros(size int, at int, text string) io.Reader {
	b := make([]byte, size)
	copy(b[at:], text)
	return bytes.NewReader(b)
}

func TestLarge(t *testing.T) {
	const size = 5<<20 + 17
	for _, tt := range []struct {
		name string
		a, b io.Reader
		want string
		text string // in the excerpt
	}{
		{"the same", zeros(size, 0, "x"), zeros(size, 0, "x"), "", ""},
		{"in a block", zeros(size, 3<<20, "one two"), zeros(size, 3<<20, "one three"), "4 bytes from offset 3145733", "|hree"},
		{"across blocks", zeros(size, 1<<20-3, "abcdef"), zeros(size, 1<<20-3, "ghijkl"), "6 bytes from offset 1048573", "|abc"},
		{"far apart", zeros(size, 5, "x"), zeros(size, size-1, "y"), "5242892 bytes from offset 5", "|x"},
		{"the last byte", zeros(size, 0, ""), zeros(size, size-1, "y"), "1 byte from offset 5242896", "|y|"},
		{"longer", zeros(size, 0, ""), zeros(size+3, size, "end"), "3 bytes from offset 5242897", "|end|"},
		{"longer, at a block's end", zeros(2<<20, 0, ""), zeros(2<<20+5, 0, ""), "5 bytes from offset 2097152", ""},
		{"much shorter", zeros(4<<20, 0, ""), zeros(1, 0, ""), "4194303 bytes from offset 1", ""},
		{"empty", strings.NewReader(""), strings.NewReader("x"), "1 byte from offset 0", "|x|"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := Large(iotest.HalfReader(tt.a), tt.b)
			if err != nil || d.String() != tt.want || !strings.Contains(d.Text, tt.text) {
				t.Errorf("%q, %v, want %q; the text is\n%s", d, err, tt.want, d.Text)
			}
		})
	}
	boom := errors.New("boom")
	if _, err := Large(iotest.ErrReader(boom), zeros(9, 0, "")); !errors.Is(err, boom) {
		t.Errorf("error %v, want %v", err, boom)
	}
}

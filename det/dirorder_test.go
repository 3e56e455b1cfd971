package det_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandtest/go-sandtest/det"
)

// File types of readdir(3).
const (
	dtDir     = 4
	dtReg     = 8
	dtLnk     = 10
	noLimit   = math.MaxInt
	maxReclen = math.MaxUint16
)

func dirent(name string) det.Dirent { return det.Dirent{Ino: 1, Type: dtReg, Name: []byte(name)} }

func names(list []det.Dirent) []string {
	var s []string
	for _, e := range list {
		s = append(s, string(e.Name))
	}
	return s
}

func encode64(t *testing.T, list []det.Dirent) []byte {
	t.Helper()
	var buf []byte
	for i, e := range list {
		var ok bool
		if buf, ok = det.AppendDirent64(buf, e, int64(i+1), noLimit); !ok {
			t.Fatalf("no room for %q in an unlimited buffer", e.Name)
		}
	}
	return buf
}

func TestDirentsRoundTrip(t *testing.T) {
	tests := []struct {
		name string
		list []det.Dirent
	}{
		{"empty", nil},
		{"one", []det.Dirent{{Ino: 7, Type: dtReg, Name: []byte("a")}}},
		{"several", []det.Dirent{
			{Ino: 1, Type: dtDir, Name: []byte(".")},
			{Ino: math.MaxUint64, Type: dtDir, Name: []byte("..")},
			{Ino: 0, Type: 0, Name: []byte("unknown type")},
			{Ino: 1 << 32, Type: 255, Name: []byte("\xff\xfe not UTF-8 \n")},
			{Ino: 3, Type: dtLnk, Name: bytes.Repeat([]byte("n"), 255)},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := det.ParseDirents64(nil, encode64(t, tt.list))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.list, got); diff != "" {
				t.Errorf("after the round trip (-want +got):\n%s", diff)
			}
		})
	}
}

// A directory is read by several calls whose entries add up to one list.
func TestParseDirents64Appends(t *testing.T) {
	list, err := det.ParseDirents64(nil, encode64(t, []det.Dirent{dirent("a")}))
	if err != nil {
		t.Fatal(err)
	}
	buf := encode64(t, []det.Dirent{dirent("b"), dirent("c")})
	if list, err = det.ParseDirents64(list, buf); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, names(list)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	// Names alias the buffer, but whoever appends to one must not write into it.
	before := bytes.Clone(buf)
	_ = append(list[1].Name, "xyz"...)
	if !bytes.Equal(buf, before) {
		t.Error("appending to a name changed the buffer")
	}
}

func TestParseDirents64Malformed(t *testing.T) {
	entry := func(reclen int, tail string) []byte {
		b := make([]byte, 18, 18+len(tail))
		binary.NativeEndian.PutUint16(b[16:], uint16(reclen))
		return append(b, tail...) // type, name, padding
	}
	good := encode64(t, []det.Dirent{dirent("ok")})
	tests := []struct {
		name string
		buf  []byte
		want []string // names parsed before the error
	}{
		{"one byte", []byte{0}, nil},
		{"header only", entry(19, "\x08"), nil},
		{"length zero", entry(0, "\x08name\x00"), nil},
		{"length of a header", entry(19, "\x08name\x00"), nil},
		{"length beyond the end", entry(25, "\x08name\x00"), nil},
		{"name without end", entry(23, "\x08name"), nil},
		{"name ends in the next entry", append(entry(23, "\x08name"), good...), nil},
		{"empty name", entry(24, "\x08\x00\x00\x00\x00\x00"), nil},
		{"second entry cut off", append(bytes.Clone(good), good[:len(good)-1]...), []string{"ok"}},
		{"rubbish behind the last", append(bytes.Clone(good), 0, 0, 0), []string{"ok"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list, err := det.ParseDirents64(nil, tt.buf)
			if !errors.Is(err, det.ErrDirent) {
				t.Errorf("error = %v, want ErrDirent", err)
			}
			if diff := cmp.Diff(tt.want, names(list)); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSortDirents(t *testing.T) {
	// "!" sorts below "." as bytes do, yet not before the two special names;
	// "é" stands in both of its Unicode forms.
	want := []string{".", "..", "!", "...", ".hidden", "10", "9", "A", "B", "a", "aa", "b", "e\u0301", "\u00e9", "\xfe", "\xff", "\xff\x00"}
	for seed := range uint64(20) {
		list := make([]det.Dirent, len(want))
		for i, at := range rand.New(rand.NewPCG(seed, 0)).Perm(len(want)) {
			list[at] = det.Dirent{Ino: uint64(i), Name: []byte(want[i])}
		}
		det.SortDirents(list)
		if diff := cmp.Diff(want, names(list)); diff != "" {
			t.Fatalf("order with seed %d (-want +got):\n%s", seed, diff)
		}
		for i, e := range list {
			if e.Ino != uint64(i) {
				t.Fatalf("%q came with inode %d, want %d", e.Name, e.Ino, i)
			}
		}
	}
}

// Both layouts against the kernel's structures, byte by byte.
func TestAppendDirentLayout(t *testing.T) {
	type appendFunc = func([]byte, det.Dirent, int64, int) ([]byte, bool)
	tests := []struct {
		name   string
		append appendFunc
		size   func(name int) int // before rounding up to 8
		tail   func(e det.Dirent, reclen int) []byte
	}{
		{"linux_dirent64", det.AppendDirent64,
			func(name int) int { return 18 + 1 + name + 1 },
			func(e det.Dirent, reclen int) []byte {
				b := make([]byte, reclen-18)
				b[0] = e.Type
				copy(b[1:], e.Name)
				return b
			}},
		{"linux_dirent", det.AppendDirent,
			func(name int) int { return 18 + name + 1 + 1 },
			func(e det.Dirent, reclen int) []byte {
				b := make([]byte, reclen-18)
				copy(b, e.Name)
				b[len(b)-1] = e.Type
				return b
			}},
	}
	for _, tt := range tests {
		for n := 1; n <= 17; n++ { // every rest modulo 8, twice
			t.Run(fmt.Sprintf("%s/%d", tt.name, n), func(t *testing.T) {
				e := det.Dirent{Ino: 0x1122334455667788, Type: dtLnk, Name: []byte(strings.Repeat("n", n))}
				const next = 0x0102030405060708
				reclen := (tt.size(n) + 7) / 8 * 8

				prefix := []byte("before")
				want := bytes.Clone(prefix)
				want = binary.NativeEndian.AppendUint64(want, e.Ino)
				want = binary.NativeEndian.AppendUint64(want, next)
				want = binary.NativeEndian.AppendUint16(want, uint16(reclen))
				want = append(want, tt.tail(e, reclen)...)

				// A buffer with old bytes behind its length, as one in use has.
				buf := append(make([]byte, 0, 256), prefix...)
				for i := range buf[:cap(buf)][len(buf):] {
					buf[:cap(buf)][len(buf)+i] = 0xaa
				}
				got, ok := tt.append(buf, e, next, len(prefix)+reclen)
				if !ok {
					t.Fatalf("no room in exactly %d bytes", reclen)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("entry (-want +got):\n%s", diff)
				}

				got, ok = tt.append(prefix, e, next, len(prefix)+reclen-1)
				if ok || !bytes.Equal(got, prefix) {
					t.Errorf("one byte less: ok = %v, buffer = %q, want false and %q", ok, got, prefix)
				}
			})
		}
	}
}

// The limit counts what the buffer holds already: this is how a getdents call
// fills the program's buffer and no more.
func TestAppendDirentLimit(t *testing.T) {
	const reclen, limit = 24, 5 * 24
	for name, add := range map[string]func([]byte, det.Dirent, int64, int) ([]byte, bool){
		"linux_dirent64": det.AppendDirent64,
		"linux_dirent":   det.AppendDirent,
	} {
		t.Run(name, func(t *testing.T) {
			for extra := range reclen {
				var buf []byte
				entries := 0
				for {
					next, ok := add(buf, dirent("abc"), int64(entries+1), limit+extra)
					if !ok {
						break
					}
					buf, entries = next, entries+1
				}
				if entries != 5 || len(buf) != limit {
					t.Errorf("limit %d: %d entries in %d bytes, want 5 in %d", limit+extra, entries, len(buf), limit)
				}
			}
		})
	}
}

func FuzzParseDirents64(f *testing.F) {
	var buf []byte
	for i, name := range []string{".", "..", "a", "\xff", strings.Repeat("n", 255)} {
		buf, _ = det.AppendDirent64(buf, dirent(name), int64(i+1), noLimit)
		f.Add(bytes.Clone(buf))
		f.Add(bytes.Clone(buf[:len(buf)-1]))
	}
	f.Add([]byte{})
	f.Add(make([]byte, 24))
	f.Fuzz(func(t *testing.T, buf []byte) {
		list, err := det.ParseDirents64(nil, buf)
		if err != nil && !errors.Is(err, det.ErrDirent) {
			t.Fatalf("error = %v, want ErrDirent", err)
		}
		for _, e := range list {
			if len(e.Name) == 0 || bytes.IndexByte(e.Name, 0) >= 0 {
				t.Fatalf("name %q", e.Name)
			}
			if len(e.Name) > maxReclen-27 {
				t.Skip("rounded up, the entry is longer than its length field can say; names have at most 255 bytes")
			}
		}
		again, err := det.ParseDirents64(nil, encode64(t, list))
		if err != nil {
			t.Fatalf("what was parsed re-encodes to malformed bytes: %v", err)
		}
		same := func(a, b det.Dirent) bool { return a.Ino == b.Ino && a.Type == b.Type && bytes.Equal(a.Name, b.Name) }
		if !slices.EqualFunc(list, again, same) { // much faster than cmp
			t.Errorf("after the round trip (-want +got):\n%s", cmp.Diff(list, again))
		}
	})
}

// Each order has all names once, the dots first, and is the same every time.
func TestOrder(t *testing.T) {
	names := func(o det.Order) string {
		var list []det.Dirent
		for _, name := range []string{"b", "..", "d", "a", ".", "c", "e"} {
			list = append(list, det.Dirent{Name: []byte(name)})
		}
		o.Arrange(list)
		var s string
		for _, e := range list {
			s += string(e.Name) + " "
		}
		return s
	}
	if got := names(det.Order{}); got != ". .. a b c d e " {
		t.Errorf("sorted: %s", got)
	}
	if got := names(det.Order{Reversed: true}); got != ". .. e d c b a " {
		t.Errorf("reversed: %s", got)
	}
	one, two := names(det.Order{Shuffle: 1}), names(det.Order{Shuffle: 2})
	if one == two || one == names(det.Order{}) || one != names(det.Order{Shuffle: 1}) || len(one) != len(two) || !strings.HasPrefix(one, ". .. ") {
		t.Errorf("shuffled: %s, %s", one, two)
	}
}

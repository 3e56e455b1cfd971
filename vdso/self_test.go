package vdso_test

import (
	"bufio"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sandtest/go-sandtest/vdso"
)

const (
	mapsBefore = `00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
35b1a21000-35b1a22000 rw-p 00000000 00:00 0
7ffcbd7f3000-7ffcbd7f7000 r--p 00000000 00:00 0   [vvar]
`
	mapsVDSO  = "7ffcbd7f7000-7ffcbd7f9000 r-xp 00000000 00:00 0   [vdso]\n"
	mapsAfter = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n"
)

func TestFindRange(t *testing.T) {
	vdsoAt := func(addr string) string { return addr + " r-xp 00000000 00:00 0 [vdso]\n" }
	tests := []struct {
		name       string
		maps       string
		start, end uint64
		want       string // in the error
	}{
		{name: "usual", maps: mapsBefore + mapsVDSO + mapsAfter, start: 0x7ffcbd7f7000, end: 0x7ffcbd7f9000},
		{name: "last line without end", maps: strings.TrimSuffix(mapsVDSO, "\n"), start: 0x7ffcbd7f7000, end: 0x7ffcbd7f9000},
		{name: "1 MiB", maps: vdsoAt("100000-200000"), start: 0x100000, end: 0x200000},
		{name: "files of that name", maps: "1000-2000 r-xp 00000000 08:02 1 /tmp/[vdso]\n1000-2000 r-xp 00000000 08:02 1 /tmp/a [vdso]\n" + mapsVDSO,
			start: 0x7ffcbd7f7000, end: 0x7ffcbd7f9000},

		{name: "empty", maps: "", want: vdso.ErrNone.Error()},
		{name: "none", maps: mapsBefore + mapsAfter, want: vdso.ErrNone.Error()},
		{name: "no fields before the name", maps: "[vdso]\n", want: vdso.ErrNone.Error()},
		{name: "start is no number", maps: vdsoAt("x-2000"), want: `unlikely range "x-2000"`},
		{name: "end is no number", maps: vdsoAt("1000-x"), want: `unlikely range "1000-x"`},
		{name: "no end", maps: vdsoAt("1000"), want: `unlikely range "1000"`},
		{name: "empty range", maps: vdsoAt("1000-1000"), want: "unlikely range"},
		{name: "reversed", maps: vdsoAt("2000-1000"), want: "unlikely range"},
		{name: "too long", maps: vdsoAt("100000-200001"), want: "unlikely range"},
		{name: "beyond 64 bits", maps: vdsoAt("1000-10000000000000000"), want: "unlikely range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start, end, err := vdso.FindRange(strings.NewReader(tt.maps))
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("error = %v, want %q", err, tt.want)
			case start != tt.start || end != tt.end:
				t.Errorf("range = %#x-%#x, want %#x-%#x", start, end, tt.start, tt.end)
			}
			if none := tt.want == vdso.ErrNone.Error(); errors.Is(err, vdso.ErrNone) != none {
				t.Errorf("errors.Is(%v, ErrNone) = %v, want %v", err, !none, none)
			}
		})
	}
}

// A list that couldn't be read isn't a process without a vDSO.
func TestFindRangeReadError(t *testing.T) {
	broken := errors.New("broken")
	if _, _, err := vdso.FindRange(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error = %v, want the reader's", err)
	}
	long := strings.NewReader(strings.Repeat("x", 1<<20) + "\n" + mapsVDSO)
	if _, _, err := vdso.FindRange(long); !errors.Is(err, bufio.ErrTooLong) {
		t.Errorf("error = %v, want bufio.ErrTooLong", err)
	}
}

func FuzzFindRange(f *testing.F) {
	f.Add(mapsBefore + mapsVDSO + mapsAfter)
	f.Add(mapsBefore)
	f.Add("")
	f.Add("1000-1000 a b c d [vdso]")
	f.Add("[vdso]\n-\n")
	f.Fuzz(func(t *testing.T, maps string) {
		start, end, err := vdso.FindRange(strings.NewReader(maps))
		switch {
		case err == nil:
			if end <= start || end-start > 1<<20 {
				t.Errorf("range = %#x-%#x", start, end)
			}
		case start != 0 || end != 0:
			t.Errorf("range = %#x-%#x beside error %v", start, end, err)
		case errors.Is(err, vdso.ErrNone):
			// Nothing in the text may hide a vDSO that follows.
			if start, _, err := vdso.FindRange(strings.NewReader(maps + "\n" + mapsVDSO)); err != nil || start != 0x7ffcbd7f7000 {
				t.Errorf("with a vDSO appended: %#x, %v", start, err)
			}
		}
	})
}

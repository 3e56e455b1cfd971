package vdso_test

import (
	"bytes"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/vdso"
)

// self returns the image of this process and where it lies.
func self(tb testing.TB) (img *vdso.Image, start, end uint64) {
	tb.Helper()
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if start, end, err = vdso.FindRange(f); err != nil {
		tb.Fatal(err)
	}
	if img, err = vdso.Self(); err != nil {
		tb.Fatal(err)
	}
	return img, start, end
}

// hostFunction returns the address of a function of this process's vDSO.
func hostFunction(tb testing.TB, fn string) uintptr {
	tb.Helper()
	img, start, _ := self(tb)
	at, ok := img.Lookup(fn)
	if !ok {
		tb.Fatalf("the vDSO has no %s", fn)
	}
	return uintptr(start + at)
}

func TestSelf(t *testing.T) {
	img, start, end := self(t)
	if uint64(len(img.Raw)) != end-start {
		t.Errorf("image of %#x bytes, the process maps %#x", len(img.Raw), end-start)
	}
	// The kernel tells every process where it put the image.
	const atSysinfoEhdr = 33
	auxv, err := unix.Auxv()
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range auxv {
		if kv[0] == atSysinfoEhdr && uint64(kv[1]) != start {
			t.Errorf("FindRange = %#x, AT_SYSINFO_EHDR = %#x", start, kv[1])
		}
	}
	values := symbolValues(t, img.Raw)
	for _, fn := range []string{"clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu"} {
		if at, ok := img.Lookup(fn); !ok || at != values[fn] {
			t.Errorf("Lookup(%q) = %#x, %v, want %#x", fn, at, ok, values[fn])
		}
	}
}

func TestSelfRedirect(t *testing.T) {
	img, base, _ := self(t)
	for name, tt := range map[string]struct {
		kind vdso.Kind
		keep []string
	}{
		"frozen":    {vdso.Frozen, nil},
		"shifted":   {vdso.Shifted, nil},
		"untouched": {vdso.Untouched, []string{"clock_gettime", "gettimeofday", "time", "clock_getres"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, entries, err := vdso.Code(tt.kind)
			if err != nil {
				t.Fatal(err)
			}
			const region = 0x200000000000
			want := symbolValues(t, img.Raw)
			both := 0
			for name := range want {
				at, ok := entries[strings.TrimPrefix(name, "__vdso_")]
				if !ok {
					continue
				}
				want[name] = region + uint64(at) - base
				if _, ok := want["__vdso_"+name]; ok {
					both++
				}
			}
			if both < len(entries)-1 { // getrandom came with Linux 6.11
				t.Errorf("%d of %d functions have two spellings", both, len(entries))
			}
			if diff := cmp.Diff(want, patched(t, img, base, region, entries, tt.keep...)); diff != "" {
				t.Errorf("symbols (-want +got):\n%s", diff)
			}
		})
	}
}

// Where a replacement is missing, a program would read the host's clock.
func TestSelfRedirectMissing(t *testing.T) {
	img, base, _ := self(t)
	_, all, err := vdso.Code(vdso.Frozen)
	if err != nil {
		t.Fatal(err)
	}
	for fn := range all {
		if _, ok := img.Lookup(fn); !ok {
			continue
		}
		t.Run(fn, func(t *testing.T) {
			entries := maps.Clone(all)
			delete(entries, fn)
			_, _, err := img.Redirect(base, 0x200000000000, entries)
			if err == nil || !strings.Contains(err.Error(), "no replacement for "+fn) {
				t.Errorf("error = %v, want one about %s", err, fn)
			}
		})
	}
}

// The text is where a tracer looks for a system-call instruction to borrow.
func TestSelfText(t *testing.T) {
	img, _, _ := self(t)
	at, size := img.Text()
	if at+size != uint64(len(img.Raw)) || !bytes.Contains(img.Raw[at:], []byte{0x0f, 0x05}) {
		t.Errorf("Text() = %#x, %#x: want a range up to the end, %#x, with a system call", at, size, len(img.Raw))
	}
	for name, value := range symbolValues(t, img.Raw) {
		if value != 0 && value < at {
			t.Errorf("Text() begins at %#x, %s before it at %#x", at, name, value)
		}
	}
}

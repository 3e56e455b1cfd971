package vdso_test

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandtest/go-sandtest/vdso"
)

// A testSym is a symbol of an image made by buildImage.
type testSym struct {
	name  string
	typ   elf.SymType
	value uint64
}

// Where buildImage puts things.
const (
	progAt    = 64 // the program header
	sectionAt = progAt + 56
	dynsym    = 1 // index of its section
	textAt    = 0x800
	imageSize = 0x1000
)

// sectionHeader returns the part of an image that is the header of section i.
func sectionHeader(img []byte, i int) []byte { return img[sectionAt+64*i:][:64] }

// buildImage links a vDSO with the given symbols: one segment at 0, the dynamic
// symbols, and text of zeros from textAt on.
func buildImage(syms ...testSym) []byte {
	var symtab bytes.Buffer
	strtab := []byte{0}
	put := func(w *bytes.Buffer, v any) { binary.Write(w, binary.LittleEndian, v) }
	put(&symtab, elf.Sym64{})
	for _, s := range syms {
		put(&symtab, elf.Sym64{Name: uint32(len(strtab)), Info: elf.ST_INFO(elf.STB_GLOBAL, s.typ), Shndx: 1, Value: s.value})
		strtab = append(append(strtab, s.name...), 0)
	}
	names := "\x00.dynsym\x00.dynstr\x00.shstrtab\x00"
	symAt := uint64(sectionAt + 4*64)
	strAt := symAt + uint64(symtab.Len())
	namesAt := strAt + uint64(len(strtab))

	var b bytes.Buffer
	put(&b, elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: progAt, Ehsize: 64, Phentsize: 56, Phnum: 1,
		Shoff: sectionAt, Shentsize: 64, Shnum: 4, Shstrndx: 3,
	})
	put(&b, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Filesz: imageSize, Memsz: imageSize, Align: 0x1000})
	put(&b, []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_DYNSYM), Flags: uint64(elf.SHF_ALLOC), Off: symAt, Size: uint64(symtab.Len()), Link: 2, Info: 1, Entsize: 24},
		{Name: 9, Type: uint32(elf.SHT_STRTAB), Flags: uint64(elf.SHF_ALLOC), Off: strAt, Size: uint64(len(strtab))},
		{Name: 17, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
	})
	b.Write(symtab.Bytes())
	b.Write(strtab)
	b.WriteString(names)
	if b.Len() > textAt {
		panic("too many symbols")
	}
	return append(b.Bytes(), make([]byte, imageSize-b.Len())...)
}

// clockSyms is a small vDSO: two functions in both spellings, a third in one,
// and symbols that aren't functions of a clock.
var clockSyms = []testSym{
	{"LINUX_2.6", elf.STT_OBJECT, 0},
	{"__vdso_clock_gettime", elf.STT_FUNC, 0x900},
	{"clock_gettime", elf.STT_FUNC, 0x900},
	{"__vdso_sgx_enter_enclave", elf.STT_FUNC, 0xb00},
	{"time", elf.STT_NOTYPE, 0xa00}, // linked without a type, as some architectures do
	{"__vdso_time", elf.STT_FUNC, 0xa00},
	{"__kernel_rt_sigreturn", elf.STT_FUNC, 0xc00},
	{"__vdso_getcpu", elf.STT_FUNC, 0xd00},
}

// symbolValues reads the dynamic symbols as any program would.
func symbolValues(t *testing.T, raw []byte) map[string]uint64 {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	syms, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]uint64{}
	for _, s := range syms {
		values[s.Name] = s.Value
	}
	return values
}

// patched returns the symbols of a copy of img to which Redirect's patch was
// applied.
func patched(t *testing.T, img *vdso.Image, base, region uint64, entries map[string]int, keep ...string) map[string]uint64 {
	t.Helper()
	before := bytes.Clone(img.Raw)
	offset, patch, err := img.Redirect(base, region, entries, keep...)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(img.Raw, before) {
		t.Fatal("Redirect changed the image itself")
	}
	if n := copy(before[offset:], patch); n != len(patch) {
		t.Fatalf("patch of %d bytes at %d exceeds the image's %d", len(patch), offset, len(before))
	}
	return symbolValues(t, before)
}

func parse(t *testing.T, raw []byte) *vdso.Image {
	t.Helper()
	img, err := vdso.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestLookup(t *testing.T) {
	img := parse(t, buildImage(clockSyms...))
	for fn, want := range map[string]uint64{"clock_gettime": 0x900, "time": 0xa00, "getcpu": 0xd00} {
		if got, ok := img.Lookup(fn); !ok || got != want {
			t.Errorf("Lookup(%q) = %#x, %v, want %#x", fn, got, ok, want)
		}
	}
	for _, fn := range []string{"", "gettimeofday", "__vdso_time", "LINUX_2.6"} {
		if got, ok := img.Lookup(fn); ok {
			t.Errorf("Lookup(%q) = %#x, want none", fn, got)
		}
	}
}

func TestText(t *testing.T) {
	tests := []struct {
		name string
		syms []testSym
		want uint64
	}{
		{"several functions", clockSyms, 0x900},
		{"another order", []testSym{{"time", elf.STT_FUNC, 0xc00}, {"getcpu", elf.STT_FUNC, 0xa00}, {"clock_gettime", elf.STT_FUNC, 0xb00}}, 0xa00},
		{"data before the text", []testSym{{"vdso_data", elf.STT_OBJECT, 0x400}, {"time", elf.STT_FUNC, 0xa00}}, 0xa00},
		{"undefined", []testSym{{"time", elf.STT_FUNC, 0}, {"getcpu", elf.STT_FUNC, 0xa00}}, 0xa00},
		{"no function", clockSyms[:1], imageSize},
		{"beyond the end", []testSym{{"time", elf.STT_FUNC, imageSize + 1}}, imageSize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if at, size := parse(t, buildImage(tt.syms...)).Text(); at != tt.want || size != imageSize-tt.want {
				t.Errorf("Text() = %#x, %#x, want %#x, %#x", at, size, tt.want, imageSize-tt.want)
			}
		})
	}
}

func TestRedirect(t *testing.T) {
	entries := map[string]int{"clock_gettime": 0x1000, "time": 0x1040, "getcpu": 0x1080, "gettimeofday": 0x10c0}
	for name, at := range map[string]struct{ base, region uint64 }{
		"region above": {0x7ffff7fc1000, 0x7ffff7ff0000},
		// The values then wrap around, as they do when the program adds the base.
		"region below": {0x7ffff7fc1000, 0x10000},
	} {
		t.Run(name, func(t *testing.T) {
			got := patched(t, parse(t, buildImage(clockSyms...)), at.base, at.region, entries)
			want := map[string]uint64{
				"LINUX_2.6":                0,
				"__vdso_clock_gettime":     at.region + 0x1000 - at.base,
				"clock_gettime":            at.region + 0x1000 - at.base,
				"__vdso_sgx_enter_enclave": 0xb00,
				"time":                     at.region + 0x1040 - at.base,
				"__vdso_time":              at.region + 0x1040 - at.base,
				"__kernel_rt_sigreturn":    0xc00,
				"__vdso_getcpu":            at.region + 0x1080 - at.base,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("symbols (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRedirectMissing(t *testing.T) {
	all := map[string]int{"clock_gettime": 0x1000, "time": 0x1040, "getcpu": 0x1080}
	without := func(fn string) map[string]int {
		m := maps.Clone(all)
		delete(m, fn)
		return m
	}
	tests := []struct {
		name    string
		syms    []testSym
		entries map[string]int
		keep    []string
		want    string // in the error
	}{
		{"complete", clockSyms, all, nil, ""},
		{"no clock_gettime", clockSyms, without("clock_gettime"), nil, "no replacement for clock_gettime"},
		{"no time", clockSyms, without("time"), nil, "no replacement for time"},
		{"time kept", clockSyms, without("time"), []string{"time"}, ""},
		{"another kept", clockSyms, without("time"), []string{"clock_gettime"}, "no replacement for time"},
		{"all kept", clockSyms, nil, []string{"getcpu", "time", "clock_gettime"}, ""},
		// What a later kernel may add is refused, whatever it is called.
		{"new function", append(slices.Clone(clockSyms), testSym{"__vdso_clock_new", elf.STT_FUNC, 0xe00}), all, nil, "clock_new"},
		{"new function in another style", append(slices.Clone(clockSyms), testSym{"clock_new", elf.STT_NOTYPE, 0xe00}), all, nil, "clock_new"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, patch, err := parse(t, buildImage(tt.syms...)).Redirect(0x10000, 0x20000, tt.entries, tt.keep...)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error = %v, want %q", err, tt.want)
			case err != nil && patch != nil:
				t.Error("a patch beside the error")
			}
		})
	}
}

func TestRedirectKeeps(t *testing.T) {
	got := patched(t, parse(t, buildImage(clockSyms...)), 0x10000, 0x20000, map[string]int{"getcpu": 0x1000}, "clock_gettime", "time")
	want := map[string]uint64{}
	for _, s := range clockSyms {
		want[s.name] = s.value
	}
	want["__vdso_getcpu"] = 0x11000
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("symbols (-want +got):\n%s", diff)
	}
}

func TestRedirectNothing(t *testing.T) {
	offset, patch, err := parse(t, buildImage(clockSyms[0])).Redirect(0x10000, 0x20000, nil)
	if offset != 0 || patch != nil || err != nil {
		t.Errorf("Redirect of an image without functions = %d, %x, %v, want nothing to write", offset, patch, err)
	}
}

func TestParseMalformed(t *testing.T) {
	// header is an ELF header without any segment or section.
	header := func(class elf.Class, data elf.Data, order binary.ByteOrder) []byte {
		ident := [16]byte{0x7f, 'E', 'L', 'F', byte(class), byte(data), byte(elf.EV_CURRENT)}
		var b bytes.Buffer
		if class == elf.ELFCLASS32 {
			binary.Write(&b, order, elf.Header32{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_386), Version: 1, Ehsize: 52, Shentsize: 40, Phentsize: 32})
		} else {
			binary.Write(&b, order, elf.Header64{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_S390), Version: 1, Ehsize: 64, Shentsize: 64, Phentsize: 56})
		}
		return b.Bytes()
	}
	le := binary.LittleEndian
	change := func(f func(img []byte)) []byte {
		img := buildImage(clockSyms...)
		f(img)
		return img
	}
	whole := buildImage(clockSyms...)

	tests := []struct {
		name string
		raw  []byte
		want string // in the error
	}{
		{"empty", nil, "vdso: "},
		{"not ELF", []byte(strings.Repeat("#!/bin/sh\n", 100)), "bad magic"},
		{"magic only", whole[:4], "vdso: "},
		{"header only", whole[:64], "vdso: "},
		{"sections cut off", whole[:sectionAt+100], "vdso: "},
		{"symbols cut off", whole[:sectionAt+4*64+50], "vdso: "},
		{"32 bits", header(elf.ELFCLASS32, elf.ELFDATA2LSB, binary.LittleEndian), "want a 64-bit little-endian"},
		{"big-endian", header(elf.ELFCLASS64, elf.ELFDATA2MSB, binary.BigEndian), "want a 64-bit little-endian"},
		{"no section", header(elf.ELFCLASS64, elf.ELFDATA2LSB, binary.LittleEndian), "no dynamic symbols"},
		{"no dynamic symbols", change(func(img []byte) {
			le.PutUint32(sectionHeader(img, dynsym)[4:], uint32(elf.SHT_PROGBITS))
		}), "no dynamic symbols"},
		{"linked elsewhere", change(func(img []byte) { le.PutUint64(img[progAt+16:], 0x400000) }), "linked at 0x400000"},
		{"segment not from the start", change(func(img []byte) { le.PutUint64(img[progAt+8:], 0x40) }), "want 0"},
		{"symbols beyond the end", change(func(img []byte) {
			le.PutUint64(sectionHeader(img, dynsym)[24:], imageSize)
		}), "vdso: "},
		{"half a symbol", change(func(img []byte) { le.PutUint64(sectionHeader(img, dynsym)[32:], 36) }), "vdso: "},
		{"names in no section", change(func(img []byte) { le.PutUint32(sectionHeader(img, dynsym)[40:], 77) }), "vdso: "},
		// debug/elf would unpack the symbols, which then stand nowhere in the image.
		{"compressed symbols", change(func(img []byte) {
			h := sectionHeader(img, dynsym)
			at, size := le.Uint64(h[24:]), le.Uint64(h[32:])
			var b bytes.Buffer
			binary.Write(&b, le, elf.Chdr64{Type: uint32(elf.COMPRESS_ZLIB), Size: size, Addralign: 8})
			z := zlib.NewWriter(&b)
			z.Write(img[at : at+size])
			z.Close()
			copy(img[textAt:], b.Bytes())
			le.PutUint64(h[8:], uint64(elf.SHF_COMPRESSED))
			le.PutUint64(h[24:], textAt)
			le.PutUint64(h[32:], uint64(b.Len()))
		}), "lies outside the image"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, err := vdso.Parse(tt.raw)
			if err == nil || img != nil {
				t.Fatalf("Parse = %v, %v, want an error alone", img, err)
			}
			if !strings.HasPrefix(err.Error(), "vdso: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %q, want %q", err, tt.want)
			}
		})
	}
}

package vdso

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// An Image is a parsed vDSO.
type Image struct {
	Raw []byte // as it stands in memory

	symtab uint64   // offset of the dynamic symbols in Raw
	syms   []symbol // those of functions, in table order
}

type symbol struct {
	fn    string // the name without "__vdso_"
	entry uint64 // offset of the Elf64_Sym in Raw
	value uint64
}

const symSize = 24 // sizeof(Elf64_Sym)

// Parse reads the image of a vDSO. It accepts 64-bit little-endian images whose
// section headers are part of the image, as Linux builds them.
func Parse(raw []byte) (img *Image, err error) {
	// debug/elf guards against malformed files by errors, mostly.
	defer func() {
		if r := recover(); r != nil {
			img, err = nil, fmt.Errorf("vdso: malformed image: %v", r)
		}
	}()
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("vdso: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("vdso: image is %v %v, want a 64-bit little-endian one", f.Class, f.Data)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && (p.Vaddr != 0 || p.Off != 0) {
			return nil, fmt.Errorf("vdso: image is linked at %#x from offset %#x, want 0 from 0", p.Vaddr, p.Off)
		}
	}
	table := f.SectionByType(elf.SHT_DYNSYM)
	if table == nil {
		return nil, errors.New("vdso: image has no dynamic symbols")
	}
	syms, err := f.DynamicSymbols()
	if err != nil {
		return nil, fmt.Errorf("vdso: %w", err)
	}
	img = &Image{Raw: raw, symtab: table.Offset}
	for i, s := range syms {
		if t := elf.ST_TYPE(s.Info); t != elf.STT_FUNC && t != elf.STT_NOTYPE {
			continue
		}
		entry := table.Offset + uint64(i+1)*symSize // entry 0 is left out by debug/elf
		if entry+symSize > uint64(len(raw)) || binary.LittleEndian.Uint64(raw[entry+8:]) != s.Value {
			return nil, fmt.Errorf("vdso: symbol %q lies outside the image", s.Name)
		}
		img.syms = append(img.syms, symbol{strings.TrimPrefix(s.Name, "__vdso_"), entry, s.Value})
	}
	return img, nil
}

// Lookup returns the address of a function, given without "__vdso_", relative to
// the start of the image.
func (img *Image) Lookup(fn string) (uint64, bool) {
	for _, s := range img.syms {
		if s.fn == fn {
			return s.value, true
		}
	}
	return 0, false
}

// Redirect returns bytes to write at an offset of the image so that each
// function in entries (name to offset within the region) is found in the region
// at address region, the image being at base. It fails when the image has a
// clock function that entries doesn't replace, unless keep names it: such a
// function would read the host's clock.
func (img *Image) Redirect(base, region uint64, entries map[string]int, keep ...string) (offset uint64, patch []byte, err error) {
	if len(img.syms) == 0 {
		return 0, nil, nil
	}
	lo, hi := img.syms[0].entry, img.syms[0].entry
	for _, s := range img.syms {
		lo, hi = min(lo, s.entry), max(hi, s.entry)
	}
	patch = bytes.Clone(img.Raw[lo : hi+symSize])
	for _, s := range img.syms {
		at, ok := entries[s.fn]
		switch {
		case ok:
			binary.LittleEndian.PutUint64(patch[s.entry-lo+8:], region+uint64(at)-base)
		case harmless(s.fn, keep):
		default:
			return 0, nil, fmt.Errorf("vdso: no replacement for %s", s.fn)
		}
	}
	return lo, patch, nil
}

// harmless tells the symbols that read nothing of the host: version names, the
// signal trampolines and SGX's entry.
func harmless(fn string, keep []string) bool {
	for _, k := range keep {
		if fn == k {
			return true
		}
	}
	return strings.HasPrefix(fn, "LINUX_") || strings.Contains(fn, "sigreturn") || strings.HasPrefix(fn, "sgx_") || fn == ""
}

// Text returns where the image's functions begin, and how much of it is left
// from there.
func (img *Image) Text() (offset, size uint64) {
	offset = uint64(len(img.Raw))
	for _, s := range img.syms {
		if s.value > 0 && s.value < offset {
			offset = s.value
		}
	}
	return offset, uint64(len(img.Raw)) - offset
}

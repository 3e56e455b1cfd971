package dcache_test

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandtest/go-sandtest/supervisor/internal/dcache"
)

// TestMovesBeforeACall: a place becomes a jump where nothing but moves lies between the number
// and the call, and is left alone otherwise.
func TestMovesBeforeACall(t *testing.T) {
	number := []byte{0xb8, 0x01, 0x01, 0, 0} // mov eax, openat
	for _, tt := range []struct {
		what   string
		text   []byte
		before int // 0 if it is left alone
	}{
		{"nothing", number, 5},
		{"mov rsi, rdi; mov edi, AT_FDCWD", append(number, 0x48, 0x89, 0xfe, 0xbf, 0x9c, 0xff, 0xff, 0xff), 13},
		{"mov r10d, ecx", append(number, 0x41, 0x89, 0xca), 8},
		{"mov r8d, eax", append(number, 0x41, 0x89, 0xc0), 8},
		{"mov eax, edi", append(number, 0x89, 0xf8), 0},
		{"mov eax, 5", append(number, 0xb8, 5, 0, 0, 0), 0},
		{"mov rdi, imm64, in part", append(number, 0x48, 0xbf, 1, 2, 3, 4), 0},
		{"mov [rax], edi", append(number, 0x89, 0x38), 0},
		{"a jump", append(number, 0xeb, 0x00), 0},
		{"half a move", append(number, 0xbf, 0x9c), 0},
		{"mov r8d, openat", append([]byte{0x41}, number...), 0},
	} {
		p := newProgram(t)
		text := append(bytes.Repeat([]byte{0x90}, dcache.SiteText), tt.text...)
		patch, ok := p.Site(dcache.Size+1000, unix.SYS_OPENAT, text[len(text)-dcache.SiteText:])
		if ok != (tt.before != 0) || ok && patch.Before != tt.before {
			t.Errorf("%s: %+v, %v, want a jump %d bytes before", tt.what, patch, ok, tt.before)
		}
	}
}

// TestFindCalls: what is found is what can be patched.
func TestFindCalls(t *testing.T) {
	call := func(nr byte, moves ...byte) []byte {
		return append(append([]byte{0xb8, nr, 0, 0, 0}, moves...), 0x0f, 0x05)
	}
	text := append(call(unix.SYS_STAT), bytes.Repeat([]byte{0x90}, dcache.SiteText)...) // too close to the beginning
	var want []dcache.FoundCall
	for _, tt := range []struct {
		text []byte
		nr   int
	}{
		{call(unix.SYS_ACCESS), unix.SYS_ACCESS},
		{call(unix.SYS_OPEN, 0x89, 0xfa), unix.SYS_OPEN},
		{call(unix.SYS_READ), 0},
		{call(unix.SYS_OPEN, 0x31, 0xd2), 0}, // xor edx, edx
		{[]byte{0x0f, 0x05, 0x0f, 0x05}, 0},
	} {
		text = append(append(text, tt.text...), 0xc3)
		if tt.nr != 0 {
			want = append(want, dcache.FoundCall{At: len(text) - 3, Nr: tt.nr})
		}
	}
	text = append(text, 0x0f) // half a call
	if got := dcache.FindCalls(text); !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
}

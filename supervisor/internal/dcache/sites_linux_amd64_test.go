package dcache_test

import (
	"bytes"
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

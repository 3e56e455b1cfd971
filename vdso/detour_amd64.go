package vdso

import "encoding/binary"

// Detour returns the code at DetourOffset, the same for every piece: a system call, then
// loads of the six registers of its arguments and of where to go on, which lie in this
// order at DetourData. A call that was made elsewhere can return to it behind its own
// (DetourResume), and one that the kernel makes once more is made there. It changes no
// other register than those and rcx, which holds what a call leaves there.
func Detour() []byte {
	code := []byte{0x0f, 0x05} // syscall
	load := func(i int, mov ...byte) {
		code = append(code, mov...) // mov reg, [data+8*i]
		end := len(code) + 4
		code = binary.LittleEndian.AppendUint32(code, uint32(DetourData-DetourOffset+8*i-end))
	}
	load(0, 0x48, 0x8b, 0x3d)       // rdi
	load(1, 0x48, 0x8b, 0x35)       // rsi
	load(2, 0x48, 0x8b, 0x15)       // rdx
	load(3, 0x4c, 0x8b, 0x15)       // r10
	load(4, 0x4c, 0x8b, 0x05)       // r8
	load(5, 0x4c, 0x8b, 0x0d)       // r9
	load(6, 0x48, 0x8b, 0x0d)       // rcx
	return append(code, 0xff, 0xe1) // jmp rcx
}

package dcache

// TestSite makes a piece of code with the C calling convention, but for the fourth argument:
// it makes call nr, and returns what the table answers, or left.
func (t *Table) TestSite(nr int, left int32) (at uint64) {
	at, ok := t.piece(site{uint64(nr), 0}, func(e *emitter) {
		e.op(0xb8) // mov eax, nr
		e.imm32(uint32(nr))
		e.op(0x49, 0x89, 0xca) // mov r10, rcx
		e.enter()
		e.op(0x48, 0xc7, 0xc0) // mov rax, left
		e.imm32(uint32(left))
		e.op(0xc3) // ret
		e.pad()
		e.op(0xc3)
	})
	if !ok {
		panic("no room")
	}
	return at
}

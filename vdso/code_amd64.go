package vdso

// Call numbers of amd64 (asm/unistd_64.h) that a replacement function falls
// back to. The sandbox's filter traps every one of them.
const (
	sysGettimeofday = 96
	sysTime         = 201
	sysClockGettime = 228
	sysClockGetres  = 229
	sysGetrandom    = 318
)

// slotClockGettime is where Shifted code finds the original clock_gettime: an
// 8-byte address in the slot page.
const slotClockGettime = SlotOffset

// Where Frozen code counts the reads of a process: the sequence number of the
// data page at which it began, and how many are left.
const (
	slotSeq   = SlotOffset
	slotCount = SlotOffset + 4
)

// SlotFunctions lists the functions whose original addresses the slot page
// holds, 8 bytes each, for code of the given kind.
func SlotFunctions(k Kind) []string {
	if k == Shifted {
		return []string{"clock_gettime"}
	}
	return nil
}

// Code returns the code page for a kind, and where in the region each function
// begins. Every function has the C signature of the vDSO function it stands in
// for, uses no stack beyond what it calls, and changes no register that the
// System V ABI preserves.
func Code(k Kind) (code []byte, entries map[string]int, err error) {
	e := &emitter{labels: map[string]int{}}
	type function struct {
		name string
		emit func(*emitter)
	}
	functions := []function{{"getcpu", emitGetcpu}, {"getrandom", emitGetrandom}}
	switch k {
	case Frozen:
		functions = append(functions,
			function{"clock_gettime", emitFrozenClockGettime},
			function{"gettimeofday", emitFrozenGettimeofday},
			function{"time", emitFrozenTime},
			function{"clock_getres", emitClockGetres})
	case Shifted:
		functions = append(functions,
			function{"clock_gettime", emitShiftedClockGettime},
			function{"gettimeofday", emitShiftedGettimeofday},
			function{"time", emitShiftedTime},
			function{"clock_getres", emitClockGetres})
	}
	entries = map[string]int{}
	for _, f := range functions {
		e.align()
		e.label(f.name)
		entries[f.name] = CodeOffset + len(e.code)
		f.emit(e)
	}
	return e.code, entries, e.link()
}

// loadScale leaves the offset of clock edi's pair in rax, less offPairs, and the
// data page in rdx; it jumps to "label" for a clock without one.
func loadScale(e *emitter, label string) {
	e.op(0x83, 0xff, MaxClock) // cmp edi, MaxClock
	e.jump(0x77, label)        // ja
	e.op(0x89, 0xf8)           // mov eax, edi
	e.op(0x48, 0x8d, 0x15)     // lea rdx, [data]
	e.region(0)
	e.op(0x0f, 0xb6, 0x84, 0x02) // movzx eax, byte [rdx+rax+offTable]
	e.imm32(offTable)
	e.op(0x3c, 0xff)    // cmp al, 0xff
	e.jump(0x74, label) // je
	e.op(0xc1, 0xe0, 4) // shl eax, 4
}

// kernel enters the kernel with the arguments as they stand.
func kernel(e *emitter, nr uint32) {
	e.op(0xb8) // mov eax, nr
	e.imm32(nr)
	e.op(0x0f, 0x05) // syscall
	e.op(0xc3)       // ret
}

// readBegin and readEnd bracket a consistent read of the data page at rdx.
func readBegin(e *emitter, fn string) {
	e.label(fn + ".retry")
	e.op(0x44, 0x8b, 0x02)       // mov r8d, [rdx]
	e.op(0x41, 0xf6, 0xc0, 0x01) // test r8b, 1
	e.jump(0x75, fn+".pause")    // jne
}

func readEnd(e *emitter, fn string) {
	e.op(0x44, 0x3b, 0x02)    // cmp r8d, [rdx]
	e.jump(0x75, fn+".retry") // jne
}

func pause(e *emitter, fn string) {
	e.label(fn + ".pause")
	e.op(0xf3, 0x90)          // pause
	e.jump(0xeb, fn+".retry") // jmp
}

// countRead counts a read at the instant whose sequence number is in r8d. When
// there were as many as Reads, execution goes on at fn.full, see countAgain.
func countRead(e *emitter, fn string) {
	e.op(0x44, 0x3b, 0x05) // cmp r8d, [slotSeq]
	e.region(slotSeq)
	e.jump(0x75, fn+".fresh") // jne
	e.label(fn + ".count")
	e.op(0xff, 0x0d) // dec dword [slotCount]
	e.region(slotCount)
	e.jump(0x74, fn+".full") // je
}

// countAgain begins to count anew, at another instant or because the count is
// full. Execution falls through to the call of the kernel.
func countAgain(e *emitter, fn string) {
	e.label(fn + ".fresh")
	e.op(0x44, 0x89, 0x05) // mov [slotSeq], r8d
	e.region(slotSeq)
	storeCount(e)
	e.jump(0xeb, fn+".count") // jmp
	e.label(fn + ".full")
	storeCount(e)
}

func storeCount(e *emitter) {
	e.op(0xc7, 0x05)        // mov dword [slotCount], Reads
	e.region(slotCount - 4) // from before the immediate
	e.imm32(Reads)
}

func emitFrozenClockGettime(e *emitter) {
	loadScale(e, "cg.kernel")
	readBegin(e, "cg")
	e.op(0x4c, 0x8b, 0x4c, 0x02, offPairs)   // mov r9, [rdx+rax+offPairs]
	e.op(0x4c, 0x8b, 0x54, 0x02, offPairs+8) // mov r10, [rdx+rax+offPairs+8]
	readEnd(e, "cg")
	countRead(e, "cg")
	e.op(0x4c, 0x89, 0x0e)       // mov [rsi], r9
	e.op(0x4c, 0x89, 0x56, 0x08) // mov [rsi+8], r10
	e.op(0x31, 0xc0)             // xor eax, eax
	e.op(0xc3)                   // ret
	pause(e, "cg")
	countAgain(e, "cg")
	e.label("cg.kernel")
	kernel(e, sysClockGettime)
}

// storeTimeval stores r9 seconds and rax nanoseconds as the struct timeval at
// rdi, if that isn't NULL, then zeroes the struct timezone at rsi likewise.
func storeTimeval(e *emitter) {
	e.op(0x48, 0x85, 0xff)       // test rdi, rdi
	e.jump(0x74, "gt.tz")        // je
	e.op(0x48, 0x69, 0xc0)       // imul rax, rax, 2^38/1000 rounded up:
	e.imm32(274877907)           // exact division by 1000 below 2^30
	e.op(0x48, 0xc1, 0xe8, 38)   // shr rax, 38
	e.op(0x4c, 0x89, 0x0f)       // mov [rdi], r9
	e.op(0x48, 0x89, 0x47, 0x08) // mov [rdi+8], rax
	e.label("gt.tz")
	e.op(0x48, 0x85, 0xf6)                   // test rsi, rsi
	e.jump(0x74, "gt.out")                   // je
	e.op(0x48, 0xc7, 0x06, 0x00, 0, 0, 0x00) // mov qword [rsi], 0
	e.label("gt.out")
	e.op(0x31, 0xc0) // xor eax, eax
	e.op(0xc3)       // ret
}

func emitFrozenGettimeofday(e *emitter) {
	e.op(0x48, 0x8d, 0x15) // lea rdx, [data]
	e.region(0)
	readBegin(e, "gt")
	e.op(0x4c, 0x8b, 0x4a, offPairs)   // mov r9, [rdx+offPairs]
	e.op(0x48, 0x8b, 0x42, offPairs+8) // mov rax, [rdx+offPairs+8]
	readEnd(e, "gt")
	countRead(e, "gt")
	storeTimeval(e)
	pause(e, "gt")
	countAgain(e, "gt")
	kernel(e, sysGettimeofday)
}

func emitFrozenTime(e *emitter) {
	e.op(0x48, 0x8d, 0x15) // lea rdx, [data]
	e.region(0)
	readBegin(e, "tm")
	e.op(0x48, 0x8b, 0x42, offPairs) // mov rax, [rdx+offPairs]
	readEnd(e, "tm")
	countRead(e, "tm")
	storeTime(e)
	pause(e, "tm")
	countAgain(e, "tm")
	kernel(e, sysTime)
}

// storeTime stores rax at rdi, if that isn't NULL, and returns it.
func storeTime(e *emitter) {
	e.op(0x48, 0x85, 0xff) // test rdi, rdi
	e.jump(0x74, "tm.out") // je
	e.op(0x48, 0x89, 0x07) // mov [rdi], rax
	e.label("tm.out")      //
	e.op(0xc3)             // ret
}

func emitClockGetres(e *emitter) {
	loadScale(e, "cr.kernel")
	e.op(0x48, 0x85, 0xf6)                   // test rsi, rsi
	e.jump(0x74, "cr.out")                   // je
	e.op(0x48, 0xc7, 0x06, 0, 0, 0, 0)       // mov qword [rsi], 0
	e.op(0x48, 0xc7, 0x46, 0x08, 1, 0, 0, 0) // mov qword [rsi+8], 1
	e.op(0x8d, 0x47, 0xfb)                   // lea eax, [rdi-5]
	e.op(0x83, 0xf8, 0x01)                   // cmp eax, 1
	e.jump(0x77, "cr.out")                   // ja
	e.op(0x48, 0xc7, 0x46, 0x08)             // mov qword [rsi+8], coarseRes
	e.imm32(coarseRes)
	e.label("cr.out")
	e.op(0x31, 0xc0) // xor eax, eax
	e.op(0xc3)       // ret
	e.label("cr.kernel")
	kernel(e, sysClockGetres)
}

// emitGetcpu says CPU 0, node 0.
func emitGetcpu(e *emitter) {
	e.op(0x48, 0x85, 0xff)       // test rdi, rdi
	e.jump(0x74, "gc.node")      // je
	e.op(0xc7, 0x07, 0, 0, 0, 0) // mov dword [rdi], 0
	e.label("gc.node")           //
	e.op(0x48, 0x85, 0xf6)       // test rsi, rsi
	e.jump(0x74, "gc.out")       // je
	e.op(0xc7, 0x06, 0, 0, 0, 0) // mov dword [rsi], 0
	e.label("gc.out")            //
	e.op(0x31, 0xc0)             // xor eax, eax
	e.op(0xc3)                   // ret
}

// emitGetrandom enters the kernel, where the call is trapped. The question for
// the size of its state (length ~0, vgetrandom in lib/vdso/getrandom.c) gets
// ENOSYS, upon which a C library or Go makes the call itself from then on.
func emitGetrandom(e *emitter) {
	e.op(0x49, 0x83, 0xf8, 0xff) // cmp r8, -1
	e.jump(0x74, "gr.nosys")     // je
	kernel(e, sysGetrandom)
	e.label("gr.nosys")
	e.op(0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff) // mov rax, -ENOSYS
	e.op(0xc3)                                     // ret
}

// emitShiftedClockGettime adds the pair of the clock's scale to what the original
// says of the host's clock for it.
func emitShiftedClockGettime(e *emitter) {
	loadScale(e, "sg.kernel")
	e.op(0x89, 0xc1)             // mov ecx, eax
	e.op(0xc1, 0xe9, 4)          // shr ecx, 4
	e.op(0x0f, 0xb6, 0xbc, 0x0a) // movzx edi, byte [rdx+rcx+offHost]
	e.imm32(offHost)
	e.op(0x56)                   // push rsi
	e.op(0x50)                   // push rax
	e.op(0x48, 0x83, 0xec, 0x08) // sub rsp, 8
	e.op(0xff, 0x15)             // call [slot]
	e.region(slotClockGettime)
	e.op(0x48, 0x83, 0xc4, 0x08) // add rsp, 8
	e.op(0x59)                   // pop rcx
	e.op(0x5e)                   // pop rsi
	e.op(0x85, 0xc0)             // test eax, eax
	e.jump(0x75, "sg.out")       // jne
	e.op(0x48, 0x8d, 0x15)       // lea rdx, [data]
	e.region(0)
	e.op(0x4c, 0x8b, 0x4c, 0x0a, offPairs)         // mov r9, [rdx+rcx+offPairs]
	e.op(0x4c, 0x8b, 0x54, 0x0a, offPairs+8)       // mov r10, [rdx+rcx+offPairs+8]
	e.op(0x4c, 0x03, 0x0e)                         // add r9, [rsi]
	e.op(0x4c, 0x03, 0x56, 0x08)                   // add r10, [rsi+8]
	e.op(0x49, 0x81, 0xfa, 0x00, 0xca, 0x9a, 0x3b) // cmp r10, 1e9
	e.jump(0x7c, "sg.store")                       // jl
	e.op(0x49, 0x81, 0xea, 0x00, 0xca, 0x9a, 0x3b) // sub r10, 1e9
	e.op(0x49, 0xff, 0xc1)                         // inc r9
	e.label("sg.store")
	e.op(0x4c, 0x89, 0x0e)       // mov [rsi], r9
	e.op(0x4c, 0x89, 0x56, 0x08) // mov [rsi+8], r10
	e.label("sg.out")
	e.op(0xc3) // ret
	e.label("sg.kernel")
	kernel(e, sysClockGettime)
}

func emitShiftedGettimeofday(e *emitter) {
	e.op(0x57)                   // push rdi
	e.op(0x56)                   // push rsi
	e.op(0x48, 0x83, 0xec, 0x18) // sub rsp, 24
	e.op(0x31, 0xff)             // xor edi, edi
	e.op(0x48, 0x89, 0xe6)       // mov rsi, rsp
	e.call("clock_gettime")
	e.op(0x4c, 0x8b, 0x0c, 0x24)       // mov r9, [rsp]
	e.op(0x48, 0x8b, 0x44, 0x24, 0x08) // mov rax, [rsp+8]
	e.op(0x48, 0x83, 0xc4, 0x18)       // add rsp, 24
	e.op(0x5e)                         // pop rsi
	e.op(0x5f)                         // pop rdi
	storeTimeval(e)
}

func emitShiftedTime(e *emitter) {
	e.op(0x57)                   // push rdi
	e.op(0x48, 0x83, 0xec, 0x10) // sub rsp, 16
	e.op(0x31, 0xff)             // xor edi, edi
	e.op(0x48, 0x89, 0xe6)       // mov rsi, rsp
	e.call("clock_gettime")
	e.op(0x48, 0x8b, 0x04, 0x24) // mov rax, [rsp]
	e.op(0x48, 0x83, 0xc4, 0x10) // add rsp, 16
	e.op(0x5f)                   // pop rdi
	storeTime(e)
}

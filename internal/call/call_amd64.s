#include "textflag.h"
#include "funcdata.h"

// func Call(fn, a, b, c, d, e uintptr) uintptr
//
// The frame itself is the callee's stack: not being NOSPLIT, this function has
// the goroutine's stack grown until the frame fits, so there is nothing to
// allocate or to share between goroutines. The callee runs downwards from the
// frame's top. R12 holds our own SP meanwhile, as the callee preserves it; R14
// and X15, which Go keeps fixed, are restored by the wrapper that the linker
// puts around an assembly function.
TEXT ·Call(SB), 0, $16384-56
	NO_LOCAL_POINTERS
	MOVQ	fn+0(FP), AX
	MOVQ	a+8(FP), DI
	MOVQ	b+16(FP), SI
	MOVQ	c+24(FP), DX
	MOVQ	d+32(FP), CX
	MOVQ	e+40(FP), R8
	MOVQ	SP, R12
	LEAQ	16384(SP), R11
	ANDQ	$~15, R11
	MOVQ	R11, SP
	CALL	AX
	MOVQ	R12, SP
	MOVQ	AX, ret+48(FP)
	RET

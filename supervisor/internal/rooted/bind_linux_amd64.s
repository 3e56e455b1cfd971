#include "textflag.h"

#define SYS_bind   49
#define SYS_clone  56
#define SYS_exit   60
#define SYS_chdir  80
#define SYS_chroot 161

// The child has the parent's stack, and so its arguments; the parent waits until it has
// exited (CLONE_VFORK). It writes nothing there.
TEXT ·bindIn(SB),NOSPLIT,$0-56
	MOVQ flags+0(FP), DI
	XORL SI, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	MOVL $SYS_clone, AX
	SYSCALL
	TESTQ AX, AX
	JEQ  child
	MOVQ AX, pid+48(FP)
	RET

child:
	MOVQ root+8(FP), DI
	MOVL $SYS_chroot, AX
	SYSCALL
	TESTQ AX, AX
	JNE  exit
	MOVQ dir+16(FP), DI
	MOVL $SYS_chdir, AX
	SYSCALL
	TESTQ AX, AX
	JNE  exit
	MOVQ fd+24(FP), DI
	MOVQ addr+32(FP), SI
	MOVQ size+40(FP), DX
	MOVL $SYS_bind, AX
	SYSCALL

exit:
	NEGQ AX
	MOVQ AX, DI
	MOVL $SYS_exit, AX
	SYSCALL
	INT  $3

#include "textflag.h"

#define SYS_chdir  49
#define SYS_chroot 51
#define SYS_exit   93
#define SYS_bind   200
#define SYS_clone  220

// See bind_linux_amd64.s.
TEXT ·bindIn(SB),NOSPLIT,$0-56
	MOVD flags+0(FP), R0
	MOVD $0, R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD $0, R4
	MOVD $SYS_clone, R8
	SVC
	CBZ  R0, child
	MOVD R0, pid+48(FP)
	RET

child:
	MOVD root+8(FP), R0
	MOVD $SYS_chroot, R8
	SVC
	CBNZ R0, exit
	MOVD dir+16(FP), R0
	MOVD $SYS_chdir, R8
	SVC
	CBNZ R0, exit
	MOVD fd+24(FP), R0
	MOVD addr+32(FP), R1
	MOVD size+40(FP), R2
	MOVD $SYS_bind, R8
	SVC

exit:
	NEG  R0, R0
	MOVD $SYS_exit, R8
	SVC
	BRK

#include "textflag.h"

// What a signal handler is given (rt_sigframe in arch/x86/include/asm/sigframe.h,
// siginfo_t and ucontext_t of the x86-64 ABI): offsets of what is used here.
#define si_code   8
#define uc_rdx  136
#define uc_rax  144
#define uc_rcx  152
#define uc_rip  168

#define SI_KERNEL     0x80
#define SYS_prctl      157
#define PR_SET_TSC      26
#define PR_TSC_ENABLE    1
#define PR_TSC_SIGSEGV   2

// segv is the process's handler of SIGSEGV, called by the kernel with the C
// convention (DI signal, SI siginfo, DX ucontext), all signals blocked. It carries out
// an instruction that reads the counter, and gives everything else to the handler that
// was there before, as if that had been called.
TEXT ·segv(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	CMPL si_code(SI), $SI_KERNEL // a general protection fault has no address
	JNE  next
	MOVQ uc_rip(DX), AX
	MOVQ AX, CX
	SHRQ $47, CX                 // where no code can be
	JNE  next
	MOVWLZX (AX), CX
	CMPL CX, $0x310f             // rdtsc: 0f 31
	JEQ  read
	CMPL CX, $0x010f             // rdtscp: 0f 01 f9
	JNE  next
	CMPB 2(AX), $0xf9
	JNE  next
	MOVL $3, R10
	JMP  answer

read:
	MOVL $2, R10

answer:
	ADDQ R10, uc_rip(DX)
	MOVQ DX, R8                  // a system call preserves it, and R10
	MOVL $PR_SET_TSC, DI
	MOVL $PR_TSC_ENABLE, SI
	MOVL $SYS_prctl, AX
	SYSCALL
	CMPL R10, $3
	JEQ  withCPU
	RDTSC
	JMP  store

withCPU:
	RDTSCP
	MOVQ CX, uc_rcx(R8)

store:
	MOVQ AX, uc_rax(R8)          // the upper halves are zero, as after the instruction
	MOVQ DX, uc_rdx(R8)
	MOVL $PR_SET_TSC, DI
	MOVL $PR_TSC_SIGSEGV, SI
	MOVL $SYS_prctl, AX
	SYSCALL
	LOCK
	INCQ ·reads(SB)
	RET                          // to the restorer, which the kernel has put there

next:
	MOVQ ·former(SB), AX
	JMP  AX

// func handler() uintptr
TEXT ·handler(SB),NOSPLIT,$0-8
	MOVQ $·segv(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func readCounter()
TEXT ·readCounter(SB),NOSPLIT,$0-0
	RDTSC
	RET

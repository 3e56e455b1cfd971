// What the programs of this directory share: system calls as the kernel sees
// them, without a library in between.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// raw makes a system call and returns the register: an error is a negative errno.
static inline long raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#define RAW(nr, a, b, c, d, e, f, ...) raw6((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define raw(...) RAW(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

// say prints one result: a negative errno as such.
static inline void say(const char *what, long ret)
{
	if (ret < 0 && ret >= -4095)
		printf("%s: errno %ld\n", what, -ret);
	else
		printf("%s: %ld\n", what, ret);
}

static inline void die(const char *what)
{
	perror(what);
	exit(111);
}

static inline uint64_t hash(uint64_t h, const void *data, size_t n)
{
	const unsigned char *p = data;
	if (!h)
		h = 0xcbf29ce484222325;
	while (n--)
		h = (h ^ *p++) * 0x100000001b3;
	return h;
}

// edge maps n readable and writable pages followed by one that isn't mapped, and
// returns where they end.
static inline char *edge(int n)
{
	char *p = mmap(0, (n + 1) * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || munmap(p + n * 4096, 4096))
		die("mmap");
	return p + n * 4096;
}

// Asks the kernel itself, as a program does that knows no vDSO and no C library.
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static void hex(const char *name, const unsigned char *b) {
	printf("%s ", name);
	for (int i = 0; i < 16; i++)
		printf("%02x", b[i]);
	puts("");
}

int main(void) {
	unsigned char b[16];
	if (syscall(SYS_getrandom, b, sizeof b, 0) != sizeof b)
		return 1;
	hex("~ getrandom", b); // the C library has drawn from the stream before;
	hex("AT_RANDOM", (const unsigned char *)getauxval(AT_RANDOM));

	static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID};
	for (int i = 0; i < 4; i++) {
		struct timespec ts;
		if (syscall(SYS_clock_gettime, clocks[i], &ts) != 0)
			return 1;
		printf("clock %d: %lld.%09ld\n", clocks[i], (long long)ts.tv_sec, ts.tv_nsec);
	}
	printf("time %ld\n", syscall(SYS_time, NULL));

	struct utsname u;
	if (uname(&u) != 0)
		return 1;
	printf("%s %s %s %s %s\n", u.sysname, u.nodename, u.release, u.version, u.machine);
	return 0;
}

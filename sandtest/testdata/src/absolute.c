// Waits twice for an instant, as against a span of time: with clock_nanosleep and
// with a futex. Prints the nanoseconds that each wait took by the clock.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static struct timespec in(long long ns) {
	ns += now();
	return (struct timespec){ns / 1000000000, ns % 1000000000};
}

int main(int argc, char **argv) {
	if (argc != 2)
		return 2;
	long long ns = atoll(argv[1]), start = now();
	struct timespec ts = in(ns);
	if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) != 0)
		return 1;
	printf("%lld\n", now() - start);
	fflush(stdout);

	int word = 0;
	start = now();
	ts = in(ns);
	// glibc's pthread_cond_timedwait and sem_timedwait do this; Java sleeps so.
	syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, &ts, NULL, FUTEX_BITSET_MATCH_ANY);
	printf("%lld\n", now() - start);
	return 0;
}

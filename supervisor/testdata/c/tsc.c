// Reads the time-stamp counter in a thread, a child, and after a sleep in another
// program, and compares it with the monotonic clock.
#include "raw.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <x86intrin.h>

static void compare(const char *where)
{
	unsigned cpu;
	struct timespec ts;
	uint64_t a = __rdtsc(), b = __rdtscp(&cpu);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	uint64_t now = ts.tv_sec * 1000000000ULL + ts.tv_nsec;
	const uint64_t ticks = 100; // one for each read of the thread
	printf("%s: rdtsc %s rdtscp %s cpu %u\n", where, a - now < ticks ? "same" : "differs",
		b <= a ? "stands" : b - now < ticks ? "rises" : "differs", cpu);
	fflush(stdout);
}

static void *thread(void *arg)
{
	compare(arg);
	return 0;
}

static void segv(int sig)
{
	say("handler", sig);
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	pthread_t t;
	if (argc > 1) {
		compare("program");
		int mode = 0;
		prctl(PR_GET_TSC, &mode);
		say("mode", mode);
		prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
		signal(SIGSEGV, segv);
		compare("forbidden");
		return 1;
	}
	if (getenv("TICKS")) { // how many reads there were before, at this instant
		struct timespec ts;
		clock_gettime(CLOCK_MONOTONIC, &ts);
		say("before", __rdtsc() - (ts.tv_sec * 1000000000ULL + ts.tv_nsec));
		return 0;
	}
	compare("main");
	if (pthread_create(&t, 0, thread, "thread") || pthread_join(t, 0))
		die("pthread");
	if (!fork()) {
		compare("child");
		_exit(0);
	}
	wait(0);
	sleep(1);
	execl(argv[0], argv[0], "again", (char *)0);
	die("execl");
}

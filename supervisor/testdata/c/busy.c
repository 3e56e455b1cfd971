// Waits for a second by reading a clock, and says how far the clock has moved.
#include "raw.h"
#include <sys/resource.h>

static volatile sig_atomic_t fired;
static void fire(int sig) { fired = sig; }

static int64_t reading(int id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	struct timeval tv, was;
	struct timespec ts;
	int64_t start = reading(CLOCK_MONOTONIC);
	if (!strcmp(how, "time")) {
		time_t t = time(0);
		while (time(0) == t)
			;
	} else if (!strcmp(how, "clock_gettime")) {
		while (reading(CLOCK_BOOTTIME) < start + 1000000000)
			;
	} else if (!strcmp(how, "gettimeofday")) {
		gettimeofday(&was, 0);
		do
			gettimeofday(&tv, 0);
		while (tv.tv_sec == was.tv_sec);
	} else if (!strcmp(how, "call")) {
		do
			raw(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
		while (ts.tv_sec * 1000000000LL + ts.tv_nsec < start + 1000000000);
	} else if (!strcmp(how, "cpu")) {
		while (clock() < CLOCKS_PER_SEC)
			;
	} else if (!strcmp(how, "thread")) {
		while (reading(CLOCK_THREAD_CPUTIME_ID) < 1000000000)
			;
	} else if (!strcmp(how, "prof")) {
		struct itimerval it = {.it_value = {1, 0}};
		signal(SIGPROF, fire);
		setitimer(ITIMER_PROF, &it, 0);
		while (!fired)
			time(0);
	} else
		die("usage");
	printf("%lldns\n", (long long)(reading(CLOCK_MONOTONIC) - start));
	return 0;
}

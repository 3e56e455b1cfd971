// Reads every clock in every way. The first argument says what to print.
#include "raw.h"
#include <sys/timerfd.h>
#include <sys/timex.h>

static const int ids[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11};
#define N (int)(sizeof ids / sizeof *ids)

// Clock ids that name an open file, or a process (linux/posix-timers_types.h).
#define FD_CLOCK(fd) (int)(~(unsigned)(fd) << 3 | 3)
#define PID_CLOCK(pid) (int)(~(unsigned)(pid) << 3 | 2)

static void put(const char *how, int id, long ret, struct timespec ts)
{
	if (ret)
		printf("%s %d errno %ld\n", how, id, -ret);
	else
		printf("%s %d %ld.%09ld\n", how, id, (long)ts.tv_sec, ts.tv_nsec);
}

static void clocks(void)
{
	struct timespec ts;
	for (int i = 0; i < N; i++) {
		long ret = clock_gettime(ids[i], &ts);
		put("libc", ids[i], ret ? -errno : 0, ts);
		put("raw", ids[i], raw(SYS_clock_gettime, ids[i], &ts), ts);
	}
	// This process and this thread by number.
	put("pid", 2, raw(SYS_clock_gettime, PID_CLOCK(getpid()), &ts), ts);
	put("pid", 6, raw(SYS_clock_gettime, PID_CLOCK(getpid()) | 4, &ts), ts);
}

static void wall(void)
{
	struct timeval tv;
	struct timezone tz;
	time_t t;
	for (int bits = 0; bits < 4; bits++)
		for (int way = 0; way < 2; way++) {
			long ret;
			memset(&tv, 0x55, sizeof tv);
			memset(&tz, 0x55, sizeof tz);
			struct timeval *ptv = bits & 1 ? &tv : 0;
			struct timezone *ptz = bits & 2 ? &tz : 0;
			// The function pointer keeps the compiler from judging the NULL.
			int (*volatile fn)(struct timeval *, void *) = (int (*)(struct timeval *, void *))gettimeofday;
			ret = way ? raw(SYS_gettimeofday, ptv, ptz) : fn(ptv, ptz);
			printf("gettimeofday %s %d: %ld", way ? "raw" : "libc", bits, ret);
			if (ptv)
				printf(" tv %ld.%06ld", (long)tv.tv_sec, (long)tv.tv_usec);
			if (ptz)
				printf(" tz %d %d", tz.tz_minuteswest, tz.tz_dsttime);
			printf("\n");
		}
	printf("time libc NULL: %ld\n", (long)time(NULL));
	t = 77;
	printf("time libc &t: %ld", (long)time(&t));
	printf(" %ld\n", (long)t);
	printf("time raw NULL: %ld\n", raw(SYS_time, 0));
	t = 77;
	printf("time raw &t: %ld", raw(SYS_time, &t));
	printf(" %ld\n", (long)t);
}

// IN_CHILD makes one call in a child and tells how it ended.
#define IN_CHILD(what, expr)                                                    \
	do {                                                                    \
		fflush(stdout);                                                 \
		pid_t pid = fork();                                             \
		if (!pid)                                                       \
			_exit((expr) ? 1 : 0);                                  \
		int st;                                                         \
		waitpid(pid, &st, 0);                                           \
		printf("%s: status %#x\n", what, st & ~0x80);                   \
	} while (0)

static void errors(void)
{
	void *bad = (void *)1;
	static const int unknown[] = {10, 12, 15, 99, 0x7fffffff, -1, -5, FD_CLOCK(0), FD_CLOCK(5), PID_CLOCK(0x3ffffff)};
	char name[64];
	struct timespec ts;
	for (unsigned i = 0; i < sizeof unknown / sizeof *unknown; i++) {
		snprintf(name, sizeof name, "clock_gettime %d", unknown[i]);
		long ret = raw(SYS_clock_gettime, unknown[i], &ts);
		say(name, ret);
		snprintf(name, sizeof name, "libc clock_gettime %d", unknown[i]);
		say(name, clock_gettime(unknown[i], &ts) ? -errno : 0);
		snprintf(name, sizeof name, "clock_getres %d", unknown[i]);
		say(name, raw(SYS_clock_getres, unknown[i], &ts));
		snprintf(name, sizeof name, "clock_getres %d NULL", unknown[i]);
		say(name, raw(SYS_clock_getres, unknown[i], 0));
	}
	for (int id = 0; id < 8; id++) {
		snprintf(name, sizeof name, "clock_gettime %d bad", id);
		say(name, raw(SYS_clock_gettime, id, bad));
		snprintf(name, sizeof name, "clock_getres %d bad", id);
		say(name, raw(SYS_clock_getres, id, bad));
		snprintf(name, sizeof name, "clock_getres %d NULL", id);
		say(name, raw(SYS_clock_getres, id, 0));
		snprintf(name, sizeof name, "clock_gettime %d NULL", id);
		say(name, raw(SYS_clock_gettime, id, 0));
		snprintf(name, sizeof name, "libc clock_getres %d NULL", id);
		say(name, clock_getres(id, 0) ? -errno : 0);
	}
	// An id with rubbish in the upper half of its register.
	say("clock_gettime rubbish", raw(SYS_clock_gettime, 0x5eed00000001, &ts));
	say("gettimeofday bad tv", raw(SYS_gettimeofday, bad, 0));
	say("gettimeofday bad tz", raw(SYS_gettimeofday, 0, bad));
	say("time bad", raw(SYS_time, bad));
	struct timespec *end = (struct timespec *)edge(1);
	say("clock_gettime at the edge", raw(SYS_clock_gettime, 0, end - 1));
	say("clock_gettime over the edge", raw(SYS_clock_gettime, 0, (char *)end - 8));
	say("getrusage bad", raw(SYS_getrusage, 0, bad));
	say("getrusage who", raw(SYS_getrusage, 7, &ts));
	say("times bad", raw(SYS_times, bad));
	IN_CHILD("libc clock_gettime bad", clock_gettime(0, bad));
	IN_CHILD("libc clock_gettime 7 bad", clock_gettime(7, bad));
	int (*volatile tod)(struct timeval *, void *) = (int (*)(struct timeval *, void *))gettimeofday;
	IN_CHILD("libc gettimeofday bad tv", tod(bad, 0));
	IN_CHILD("libc gettimeofday bad tz", tod(0, bad));
	time_t (*volatile tm)(time_t *) = time;
	IN_CHILD("libc time bad", tm(bad) == (time_t)-1);
}

// steps reads a clock again and again, in both ways by turns: it never goes
// back, and it moves.
static void steps(void)
{
	static const int running[] = {0, 1, 4, 7, 11};
	for (unsigned i = 0; i < sizeof running / sizeof *running; i++) {
		struct timespec ts;
		int64_t first = 0, last = 0, back = 0;
		long n = 0;
		do {
			if (n % 64 == 0)
				raw(SYS_clock_gettime, running[i], &ts);
			else
				clock_gettime(running[i], &ts);
			int64_t now = ts.tv_sec * 1000000000LL + ts.tv_nsec;
			if (n++ == 0)
				first = now;
			else if (now < last)
				back++;
			last = now;
		} while (last - first < 2000000);
		printf("steps %d back %ld\n", running[i], (long)back);
	}
}

static void now(const char *after)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	printf("%s: %lld.%09ld\n", after, (long long)ts.tv_sec, ts.tv_nsec);
}

static void set(void)
{
	struct timespec ts = {1500000000, 250};
	struct timeval tv = {1600000000, 250};
	struct timex tx = {.modes = 0x100, .time = {100, 500000}}; // ADJ_SETOFFSET
	say("clock_settime", raw(SYS_clock_settime, 0, &ts));
	now("clock_settime");
	say("settimeofday", raw(SYS_settimeofday, &tv, 0));
	now("settimeofday");
	say("adjtimex", raw(SYS_adjtimex, &tx));
	now("adjtimex");
	tx = (struct timex){.modes = 0x2100, .time = {100, 500000}}; // and ADJ_NANO
	say("clock_adjtime", raw(SYS_clock_adjtime, 0, &tx));
	now("clock_adjtime");
	tx = (struct timex){.modes = 2, .freq = 1}; // ADJ_FREQUENCY
	say("frequency", raw(SYS_adjtimex, &tx));
	ts.tv_sec = 1;
	say("monotonic", raw(SYS_clock_settime, 1, &ts));
	ts.tv_nsec = 1000000000;
	say("nonsense", raw(SYS_clock_settime, 0, &ts));
}

// timexes reads what the clock is tuned to.
static void timexes(void)
{
	struct timex tx = {.modes = 0};
	int state = raw(SYS_adjtimex, &tx);
	printf("adjtimex: %s, tick %ld, %lld.%06lld\n", state >= 0 ? "ok" : "failed", (long)tx.tick, (long long)tx.time.tv_sec, (long long)tx.time.tv_usec);
	tx = (struct timex){.modes = 0};
	state = raw(SYS_clock_adjtime, 0, &tx);
	printf("clock_adjtime: %s, tick %ld\n", state >= 0 ? "ok" : "failed", (long)tx.tick);
	printf("fault: %ld\n", raw(SYS_adjtimex, 8));
}

// waiters wait for an instant of the wall clock, which is then set to an hour
// before it, and to an hour after it.
static void waiters(void)
{
	struct itimerspec soon = {.it_value = {946684800 + 36000, 0}};
	struct timespec to = {946684800 + 32400, 0};
	int fd = timerfd_create(CLOCK_REALTIME, 0), mono = timerfd_create(CLOCK_MONOTONIC, 0);
	uint64_t n;
	for (int i = 0; i < 2; i++) {
		if (!fork()) {
			clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &soon.it_value, 0);
			now("slept");
			exit(0);
		}
		timerfd_settime(fd, TFD_TIMER_ABSTIME, &soon, 0);
		struct itimerspec in = {.it_value = {60, 0}};
		timerfd_settime(mono, 0, &in, 0);
		if (read(mono, &n, 8) != 8)
			die("read");
		if (raw(SYS_clock_settime, 0, &to))
			die("clock_settime");
		if (read(fd, &n, 8) != 8)
			die("read");
		now("read");
		fflush(stdout);
		wait(0);
		struct timespec ts;
		clock_gettime(CLOCK_MONOTONIC, &ts);
		printf("monotonic %ld\n", (long)ts.tv_sec);
		fflush(stdout);
		to.tv_sec += 7200;
		soon.it_value.tv_sec += 3600;
	}
}

static void names(void)
{
	say("sethostname", raw(SYS_sethostname, "x", 1));
	say("setdomainname", raw(SYS_setdomainname, "x", 1));
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "now";
	if (!strcmp(what, "clocks"))
		clocks();
	else if (!strcmp(what, "wall"))
		wall();
	else if (!strcmp(what, "errors"))
		errors();
	else if (!strcmp(what, "steps"))
		steps();
	else if (!strcmp(what, "set"))
		set();
	else if (!strcmp(what, "timex"))
		timexes();
	else if (!strcmp(what, "waiters"))
		waiters();
	else if (!strcmp(what, "names"))
		names();
	else {
		struct timespec ts;
		clock_gettime(CLOCK_REALTIME, &ts);
		printf("%s %ld.%09ld\n", argc > 2 ? argv[2] : "now", (long)ts.tv_sec, ts.tv_nsec);
	}
	return 0;
}

// Waits in every way that has a timeout and prints by how much the clock moved.
#include "raw.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

static int64_t now(int id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static struct timespec spec(int64_t ns) { return (struct timespec){ns / 1000000000, ns % 1000000000}; }

#define WAIT(name, expr)                                                             \
	do {                                                                         \
		int64_t r = now(0), m = now(1);                                      \
		long ret = (expr);                                                   \
		printf("%s: %ld real %ld mono %ld\n", name, ret, (long)(now(0) - r), \
		       (long)(now(1) - m));                                          \
		fflush(stdout);                                                      \
	} while (0)

int main(int argc, char **argv)
{
	int64_t ns = atoll(argv[1]) * 1000;
	int ms = ns / 1000000;
	const char *only = argc > 2 ? argv[2] : "";
	struct timespec ts = spec(ns), at;
	struct timeval tv = {ns / 1000000000, ns % 1000000000 / 1000};
	struct epoll_event ev;
	int ep = epoll_create1(0), none[2];
	if (pipe(none))
		die("pipe");
	struct pollfd pfd = {none[0], POLLIN, 0};
	fd_set set;
	FD_ZERO(&set);
	FD_SET(none[0], &set);

	if (strcmp(only, "absolute")) {
		WAIT("nanosleep", nanosleep(&ts, 0));
		WAIT("usleep", usleep(ns / 1000));
		WAIT("clock_nanosleep 0", clock_nanosleep(0, 0, &ts, 0));
		WAIT("clock_nanosleep 1", clock_nanosleep(1, 0, &ts, 0));
		WAIT("clock_nanosleep 7", clock_nanosleep(7, 0, &ts, 0));
		WAIT("poll", poll(0, 0, ms));
		WAIT("poll fd", poll(&pfd, 1, ms));
		WAIT("ppoll", ppoll(&pfd, 1, &ts, 0));
		WAIT("select", (tv = (struct timeval){ns / 1000000000, ns % 1000000000 / 1000}, select(0, 0, 0, 0, &tv)));
		WAIT("pselect", pselect(none[0] + 1, &set, 0, 0, &ts, 0));
		WAIT("raw select", (tv = (struct timeval){ns / 1000000000, ns % 1000000000 / 1000}, raw(SYS_select, 0, 0, 0, 0, &tv)));
		WAIT("raw poll", raw(SYS_poll, 0, 0, ms));
		WAIT("epoll_wait", epoll_wait(ep, &ev, 1, ms));
		WAIT("raw epoll_wait", raw(SYS_epoll_wait, ep, &ev, 1, ms));
		WAIT("epoll_pwait", epoll_pwait(ep, &ev, 1, ms, 0));
		WAIT("epoll_pwait2", raw(SYS_epoll_pwait2, ep, &ev, 1, &ts, 0, 0));
	}
	if (strcmp(only, "relative")) {
		WAIT("absolute 0", (at = spec(now(0) + ns), clock_nanosleep(0, TIMER_ABSTIME, &at, 0)));
		WAIT("absolute 1", (at = spec(now(1) + ns), clock_nanosleep(1, TIMER_ABSTIME, &at, 0)));
		WAIT("absolute 7", (at = spec(now(7) + ns), clock_nanosleep(7, TIMER_ABSTIME, &at, 0)));
		WAIT("absolute past", (at = spec(now(1) - ns), clock_nanosleep(1, TIMER_ABSTIME, &at, 0)));
	}
	return 0;
}

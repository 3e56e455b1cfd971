// Calls that end because time has passed, one per line: what the call returned,
// and by how many nanoseconds the clock has moved. Run as: timed NANOSECONDS.
#include "raw.h"
#include <linux/aio_abi.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

static int64_t ns;
static int64_t clockNow(int id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static struct timespec *span(int64_t n)
{
	static struct timespec ts;
	ts = (struct timespec){n / 1000000000, n % 1000000000};
	return &ts;
}

static struct timespec *at(int id) { return span(clockNow(id) + ns); }

static struct itimerspec *every(int64_t first, int64_t then)
{
	static struct itimerspec it;
	it.it_value = *span(first);
	it.it_interval = *span(then);
	return &it;
}

static int64_t began;
static void start(void) { began = clockNow(CLOCK_MONOTONIC); }
static void result(const char *name, long ret)
{
	int64_t moved = clockNow(CLOCK_MONOTONIC) - began;
	printf("%s: %ld moved %lld\n", name, ret, (long long)moved);
	fflush(stdout);
}

#define TIMED(name, call)                        \
	do {                                     \
		start();                         \
		long ret_ = (call);              \
		result(name, ret_);              \
	} while (0)

static void nothing(int sig) { (void)sig; }

// holder is a thread that owns a lock with priority inheritance and keeps it.
static int pi, pi2;
static void *holder(void *arg)
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, 0); // signals are the main thread's
	pi = pi2 = raw(SYS_gettid);
	if (write(*(int *)arg, "x", 1) != 1)
		die("write");
	for (;;)
		pause();
	return 0;
}

struct waitv {
	uint64_t val, uaddr;
	uint32_t flags, reserved;
};

static void futexes(void)
{
	int word = 0, other = 0, p[2];
	enum { WAIT, LOCK_PI = 6, WAIT_BITSET = 9, WAIT_REQUEUE_PI = 11, LOCK_PI2 = 13, PRIVATE = 128, REALTIME = 256 };
	TIMED("futex wait", raw(SYS_futex, &word, WAIT, 0, span(ns)));
	TIMED("futex wait private", raw(SYS_futex, &word, WAIT | PRIVATE, 0, span(ns)));
	TIMED("futex bitset monotonic", raw(SYS_futex, &word, WAIT_BITSET, 0, at(CLOCK_MONOTONIC), 0, -1));
	TIMED("futex bitset realtime", raw(SYS_futex, &word, WAIT_BITSET | REALTIME, 0, at(CLOCK_REALTIME), 0, -1));
	TIMED("futex requeue pi", raw(SYS_futex, &word, WAIT_REQUEUE_PI, 0, at(CLOCK_MONOTONIC), &other));
	struct waitv v = {.val = 0, .uaddr = (uint64_t)(uintptr_t)&word, .flags = 2};
	TIMED("futex_waitv monotonic", raw(449, &v, 1, 0, at(CLOCK_MONOTONIC), CLOCK_MONOTONIC));
	TIMED("futex_waitv realtime", raw(449, &v, 1, 0, at(CLOCK_REALTIME), CLOCK_REALTIME));
	pthread_t t;
	char c;
	if (pipe(p) || pthread_create(&t, 0, holder, &p[1]) || read(p[0], &c, 1) != 1)
		die("holder");
	TIMED("futex lock pi", raw(SYS_futex, &pi, LOCK_PI, 0, at(CLOCK_REALTIME)));
	TIMED("futex lock pi2", raw(SYS_futex, &pi2, LOCK_PI2, 0, at(CLOCK_MONOTONIC)));
}

static void sleeps(void)
{
	static const int ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI};
	char name[64];
	TIMED("nanosleep", raw(SYS_nanosleep, span(ns), 0));
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof name, "clock_nanosleep %d", ids[i]);
		TIMED(name, raw(SYS_clock_nanosleep, ids[i], 0, span(ns), 0));
		snprintf(name, sizeof name, "clock_nanosleep until %d", ids[i]);
		TIMED(name, raw(SYS_clock_nanosleep, ids[i], TIMER_ABSTIME, at(ids[i]), 0));
	}
}

static void polls(int fd)
{
	struct pollfd pfd = {fd, POLLIN, 0};
	struct timeval tv = {ns / 1000000000, ns % 1000000000 / 1000};
	struct epoll_event ev = {.events = EPOLLIN};
	int ep = epoll_create1(0), ms = ns / 1000000;
	fd_set set;
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	TIMED("poll", raw(SYS_poll, &pfd, 1, ms));
	TIMED("ppoll", raw(SYS_ppoll, &pfd, 1, span(ns), 0, 8));
	FD_ZERO(&set);
	FD_SET(fd, &set);
	TIMED("select", raw(SYS_select, fd + 1, &set, 0, 0, &tv));
	printf("select: %d in the set, %ld s %ld us left\n", FD_ISSET(fd, &set) != 0, (long)tv.tv_sec, (long)tv.tv_usec);
	FD_SET(fd, &set);
	struct timespec *ts = span(ns);
	TIMED("pselect6", raw(SYS_pselect6, fd + 1, &set, 0, 0, ts, 0));
	printf("pselect6: %d in the set, %ld s %ld ns left\n", FD_ISSET(fd, &set) != 0, (long)ts->tv_sec, ts->tv_nsec);
	TIMED("epoll_wait", raw(SYS_epoll_wait, ep, &ev, 1, ms));
	TIMED("epoll_pwait", raw(SYS_epoll_pwait, ep, &ev, 1, ms, 0, 8));
	TIMED("epoll_pwait2", raw(441, ep, &ev, 1, span(ns), 0, 8));
}

static void queues(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, 0);
	TIMED("rt_sigtimedwait", raw(SYS_rt_sigtimedwait, &set, 0, span(ns), 8));
	int sem = semget(IPC_PRIVATE, 1, 0600);
	struct sembuf op = {0, -1, 0};
	if (sem >= 0) {
		TIMED("semtimedop", raw(SYS_semtimedop, sem, &op, 1, span(ns)));
		semctl(sem, 0, IPC_RMID);
	}
	char name[64], buf[8];
	snprintf(name, sizeof name, "/sandtest-%d", (int)getpid());
	struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 8};
	mqd_t mq = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
	if (mq >= 0) {
		mq_unlink(name);
		TIMED("mq_timedreceive", raw(SYS_mq_timedreceive, mq, buf, 8, 0, at(CLOCK_REALTIME)));
		raw(SYS_mq_timedsend, mq, buf, 8, 0, 0);
		TIMED("mq_timedsend", raw(SYS_mq_timedsend, mq, buf, 8, 0, at(CLOCK_REALTIME)));
	}
	aio_context_t ctx = 0;
	struct io_event event;
	if (!raw(SYS_io_setup, 1, &ctx))
		TIMED("io_getevents", raw(SYS_io_getevents, ctx, 1, 1, &event, span(ns)));
}

static void timerfds(void)
{
	uint64_t n = 0;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	struct pollfd pfd = {fd, POLLIN, 0};
	struct itimerspec old;
	timerfd_settime(fd, 0, every(ns, 0), 0);
	TIMED("timerfd", raw(SYS_read, fd, &n, 8));
	printf("timerfd: %d expirations\n", (int)n);
	timerfd_settime(fd, 0, every(ns, ns), 0);
	TIMED("timerfd poll", raw(SYS_poll, &pfd, 1, -1));
	start();
	raw(SYS_nanosleep, span(2 * ns), 0);
	raw(SYS_read, fd, &n, 8);
	printf("timerfd: %d expirations\n", (int)n);
	TIMED("timerfd interval", raw(SYS_read, fd, &n, 8));
	timerfd_settime(fd, 0, every(0, 0), &old);
	printf("timerfd: interval of %s\n", old.it_interval.tv_sec * 1000000000LL + old.it_interval.tv_nsec == ns ? "that" : "another");
	timerfd_gettime(fd, &old);
	printf("timerfd: %ld %ld left\n", (long)old.it_value.tv_sec, old.it_value.tv_nsec);
	int real = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
	pfd.fd = dup(real);
	start(); // before the instant is chosen: what follows takes its time
	struct itimerspec until = {.it_value = *at(CLOCK_REALTIME)};
	timerfd_settime(real, TFD_TIMER_ABSTIME, &until, 0);
	long early = raw(SYS_read, real, &n, 8);
	printf("timerfd too early: %ld\n", early);
	close(real);
	// On a machine that was busy for so long it has expired, and won't once more.
	result("timerfd until, of a copy", raw(SYS_poll, &pfd, 1, early == 8 ? 0 : -1));
	until.it_value = (struct timespec){1, 0};
	timerfd_settime(pfd.fd, TFD_TIMER_ABSTIME, &until, 0);
	printf("timerfd long ago: %ld\n", raw(SYS_read, pfd.fd, &n, 8));
	printf("timerfd: errno of nonsense %ld %ld %ld\n", raw(SYS_timerfd_settime, fd, 8, every(1, 0), 0),
	       raw(SYS_timerfd_settime, 1, 0, every(1, 0), 0), raw(SYS_timerfd_settime, 99, 0, every(1, 0), 0));
}

// sockets with timeouts of their own.
static void sockets(void)
{
	int p[2], tcp = socket(AF_INET, SOCK_STREAM, 0), un = socket(AF_UNIX, SOCK_STREAM, 0);
	struct timeval tv = {ns / 1000000000, ns % 1000000000 / 1000}, got;
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	socklen_t size = sizeof in;
	static char buf[1 << 20];
	struct iovec iov = {buf, 8};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, p) || bind(tcp, (void *)&in, size) || listen(tcp, 5) ||
	    getsockname(tcp, (void *)&in, &size) || bind(un, (void *)&name, 2) || listen(un, 0))
		die("sockets");
	setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	TIMED("SO_RCVTIMEO recv", raw(SYS_recvfrom, p[0], buf, 8, 0, 0, 0));
	TIMED("SO_RCVTIMEO read", raw(SYS_read, p[0], buf, 8));
	TIMED("SO_RCVTIMEO readv", raw(SYS_readv, p[0], &iov, 1));
	TIMED("SO_RCVTIMEO recvmsg", raw(SYS_recvmsg, p[0], &msg, 0));
	printf("SO_RCVTIMEO, not waiting: %ld\n", raw(SYS_recvfrom, p[0], buf, 8, MSG_DONTWAIT, 0, 0));
	setsockopt(tcp, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	TIMED("SO_RCVTIMEO accept", raw(SYS_accept, tcp, 0, 0));
	int c = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(c, (void *)&in, size))
		die("connect");
	int a = accept(tcp, 0, 0);
	// An accepted connection has its listener's timeout.
	TIMED("SO_RCVTIMEO of an accepted connection", raw(SYS_read, a, buf, 8));
	struct timeval again = {tv.tv_sec / 2, tv.tv_usec / 2};
	setsockopt(p[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	while (send(p[0], buf, sizeof buf, MSG_DONTWAIT) > 0)
		;
	TIMED("SO_SNDTIMEO send", raw(SYS_sendto, p[0], buf, 1 << 16, 0, 0, 0));
	TIMED("SO_SNDTIMEO write", raw(SYS_write, p[0], buf, 1 << 16));
	size = sizeof name;
	if (getsockname(un, (void *)&name, &size))
		die("getsockname");
	int u = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(u, (void *)&name, size))
		die("connect");
	u = socket(AF_UNIX, SOCK_STREAM, 0);
	setsockopt(u, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	TIMED("SO_SNDTIMEO connect", raw(SYS_connect, u, &name, size));
	size = sizeof got;
	long ret = getsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &got, &size);
	printf("SO_RCVTIMEO: %ld %d %d\n", ret, (int)size, got.tv_sec * 1000000 + got.tv_usec >= tv.tv_sec * 1000000 + tv.tv_usec);
	size = 8;
	ret = getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &got, &size);
	printf("SO_RCVTIMEO unset: %ld %d %ld\n", ret, (int)size, (long)got.tv_sec);
	tv.tv_usec = 1000000;
	printf("SO_RCVTIMEO: errno of nonsense %ld %ld %ld %ld\n", raw(SYS_setsockopt, p[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv),
	       raw(SYS_setsockopt, p[0], SOL_SOCKET, SO_RCVTIMEO, &again, 8), raw(SYS_setsockopt, 0, SOL_SOCKET, SO_RCVTIMEO, &again, 16),
	       raw(SYS_setsockopt, 99, SOL_SOCKET, SO_RCVTIMEO, &again, 16));
}

static volatile int code, overrun, value;
static void told(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	code = si->si_code;
	overrun = si->si_overrun;
	value = si->si_value.sival_int;
}

static void timers(void)
{
	struct sigaction sa = {.sa_sigaction = told, .sa_flags = SA_SIGINFO};
	struct itimerval it = {.it_value = {ns / 1000000000, ns % 1000000000 / 1000}}, left;
	sigset_t alarms, none;
	sigaction(SIGALRM, &sa, 0);
	sigaction(SIGRTMIN, &sa, 0);
	// One that comes early is not lost.
	sigemptyset(&none);
	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	sigaddset(&alarms, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &alarms, 0);
	setitimer(ITIMER_REAL, &it, 0);
	TIMED("setitimer", raw(SYS_rt_sigsuspend, &none, 8));
	printf("setitimer: code %d\n", code);
	it.it_interval = it.it_value;
	setitimer(ITIMER_REAL, &it, 0);
	raw(SYS_rt_sigsuspend, &none, 8);
	TIMED("setitimer interval", raw(SYS_rt_sigsuspend, &none, 8));
	it.it_value = it.it_interval = (struct timeval){0, 0};
	setitimer(ITIMER_REAL, &it, &left);
	getitimer(ITIMER_REAL, &left);
	printf("getitimer: %ld %ld\n", (long)left.it_value.tv_sec, (long)left.it_value.tv_usec);
	unsigned was = alarm(100);
	printf("alarm: %u %u\n", was, alarm(0));

	timer_t id;
	struct sigevent sev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 7};
	if (timer_create(CLOCK_MONOTONIC, &sev, &id))
		die("timer_create");
	timer_settime(id, 0, every(ns, 0), 0);
	TIMED("timer_create", raw(SYS_rt_sigsuspend, &none, 8));
	printf("timer_create: code %d overrun %d value %d\n", code, overrun, value);
	start(); // before the instant is chosen: what follows takes its time
	struct itimerspec until = {.it_value = *at(CLOCK_MONOTONIC)};
	timer_settime(id, TIMER_ABSTIME, &until, 0);
	result("timer_create until", raw(SYS_rt_sigsuspend, &none, 8));
	// While the signal is blocked, expirations count.
	timer_settime(id, 0, every(ns, ns), 0);
	raw(SYS_nanosleep, span(3 * ns + ns / 2), 0);
	sigprocmask(SIG_UNBLOCK, &alarms, 0);
	printf("timer_create: overrun %d %d\n", overrun, timer_getoverrun(id));
	struct itimerspec now;
	timer_gettime(id, &now);
	printf("timer_gettime: interval of %s\n", now.it_interval.tv_sec * 1000000000LL + now.it_interval.tv_nsec == ns ? "that" : "another");
	printf("timer_delete: %d %ld\n", timer_delete(id), raw(SYS_timer_delete, (long)id));
	printf("timer_create: errno of nonsense %ld\n", raw(SYS_timer_create, 99, 0, &id));
}

// interrupted waits are ended by a signal after a third of their time.
static void interrupted(void)
{
	struct itimerval it = {.it_value = {ns / 3 / 1000000000, ns / 3 % 1000000000 / 1000}};
	struct timespec left = {0, 0}, *ts;
	signal(SIGALRM, nothing);
	setitimer(ITIMER_REAL, &it, 0);
	start();
	long ret = raw(SYS_nanosleep, span(ns), &left);
	result("interrupted nanosleep", ret);
	int64_t rest = left.tv_sec * 1000000000LL + left.tv_nsec;
	printf("interrupted nanosleep: left %lld\n", (long long)rest);
	int p[2];
	struct timeval tv = {ns / 1000000000, ns % 1000000000 / 1000};
	char c;
	socketpair(AF_UNIX, SOCK_STREAM, 0, p);
	setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	setitimer(ITIMER_REAL, &it, 0);
	TIMED("interrupted SO_RCVTIMEO", raw(SYS_read, p[0], &c, 1));
	setitimer(ITIMER_REAL, &it, 0);
	ts = span(ns);
	start();
	ret = raw(SYS_ppoll, 0, 0, ts, 0, 8);
	result("interrupted ppoll", ret);
	printf("interrupted ppoll: left %lld\n", (long long)(ts->tv_sec * 1000000000LL + ts->tv_nsec));
}

// nonsense is refused, and what takes no time moves no clock.
static void edges(int fd)
{
	struct timespec bad = {0, 1000000000}, negative = {-1, 0};
	struct pollfd pfd = {fd, POLLIN, 0};
	int word = 0;
	TIMED("zero nanosleep", raw(SYS_nanosleep, span(0), 0));
	TIMED("bad nanosleep", raw(SYS_nanosleep, &bad, 0));
	TIMED("negative nanosleep", raw(SYS_nanosleep, &negative, 0));
	TIMED("fault nanosleep", raw(SYS_nanosleep, 8, 0));
	TIMED("zero poll", raw(SYS_poll, &pfd, 1, 0));
	TIMED("zero ppoll", raw(SYS_ppoll, &pfd, 1, span(0), 0, 8));
	TIMED("bad ppoll", raw(SYS_ppoll, &pfd, 1, &bad, 0, 8));
	TIMED("bad futex", raw(SYS_futex, &word, 0, 0, &bad));
	TIMED("other futex", raw(SYS_futex, &word, 0, 1, span(ns)));
	TIMED("past futex", raw(SYS_futex, &word, 9, 0, span(1), 0, -1));
	TIMED("past futex of another value", raw(SYS_futex, &word, 9, 1, span(1), 0, -1));
	TIMED("past clock_nanosleep", raw(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, span(1), 0));
	TIMED("thread's cpu clock_nanosleep", raw(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, span(1), 0));
	TIMED("unknown clock_nanosleep", raw(SYS_clock_nanosleep, 77, 0, span(1), 0));
}

int main(int argc, char **argv)
{
	int p[2];
	if (argc < 2 || pipe(p))
		die("usage");
	ns = atoll(argv[1]);
	sleeps();
	polls(p[0]);
	futexes();
	queues();
	sockets();
	timerfds();
	timers();
	interrupted();
	edges(p[0]);
	return 0;
}

// Waits with a timeout, and what a program sees of them: what they return, the registers
// afterwards, and where a handler finds itself called from. They are made by the second
// thread; a child does to it what ends them.
#include "raw.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <ucontext.h>

// checked makes a call with every register known, and stores them behind it.
long checked(long nr, const long args[6], long after[13]);
extern char checked_call[], checked_return[];
__asm__("checked:\n"
	"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rdx\n"
	"mov %rdi, %rax; mov %rsi, %rbx\n"
	"mov (%rbx), %rdi; mov 8(%rbx), %rsi; mov 16(%rbx), %rdx\n"
	"mov 24(%rbx), %r10; mov 32(%rbx), %r8; mov 40(%rbx), %r9\n"
	"mov $7, %ebx; mov $8, %ebp; mov $9, %r12; mov $10, %r13; mov $11, %r14; mov $12, %r15\n"
	"checked_call: syscall\n"
	"checked_return: pop %r11\n"
	"mov %rdi, (%r11); mov %rsi, 8(%r11); mov %rdx, 16(%r11); mov %r10, 24(%r11); mov %r8, 32(%r11); mov %r9, 40(%r11)\n"
	"mov %rcx, 48(%r11); mov %rbx, 56(%r11); mov %rbp, 64(%r11); mov %r12, 72(%r11); mov %r13, 80(%r11); mov %r14, 88(%r11)\n"
	"mov %r15, 96(%r11)\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

enum { FUTEX, FUTEX_UNTIL, POLL, EPOLL, EPOLL2, KINDS };
static const char *kinds[] = {"futex", "futex until", "poll", "epoll_wait", "epoll_pwait2"};
enum { IN_TIME, READY, SIGNAL, RESTART, NESTED, IGNORED, STOPPED, LEFT, WAYS };
static const char *ways[] = {"nothing", "what it waits for", "a signal", "a signal and a restart", "a handler that waits", "an ignored signal", "a stop", "a handler that leaves"};

static struct shared {
	volatile int word, handled, done;
} *shared;
static int kind, pipes[2], epoll;
static long given[6];
static sigjmp_buf out;

static long makes(int kind, long ms)
{
	static __thread struct timespec ts;
	static __thread struct pollfd p;
	static __thread struct epoll_event ev;
	ts = (struct timespec){ms / 1000, ms % 1000 * 1000000};
	memset(given, 0, sizeof given);
	given[4] = 0x44, given[5] = 0x55;
	switch (kind) {
	case FUTEX_UNTIL:
	case FUTEX:
		if (kind == FUTEX_UNTIL) {
			struct timespec now;
			clock_gettime(CLOCK_MONOTONIC, &now);
			ts.tv_sec += now.tv_sec + (ts.tv_nsec + now.tv_nsec) / 1000000000;
			ts.tv_nsec = (ts.tv_nsec + now.tv_nsec) % 1000000000;
		}
		given[0] = (long)&shared->word;
		given[1] = kind == FUTEX ? FUTEX_WAIT : FUTEX_WAIT_BITSET;
		given[3] = (long)&ts;
		if (kind == FUTEX_UNTIL)
			given[5] = -1;
		return SYS_futex;
	case POLL:
		p = (struct pollfd){pipes[0], POLLIN, 0};
		given[0] = (long)&p, given[1] = 1, given[2] = ms, given[3] = 0x33;
		return SYS_poll;
	case EPOLL:
		given[0] = epoll, given[1] = (long)&ev, given[2] = 1, given[3] = ms;
		return SYS_epoll_wait;
	}
	given[0] = epoll, given[1] = (long)&ev, given[2] = 1, given[3] = (long)&ts, given[4] = 0;
	return 441;
}

static int same(const long regs[6]) { return !memcmp(regs, given, sizeof given); }

static void handler(int sig, siginfo_t *info, void *context)
{
	(void)info;
	const greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
	long regs[6] = {r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]};
	long at = r[REG_RIP] - (long)checked_call;
	printf("\thandler called at %ld, registers %s\n", at, same(regs) ? "kept" : "changed");
	if (sig == SIGUSR2) {
		long after[13], before[6];
		memcpy(before, given, sizeof given);
		long nr = makes(POLL, 3);
		given[1] = 0;
		printf("\tin it %ld\n", checked(nr, given, after));
		memcpy(given, before, sizeof given);
	}
	shared->handled = 1;
	if (sig == SIGHUP)
		siglongjmp(out, 1);
}

static char state(int pid, int tid)
{
	char path[100], text[1000];
	snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n < 0 ? 0 : n] = 0;
	char *end = strrchr(text, ')');
	return end ? end[2] : 0;
}

static void blocks(int pid, int tid)
{
	while (!shared->done && state(pid, tid) != 'S')
		usleep(100);
}

// child does to the thread what is to end its wait.
static void child(int way, int pid, int tid)
{
	static const int sigs[] = {[SIGNAL] = SIGUSR1, [RESTART] = SIGALRM, [NESTED] = SIGUSR2, [LEFT] = SIGHUP};
	blocks(pid, tid);
	switch (way) {
	case IN_TIME:
		_exit(0);
	case SIGNAL:
	case RESTART:
	case NESTED:
	case LEFT:
		syscall(SYS_tgkill, pid, tid, sigs[way]);
		while (!shared->handled)
			usleep(100);
		blocks(pid, tid);
		break;
	case IGNORED:
		syscall(SYS_tgkill, pid, tid, SIGWINCH);
		usleep(1000);
		blocks(pid, tid);
		break;
	case STOPPED:
		kill(pid, SIGSTOP);
		for (char s = 0; s != 'T' && s != 't'; s = state(pid, tid))
			usleep(100);
		kill(pid, SIGCONT);
		blocks(pid, pid); // which may be who takes the signal
		blocks(pid, tid);
	}
	shared->word = 1;
	syscall(SYS_futex, &shared->word, FUTEX_WAKE, 1, 0, 0, 0);
	if (write(pipes[1], "x", 1) != 1)
		die("write");
	_exit(0);
}

static void *waiter(void *arg)
{
	(void)arg;
	for (kind = 0; kind < KINDS; kind++)
		for (int way = 0; way < WAYS; way++) {
			printf("%s ended by %s\n", kinds[kind], ways[way]);
			fflush(stdout);
			shared->word = shared->handled = shared->done = 0;
			int pid = getpid(), tid = gettid(), other = fork();
			if (!other)
				child(way, pid, tid);
			long after[13];
			long nr = makes(kind, way == IN_TIME ? 20 : 10000);
			if (!sigsetjmp(out, 1)) {
				long ret = checked(nr, given, after);
				int kept = same(after) && after[6] == (long)checked_return;
				for (int i = 7; i < 13; i++)
					kept &= after[i] == i;
				printf("\t%ld, registers %s\n", ret, kept ? "kept" : "changed");
			}
			shared->done = 1;
			waitpid(other, 0, 0);
			char c;
			while (read(pipes[0], &c, 1) == 1)
				;
		}
	return 0;
}

// one waits for an hour and as many seconds as it has a number.
static long ended;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static void *one(void *number)
{
	struct timespec from, to;
	clock_gettime(CLOCK_MONOTONIC, &from);
	poll(0, 0, (3600 + (int)(long)number) * 1000);
	clock_gettime(CLOCK_MONOTONIC, &to);
	pthread_mutex_lock(&mu);
	if (to.tv_sec - from.tv_sec == 3600 + (long)number && to.tv_nsec == from.tv_nsec && ended == (long)number)
		ended++;
	pthread_mutex_unlock(&mu);
	return 0;
}

static int many(long threads)
{
	pthread_t *list = calloc(threads, sizeof *list);
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	for (long i = 0; i < threads; i++)
		if (pthread_create(&list[i], &small, one, (void *)i))
			die("thread");
	for (long i = 0; i < threads; i++)
		pthread_join(list[i], 0);
	printf("%ld ended in their order\n", ended);
	return 0;
}

static void counts(int sig)
{
	(void)sig;
	shared->handled++;
}

// storm waits n times, while one process ends the waits and another sends signals.
static int storm(long n)
{
	struct sigaction sa = {.sa_handler = counts};
	sigaction(SIGUSR1, &sa, 0);
	int pid = getpid();
	int sender = fork();
	if (!sender)
		while (!kill(pid, SIGUSR1))
			sched_yield();
	int waker = fork();
	if (!waker)
		for (;;) {
			shared->word = 1;
			syscall(SYS_futex, &shared->word, FUTEX_WAKE, 1, 0, 0, 0);
			if (write(pipes[1], "x", 1) != 1 && errno != EAGAIN)
				die("write");
			sched_yield();
		}
	long kept = 0, ended[3] = {0};
	for (long i = 0; i < n; i++) {
		long after[13];
		long nr = makes(i % KINDS, 10000);
		shared->word = 0;
		long ret = checked(nr, given, after);
		kept += same(after) && after[6] == (long)checked_return && after[7] == 7 && after[12] == 12;
		ended[ret == -EINTR ? 0 : ret == -ETIMEDOUT || (!ret && nr != SYS_futex) ? 1 : 2]++;
		char c;
		while (read(pipes[0], &c, 1) == 1)
			;
	}
	kill(sender, SIGKILL), kill(waker, SIGKILL);
	waitpid(sender, 0, 0), waitpid(waker, 0, 0);
	printf("%ld of %ld kept, %ld timed out, some %sinterrupted, some %sended\n", kept, n, ended[1], ended[0] ? "" : "not ", ended[2] ? "" : "not ");
	return 0;
}

// Usage: detour; detour N to let N threads wait; detour storm N to wait so often among
// signals.
int main(int argc, char **argv)
{
	if (argc == 2)
		return many(atol(argv[1]));
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || pipe2(pipes, O_NONBLOCK) || (epoll = epoll_create1(0)) < 0)
		die("set up");
	struct epoll_event ev = {.events = EPOLLIN};
	epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &ev);
	if (argc > 2)
		return storm(atol(argv[2]));
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
	sigaction(SIGUSR1, &sa, 0), sigaction(SIGUSR2, &sa, 0), sigaction(SIGHUP, &sa, 0);
	sa.sa_flags |= SA_RESTART;
	sigaction(SIGALRM, &sa, 0);
	pthread_t t;
	if (pthread_create(&t, 0, waiter, 0) || pthread_join(t, 0))
		die("thread");
	return 0;
}

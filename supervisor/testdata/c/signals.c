// Calls that the sandbox answers, under signals.
#include "raw.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

static volatile sig_atomic_t fired;
static void count(int sig)
{
	(void)sig;
	fired++;
}

static void handle(int sig, void (*fn)(int), int flags)
{
	struct sigaction sa = {.sa_handler = fn, .sa_flags = flags};
	if (sigaction(sig, &sa, 0))
		die("sigaction");
}

static void timer(long us)
{
	struct itimerval it = {{us / 1000000, us % 1000000}, {us / 1000000, us % 1000000}};
	setitimer(ITIMER_REAL, &it, 0);
}

// trapped makes one of four calls that natively no signal interrupts.
static int trapped(int i)
{
	static char b[512];
	long ret;
	switch (i % 4) {
	case 0:
		ret = raw(SYS_uname, b);
		break;
	case 1:
		ret = raw(SYS_getrandom, b, 16, 0);
		break;
	case 2:
		ret = raw(SYS_openat, AT_FDCWD, "/proc/cpuinfo", O_RDONLY);
		if (ret >= 0)
			close(ret);
		break;
	default:
		ret = raw(SYS_sched_getaffinity, 0, sizeof b, b);
	}
	return ret < 0 ? -ret : 0;
}

static void report(int n)
{
	int failed = 0, errno0 = 0;
	for (int i = 0; i < n; i++) {
		int e = trapped(i);
		if (e) {
			failed++;
			errno0 = e;
		}
	}
	printf("failed %d errno %d\n", failed, errno0);
}

// calls makes n calls under a timer.
static void calls(int n)
{
	handle(SIGALRM, count, 0);
	timer(50);
	report(n);
	while (!fired)
		;
	timer(0);
	printf("fired\n");
}

// children makes calls while children end.
static void children(int n)
{
	handle(SIGCHLD, count, 0);
	int failed = 0, born = 0, reaped = 0;
	for (int i = 0; i < n; i++) {
		if (i % 40 == 0) {
			pid_t pid = fork();
			if (!pid)
				_exit(0);
			if (pid > 0)
				born++;
		}
		if (trapped(i))
			failed++;
		while (waitpid(-1, 0, WNOHANG) > 0)
			reaped++;
	}
	while (reaped < born) {
		if (waitpid(-1, 0, 0) > 0)
			reaped++;
		else if (errno != EINTR)
			die("waitpid");
	}
	printf("failed %d born %d reaped %d %s\n", failed, born, reaped, fired ? "fired" : "never");
}

// jobs has a child send signals of job control, which are handled.
static void jobs(int sig, int n)
{
	handle(sig, count, 0);
	pid_t me = getpid(), pid = fork();
	if (!pid)
		for (;;)
			kill(me, sig);
	report(n);
	kill(pid, SIGKILL);
	int st;
	while (waitpid(pid, &st, 0) != pid)
		;
	printf("%s\n", fired ? "fired" : "never");
}

// queue has a child send signals with values by one of two calls; the handler
// keeps what came with each.
#define QUEUED 2000
static struct {
	int code, pid, uid, value;
} got[QUEUED];
static volatile int ngot;
static void keep(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	if (ngot < QUEUED) {
		got[ngot].code = si->si_code;
		got[ngot].pid = si->si_pid;
		got[ngot].uid = si->si_uid;
		got[ngot].value = si->si_value.sival_int;
	}
	ngot++;
}

static void queue(int toThread, int sig)
{
	struct sigaction sa = {.sa_sigaction = keep, .sa_flags = SA_SIGINFO};
	sigaction(sig, &sa, 0);
	sigaction(SIGRTMIN + 1, &sa, 0);
	pid_t me = getpid(), pid = fork();
	if (!pid) {
		for (int i = 0; i < QUEUED; i++) {
			siginfo_t si = {0};
			si.si_signo = sig;
			si.si_code = SI_QUEUE;
			si.si_pid = getpid();
			si.si_uid = getuid();
			si.si_value.sival_int = i;
			long ret;
			do
				ret = toThread ? raw(SYS_rt_tgsigqueueinfo, me, me, sig, &si)
					       : raw(SYS_rt_sigqueueinfo, me, sig, &si);
			while (ret == -EAGAIN);
			if (ret)
				_exit(1);
		}
		_exit(0);
	}
	int failed = 0, wrong = 0;
	for (int i = 0; ngot < QUEUED; i++)
		if (trapped(i))
			failed++;
	int st;
	while (waitpid(pid, &st, 0) != pid)
		;
	int first = -1;
	for (int i = 0; i < QUEUED; i++)
		if (got[i].code != SI_QUEUE || got[i].pid != pid || got[i].uid != (int)getuid() || got[i].value != i) {
			if (first < 0) {
				first = i;
				fprintf(stderr, "signal %d: code %d pid %d (sender %d) value %d\n", i, got[i].code, got[i].pid, pid, got[i].value);
			}
			wrong++;
		}
	printf("failed %d wrong %d sender %#x\n", failed, wrong, st);
}

// acknowledged has a child send a standard signal again each time the handler has
// run; si_pid says who sent it.
static volatile sig_atomic_t wrongPid, handled;
static pid_t sender;
static void acknowledge(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	if (si->si_pid != sender || si->si_code != SI_USER)
		wrongPid++;
	handled++;
}

static void acknowledged(int n)
{
	struct sigaction sa = {.sa_sigaction = acknowledge, .sa_flags = SA_SIGINFO};
	sigaction(SIGUSR1, &sa, 0);
	int p[2], q[2];
	if (pipe(p) || pipe(q))
		die("pipe");
	pid_t me = getpid();
	if (!(sender = fork())) {
		char c;
		if (read(q[0], &c, 1) != 1)
			_exit(1);
		for (int i = 0; i < n; i++)
			if (kill(me, SIGUSR1) || read(p[0], &c, 1) != 1)
				_exit(1);
		_exit(0);
	}
	if (write(q[1], "x", 1) != 1)
		die("write");
	int failed = 0, seen = 0;
	for (int i = 0; seen < n; i++) {
		if (trapped(i))
			failed++;
		if (handled > seen) {
			seen++;
			if (write(p[1], "x", 1) != 1)
				die("write");
		}
	}
	printf("failed %d handled %d wrong %d\n", failed, handled, wrongPid);
}

static void status(const char *what, int st)
{
	if (WIFSTOPPED(st))
		printf("%s: stopped by %d\n", what, WSTOPSIG(st));
	else if (WIFCONTINUED(st))
		printf("%s: continued\n", what);
	else if (WIFSIGNALED(st))
		printf("%s: killed by %d\n", what, WTERMSIG(st));
	else
		printf("%s: exited %d\n", what, WEXITSTATUS(st));
}

// stop stops and continues a child in what it does: nothing, calls that are
// answered, sleeping, executing programs.
static volatile long *progress;
static void busy(const char *self, const char *how)
{
	for (int i = 0;; i++) {
		++*progress;
		if (!strcmp(how, "pause"))
			pause();
		else if (!strcmp(how, "calls"))
			trapped(i);
		else if (!strcmp(how, "sleep"))
			poll(0, 0, 1);
		else if (!strcmp(how, "fork")) {
			pid_t pid = fork();
			if (!pid)
				_exit(0);
			waitpid(pid, 0, 0);
		} else
			execl(self, self, "busy", how, (char *)0);
	}
}

static void stop(const char *self, const char *how, int rounds)
{
	int st;
	setenv("PROGRESS", "100", 1);
	int fd = syscall(SYS_memfd_create, "progress", 0);
	if (ftruncate(fd, 4096) || dup2(fd, 100) != 100)
		die("memfd");
	progress = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 100, 0);
	pid_t pid = fork();
	if (!pid) {
		setpgid(0, 0);
		busy(self, how);
	}
	setpgid(pid, pid);
	static const int sigs[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
	for (int i = 0; i < rounds; i++) {
		long was = *progress;
		while (*progress == was && strcmp(how, "pause"))
			sched_yield();
		int sig = sigs[i % 4];
		// In an orphaned process group only SIGSTOP stops.
		kill(pid, getpgid(getppid()) < 0 ? SIGSTOP : sig);
		if (waitpid(pid, &st, WUNTRACED) != pid)
			die("waitpid");
		if (!WIFSTOPPED(st)) {
			status("instead of stopping", st);
			exit(1);
		}
		was = *progress;
		for (int j = 0; j < 1000; j++)
			sched_yield();
		if (*progress != was)
			printf("it runs though it is stopped\n");
		kill(pid, SIGCONT);
		if (waitpid(pid, &st, WCONTINUED) != pid)
			die("waitpid");
		if (!WIFCONTINUED(st))
			status("instead of continuing", st);
	}
	kill(pid, SIGSTOP);
	waitpid(pid, &st, WUNTRACED);
	status("before the end", st);
	kill(pid, SIGKILL);
	waitpid(pid, &st, 0);
	status("end", st);
}

// fifo waits in open(2) of a FIFO until a signal interrupts.
static void fifo(const char *path, int flags)
{
	handle(SIGALRM, count, flags);
	timer(10000);
	long fd = raw(SYS_open, path, O_RDONLY);
	timer(0);
	printf("open: %ld %s\n", fd, fired ? "fired" : "never");
}

// opened has a child open the other end of a FIFO after signals went by.
static void opened(const char *path)
{
	handle(SIGALRM, count, SA_RESTART);
	int p[2];
	char c;
	if (pipe(p))
		die("pipe");
	if (!fork()) {
		if (read(p[0], &c, 1) != 1)
			_exit(1);
		int fd = open(path, O_WRONLY);
		_exit(write(fd, "x", 1) != 1);
	}
	timer(1000);
	while (fired < 3)
		;
	if (write(p[1], "x", 1) != 1)
		die("write");
	long fd = raw(SYS_open, path, O_RDONLY);
	timer(0);
	say("open", fd >= 0);
	say("read", raw(SYS_read, fd, &c, 1));
}

// ignored has a child end, or send a signal that is ignored by default, while
// its parent waits in a call that such a signal doesn't end.
static void ignored(const char *how)
{
	int p[2], ep = epoll_create1(0), st;
	struct epoll_event ev = {.events = EPOLLIN};
	char c;
	if (pipe(p) || epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev))
		die("epoll");
	pid_t me = getpid(), pid = fork();
	if (!pid) {
		// The parent waits when its state says so.
		char path[64], line[256], *q;
		snprintf(path, sizeof path, "/proc/%d/stat", me);
		for (int i = 0; i < 20; i++) {
			do {
				FILE *f = fopen(path, "r");
				if (!f || !fgets(line, sizeof line, f))
					_exit(1);
				fclose(f);
				q = strrchr(line, ')');
			} while (q[2] != 'S');
			kill(me, i % 2 ? SIGWINCH : SIGURG);
		}
		if (write(p[1], "x", 1) != 1)
			_exit(1);
		_exit(0);
	}
	long ret = 0;
	fd_set set;
	FD_ZERO(&set);
	FD_SET(p[0], &set);
	struct pollfd pfd = {p[0], POLLIN, 0};
	struct timeval tv = {1000, 0};
	struct timespec ts = {1000, 0};
	if (!strcmp(how, "epoll_wait"))
		ret = raw(SYS_epoll_wait, ep, &ev, 1, -1);
	else if (!strcmp(how, "epoll_wait with timeout"))
		ret = raw(SYS_epoll_wait, ep, &ev, 1, 1000000);
	else if (!strcmp(how, "poll"))
		ret = raw(SYS_poll, &pfd, 1, 1000000);
	else if (!strcmp(how, "ppoll"))
		ret = raw(SYS_ppoll, &pfd, 1, &ts, 0, 8);
	else if (!strcmp(how, "select"))
		ret = raw(SYS_select, p[0] + 1, &set, 0, 0, &tv);
	else if (!strcmp(how, "read"))
		ret = raw(SYS_read, p[0], &c, 1);
	else if (!strcmp(how, "wait"))
		ret = raw(SYS_wait4, pid, &st, 0, 0) == pid;
	say(how, ret);
}

// waits measures timed waits during which an ignored signal comes.
static void waits(void)
{
	static const char *const names[] = {"nanosleep", "poll", "ppoll", "select", "pselect6"};
	for (int i = 0; i < 5; i++) {
		struct timespec before, after, ts = {0, 60000000};
		struct timeval tv = {0, 60000};
		pid_t me = getpid(), pid = fork();
		if (!pid) {
			poll(0, 0, 5);
			kill(me, SIGWINCH);
			_exit(0);
		}
		long ret = 0;
		clock_gettime(CLOCK_MONOTONIC, &before);
		switch (i) {
		case 0:
			ret = raw(SYS_nanosleep, &ts, 0);
			break;
		case 1:
			ret = raw(SYS_poll, 0, 0, 60);
			break;
		case 2:
			ret = raw(SYS_ppoll, 0, 0, &ts, 0, 8);
			break;
		case 3:
			ret = raw(SYS_select, 0, 0, 0, 0, &tv);
			break;
		case 4:
			ret = raw(SYS_pselect6, 0, 0, 0, 0, &ts, 0);
			break;
		}
		clock_gettime(CLOCK_MONOTONIC, &after);
		waitpid(pid, 0, 0);
		printf("%s: %ld %ld\n", names[i], ret,
		       (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec);
	}
}

// interrupted ends a long sleep by a signal whose handler makes a call that
// returns 0: that is not the end of the sleep.
static void harmless(int sig)
{
	(void)sig;
	fired++;
	raw(SYS_sched_yield); // returns 0, as a sleep that has ended does
}

static void interrupted(void)
{
	handle(SIGALRM, harmless, 0);
	struct timespec ts = {20, 0}, rem = {0}, before, after;
	static const char *const names[] = {"nanosleep", "poll", "clock_nanosleep"};
	for (int i = 0; i < 3; i++) {
		clock_gettime(CLOCK_MONOTONIC, &before);
		struct itimerval it = {{0, 0}, {0, 20000}};
		setitimer(ITIMER_REAL, &it, 0);
		long ret = i == 0 ? raw(SYS_nanosleep, &ts, &rem) : i == 1 ? raw(SYS_poll, 0, 0, 20000) : raw(SYS_clock_nanosleep, 1, 0, &ts, &rem);
		clock_gettime(CLOCK_MONOTONIC, &after);
		say(names[i], ret);
		printf("  %s\n", after.tv_sec - before.tv_sec >= 19 ? "the clock says that it ended" : "the clock says that it didn't end");
	}
}

// delay passes some time, without waiting and without a clock. A yield may take
// a whole time slice where there is one CPU.
static void delay(int n)
{
	for (volatile int i = 0; i < n * 10000; i++)
		;
	for (int i = 0; i < n % 4; i++)
		sched_yield();
}

// hunt kills children while they fork; whoever is left holds a pipe open.
static void hunt(int n)
{
	int p[2];
	char c;
	if (pipe(p))
		die("pipe");
	for (int i = 0; i < n; i++) {
		int q[2];
		if (pipe(q))
			die("pipe");
		pid_t pid = fork();
		if (!pid) {
			for (int first = 1;; first = 0) {
				pid_t child = fork();
				if (!child)
					_exit(0);
				if (first && write(q[1], "x", 1) != 1)
					_exit(1);
				if (i % 2)
					waitpid(child, 0, 0);
				else
					while (waitpid(-1, 0, WNOHANG) > 0)
						;
			}
		}
		if (read(q[0], &c, 1) != 1)
			die("read");
		close(q[0]);
		close(q[1]);
		delay(i * 37 % 50);
		kill(pid, SIGKILL);
		int st;
		waitpid(pid, &st, 0);
		if (!WIFSIGNALED(st))
			status("hunted", st);
	}
	close(p[1]);
	say("nobody is left", raw(SYS_read, p[0], &c, 1));
}

// strike kills children while they execute programs.
static void strike(const char *self, int n)
{
	int p[2];
	char c;
	if (pipe(p))
		die("pipe");
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();
		if (!pid) {
			setenv("ONCE", "1", 1);
			execl(self, self, "busy", "exec", (char *)0);
			_exit(1);
		}
		delay(i * 53 % 90);
		kill(pid, i % 3 ? SIGKILL : SIGTERM);
		int st;
		waitpid(pid, &st, 0);
		if (!WIFSIGNALED(st))
			status("struck", st);
	}
	close(p[1]);
	say("nobody is left", raw(SYS_read, p[0], &c, 1));
}

int main(int argc, char **argv)
{
	const char *what = argv[1];
	int n = argc > 2 ? atoi(argv[2]) : 0;
	if (!strcmp(what, "calls"))
		calls(n);
	else if (!strcmp(what, "children"))
		children(n);
	else if (!strcmp(what, "jobs"))
		jobs(atoi(argv[3]), n);
	else if (!strcmp(what, "queue"))
		queue(n, argc > 3 ? SIGRTMIN : SIGRTMIN + 5);
	else if (!strcmp(what, "acknowledged"))
		acknowledged(n);
	else if (!strcmp(what, "busy")) {
		progress = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, getenv("PROGRESS") ? 100 : -1, 0);
		static long mine;
		if (progress == MAP_FAILED)
			progress = &mine;
		busy(argv[0], argv[2]);
	} else if (!strcmp(what, "stop"))
		stop(argv[0], argv[3], n);
	else if (!strcmp(what, "fifo"))
		fifo(argv[2], 0);
	else if (!strcmp(what, "opened"))
		opened(argv[2]);
	else if (!strcmp(what, "ignored"))
		ignored(argv[2]);
	else if (!strcmp(what, "waits"))
		waits();
	else if (!strcmp(what, "interrupted"))
		interrupted();
	else if (!strcmp(what, "hunt"))
		hunt(n);
	else if (!strcmp(what, "strike"))
		strike(argv[0], n);
	else
		return 99;
	return 0;
}

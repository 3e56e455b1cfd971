// Trees of processes, and how they end.
#include "raw.h"
#include <pthread.h>

static char **args;

static void *executor(void *arg)
{
	execv(args[0], (char *[]){args[0], "exit", arg, 0});
	_exit(111);
}

static void *waiter(void *arg)
{
	for (;;)
		pause();
	return arg;
}

// leaderGone waits until the leader of the thread group is a zombie.
static void leaderGone(void)
{
	char path[64], line[256], *p;
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", getpid());
	do {
		FILE *f = fopen(path, "r");
		if (!f || !fgets(line, sizeof line, f))
			die(path);
		fclose(f);
		p = strrchr(line, ')');
	} while (p[2] != 'Z');
}

static void *last(void *arg)
{
	leaderGone();
	if (!strcmp(arg, "exec"))
		execv(args[0], (char *[]){args[0], "exit", "6", 0});
	if (!strcmp(arg, "fork")) {
		int st;
		pid_t pid = fork();
		if (!pid)
			execv(args[0], (char *[]){args[0], "exit", "8", 0});
		waitpid(pid, &st, 0);
		exit(WEXITSTATUS(st));
	}
	if (!strcmp(arg, "signal"))
		raise(SIGTERM), pause();
	if (!strcmp(arg, "exit_group"))
		exit(5);
	raw(SYS_exit, 9); // of this thread alone
	return 0;
}

// announce prints this process's id in one write.
static void announce(const char *name)
{
	char line[64];
	int n = snprintf(line, sizeof line, "%s %d\n", name, getpid());
	if (write(1, line, n) != n)
		_exit(1);
}

// bomb forks until there are n processes, each of which goes on for ever.
static void bomb(int n)
{
	volatile int *count = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*count = 1;
	announce("pid");
	for (;;) {
		if (__atomic_load_n(count, __ATOMIC_SEQ_CST) >= n)
			pause();
		if (__atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST) > n)
			continue;
		if (!fork())
			announce("pid");
	}
}

// storm makes processes as long as there is room for more, each of which does so, too.
static void storm(void)
{
	for (;;) {
		pid_t pid = fork();
		if (!pid) {
			setsid();
			announce("pid");
		} else if (pid < 0)
			sched_yield();
	}
}

int main(int argc, char **argv)
{
	const char *what = argv[1], *arg = argc > 2 ? argv[2] : "";
	pthread_t t;
	args = argv;
	if (!strcmp(what, "exit"))
		exit(atoi(arg));
	if (!strcmp(what, "signal")) {
		signal(atoi(arg), SIG_DFL);
		kill(getpid(), atoi(arg));
		pause();
	}
	if (!strcmp(what, "thread-exec")) {
		// Other threads are in the middle of something.
		for (int i = 0; i < 3; i++)
			pthread_create(&t, 0, waiter, 0);
		pthread_create(&t, 0, executor, (void *)arg);
		waiter(0);
	}
	if (!strcmp(what, "leader-first")) {
		pthread_create(&t, 0, last, (void *)arg);
		pthread_exit(0);
	}
	if (!strcmp(what, "bomb"))
		bomb(atoi(arg));
	if (!strcmp(what, "storm"))
		storm();
	if (!strcmp(what, "daemon")) {
		// The command ends when the daemon has told its pid and set itself up.
		int p[2];
		char c;
		if (pipe(p))
			die("pipe");
		if (!fork()) {
			setsid();
			if (!fork()) {
				signal(SIGHUP, SIG_IGN);
				signal(SIGTERM, SIG_IGN);
				announce("daemon");
				if (write(p[1], "x", 1) != 1)
					_exit(1);
				waiter(0);
			}
			_exit(0);
		}
		wait(0);
		if (read(p[0], &c, 1) != 1)
			die("read");
		return 3;
	}
	if (!strcmp(what, "forest")) {
		// A tree of sleepers of every kind, which announce themselves.
		announce("root");
		for (int i = 0; i < 3; i++)
			if (!fork()) {
				announce("child");
				for (int j = 0; j < 2; j++)
					if (!fork()) {
						if (j)
							setsid();
						announce("grandchild");
						if (i == 0)
							for (;;) {
								char u[400];
								raw(SYS_uname, u);
							}
						if (i == 1) {
							pthread_create(&t, 0, waiter, 0);
							raise(SIGSTOP);
						}
						waiter(0);
					}
				waiter(0);
			}
		waiter(0);
	}
	if (!strcmp(what, "lineage")) {
		// Twelve children, the third of which has one of its own; all are told to
		// go on only by a pipe that nobody writes to.
		int p[2], ready[2];
		char c;
		if (pipe(p) || pipe(ready))
			die("pipe");
		for (int i = 0; i < 12; i++)
			if (!fork()) {
				if (i == 2 && !fork()) {
					// Its argument vector is that of the program it executes.
					dup2(p[0], 8);
					dup2(ready[1], 9);
					execl("/bin/sh", "sh", "-c", "echo >&9; read line <&8", "name", (char *)0);
				}
				if (write(ready[1], "x", 1) != 1 || read(p[0], &c, 1) != 1)
					_exit(1);
			}
		for (int i = 0; i < 12 + 1; i++)
			if (read(ready[0], &c, 1) != 1)
				die("read");
		return 0;
	}
	return 99;
}

// Reads the clock through the vDSO in processes of every origin. With a name as
// its second argument it reads it once, as a program that was executed.
#include "raw.h"
#include <pthread.h>
#include <spawn.h>

static const char *self;
extern char **environ;

static void now(const char *name)
{
	char line[128];
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	struct timeval tv;
	gettimeofday(&tv, NULL);
	int n = snprintf(line, sizeof line, "%s %ld.%09ld %ld.%06ld %ld\n", name, (long)ts.tv_sec, ts.tv_nsec,
			 (long)tv.tv_sec, (long)tv.tv_usec, (long)time(NULL));
	if (write(1, line, n) != n)
		die("write");
}

static void done(pid_t pid)
{
	int st;
	if (pid < 0 || waitpid(pid, &st, 0) != pid || st)
		die("child");
}

static void *thread(void *name)
{
	now(name);
	return 0;
}

static int cloned(void *name)
{
	now(name);
	return 0;
}

#define ARGS(name) (char *[]){(char *)self, "once", name, 0}

int main(int argc, char **argv)
{
	pid_t pid;
	self = argv[0];
	if (argc > 2) {
		now(argv[2]);
		return 0;
	}
	now("first");
	if (!(pid = fork())) {
		now("fork");
		_exit(0);
	}
	done(pid);
	if (!(pid = fork()))
		execv(self, ARGS("fork-exec"));
	done(pid);
	if (!(pid = vfork())) {
		execv(self, ARGS("vfork-exec"));
		_exit(1);
	}
	done(pid);
	if (posix_spawn(&pid, self, 0, 0, ARGS("posix_spawn"), environ))
		die("posix_spawn");
	done(pid);
	pthread_t t;
	if (pthread_create(&t, 0, thread, "thread") || pthread_join(t, 0))
		die("pthread_create");
	static char stack[1 << 16] __attribute__((aligned(16)));
	done(clone(cloned, stack + sizeof stack, CLONE_VM | SIGCHLD, "clone-vm"));
	if (!(pid = fork())) {
		if (!(pid = fork())) {
			setsid();
			if (!(pid = fork()))
				execv(self, ARGS("double-fork-exec"));
			done(pid);
			now("double-fork");
			_exit(0);
		}
		done(pid);
		_exit(0);
	}
	done(pid);
	if (!(pid = fork())) {
		int fd = open(self, O_RDONLY | O_CLOEXEC);
		char **args = ARGS("execveat");
		raw(SYS_execveat, fd, "", args, environ, AT_EMPTY_PATH);
		_exit(1);
	}
	done(pid);
	FILE *p;
	char cmd[4200], line[256];
	snprintf(cmd, sizeof cmd, "'%s' once popen", self);
	if (!(p = popen(cmd, "r")))
		die("popen");
	while (fgets(line, sizeof line, p))
		if (write(1, line, strlen(line)) < 0)
			die("write");
	if (pclose(p))
		die("pclose");
	execv(self, ARGS("exec"));
	die("execv");
}

// lends makes calls that name descriptors while its threads end it, execute another program and
// close them, and while signals stop it, lead elsewhere and kill it, and says whether each had
// the answer that it was to have.
#include "raw.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#define ROUNDS 30

static int dir;
static volatile int busy;
static sigjmp_buf out;

static void calls(void)
{
	struct stat st;
	busy = 1;
	fstatat(dir, "passwd", &st, 0);
}

static void *ends(void *arg)
{
	while (!busy)
		;
	if (arg)
		execl("/bin/true", "true", (char *)0);
	_exit(0);
}

// threads counts the children that don't end as their second thread says.
static int threads(void *how)
{
	int wrong = 0, status;
	for (int i = 0; i < ROUNDS; i++) {
		pid_t pid = fork();
		if (!pid) {
			pthread_t t;
			pthread_create(&t, 0, ends, how);
			for (;;)
				calls();
		}
		wrong += waitpid(pid, &status, 0) != pid || status;
	}
	return wrong;
}

// signalled counts the children that don't stop, go on and die when they are told to.
static int signalled(void)
{
	int wrong = 0, status;
	for (int i = 0; i < ROUNDS; i++) {
		pid_t pid = fork();
		if (!pid)
			for (;;)
				calls();
		kill(pid, SIGSTOP);
		wrong += waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status);
		kill(pid, SIGCONT);
		wrong += waitpid(pid, &status, WCONTINUED) != pid || !WIFCONTINUED(status);
		kill(pid, SIGKILL);
		wrong += waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL;
	}
	return wrong;
}

static void jump(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

// jumped counts the calls that are answered for what their descriptor was before a handler.
static int jumped(void)
{
	static const char *const dirs[] = {"/etc", "/usr"};
	volatile int wrong = 0;
	struct stat want[2], st;
	signal(SIGALRM, jump);
	for (int i = 0; i < 2; i++)
		stat(dirs[i], &want[i]);
	for (volatile int i = 0; i < 10 * ROUNDS; i++) {
		struct itimerval soon = {.it_value = {0, 100 + i % 200}}, never = {0};
		int fd = open(dirs[i % 2], O_RDONLY | O_DIRECTORY);
		if (!sigsetjmp(out, 1)) {
			setitimer(ITIMER_REAL, &soon, 0);
			for (;;)
				wrong += fstatat(fd, ".", &st, 0) || st.st_ino != want[i % 2].st_ino;
		}
		setitimer(ITIMER_REAL, &never, 0);
		close(fd);
	}
	return wrong;
}

// closed counts descriptors that aren't open and are answered for.
static int closed(void)
{
	struct stat st;
	int wrong = 0;
	for (int fd = 20; fd >= 3; fd--) {
		close(fd);
		wrong += fstatat(fd, "passwd", &st, 0) != -1 || errno != EBADF;
	}
	return wrong;
}

int main(void)
{
	dir = open("/etc", O_RDONLY | O_DIRECTORY);
	printf("ended by a thread: %d wrong\n", threads(0));
	printf("executed by a thread: %d wrong\n", threads(&dir));
	printf("signalled: %d wrong\n", signalled());
	printf("jumped: %d wrong\n", jumped());
	printf("closed: %d wrong\n", closed());
	return 0;
}

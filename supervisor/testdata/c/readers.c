// Opens a file, lets others open it and wait, has it written to, and prints what all of
// them read of it from then on.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// The ways in which a reader waits for some milliseconds, or doesn't.
static const char *ways[] = {"nanosleep", "clock_nanosleep", "poll", "ppoll", "select", "epoll_wait", "compute"};
enum { WAYS = sizeof ways / sizeof *ways };

static void wait_by(int way) {
	struct timespec ms = {0, 10000000};
	struct timeval tv = {0, 10000};
	struct epoll_event event;
	int fd;
	switch (way) {
	case 0: nanosleep(&ms, NULL); break;
	case 1: clock_nanosleep(CLOCK_MONOTONIC, 0, &ms, NULL); break;
	case 2: poll(NULL, 0, 10); break;
	case 3: ppoll(NULL, 0, &ms, NULL); break;
	case 4: select(0, NULL, NULL, NULL, &tv); break;
	case 5:
		fd = epoll_create1(0);
		epoll_wait(fd, &event, 1, 10);
		close(fd);
	}
}

// Reads a file to its end, waits until there is more, and prints it.
static int later(int way, int ready) {
	char buf[100];
	int fd = open("file", O_RDONLY);
	if (read(fd, buf, sizeof buf) < 0 || write(ready, "r", 1) != 1)
		return 1;
	for (long i = 0; i < 100000000; i++) {
		ssize_t n = read(fd, buf, sizeof buf);
		if (n > 0) {
			printf("%s: %.*s", ways[way], (int)n, buf);
			fflush(stdout);
			return 0;
		}
		wait_by(way);
	}
	return 1;
}

int main(void) {
	char buf[100] = "";
	int fd = open("file", O_RDONLY), twin = fcntl(fd, F_DUPFD_CLOEXEC, 100), ready[2];
	if (read(fd, buf, 5) != 5 || pipe(ready) < 0)
		return 2;
	for (int way = 0; way < WAYS; way++) {
		fflush(stdout);
		int out[2];
		if (pipe(out) < 0)
			return 2;
		pid_t pid = fork();
		if (pid == 0) {
			close(fd);
			close(twin);
			dup2(out[1], 1);
			_exit(later(way, ready[1]));
		}
		close(out[1]);
		if (read(ready[0], buf, 1) != 1)
			return 2;
		fcntl(out[0], F_DUPFD, 50 + way);
		close(out[0]);
	}
	if (system("echo some more text >>file") != 0)
		return 2;
	struct stat st;
	ssize_t n = pread(twin, buf, sizeof buf, 5);
	if (fstat(fd, &st) < 0 || n < 0)
		return 2;
	printf("size %lld, at %lld, %s: %.*s", (long long)st.st_size, (long long)lseek(fd, 0, SEEK_CUR), fcntl(twin, F_GETFD) == FD_CLOEXEC ? "closed on exec" : "kept", (int)n, buf);
	for (int way = 0; way < WAYS; way++) {
		while ((n = read(50 + way, buf, sizeof buf)) > 0)
			printf("%.*s", (int)n, buf);
	}
	int status, failed = 0;
	while (wait(&status) > 0)
		failed += status != 0;
	printf("%d failed\n", failed);
	return 0;
}

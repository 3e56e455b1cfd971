// Processes write a program each and execute it at once, or with "locks" lock a file each,
// close it, and lock it anew. Prints how many couldn't.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static int lock(const char *name) {
	for (int twice = 0; twice < 2; twice++) {
		int fd = open(name, O_RDWR | O_CREAT, 0644);
		if (flock(fd, LOCK_EX | LOCK_NB) < 0 || close(fd) < 0)
			return 1;
	}
	return 0;
}

int main(int argc, char **argv) {
	static char program[1 << 20];
	int from = open("/bin/true", O_RDONLY);
	ssize_t size = read(from, program, sizeof program);
	if (size <= 0)
		return 2;
	int failed = 0, n = argc > 1 ? atoi(argv[1]) : 1;
	for (int i = 0; i < n; i++) {
		char name[32];
		snprintf(name, sizeof name, "written%d", i);
		if (argc > 2 && strcmp(argv[2], "locks") == 0) {
			failed += lock(name);
			continue;
		}
		pid_t pid = fork();
		if (pid == 0) {
			int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0755);
			if (write(fd, program, size) != size || close(fd) < 0)
				_exit(2);
			execl(name, name, (char *)NULL);
			_exit(1);
		}
		int status = 0;
		if (waitpid(pid, &status, 0) < 0 || status != 0)
			failed++;
	}
	printf("%d failed\n", failed);
	return 0;
}

// Exchange tries to use something else than was judged.
//
// memory N: opens a path that a second thread rewrites from "public" to "secret".
// empty N:  opens a path that a second thread rewrites from "" to "secret".
// gone N:   opens the path "secret", which a second thread makes unreadable.
// link N:   opens a link that a second thread lets lead to one or the other.
// exec N:   executes a program with an argument that a second thread rewrites.
// null N:   executes one with an argument that comes and goes.
// bad N:    executes one with an argument that is a bad pointer for a while.
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static char *name;
static volatile int done;

static void *rewrite(void *arg) {
	while (!done)
		for (int i = 0; i < 100; i++) {
			memcpy(name, "secret", 6);
			__asm__ volatile("" ::: "memory"); // both are to be seen
			memcpy(name, "public", 6);
			__asm__ volatile("" ::: "memory");
		}
	return arg;
}

static char *volatile args[] = {"/bin/echo", 0, 0};
static char *hidden;

static void *change(void *arg) {
	while (!done)
		for (int i = 0; i < 100; i++) {
			args[1] = "secret";
			args[1] = hidden;
		}
	return arg;
}

static void *empty(void *arg) {
	while (!done) {
		*(volatile char *)name = 0;
		*(volatile char *)name = 's';
	}
	return arg;
}

static void *hide(void *arg) {
	while (!done) {
		mprotect(name, 4096, PROT_NONE);
		mprotect(name, 4096, PROT_READ);
	}
	return arg;
}

static void *relink(void *arg) {
	while (!done) {
		symlink("secret", "new");
		rename("new", "link");
		symlink("public", "new");
		rename("new", "link");
	}
	return arg;
}

static void look(const char *path) {
	char b[16] = {0};
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return;
	if (read(fd, b, sizeof b - 1) > 0 && strcmp(b, "public"))
		exit(printf("%s\n", b));
	close(fd);
}

int main(int argc, char **argv) {
	int n = atoi(argv[2]);
	pthread_t t;
	name = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy(name, "public");
	int fd = open("public", O_WRONLY | O_CREAT, 0644);
	if (write(fd, "public", 6) != 6)
		return 2;
	close(fd);
	void *(*exchange)(void *) = rewrite;
	if (!strcmp(argv[1], "link"))
		exchange = relink;
	else if (!strcmp(argv[1], "empty"))
		exchange = empty;
	else if (!strcmp(argv[1], "gone"))
		exchange = hide;
	else if (!strcmp(argv[1], "null") || !strcmp(argv[1], "bad"))
		exchange = change;
	hidden = strcmp(argv[1], "bad") ? 0 : (char *)8;
	if (exchange == empty || exchange == hide)
		strcpy(name, "secret");
	pthread_create(&t, 0, exchange, 0);
	for (int i = 0; i < n; i++) {
		if (!strcmp(argv[1], "link"))
			look("link");
		else if (strcmp(argv[1], "exec") && exchange != change)
			look(name);
		else if (!vfork()) {
			if (exchange != change)
				args[1] = name;
			execv(args[0], (char **)args);
			_exit(0);
		}
	}
	done = 1;
	pthread_join(t, 0);
	while (wait(0) > 0)
		;
	return 0;
}

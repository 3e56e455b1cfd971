// What programs have that open files which are only read many times, when something changes
// meanwhile. It runs in a directory with the files one, two, own, sub/in and the links link -> sub
// and alias -> one.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANY 60

// opens opens a path so often that all but the first needn't be asked for, and says what it
// has: it must be the same.
static int opens(const char *what, int dir, const char *path, int flags)
{
	char first[300], got[300], text[100];
	for (int i = 0; i < MANY; i++) {
		int fd = openat(dir, path, flags);
		if (fd < 0) {
			snprintf(got, sizeof got, "%s", strerror(errno));
		} else {
			struct stat st, at;
			int n = read(fd, text, sizeof text), err = n < 0 ? errno : 0;
			if (fstat(fd, &st) || fstatat(dir, path, &at, 0) || st.st_ino != at.st_ino || st.st_dev != at.st_dev || st.st_mtime != at.st_mtime)
				return printf("%s: %s is another file than was opened\n", what, path);
			snprintf(got, sizeof got, "%d flags %x %x mode %o links %ld: %d %.*s", fd, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD),
				 st.st_mode, S_ISDIR(st.st_mode) ? 0 : (long)st.st_nlink, err, n < 0 ? 0 : n, text);
			close(fd);
		}
		if (i == 0)
			strcpy(first, got);
		else if (strcmp(first, got))
			return printf("%s: %s: %s, and the %d. time %s\n", what, path, first, i + 1, got);
	}
	return printf("%s: opens %s %x: %s\n", what, path, flags, first);
}

static void fails(const char *what, int r)
{
	if (r < 0)
		printf("%s: %s\n", what, strerror(errno));
}

static void reads(const char *what, int fd)
{
	char text[100], link[4096], name[64];
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	int n = pread(fd, text, sizeof text, 0), l = readlink(name, link, sizeof link - 1);
	link[l < 0 ? 0 : l] = 0;
	struct stat st;
	fails(what, fstat(fd, &st));
	char *last = strrchr(link, '/');
	printf("%s: %ld links, %ld bytes, %s: %.*s\n", what, (long)st.st_nlink, (long)st.st_size, last ? last : link, n < 0 ? 0 : n, text);
}

static void writes(const char *path, int flags, const char *text)
{
	int fd = open(path, O_WRONLY | flags);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("write %s: %s\n", path, strerror(errno));
	close(fd);
}

static void *nothing(void *arg) { return arg; }

// threaded opens a file after a thread has ended.
static int threaded(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL))
		return 1;
	for (int i = 0; i < 10 * MANY; i++)
		close(open("one", O_RDONLY));
	return 0;
}

static void *inThread(void *arg)
{
	opens("in a thread", AT_FDCWD, arg, O_RDONLY);
	return NULL;
}

// racing lets a child open each of the files again and again, while it is written to. What was
// opened last then reads what was written.
static int racing(int files)
{
	struct { volatile int file, opened, written; } *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char name[20];
	pid_t child = fork();
	if (!child) {
		int stale = 0;
		for (int i = 1; i <= files; i++) {
			snprintf(name, sizeof name, "%d", i);
			char c = 0;
			int last = -1;
			while (at->written < i) {
				int fd = open(name, O_RDONLY);
				if (last >= 0)
					close(last);
				last = fd;
				at->opened = i;
			}
			stale += pread(last, &c, 1, 0) == 1 && c != 'n'; // nothing, when it has just been emptied
			close(last);
			at->file = i;
		}
		printf("%d are stale\n", stale);
		fflush(stdout);
		_exit(0);
	}
	for (int i = 1; i <= files; i++) {
		snprintf(name, sizeof name, "%d", i);
		while (at->opened < i)
			;
		for (volatile int wait = 0; wait < i * 37 % 1000; wait++)
			;
		int fd = open(name, O_WRONLY);
		if (fd < 0 || write(fd, "new", 3) != 3)
			return 1;
		close(fd);
		at->written = i;
		while (at->file < i)
			;
	}
	return waitpid(child, NULL, 0) != child;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "threaded"))
		return threaded();
	if (argc == 2)
		return racing(atoi(argv[1]));
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	int sub = open("sub", O_RDONLY | O_DIRECTORY), here = open(".", O_RDONLY);
	static const int flags[] = {0, O_CLOEXEC, O_NONBLOCK, O_NOFOLLOW, O_NOCTTY, O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_DIRECTORY, O_DIRECTORY, O_APPEND, O_SYNC, O_NOATIME};
	static const char *const paths[] = {"one", "alias", "sub", "sub/", "link/in", "link", "./sub/../two", "none", "one/", "own", "."};
	for (size_t p = 0; p < sizeof paths / sizeof *paths; p++)
		for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
			opens("as it was", AT_FDCWD, paths[p], flags[f]);
	opens("at", sub, "in", O_RDONLY);
	opens("at", here, "sub/in", O_CLOEXEC);
	opens("at", here, "alias", O_NOFOLLOW);
	opens("nowhere", 77, "one", O_RDONLY);

	// One that is open reads what is written, and so does who opens it then.
	int one = open("one", O_RDONLY), two = open("two", O_RDONLY), in = open("sub/in", O_RDONLY), again = dup(one);
	int pipes[2];
	fails("pipe", pipe(pipes));
	pid_t child = fork();
	if (!child) { // it opens it by itself, and reads it when it is told to
		int own = open("one", O_RDONLY);
		char c;
		if (write(pipes[1], "r", 1) != 1 || read(pipes[0], &c, 0))
			_exit(1);
		while (pread(own, &c, 1, 0) != 1 || c != 'n') // it is empty for a moment
			usleep(1000);
		reads("in a child", own);
		fflush(stdout);
		_exit(0);
	}
	char c;
	fflush(stdout);
	if (read(pipes[0], &c, 1) != 1)
		return 1;
	writes("one", O_TRUNC, "new");
	waitpid(child, NULL, 0);
	reads("written to", one);
	reads("written to, the same", again);
	opens("written to", AT_FDCWD, "one", O_RDONLY);
	opens("written to", AT_FDCWD, "alias", O_RDONLY);
	writes("two", O_APPEND, ", and more");
	reads("appended to", two);

	fails("unlink", unlink("two"));
	reads("unlinked", two);
	opens("unlinked", AT_FDCWD, "two", O_RDONLY);
	opens("before it moves", AT_FDCWD, "link/in", O_RDONLY);
	fails("rename", rename("sub", "moved"));
	reads("moved", in);
	opens("moved", AT_FDCWD, "sub/in", O_RDONLY);
	opens("moved", AT_FDCWD, "moved/in", O_RDONLY);
	opens("moved", sub, "in", O_RDONLY);
	opens("moved", AT_FDCWD, "moved", O_DIRECTORY);
	opens("moved", AT_FDCWD, "link/in", O_RDONLY);
	fails("mkdir", mkdir("sub", 0755));
	opens("another", AT_FDCWD, "sub", O_RDONLY);
	opens("another", AT_FDCWD, "sub/in", O_RDONLY);
	fails("link", link("moved/in", "sub/in"));
	opens("linked", AT_FDCWD, "sub/in", O_RDONLY);
	opens("linked", AT_FDCWD, "moved/in", O_RDONLY);
	writes("sub/in", O_TRUNC, "both");
	opens("linked", AT_FDCWD, "moved/in", O_RDONLY);
	reads("linked", in);
	fails("chmod", chmod("moved", 0700));
	opens("chmod", AT_FDCWD, "moved", O_RDONLY);
	fails("chmod", chmod("one", 0));
	opens("chmod", AT_FDCWD, "one", O_RDONLY);
	opens("private", AT_FDCWD, "private", O_RDONLY);
	opens("private", AT_FDCWD, "secret", O_RDONLY);
	opens("private", AT_FDCWD, "secret/in", O_RDONLY);

	// Locks, mappings and positions are its own.
	int own = open("own", O_RDONLY);
	fails("flock", flock(own, LOCK_EX | LOCK_NB));
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	fails("lock", fcntl(own, F_SETLK, &lock));
	fails("truncate", ftruncate(own, 0));
	fails("write", write(own, "x", 1));
	printf("position %ld\n", (long)lseek(own, 5, SEEK_SET));
	char *text = mmap(NULL, 4096, PROT_READ, MAP_SHARED, own, 0);
	printf("mapped: %.4s\n", text == MAP_FAILED ? "not" : text);
	fails("chmod of what is open", fchmod(own, 0600));
	opens("its mode", AT_FDCWD, "own", O_RDONLY);

	pthread_t thread;
	if (!pthread_create(&thread, NULL, inThread, "/etc/group"))
		pthread_join(thread, NULL);
	opens("after a thread", AT_FDCWD, "/etc/group", O_RDONLY);
	DIR *d = opendir("moved");
	for (struct dirent *e; d && (e = readdir(d));)
		printf("lists %s\n", e->d_name);

	struct rlimit most = {16, 16};
	fails("setrlimit", setrlimit(RLIMIT_NOFILE, &most));
	int last = 0;
	for (int fd; (fd = open("/etc/group", O_RDONLY)) >= 0;)
		last = fd;
	printf("the last is %d: %s\n", last, strerror(errno));
	return 0;
}

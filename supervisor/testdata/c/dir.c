// Lists directories by the system calls themselves.
#include "raw.h"
#include <pthread.h>
#include <sys/epoll.h>

static int legacy;

// getdents returns what the call returns; both layouts hold the length at 16.
static long getdents(int fd, void *buf, unsigned long n)
{
	return raw(legacy ? SYS_getdents : SYS_getdents64, fd, buf, n);
}

struct entry {
	uint64_t ino;
	int64_t off;
	unsigned short len;
	unsigned char type;
	char *name;
};

static struct entry parse(char *p)
{
	struct entry e;
	memcpy(&e.ino, p, 8);
	memcpy(&e.off, p + 8, 8);
	memcpy(&e.len, p + 16, 2);
	e.type = legacy ? p[e.len - 1] : p[18];
	e.name = p + (legacy ? 18 : 19);
	return e;
}

static int opendirfd(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	return fd;
}

// some reads at most n calls' worth of entries and prints their names.
static void some(const char *what, int fd, unsigned long size, int n)
{
	char *buf = malloc(size);
	printf("%s:", what);
	while (n--) {
		long got = getdents(fd, buf, size);
		if (got <= 0) {
			printf(" (%ld)", got);
			break;
		}
		for (long at = 0; at < got;) {
			struct entry e = parse(buf + at);
			printf(" %s", e.name);
			at += e.len;
		}
	}
	printf("\n");
	fflush(stdout);
	free(buf);
}

// list prints inode, type and name of every entry, then what two more calls say.
static void list(const char *path, unsigned long size)
{
	int fd = opendirfd(path);
	char *buf = malloc(size + 1);
	long got;
	while ((got = getdents(fd, buf, size)) > 0)
		for (long at = 0; at < got;) {
			struct entry e = parse(buf + at);
			printf("%lu %d %s\n", (unsigned long)e.ino, e.type, e.name);
			if (e.len % 8 || at + e.len > got || strlen(e.name) > e.len)
				printf("malformed\n");
			at += e.len;
		}
	printf("end %ld", got);
	printf(" %ld\n", getdents(fd, buf, size));
}

// seek lists a directory one entry a call, then goes to every d_off in turn,
// from the last to the first, and tells which entry comes next.
static void seek(const char *path)
{
	int fd = opendirfd(path);
	char buf[280], *names[4096];
	int64_t offs[4096];
	int n = 0;
	long got;
	while ((got = getdents(fd, buf, sizeof buf)) > 0) {
		// Only the first is kept: the rest comes again.
		struct entry e = parse(buf);
		names[n] = strdup(e.name);
		offs[n++] = e.off;
		if (lseek(fd, e.off, SEEK_SET) != e.off)
			die("lseek");
	}
	int wrong = 0;
	for (int i = n - 1; i >= 0; i--) {
		if (lseek(fd, offs[i], SEEK_SET) != offs[i])
			die("lseek");
		got = getdents(fd, buf, sizeof buf);
		if (i == n - 1 ? got != 0 : got <= 0 || strcmp(parse(buf).name, names[i + 1]))
			wrong++;
	}
	printf("%d entries, %d wrong\n", n, wrong);
	lseek(fd, 0, SEEK_SET);
	some("rewound", fd, 4096, 1);
	some("then", fd, 4096, 1000);
	some("then", fd, 4096, 1);
	lseek(fd, 0, SEEK_SET);
	some("rewound again", fd, 24, 2);
}

// share reads a directory in turns through descriptors of one open file.
static void share(const char *path, const char *other)
{
	int st, fd = opendirfd(path), twin = dup(fd);
	int high = fcntl(fd, F_DUPFD, 100);
	some("fd", fd, 56, 2);
	some("dup", twin, 56, 1);
	close(fd);
	some("F_DUPFD after close", high, 56, 1);
	if (!fork()) {
		some("child", twin, 56, 2);
		_exit(0);
	}
	wait(&st);
	some("parent after child", twin, 56, 2);
	// What the child begins, the parent goes on with.
	lseek(twin, 0, SEEK_SET);
	if (!fork()) {
		some("child begins", twin, 56, 3);
		_exit(0);
	}
	wait(&st);
	some("parent goes on", twin, 56, 2);
	if (!fork()) {
		if (!fork()) {
			some("grandchild on another number", high, 4096, 1000);
			_exit(0);
		}
		wait(&st);
		some("its parent", twin, 4096, 1);
		_exit(0);
	}
	wait(&st);
	some("the first", high, 4096, 1);
	close(twin);
	close(high);
	// The number is used again, for another directory and for the same one.
	fd = opendirfd(path);
	some("begun", fd, 56, 2);
	int again = opendirfd(other);
	dup2(again, fd);
	some("another directory on that number", fd, 4096, 1000);
	close(fd);
	close(again);
	fd = opendirfd(path);
	some("the first directory anew", fd, 56, 2);
	int second = opendirfd(path);
	some("opened twice", second, 56, 1);
	some("the first of them", fd, 56, 1);
	dup2(second, fd);
	some("the second through the first's number", fd, 4096, 1000);
	some("the second", second, 4096, 1);
}

static void errors(const char *dir, const char *file)
{
	static char big[1 << 16];
	char buf[4096], name[64];
	int fd = opendirfd(dir);
	static const unsigned long small[] = {0, 1, 8, 16, 23};
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof name, "buffer of %lu", small[i]);
		say(name, getdents(fd, buf, small[i]));
	}
	some("two of 24", fd, 24, 2);
	say("no room for a long name", getdents(fd, buf, 24));
	say("bad buffer", getdents(fd, (void *)1, 4096));
	say("NULL buffer", getdents(fd, 0, 4096));
	some("goes on", fd, 280, 1);
	lseek(fd, 0, SEEK_SET);
	say("count with rubbish above", getdents(fd, buf, 0x5eed00000000 | sizeof buf) > 0);
	int f = open(file, O_RDONLY), path = open(dir, O_PATH | O_DIRECTORY);
	say("file", getdents(f, buf, sizeof buf));
	say("O_PATH", getdents(path, buf, sizeof buf));
	close(f);
	say("closed", getdents(f, buf, sizeof buf));
	say("-1", getdents(-1, buf, sizeof buf));
	say("9999", getdents(9999, buf, sizeof buf));
	int p[2];
	if (pipe(p))
		die("pipe");
	say("pipe", getdents(p[0], buf, sizeof buf));
	say("epoll", getdents(epoll_create1(0), buf, sizeof buf));
	char gone[4096];
	snprintf(gone, sizeof gone, "%s/gone", dir);
	if (mkdir(gone, 0777))
		die("mkdir");
	int g = opendirfd(gone);
	if (rmdir(gone))
		die("rmdir");
	say("removed", getdents(g, big, sizeof big));
	// A buffer whose end isn't mapped: as many entries as fit before it.
	lseek(fd, 0, SEEK_SET);
	char *end = edge(1);
	long got = getdents(fd, end - 100, 4096);
	printf("before the edge: %s\n", got > 0 && got <= 100 ? "some" : got == -EFAULT ? "EFAULT" : "too much");
	int n = 0;
	lseek(fd, 0, SEEK_SET);
	while ((got = getdents(fd, end - 100, 4096)) > 0)
		for (long at = 0; at < got; at += parse(end - 100 + at).len)
			n++;
	say("entries before the edge", n);
}

// prune removes every other entry while it lists, and makes new ones.
static void prune(const char *path)
{
	int fd = opendirfd(path), n = 0, i = 0;
	char buf[512];
	long got;
	while ((got = getdents(fd, buf, sizeof buf)) > 0)
		for (long at = 0; at < got;) {
			struct entry e = parse(buf + at);
			at += e.len;
			if (e.name[0] != 'f')
				continue;
			n++;
			printf("%s\n", e.name);
			if (i++ % 2) {
				if (unlinkat(fd, e.name, 0))
					die(e.name);
			} else if (i % 10 == 1) {
				char name[32];
				snprintf(name, sizeof name, "new-%d", i);
				close(openat(fd, name, O_CREAT | O_WRONLY, 0666));
			}
		}
	printf("end %ld\n", got);
}

// together reads one open directory from several threads or processes at once;
// every entry goes to exactly one of them.
static int shared;
static void *reader(void *arg)
{
	char buf[64], name[64];
	long got;
	(void)arg;
	while ((got = getdents(shared, buf, sizeof buf)) > 0)
		for (long at = 0; at < got;) {
			struct entry e = parse(buf + at);
			int n = snprintf(name, sizeof name, "%s\n", e.name);
			if (write(1, name, n) != n)
				die("write");
			at += e.len;
		}
	return 0;
}

static void together(const char *path, int threads)
{
	shared = opendirfd(path);
	pthread_t t[4];
	for (int i = 0; i < 4; i++)
		if (threads) {
			if (pthread_create(&t[i], 0, reader, 0))
				die("pthread_create");
		} else if (!fork()) {
			reader(0);
			_exit(0);
		}
	for (int i = 0; i < 4; i++)
		if (threads)
			pthread_join(t[i], 0);
		else
			wait(0);
}

// leaderless lists a directory from a thread whose leader has ended.
static void *lonely(void *path)
{
	// The leader is a zombie when the task directory says so.
	char stat[64], line[256], *p;
	snprintf(stat, sizeof stat, "/proc/self/task/%d/stat", getpid());
	do {
		FILE *f = fopen(stat, "r");
		if (!f || !fgets(line, sizeof line, f))
			die(stat);
		fclose(f);
		p = strrchr(line, ')');
	} while (p[2] != 'Z');
	list(path, 4096);
	char b[16], u[65 * 6];
	say("getrandom", raw(SYS_getrandom, b, 16, 0));
	say("uname", raw(SYS_uname, u));
	int fd = open("/proc/sys/kernel/hostname", O_RDONLY);
	say("read", raw(SYS_read, fd, u, sizeof u) > 0);
	fd = openat(opendirfd("/dev"), "urandom", O_RDONLY);
	say("urandom", raw(SYS_read, fd, u, sizeof u));
	exit(7);
}

int main(int argc, char **argv)
{
	const char *what = argv[1], *path = argv[2];
	legacy = getenv("LEGACY") != 0;
	if (!strcmp(what, "list"))
		list(path, strtoul(argv[3], 0, 0));
	else if (!strcmp(what, "seek"))
		seek(path);
	else if (!strcmp(what, "share"))
		share(path, argv[3]);
	else if (!strcmp(what, "errors"))
		errors(path, argv[3]);
	else if (!strcmp(what, "prune"))
		prune(path);
	else if (!strcmp(what, "threads") || !strcmp(what, "processes"))
		together(path, what[0] == 't');
	else if (!strcmp(what, "leaderless")) {
		pthread_t t;
		if (pthread_create(&t, 0, lonely, argv[2]))
			die("pthread_create");
		pthread_exit(0);
	} else
		return 99;
	return argc > 99;
}

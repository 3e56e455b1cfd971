// Opens and reads files that describe the host.
#include "raw.h"
#include <dirent.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

// text prints all that a descriptor gives, on one line.
static void text(const char *what, int fd)
{
	static char b[1 << 16];
	if (fd < 0) {
		say(what, fd);
		return;
	}
	long n, sum = 0;
	while ((n = raw(SYS_read, fd, b + sum, sizeof b - 1 - sum)) > 0)
		sum += n;
	if (n < 0) {
		say(what, n);
		return;
	}
	b[sum] = 0;
	for (char *p = b; *p; p++)
		if (*p == '\n')
			*p = '|';
	printf("%s: %s\n", what, b);
	close(fd);
}

// forms opens one file, given by its absolute path, by every name it has.
static void forms(const char *file, const char *dir)
{
	char path[8192], link[4096];
	const char *base = strrchr(file, '/') + 1;
	int parent, fd;
	strcpy(path, file);
	path[base - file - 1] = 0;
	parent = open(path, O_RDONLY | O_DIRECTORY);
	if (parent < 0)
		die(path);
#define OPEN(what, ...)                                        \
	do {                                                   \
		snprintf(path, sizeof path, __VA_ARGS__);      \
		text(what, raw(SYS_open, path, O_RDONLY, 0));  \
	} while (0)
	text("open", raw(SYS_open, file, O_RDONLY));
	text("openat", raw(SYS_openat, AT_FDCWD, file, O_RDONLY));
	text("openat with an int's rubbish", raw(SYS_openat, 0x5eed00000000 | (unsigned)AT_FDCWD, file, O_RDONLY));
	text("openat parent", raw(SYS_openat, parent, base, O_RDONLY));
	unsigned long how[3] = {O_RDONLY, 0, 0};
	text("openat2", raw(SYS_openat2, parent, base, how, sizeof how));
	text("openat absolute", raw(SYS_openat, 9999, file, O_RDONLY));
	OPEN("slashes", "//%s", file);
	OPEN("dots", "/proc/.././%s", file);
	OPEN("through self", "/proc/self/../..%s", file);
	OPEN("through thread-self", "/proc/thread-self/../../../../..%s", file);
	OPEN("through its pid", "/proc/%d/../..%s", getpid(), file);
	OPEN("through its task", "/proc/self/task/%d/../../../..%s", getpid(), file);
	OPEN("root", "/proc/self/root%s", file);
	OPEN("root of its pid", "/proc/%d/root%s", getpid(), file);
	OPEN("root of its task", "/proc/self/task/%d/root%s", getpid(), file);
	OPEN("root of root", "/proc/self/root/proc/thread-self/root%s", file);
	OPEN("/dev/fd of its parent", "/dev/fd/%d/%s", parent, base);
	fd = dup2(parent, 900);
	OPEN("/dev/fd of a high number", "/dev/fd/%d/%s", fd, base);
	OPEN("/proc/PID/fd", "/proc/%d/fd/%d/%s", getpid(), fd, base);
	fd = open(file, O_PATH);
	OPEN("O_PATH, then /dev/fd", "/dev/fd/%d", fd);
	fd = dup2(fd, 901);
	OPEN("O_PATH, then /dev/fd of a high number", "/dev/fd/%d", fd);
	OPEN("O_PATH, then /proc/self/fd", "/proc/self/fd/%d", fd);
	OPEN("O_PATH, then task", "/proc/self/task/%d/fd/%d", getpid(), fd);
	OPEN("O_PATH, then thread-self", "/proc/thread-self/fd/%d", fd);
	OPEN("O_PATH, then /proc/PID", "/proc/%d/fd/%d", getpid(), fd);
	fd = raw(SYS_open, file, O_RDONLY);
	OPEN("read, then /dev/fd", "/dev/fd/%d", fd);
	snprintf(link, sizeof link, "%s/link", dir);
	unlink(link);
	if (symlink(file, link))
		die(link);
	text("symlink", raw(SYS_open, link, O_RDONLY));
	text("symlink nofollow", raw(SYS_open, link, O_RDONLY | O_NOFOLLOW));
	fd = open(link, O_PATH | O_NOFOLLOW);
	OPEN("O_PATH of the symlink, then /proc/self/fd", "/proc/self/fd/%d", fd);
	snprintf(path, sizeof path, "%s/link2", dir);
	unlink(path);
	if (symlink("link", path))
		die(path);
	text("symlink to it", raw(SYS_open, path, O_RDONLY));
	unlink(path);
	snprintf(path, sizeof path, "%s/link2", dir);
	snprintf(link, sizeof link, "/proc/self/root%s", file);
	if (symlink(link, path))
		die(path);
	text("symlink through root", raw(SYS_open, path, O_RDONLY));
	unlink(path);
	OPEN("slash", "%s/", file);
	OPEN("below", "%s/x", file);
	if (chdir("/"))
		die("chdir");
	OPEN("relative", "%s", file + 1);
	OPEN("cwd", "/proc/self/cwd%s", file);
	if (fchdir(parent))
		die("fchdir");
	OPEN("base", "%s", base);
	OPEN("./base", "./%s", base);
	OPEN("cwd base", "/proc/self/cwd/%s", base);
	OPEN("cwd of its task", "/proc/self/task/%d/cwd/%s", getpid(), base);
	if (chdir("/proc/self"))
		die("chdir");
	OPEN("from /proc/self", "../..%s", file);
	OPEN("root from /proc/self", "root%s", file);
	OPEN("fd from /proc/self", "fd/%d/%s", parent, base);
	fflush(stdout);
	if (!fork()) {
		OPEN("a child, root", "/proc/self/root%s", file);
		OPEN("a child, base", "/proc/self/fd/%d/%s", parent, base);
		OPEN("a child, its parent's", "/proc/%d/root%s", getppid(), file);
		fflush(stdout);
		_exit(0);
	}
	wait(0);
}

// modes opens a file in ways that a file of the kernel's refuses.
static void modes(const char *file)
{
	say("O_WRONLY", raw(SYS_open, file, O_WRONLY));
	say("O_RDWR", raw(SYS_open, file, O_RDWR));
	say("O_WRONLY|O_TRUNC", raw(SYS_open, file, O_WRONLY | O_TRUNC));
	say("creat", raw(SYS_creat, file, 0666));
	say("O_DIRECTORY", raw(SYS_open, file, O_RDONLY | O_DIRECTORY));
	say("O_CREAT|O_EXCL", raw(SYS_open, file, O_RDONLY | O_CREAT | O_EXCL, 0666));
	int fd = raw(SYS_open, file, O_RDONLY | O_CREAT, 0666);
	printf("O_CREAT: %s\n", fd >= 0 ? "opened" : "failed");
	say("write", raw(SYS_write, fd, "x", 1));
	say("ftruncate", raw(SYS_ftruncate, fd, 0));
	fd = raw(SYS_open, file, O_RDONLY | O_CLOEXEC);
	say("cloexec", fcntl(fd, F_GETFD));
	fd = raw(SYS_open, file, O_RDONLY);
	say("no cloexec", fcntl(fd, F_GETFD));
}

// pieces reads a file bit by bit, and goes about in it.
static void pieces(const char *file)
{
	static char whole[1 << 16], part[1 << 16], b[16];
	int fd = open(file, O_RDONLY), wrong = 0;
	long n, size = read(fd, whole, sizeof whole);
	for (int step = 1; step <= 7; step++) {
		lseek(fd, 0, SEEK_SET);
		long sum = 0;
		while ((n = read(fd, b, step)) > 0) {
			memcpy(part + sum, b, n);
			sum += n;
			if (n < step && sum != size)
				wrong++;
		}
		if (sum != size || memcmp(whole, part, size))
			wrong++;
	}
	for (long at = 0; at < size; at += 3) {
		n = pread(fd, b, 5, at);
		if (n != (size - at < 5 ? size - at : 5) || memcmp(b, whole + at, n))
			wrong++;
		if (lseek(fd, at, SEEK_SET) != at || (n = read(fd, b, 4)) <= 0 || memcmp(b, whole + at, n))
			wrong++;
	}
	if (read(open(file, O_RDONLY), part, sizeof part) != size || memcmp(whole, part, size))
		wrong++;
	printf("%s: wrong %d\n", size > 0 ? "some" : "empty", wrong);
}

// same reports whether two files begin with the same text.
static int same(const char *a, const char *b)
{
	char text[2][4096];
	int r = open(a, O_RDONLY), s = open(b, O_RDONLY);
	ssize_t m = read(r, text[0], sizeof text[0]), n = read(s, text[1], sizeof text[1]);
	close(r);
	close(s);
	return m > 0 && m == n && !memcmp(text[0], text[1], m);
}

// paths reads lines of paths and tells of each that names one of the files in
// the sandbox's care whether opening it gives another text than that has, the kernel's own. Arguments are the
// files by their canonical paths. Descriptor 900 is the root directory.
static void paths(int n, char **files)
{
	char line[4096], fd[64], target[4096];
	int named = 0;
	dup2(open("/", O_PATH), 900);
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		int p = open(line, O_PATH);
		if (p < 0)
			continue;
		snprintf(fd, sizeof fd, "/proc/self/fd/%d", p);
		ssize_t len = readlink(fd, target, sizeof target - 1);
		close(p);
		if (len < 0)
			die(fd);
		target[len] = 0;
		for (int i = 0; i < n; i++) {
			if (strcmp(target, files[i]))
				continue;
			named++;
			if (!same(line, files[i]))
				printf("leak: %s isn't %s\n", line, files[i]);
			break;
		}
	}
	printf("named %d\n", named);
}

static void uts(void)
{
	struct utsname u;
	char host[65];
	if (uname(&u) || gethostname(host, sizeof host))
		die("uname");
	printf("%s|%s|%s|%s|%s|%s|%s\n", u.sysname, u.nodename, u.release, u.version, u.machine, u.domainname, host);
}

static void cpus(void)
{
	static unsigned char mask[1024];
	char name[32];
	static const int sizes[] = {0, 1, 4, 7, 8, 9, 12, 15, 16, 24, 128, 1024};
	printf("online %ld configured %ld\n", sysconf(_SC_NPROCESSORS_ONLN), sysconf(_SC_NPROCESSORS_CONF));
	printf("nprocs %d %d\n", get_nprocs(), get_nprocs_conf());
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		memset(mask, 0x55, sizeof mask);
		long ret = raw(SYS_sched_getaffinity, 0, sizes[i], mask);
		int count = 0;
		for (long j = 0; j < ret; j++)
			count += __builtin_popcount(mask[j]);
		snprintf(name, sizeof name, "affinity %d", sizes[i]);
		say(name, ret);
		if (ret > 0)
			printf("  %d CPUs, %s beyond\n", count, mask[ret] == 0x55 ? "nothing" : "something");
	}
	unsigned cpu = 7, node = 7;
	printf("sched_getcpu %d\n", sched_getcpu());
	say("getcpu", raw(SYS_getcpu, &cpu, &node));
	printf("  %u %u\n", cpu, node);
	say("getcpu NULL", raw(SYS_getcpu, 0, 0));
	say("getcpu bad", raw(SYS_getcpu, 1, 0));
	int (*volatile gc)(unsigned *, unsigned *) = getcpu;
	cpu = node = 7;
	printf("libc getcpu %d", gc(&cpu, &node));
	printf(" %u %u\n", cpu, node);
	say("affinity of nobody", raw(SYS_sched_getaffinity, 0x3ffffff, 128, mask));
	say("affinity bad", raw(SYS_sched_getaffinity, 0, 128, 1));
	say("set bad", raw(SYS_sched_setaffinity, 0, 128, 1));
	memset(mask, 0, sizeof mask);
	say("set none", raw(SYS_sched_setaffinity, 0, 128, mask));
	say("set size 0", raw(SYS_sched_setaffinity, 0, 0, mask));
}

static void showMask(const char *what, int pid)
{
	unsigned long mask[16] = {0};
	long ret = raw(SYS_sched_getaffinity, pid, sizeof mask, mask);
	if (ret < 0)
		say(what, ret);
	else
		printf("%s: %lx\n", what, mask[0]);
	fflush(stdout);
}

static void *other(void *arg)
{
	(void)arg;
	showMask("another thread", 0);
	return 0;
}

// affinity sets masks, which must be seen by whoever inherits them.
#include <pthread.h>
static void affinity(void)
{
	unsigned long mask[16] = {2};
	int p[2], q[2], me = getpid();
	pid_t child;
	char c;
	pthread_t t;
	showMask("at first", 0);
	say("set 1", raw(SYS_sched_setaffinity, 0, sizeof mask, mask));
	showMask("then", 0);
	showMask("by pid", me);
	if (!fork()) {
		showMask("child", 0);
		showMask("its parent", me);
		_exit(0);
	}
	wait(0);
	mask[0] = 1UL | 1UL << 40;
	say("set 0 and 40", raw(SYS_sched_setaffinity, 0, sizeof mask, mask));
	showMask("what there is of it", 0);
	mask[0] = 1UL << 40;
	say("set 40", raw(SYS_sched_setaffinity, 0, sizeof mask, mask));
	showMask("as before", 0);
	if (pipe(p) || pipe(q))
		die("pipe");
	if (!(child = fork())) {
		if (write(p[1], "x", 1) != 1 || read(q[0], &c, 1) != 1)
			die("pipe");
		showMask("child whose mask was set", 0);
		_exit(0);
	}
	if (read(p[0], &c, 1) != 1)
		die("read");
	mask[0] = 2;
	say("set 1 of the child", raw(SYS_sched_setaffinity, child, sizeof mask, mask));
	showMask("the child's", child);
	showMask("the parent's", 0);
	if (write(q[1], "x", 1) != 1)
		die("write");
	wait(0);
	mask[0] = 3;
	say("set all", raw(SYS_sched_setaffinity, 0, sizeof mask, mask));
	if (pthread_create(&t, 0, other, 0) || pthread_join(t, 0))
		die("pthread_create");
}

// threadAffinity sets the mask of one thread, which is no other's.
static int ready[2], go[2];
static void *waiting(void *arg)
{
	char c;
	(void)arg;
	if (write(ready[1], "x", 1) != 1 || read(go[0], &c, 1) != 1)
		die("pipe");
	showMask("the other", 0);
	return 0;
}

static void threadAffinity(void)
{
	unsigned long mask[16] = {2};
	char c;
	pthread_t t;
	if (pipe(ready) || pipe(go) || pthread_create(&t, 0, waiting, 0) || read(ready[0], &c, 1) != 1)
		die("thread");
	say("set 1", raw(SYS_sched_setaffinity, 0, sizeof mask, mask));
	showMask("one", 0);
	if (write(go[1], "x", 1) != 1 || pthread_join(t, 0))
		die("thread");
}

static void memory(void)
{
	struct sysinfo si;
	if (sysinfo(&si))
		die("sysinfo");
	printf("MemTotal %lu\nMemFree %lu\nSwapTotal %lu\nprocs %u\nuptime %ld\nloads %lu %lu %lu\n",
	       si.totalram * si.mem_unit / 1024, si.freeram * si.mem_unit / 1024, si.totalswap, si.procs, si.uptime,
	       si.loads[0], si.loads[1], si.loads[2]);
	printf("pages %ld available %ld\n", sysconf(_SC_PHYS_PAGES), sysconf(_SC_AVPHYS_PAGES));
}

int main(int argc, char **argv)
{
	const char *what = argv[1];
	if (!strcmp(what, "forms"))
		forms(argv[2], argv[3]);
	else if (!strcmp(what, "modes"))
		modes(argv[2]);
	else if (!strcmp(what, "pieces"))
		for (int i = 2; i < argc; i++)
			pieces(argv[i]);
	else if (!strcmp(what, "paths"))
		paths(argc - 2, argv + 2);
	else if (!strcmp(what, "uts"))
		uts();
	else if (!strcmp(what, "cpus"))
		cpus();
	else if (!strcmp(what, "affinity"))
		affinity();
	else if (!strcmp(what, "thread-affinity"))
		threadAffinity();
	else if (!strcmp(what, "memory"))
		memory();
	else
		return 99;
	return 0;
}

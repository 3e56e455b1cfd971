// The edges of the system-call interface.
#include "raw.h"
#include <linux/sched.h>

// In the order of the instructions' own ABIs: i386 by int 0x80, x32 by a bit.
static long i386(long nr)
{
	long ret;
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(0), "c"(0), "d"(0) : "r8", "r9", "r10", "r11", "memory");
	return (int)ret;
}

#define X32 0x40000000

// refused makes the calls that the sandbox doesn't have.
static void refused(void)
{
	char b[256] = {0};
	struct clone_args ca = {.exit_signal = SIGCHLD};
	static char rseq[64] __attribute__((aligned(64)));
	say("io_uring_setup", raw(SYS_io_uring_setup, 1, b));
	say("io_uring_enter", raw(SYS_io_uring_enter, 0, 0, 0, 0, 0));
	say("io_uring_register", raw(SYS_io_uring_register, 0, 0, 0, 0));
	say("clone3", raw(SYS_clone3, &ca, sizeof ca));
	say("clone3 of nothing", raw(SYS_clone3, 0, 0));
	say("rseq", raw(SYS_rseq, rseq, 32, 0, 0x53053053));
	say("CLONE_UNTRACED", raw(SYS_clone, SIGCHLD | CLONE_UNTRACED, 0, 0, 0, 0));
	say("CLONE_UNTRACED with more", raw(SYS_clone, SIGCHLD | CLONE_UNTRACED | CLONE_PARENT, 0, 0, 0, 0));
	say("CLONE_UNTRACED with rubbish above", raw(SYS_clone, 0x5eed00000000 | SIGCHLD | CLONE_UNTRACED, 0, 0, 0, 0));
	say("x32 getpid", raw(X32 | SYS_getpid));
	say("x32 uname", raw(X32 | SYS_uname, b));
	say("x32 getrandom", raw(X32 | SYS_getrandom, b, 16, 0));
	say("page call", raw(0x3fff5a01));
	say("page call with arguments", raw(0x3fff5a01, 1, 2, 3, 4, 5, 6));
	say("no such call", raw(0x3fff5a00));
	say("call 1023", raw(1023));
	say("call -1", raw(-1));
	say("call 1 << 32", raw(1L << 32 | SYS_getpid) > 0);
	pid_t pid = fork();
	if (!pid) {
		say("page call of a child", raw(0x3fff5a01));
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, 0, 0);
}

// refused32 does so by the interrupt, which a kernel without such an ABI doesn't have.
static void refused32(void)
{
	say("int 0x80 getpid", i386(20));
	say("int 0x80 uname", i386(122));
	say("int 0x80 time", i386(13));
	say("int 0x80 getrandom", i386(355));
	say("int 0x80 clock_gettime", i386(265));
}

// pointers gives bad ones to every kind of call.
static void pointers(void)
{
	static const long bad[] = {0, 1, 0x1000, -1, -4096, 0x7fffffffffff, 0x800000000000, 0xffff800000000000};
	char name[64], *end = edge(2), *none = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const char *ro = "constant text, which can't be written";
	int dir = open("/proc/self", O_RDONLY | O_DIRECTORY);
	for (int i = -3; i < (int)(sizeof bad / sizeof *bad); i++) {
		long p = i == -3 ? (long)none : i == -2 ? (long)ro : i == -1 ? (long)end : bad[i];
		const char *which = i == -3 ? "PROT_NONE" : i == -2 ? "read-only" : i == -1 ? "edge" : 0;
		char number[32];
		if (!which) {
			snprintf(number, sizeof number, "%#lx", p);
			which = number;
		}
#define BAD(what, ...)                                            \
	do {                                                      \
		snprintf(name, sizeof name, "%s %s", what, which); \
		say(name, raw(__VA_ARGS__));                      \
	} while (0)
		BAD("uname", SYS_uname, p);
		BAD("sysinfo", SYS_sysinfo, p);
		if (i != -2) { // elsewhere it is a path
			BAD("open", SYS_open, p, O_RDONLY);
			BAD("openat", SYS_openat, AT_FDCWD, p, O_RDONLY);
			BAD("openat2", SYS_openat2, AT_FDCWD, p, p, 24);
			BAD("creat", SYS_creat, p, 0666);
		}
		BAD("getdents64", SYS_getdents64, dir, p, 4096);
		BAD("getdents", SYS_getdents, dir, p, 4096);
		BAD("getrandom", SYS_getrandom, p, 16, 0);
		BAD("sched_getaffinity", SYS_sched_getaffinity, 0, 128, p);
		BAD("clock_gettime", SYS_clock_gettime, 1, p);
		if (p)
			BAD("getcpu", SYS_getcpu, p, 0);
		BAD("getrusage", SYS_getrusage, 0, p);
		if (i != 0)
			BAD("times", SYS_times, p);
		BAD("nanosleep", SYS_nanosleep, p, 0);
	}
	say("uname over the edge", raw(SYS_uname, end - 100));
	say("uname before the edge", raw(SYS_uname, end - 390));
	say("sysinfo over the edge", raw(SYS_sysinfo, end - 100));
	say("sysinfo before the edge", raw(SYS_sysinfo, end - 112));
	say("openat2 size 0", raw(SYS_openat2, AT_FDCWD, "/", end - 24, 0));
	say("openat2 size 23", raw(SYS_openat2, AT_FDCWD, "/", end - 24, 23));
	memset(end - 64, 0, 64);
	say("openat2 size 32 of zeros", raw(SYS_openat2, AT_FDCWD, "/proc/self/maps", end - 32, 32) > 0);
	end[-1] = 1;
	say("openat2 size 32 with something", raw(SYS_openat2, AT_FDCWD, "/proc/self/maps", end - 32, 32));
	say("openat2 size 8192", raw(SYS_openat2, AT_FDCWD, "/", end - 24, 8192));
	say("nanosleep negative", (memset(end - 16, 0xff, 16), raw(SYS_nanosleep, end - 16, 0)));
}

// lengths opens paths of every length around the limit, that end at an edge.
static void lengths(const char *file)
{
	int pages = 3;
	char name[64], *end = edge(pages);
	long flen = strlen(file);
	static const int list[] = {100, 255, 256, 257, 1000, 4000, 4094, 4095, 4096, 4097, 8000};
	for (unsigned i = 0; i < sizeof list / sizeof *list; i++) {
		// Slashes before the file make up the length.
		char *p = end - 1 - list[i];
		memset(p, '/', list[i]);
		strcpy(end - 1 - flen, file);
		snprintf(name, sizeof name, "%d slashes", list[i]);
		long fd = raw(SYS_open, p, O_RDONLY);
		say(name, fd < 0 ? fd : 0);
		char c;
		if (fd >= 0) {
			if (raw(SYS_read, fd, &c, 1) != 1)
				printf("  empty\n");
			close(fd);
		}
		fd = raw(SYS_openat, AT_FDCWD, p, O_RDONLY);
		say("  openat", fd < 0 ? fd : 0);
		close(fd);
		// The same without its NUL.
		memset(p, '/', list[i] + 1);
		memcpy(end - flen, file, flen);
		say("  without an end", raw(SYS_open, p, O_RDONLY));
		// A directory that doesn't exist, and a name that is too long.
		memset(p, 'x', list[i]);
		*p = '/';
		end[-1] = 0;
		say("  one name", raw(SYS_open, p, O_RDONLY));
	}
	// A string across the edge of two pages.
	for (int over = 0; over <= flen + 1; over++) {
		char *p = end - 4096 - over;
		strcpy(p, file);
		long fd = raw(SYS_open, p, O_RDONLY);
		if (fd < 0)
			say("across", fd);
		close(fd);
	}
	say("empty", raw(SYS_open, "", O_RDONLY));
	say("empty, dirfd", raw(SYS_openat, open("/", O_RDONLY), "", O_RDONLY));
	say("bad dirfd", raw(SYS_openat, 9999, "proc/cpuinfo", O_RDONLY));
	say("-1 as dirfd", raw(SYS_openat, -1, "proc/cpuinfo", O_RDONLY));
	say("dirfd that is a file", raw(SYS_openat, open(file, O_RDONLY), "x", O_RDONLY));
	say("dirfd that is a pipe", ({ int p[2]; pipe(p) ? 0 : raw(SYS_openat, p[0], "x", O_RDONLY); }));
	say("bad dirfd, absolute", raw(SYS_openat, 9999, file, O_RDONLY) >= 0);
	say("missing", raw(SYS_open, "/proc/no-such/cpuinfo", O_RDONLY));
	say("missing cpuinfo", raw(SYS_open, "/etc/cpuinfo", O_RDONLY));
	say("below a file", raw(SYS_open, "/proc/cpuinfo/cpuinfo", O_RDONLY));
	say("below hostname", raw(SYS_open, "/etc/passwd/hostname", O_RDONLY));
}

// full opens files when there is no descriptor left.
#include <sys/resource.h>
static void full(const char *self)
{
	struct rlimit rl = {16, 16};
	if (setrlimit(RLIMIT_NOFILE, &rl))
		die("setrlimit");
	long fd, n = 0;
	while ((fd = raw(SYS_open, "/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	say("/dev/null", fd);
	say("/proc/cpuinfo", raw(SYS_open, "/proc/cpuinfo", O_RDONLY));
	say("/dev/urandom", raw(SYS_open, "/dev/urandom", O_RDONLY));
	char u[400];
	say("uname", raw(SYS_uname, u));
	pid_t pid = fork();
	if (!pid) {
		for (int i = 3; i < 16; i++)
			fcntl(i, F_SETFD, 0);
		execl(self, self, "refused", (char *)0);
		_exit(1);
	}
	int st;
	waitpid(pid, &st, 0);
	printf("exec: status %#x\n", st);
}

// emptied opens files when there is one descriptor left, and when there is none, and tells
// whether they were made or emptied.
static void emptied(void)
{
	struct rlimit rl = {16, 16};
	struct stat st;
	long fd = raw(SYS_open, "kept", O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || raw(SYS_write, fd, "text", 4) != 4 || setrlimit(RLIMIT_NOFILE, &rl))
		die("kept");
	while (raw(SYS_dup, 0) >= 0)
		;
	for (int left = 1; left >= 0; left--) {
		if (left)
			close(7);
		say("made", raw(SYS_open, "made", O_WRONLY | O_CREAT | O_EXCL, 0600));
		say("is there", raw(SYS_stat, "made", &st));
		if (left)
			unlink("made"), close(7);
		say("creat", raw(SYS_creat, "made", 0600));
		say("is there", raw(SYS_stat, "made", &st));
		if (left)
			unlink("made");
		say("temporary", raw(SYS_open, ".", O_RDWR | O_TMPFILE, 0600));
		say("emptied", raw(SYS_open, "kept", O_WRONLY | O_TRUNC));
		raw(SYS_stat, "kept", &st);
		say("size", st.st_size);
	}
}

int main(int argc, char **argv)
{
	setvbuf(stdout, 0, _IOLBF, 0);
	const char *what = argv[1];
	if (!strcmp(what, "refused"))
		refused();
	else if (!strcmp(what, "refused32"))
		refused32();
	else if (!strcmp(what, "pointers"))
		pointers();
	else if (!strcmp(what, "lengths"))
		lengths(argv[2]);
	else if (!strcmp(what, "emptied"))
		emptied();
	else if (!strcmp(what, "full"))
		full(argc > 2 ? argv[2] : argv[0]);
	else
		return 99;
	return 0;
}

// Draws random bytes. The first argument says in which way.
#include "raw.h"
#include <poll.h>
#include <sys/auxv.h>
#include <sys/random.h>

static volatile sig_atomic_t fired;
static void handler(int sig)
{
	(void)sig;
	fired++;
}

static void hex(const unsigned char *p, int n)
{
	while (n--)
		printf("%02x", *p++);
}

// draw prints a name, 32 bytes of getrandom and AT_RANDOM in one write.
static void draw(const char *name)
{
	unsigned char b[32];
	static char buf[512];
	setvbuf(stdout, buf, _IOFBF, sizeof buf);
	if (getrandom(b, sizeof b, 0) != sizeof b)
		die("getrandom");
	printf("%s ", name);
	hex(b, sizeof b);
	printf(" ");
	hex((unsigned char *)getauxval(AT_RANDOM), 16);
	printf("\n");
}

static void sizes(void)
{
	static const long list[] = {0, 1, 255, 256, 257, 65535, 65536, 65537, 70000, 1 << 20};
	static unsigned char b[(1 << 20) + 1];
	for (unsigned i = 0; i < sizeof list / sizeof *list; i++)
		for (int flags = 0; flags < 2; flags++) {
			memset(b, 0x55, sizeof b);
			long ret = raw(SYS_getrandom, b, list[i], flags);
			printf("%ld flags %d: %ld beyond %s %016lx\n", list[i], flags, ret,
			       b[list[i]] == 0x55 ? "untouched" : "written", hash(0, b, list[i]));
		}
}

// fill counts bytes that were written into a buffer of 0x55, give or take the
// random bytes that happen to be 0x55.
static long filled(const char *p, long n)
{
	while (n > 0 && p[n - 1] == 0x55)
		n--;
	return n;
}

static void errors(void)
{
	char b[16], name[64];
	for (int flags = 0; flags < 18; flags++) {
		snprintf(name, sizeof name, "flags %#x", flags);
		say(name, raw(SYS_getrandom, b, sizeof b, flags));
	}
	say("flags 0x80000000", raw(SYS_getrandom, b, sizeof b, 0x80000000));
	say("flags above the int", raw(SYS_getrandom, b, sizeof b, 1L << 32));
	say("NULL", raw(SYS_getrandom, 0, 16, 0));
	say("NULL of 0", raw(SYS_getrandom, 0, 0, 0));
	say("NULL and a bad flag", raw(SYS_getrandom, 0, 16, 64));
	say("kernel", raw(SYS_getrandom, 0xffff800000000000, 16, 0));
	say("read-only", raw(SYS_getrandom, "constant text is read-only", 16, 0));
	char *none = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	say("PROT_NONE", raw(SYS_getrandom, none, 16, 0));
	char *wo = mmap(0, 4096, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	say("write-only", raw(SYS_getrandom, wo, 16, 0));
	for (int pages = 1; pages < 40; pages += 19) {
		char *end = edge(pages);
		static const long before[] = {1, 64, 100, 4096};
		for (int i = 0; i < 4; i++) {
			memset(end - 4096, 0x55, 4096);
			long ret = raw(SYS_getrandom, end - before[i], before[i] + 8192, 0);
			snprintf(name, sizeof name, "%ld bytes before the edge of %d", before[i], pages);
			say(name, ret);
			if (ret > 0 && ret > 32 && filled(end - before[i], before[i]) < ret - 16)
				printf("only %ld of them written\n", filled(end - before[i], before[i]));
		}
		snprintf(name, sizeof name, "%d pages and one more", pages);
		say(name, raw(SYS_getrandom, end - pages * 4096, (pages + 1) * 4096, 0));
		say("from the edge", raw(SYS_getrandom, end, 16, 0));
	}
}

// stream draws n times and prints a hash of all of it, with a timer that
// interrupts if a second argument says so.
static void stream(int n, int timer)
{
	uint64_t h = 0;
	int eintr = 0;
	if (timer) {
		struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_RESTART};
		sigaction(SIGALRM, &sa, 0);
		struct itimerval it = {{0, 50}, {0, 50}};
		setitimer(ITIMER_REAL, &it, 0);
	}
	for (int i = 0; i < n; i++) {
		char b[24];
		int size = 8 + i % 17;
		if (raw(SYS_getrandom, b, size, 0) != size)
			eintr++;
		h = hash(h, b, size);
	}
	struct itimerval off = {0};
	setitimer(ITIMER_REAL, &off, 0);
	printf("stream %016lx failed %d\n", h, eintr);
	fprintf(stderr, "fired %d\n", fired);
}

// device opens a random device in one way after the other and prints what it
// reads; all but the bytes is as natively.
static void device(const char *dev, const char *link)
{
	char path[4096];
	unsigned char b[16];
	const char *base = strrchr(dev, '/') + 1;
	int fd, dirfd = open("/dev", O_RDONLY | O_DIRECTORY);
	struct { unsigned long flags, mode, resolve; } how = {0};
#define TRY(what, expr)                                                                       \
	do {                                                                                  \
		fd = (expr);                                                                  \
		if (fd < 0) {                                                                 \
			say(what, fd);                                                        \
			break;                                                                \
		}                                                                             \
		memset(b, 0, sizeof b);                                                       \
		long got = raw(SYS_read, fd, b, sizeof b);                                    \
		printf("%s: %ld cloexec %d bytes ", what, got, fcntl(fd, F_GETFD));           \
		hex(b, sizeof b);                                                             \
		printf("\n");                                                                 \
		close(fd);                                                                    \
	} while (0)
	TRY("open", raw(SYS_open, dev, O_RDONLY));
	TRY("again", raw(SYS_open, dev, O_RDONLY));
	TRY("openat", raw(SYS_openat, AT_FDCWD, dev, O_RDONLY));
	TRY("openat dirfd", raw(SYS_openat, dirfd, base, O_RDONLY | O_CLOEXEC));
	TRY("openat2", raw(SYS_openat2, dirfd, base, &how, sizeof how));
	TRY("symlink", raw(SYS_open, link, O_RDONLY));
	TRY("symlink nofollow", raw(SYS_open, link, O_RDONLY | O_NOFOLLOW));
	TRY("nofollow", raw(SYS_open, dev, O_RDONLY | O_NOFOLLOW));
	TRY("O_RDWR", raw(SYS_open, dev, O_RDWR));
	TRY("O_NONBLOCK", raw(SYS_open, dev, O_RDONLY | O_NONBLOCK));
	TRY("O_CREAT", raw(SYS_open, dev, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600));
	TRY("O_CREAT and O_EXCL", raw(SYS_open, dev, O_RDWR | O_CREAT | O_EXCL, 0600));
	TRY("O_DIRECTORY", raw(SYS_open, dev, O_RDONLY | O_DIRECTORY));
	snprintf(path, sizeof path, "%s/", dev);
	TRY("slash", raw(SYS_open, path, O_RDONLY));
	if (chdir("/proc"))
		die("chdir");
	snprintf(path, sizeof path, "../dev/./%s", base);
	TRY("relative", raw(SYS_open, path, O_RDONLY));
	snprintf(path, sizeof path, "/proc/self/root/dev/%s", base);
	TRY("root", raw(SYS_open, path, O_RDONLY));
	if (chdir("/dev"))
		die("chdir");
	snprintf(path, sizeof path, "/proc/self/cwd/%s", base);
	TRY("cwd", raw(SYS_open, path, O_RDONLY));

	static const char text[100000];
	fd = open(dev, O_RDWR);
	say("write", raw(SYS_write, fd, text, sizeof text));
	say("write again", raw(SYS_write, fd, text, sizeof text));
	say("read after write", raw(SYS_read, fd, b, sizeof b));
	say("read 0", raw(SYS_read, fd, b, 0));
	say("read bad", raw(SYS_read, fd, 1, 16));
	close(fd);

	static char mega[1 << 20];
	fd = open(dev, O_RDONLY);
	say("read 1 MiB", raw(SYS_read, fd, mega, sizeof mega));
	struct { void *base; size_t len; } iov[2] = {{mega, 1000}, {mega + 1000, sizeof mega - 1000}};
	say("readv 1 MiB", raw(SYS_readv, fd, iov, 2));
	say("read 1 MiB again", raw(SYS_read, fd, mega, sizeof mega));
	close(fd);
}

// ready tells whether a device that was just opened can be read at once.
static void ready(const char *dev)
{
	static char mega[1 << 20];
	int notReady = 0, shorter = 0, eagain = 0;
	for (int i = 0; i < 100; i++) {
		int fd = open(dev, O_RDONLY | O_NONBLOCK);
		struct pollfd p = {fd, POLLIN, 0};
		if (poll(&p, 1, 0) != 1)
			notReady++;
		long n = raw(SYS_read, fd, mega, i % 2 ? sizeof mega : 16);
		if (n == -EAGAIN)
			eagain++;
		else if (n != (i % 2 ? (long)sizeof mega : 16))
			shorter++;
		close(fd);
	}
	printf("not ready %d, EAGAIN %d, shorter %d\n", notReady, eagain, shorter);
}

static void endless(const char *dev, long size)
{
	static char b[100000];
	int fd = open(dev, O_RDONLY);
	uint64_t h = 0;
	long sum = 0;
	while (sum < size) {
		long n = read(fd, b, sizeof b);
		if (n != sizeof b) {
			printf("read returned %ld after %ld bytes\n", n, sum);
			return;
		}
		h = hash(h, b, 64);
		sum += n;
	}
	printf("%ld bytes %016lx\n", sum, h);
}

int main(int argc, char **argv)
{
	const char *what = argv[1], *arg = argc > 2 ? argv[2] : "";
	if (!strcmp(what, "draw"))
		draw(arg);
	else if (!strcmp(what, "sizes"))
		sizes();
	else if (!strcmp(what, "errors"))
		errors();
	else if (!strcmp(what, "stream"))
		stream(atoi(arg), argc > 3);
	else if (!strcmp(what, "device"))
		device(arg, argv[3]);
	else if (!strcmp(what, "ready"))
		ready(arg);
	else if (!strcmp(what, "endless"))
		endless(arg, atol(argv[3]));
	else
		return 99;
	return 0;
}

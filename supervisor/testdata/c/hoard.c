// hoard KIND M has M MiB of memory that no process has mapped, and keeps it for ever; with a
// further argument it gives that back, does so ten times, and ends.
#define _GNU_SOURCE
#include "raw.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define MIB (1 << 20)

static int once, size;
static char block[MIB];

static void fill(int fd)
{
	for (int i = 0; i < size; i++)
		if (write(fd, block, MIB) != MIB)
			die("write");
}

static int memory(void)
{
	int fd = memfd_create("hoard", 0);
	if (fd < 0)
		die("memfd_create");
	fill(fd);
	return fd;
}

static void hoard_file(void)
{
	int fd = memory();
	while (!once)
		pause();
	close(fd);
}

static void hoard_mapped(void) // counts once
{
	int fd = memory();
	char *p = mmap(0, (size_t)size * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memset(p, 2, (size_t)size * MIB);
	for (int i = 0; i < 3; i++)
		if (fork() == 0) {
			memset(p, 3, (size_t)size * MIB);
			_exit(0);
		}
	while (wait(0) > 0)
		;
	while (!once)
		pause();
	munmap(p, (size_t)size * MIB);
	close(fd);
}

static void hoard_sent(void)
{
	int pair[2], fd = memory();
	char control[CMSG_SPACE(sizeof fd)] = {0};
	struct iovec v = {"x", 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || sendmsg(pair[0], &m, 0) != 1)
		die("sendmsg");
	close(fd);
	while (!once)
		pause();
	close(pair[0]), close(pair[1]);
}

static void hoard_segment(void)
{
	int id = shmget(IPC_PRIVATE, (size_t)size * MIB, 0600);
	char *p = shmat(id, 0, 0);
	if (p == (char *)-1)
		die("shmat");
	memset(p, 1, (size_t)size * MIB);
	if (!once)
		shmdt(p);
	while (!once)
		pause();
	shmctl(id, IPC_RMID, 0);
	shmdt(p);
}

static void hoard_deleted(void)
{
	int fd = open("/dev/shm/hoard", O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || unlink("/dev/shm/hoard"))
		die("/dev/shm");
	fill(fd);
	while (!once)
		pause();
	close(fd);
}

static void hoard_named(void)
{
	int fd = open("/dev/shm/hoard", O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		die("/dev/shm");
	fill(fd);
	while (!once)
		pause();
	unlink("/dev/shm/hoard");
	close(fd);
}

static void hoard_tables(void) // a page of tables for each 2 MiB
{
	size_t all = (size_t)size * 256 * 2 * MIB;
	char *p = mmap(0, all, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		die("mmap");
	madvise(p, all, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < all; i += 2 * MIB)
		(void)*(volatile char *)(p + i);
	while (!once)
		pause();
	munmap(p, all);
}

static void hoard_spawned(void) // who borrows another's memory (vfork) has none
{
	char *p = malloc((size_t)size * MIB);
	memset(p, 1, (size_t)size * MIB);
	for (int i = 0; i < 100; i++) {
		pid_t pid = vfork();
		if (pid == 0) {
			execl("/bin/true", "true", (char *)0);
			_exit(1);
		}
		waitpid(pid, 0, 0);
	}
	free(p);
}

int main(int argc, char **argv)
{
	static const struct { const char *name; void (*f)(void); } kinds[] = {
		{"file", hoard_file}, {"mapped", hoard_mapped}, {"sent", hoard_sent}, {"segment", hoard_segment}, {"deleted", hoard_deleted},
		{"named", hoard_named}, {"tables", hoard_tables}, {"spawned", hoard_spawned},
	};
	if (argc < 3)
		die("usage");
	size = atoi(argv[2]), once = argc > 3;
	memset(block, 1, sizeof block);
	for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(kinds[i].name, argv[1])) {
			for (int n = 0; n < (once ? 10 : 1); n++)
				kinds[i].f();
			printf("done\n");
			return 0;
		}
	die("kind");
}

// What programs do to pipes, sockets and memory, by descriptors and by the links to them in
// /proc. With an argument, numbers and times as well.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int numbers;
static char path[64];
static const char *volatile none; // the compiler knows that it must not be

#define SAY(call)                                                                                  \
	do {                                                                                       \
		errno = 0;                                                                         \
		long r = (long)(call);                                                             \
		printf("  %s = %ld %s\n", #call, r, r < 0 ? strerrorname_np(errno) : "");          \
	} while (0)

#define OPENS(flags)                                                                               \
	do {                                                                                       \
		int fd = open(path, flags);                                                        \
		printf("  open %s %s\n", #flags, fd < 0 ? strerrorname_np(errno) : "opens");       \
		if (fd >= 0)                                                                       \
			close(fd);                                                                 \
	} while (0)

static void show(int fd)
{
	struct stat st;
	char link[64] = "";
	SAY(fstat(fd, &st));
	printf("  mode %o, links %ld, of %d:%d, %ld bytes\n", st.st_mode, (long)st.st_nlink, st.st_uid, st.st_gid, (long)st.st_size);
	if (!numbers)
		return;
	if (readlink(path, link, sizeof link - 1) < 0)
		perror(path);
	printf("  %s, device %lx, inode %ld, times %ld.%09ld %ld.%09ld %ld\n", link, (long)st.st_dev, (long)st.st_ino, (long)st.st_atime,
	       st.st_atim.tv_nsec, (long)st.st_mtime, st.st_mtim.tv_nsec, (long)st.st_ctime);
}

static void attributes(int fd)
{
	struct timespec times[2] = {{1000, 5}, {2000, 7}};
	struct stat st;
	char b[100];
	SAY(fchmod(fd, 0640));
	show(fd);
	SAY(chmod(path, 0600));
	show(fd);
	SAY(fchown(fd, -1, -1));
	SAY(fchown(fd, getuid(), getgid()));
	SAY(fchown(fd, 12345, -1));
	show(fd);
	SAY(fchown(fd, getuid(), -1));
	SAY(chown(path, getuid(), -1));
	SAY(futimens(fd, times));
	SAY(fstat(fd, &st));
	if (S_ISREG(st.st_mode))
		printf("  times %ld.%09ld %ld.%09ld\n", (long)st.st_atime, st.st_atim.tv_nsec, (long)st.st_mtime, st.st_mtim.tv_nsec);
	SAY(utimensat(AT_FDCWD, path, NULL, 0));
	SAY(utimensat(fd, none, times, AT_SYMLINK_NOFOLLOW));
	SAY(utimensat(fd, none, times, AT_EMPTY_PATH));
	SAY(utimensat(fd, "", times, AT_EMPTY_PATH));
	SAY(truncate(path, 5));
	show(fd);
	SAY(fsetxattr(fd, "user.a", "b", 1, 0));
	SAY(fgetxattr(fd, "user.a", b, sizeof b));
	SAY(flistxattr(fd, b, sizeof b));
	SAY(fgetxattr(fd, "user.a", b, 0));
	SAY(fremovexattr(fd, "user.a"));
	SAY(setxattr(path, "user.x", "yz", 2, 0));
	SAY(getxattr(path, "user.x", b, 1));
	SAY(getxattr(path, "user.x", b, sizeof b));
	SAY(fgetxattr(fd, "system.sockprotoname", b, sizeof b));
}

static void by_path(int fd)
{
	SAY(access(path, R_OK));
	SAY(access(path, W_OK));
	SAY(access(path, X_OK));
	OPENS(O_RDWR);
	OPENS(O_RDONLY | O_NONBLOCK);
	OPENS(O_WRONLY | O_TRUNC | O_NONBLOCK);
	OPENS(O_PATH);
	show(fd);
	SAY(rmdir(path));
	SAY(unlink(path));
	SAY(rename(path, "/tmp/other"));
	SAY(link(path, "/tmp/other"));
	SAY(linkat(AT_FDCWD, path, AT_FDCWD, "/tmp/other", AT_SYMLINK_FOLLOW));
	SAY(mkdir(path, 0));
	SAY(symlink("x", path));
	SAY(mknod(path, S_IFREG, 0));
}

static void try(const char *what, int fd)
{
	puts(what);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	show(fd);
	attributes(fd);
	by_path(fd);
}

// no_path asks without a path (Linux 6.11).
static int no_path(void)
{
	static const int dirfds[] = {AT_FDCWD, 0, -1, 99}, flags[] = {AT_EMPTY_PATH, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, 0};
	struct stat st;
	struct statx stx;
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 3; j++) {
			printf("%d %x\n", dirfds[i], flags[j]);
			SAY(fstatat(dirfds[i], none, &st, flags[j]));
			SAY(statx(dirfds[i], none, flags[j], STATX_ALL, &stx));
			SAY(faccessat(dirfds[i], none, 0, flags[j]));
		}
	return 0;
}

int main(int argc, char **argv)
{
	numbers = argc > 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && !strcmp(argv[1], "no path"))
		return no_path();
	int memory = memfd_create("m", MFD_ALLOW_SEALING), ends[2], s = socket(AF_UNIX, SOCK_STREAM, 0);
	if (memory < 0 || pipe(ends) || s < 0 || write(memory, "hello, world", 12) != 12)
		return 1;
	try("memory", memory);
	try("a pipe to read", ends[0]);
	try("a pipe to write", ends[1]);
	try("a socket", s);

	puts("memory that is open to read");
	int only = open("/proc/self/fd/3", O_RDONLY);
	snprintf(path, sizeof path, "/proc/self/fd/%d", only);
	OPENS(O_RDWR);
	OPENS(O_WRONLY | O_TRUNC);
	SAY(fchmod(only, 0));
	OPENS(O_RDONLY);
	SAY(fchmod(memory, 0600));

	if (getuid() == 0 && setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0) {
		puts("of somebody else");
		for (int fd = memory; fd <= s; fd++) {
			snprintf(path, sizeof path, "/dev/fd/%d", fd);
			SAY(fchmod(fd, 0777));
			SAY(fchown(fd, 65534, -1));
			SAY(futimens(fd, NULL));
			SAY(fsetxattr(fd, "user.a", "b", 1, 0));
			SAY(access(path, R_OK));
			OPENS(O_RDONLY | O_NONBLOCK);
		}
	}
	return 0;
}

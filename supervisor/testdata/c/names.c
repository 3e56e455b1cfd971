// What programs that ask about files many times are told, when something changes meanwhile.
// It runs in a directory with the files one, two, sub/in, the links link -> sub and
// alias -> one, and nothing else.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANY 200

static char here[4096];

// ask asks about a path, so often that all but the first answers needn't be asked for, and says
// what they are: they must be the same.
static void ask(const char *what, const char *path)
{
	struct stat st, first;
	for (int i = 0; i < MANY; i++) {
		memset(&st, 0, sizeof st);
		int r = lstat(path, &st) ? errno : 0;
		if (i == 0) {
			first = st;
			printf("%s: lstat %s: %d mode %o size %ld\n", what, path, r, st.st_mode, S_ISDIR(st.st_mode) ? 0 : (long)st.st_size);
		} else if (memcmp(&first, &st, sizeof st)) {
			printf("%s: lstat %s says something else the %d. time\n", what, path, i + 1);
			return;
		}
	}
	char target[100];
	int n = readlink(path, target, sizeof target);
	int links = n < 0 ? errno : 0;
	int follow = stat(path, &st) ? errno : 0;
	int may = access(path, R_OK) ? errno : 0, runs = access(path, X_OK) ? errno : 0;
	int fd = open(path, O_RDONLY), opens = fd < 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
	printf("%s: %s: stat %d access %d %d open %d readlink %d %.*s\n", what, path, follow, may, runs, opens, links, n < 0 ? 0 : n, target);
}

static void touch(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("touch %s: %s\n", path, strerror(errno));
	close(fd);
}

static void fails(const char *what, int r)
{
	if (r)
		printf("%s: %s\n", what, strerror(errno));
}

// changes makes each kind of change to what was asked about.
static void changes(void)
{
	const char *all[] = {"one", "two", "sub", "sub/in", "link", "link/in", "alias", "none", "sub/none", "sub/../one", "./sub/.", "one/", "one/more", "..", "link/../two"};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		ask("as it was", all[i]);
	touch("one", "longer than it was");
	ask("written", "one");
	ask("written", "alias");
	ask("written beside", "two");
	fails("chmod", chmod("two", 0));
	ask("chmod", "two");
	fails("unlink", unlink("two"));
	ask("unlink", "two");
	touch("none", "new");
	ask("created", "none");
	fails("link", link("one", "second"));
	ask("linked", "second");
	fails("rename", rename("none", "moved"));
	ask("renamed", "none");
	ask("renamed", "moved");
	fails("mkdir", mkdir("dir", 0755));
	ask("made", "dir");
	ask("made", "dir/none");
	touch("dir/none", "x");
	ask("created in it", "dir/none");
	fails("rename sub", rename("sub", "bus"));
	ask("moved", "sub/in");
	ask("moved", "bus/in");
	ask("moved", "link/in");
	fails("symlink", symlink("bus", "sub"));
	ask("link in its place", "sub/in");
	ask("link to link", "link/in");
	fails("unlink sub", unlink("sub"));
	fails("mkdir sub", mkdir("sub", 0755));
	ask("empty in its place", "sub/in");
	ask("empty in its place", "link/in");
	fails("exchange", syscall(SYS_renameat2, AT_FDCWD, "sub", AT_FDCWD, "bus", 2));
	ask("exchanged", "sub/in");
	ask("exchanged", "bus/in");
	fails("chmod bus", chmod("sub", 0600));
	ask("nobody searches", "sub/in");
	fails("chmod bus", chmod("sub", 0755));
	ask("everybody does", "sub/in");
	fails("unlink", unlink("sub/in"));
	fails("rmdir", rmdir("sub"));
	ask("removed", "sub");
	ask("removed", "link");
	fails("rename over", rename("moved", "one"));
	ask("renamed over", "one");
	ask("renamed over", "alias");
}

static void *inThread(void *arg)
{
	(void)arg;
	fails("unshare", unshare(CLONE_FS));
	fails("chdir in thread", chdir("dir"));
	ask("in thread", "none");
	return NULL;
}

static char stack[1 << 16] __attribute__((aligned(16)));

static int sharer(void *arg)
{
	fails("chdir for both", chdir(arg));
	return 0;
}

// places changes working directories.
static void places(void)
{
	fails("mkdir", mkdir("dir", 0755));
	touch("dir/none", "x");
	ask("at first", "none");
	ask("at first", "dir/none");
	fails("chdir", chdir("dir"));
	ask("in it", "none");
	ask("in it", "../one");
	fails("rename", rename("../dir", "../rid"));
	ask("moved under it", "none");
	ask("moved under it", "../one");
	fails("chdir", chdir(here));
	ask("back", "one");
	fails("rename", rename("rid", "dir"));
	fflush(stdout);
	if (!fork()) {
		ask("in child", "none");
		fails("chdir", chdir("dir"));
		ask("in child", "none");
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	ask("in parent", "none");
	pid_t pid = vfork();
	if (!pid) {
		struct stat st;
		chdir("dir");
		for (int i = 0; i < MANY; i++)
			if (lstat("none", &st))
				_exit(1);
		_exit(0);
	}
	int status;
	waitpid(pid, &status, 0);
	printf("vfork: %d\n", status);
	ask("after vfork", "none");
	fflush(stdout);
	pid = clone(sharer, stack + sizeof stack, CLONE_FS | SIGCHLD, "dir");
	waitpid(pid, &status, 0);
	ask("moved by another", "none");
	fails("chdir", chdir(here));
	ask("back", "none");
	pid = clone(sharer, stack + sizeof stack, CLONE_FS | CLONE_VM | SIGCHLD, "dir");
	waitpid(pid, &status, 0);
	ask("moved by one in its memory", "none");
	fails("chdir", chdir(here));
	pthread_t th;
	pthread_create(&th, NULL, inThread, NULL);
	pthread_join(th, NULL);
	ask("beside a thread elsewhere", "none");
}

static volatile int done;

static void *moves(void *arg)
{
	while (!done) {
		chdir(arg);
		chdir(here);
	}
	return NULL;
}

static void *asks(void *arg)
{
	struct stat st;
	(void)arg;
	while (!done) {
		lstat("none", &st);
		lstat("one", &st);
	}
	return NULL;
}

static int elsewhere(void *arg)
{
	struct stat st;
	fails("chdir", chdir(arg));
	for (int i = 0; i < 10; i++)
		sched_yield();
	for (int i = 0; i < MANY; i++)
		if (lstat("none", &st) || !lstat("one", &st))
			_exit(1);
	_exit(0);
}

// concurrent has children while others move or ask. dir has none, and not one.
static void concurrent(void)
{
	char dir[4200];
	pthread_t mover, asker;
	int status, wrong = 0;
	fails("mkdir", mkdir("dir", 0755));
	touch("dir/none", "x");
	snprintf(dir, sizeof dir, "%s/dir", here);
	ask("at first", "one");
	pthread_create(&asker, NULL, asks, NULL);
	for (int i = 0; i < 50; i++) {
		pid_t pid = clone(elsewhere, stack + sizeof stack, CLONE_VM | (i % 2 ? CLONE_VFORK : 0) | SIGCHLD, dir);
		waitpid(pid, &status, 0);
		wrong += status != 0;
	}
	printf("beside who asks: %d\n", wrong);
	pthread_create(&mover, NULL, moves, dir);
	for (int i = wrong = 0; i < 200; i++) {
		pid_t pid = fork();
		if (!pid) {
			char at[4200];
			struct stat st;
			int in = syscall(SYS_getcwd, at, sizeof at) > 0 && !strcmp(at, dir);
			int none = lstat("none", &st) == 0, one = lstat("one", &st) == 0;
			_exit(none != in || one == in);
		}
		waitpid(pid, &status, 0);
		wrong += status != 0;
	}
	printf("beside who moves: %d\n", wrong);
	done = 1;
	pthread_join(mover, NULL);
	pthread_join(asker, NULL);
}

static volatile int caught;
static void onSEGV(int sig) { caught = sig; }

// askAt asks about a name in an open directory.
static void askAt(const char *what, int dir, const char *name)
{
	struct stat st, first;
	for (int i = 0; i < MANY; i++) {
		memset(&st, 0, sizeof st);
		int r = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) ? errno : 0;
		if (i == 0) {
			first = st;
			printf("%s: lstat %s: %d mode %o size %ld\n", what, name, r, st.st_mode, S_ISDIR(st.st_mode) ? 0 : (long)st.st_size);
		} else if (memcmp(&first, &st, sizeof st)) {
			printf("%s: fstatat %s says something else the %d. time\n", what, name, i + 1);
			return;
		}
	}
	printf("%s: %s: access %d\n", what, name, faccessat(dir, name, R_OK, 0) ? errno : 0);
}

// list prints the names in an open directory, from where it stands.
static void list(const char *what, DIR *d)
{
	printf("%s:", what);
	for (struct dirent *e; (e = readdir(d));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			printf(" %s", e->d_name);
	printf("\n");
}

// descriptors begins paths at open directories.
static void descriptors(void)
{
	int here = open(".", O_RDONLY | O_DIRECTORY), sub = open("sub", O_RDONLY | O_DIRECTORY), file = open("one", O_RDONLY);
	askAt("at first", here, "one");
	askAt("at first", here, "sub/in");
	askAt("at first", here, "none");
	askAt("at first", sub, "in");
	askAt("at first", sub, "none");
	askAt("at first", sub, "../two");
	askAt("a file", file, "in");
	askAt("a file", file, "/");
	askAt("closed", 99, "in");
	askAt("negative", -5, "in");
	DIR *d = fdopendir(dup(sub));
	list("listed", d);
	askAt("listed", sub, "in");
	rewinddir(d);
	askAt("rewound", sub, "in");
	list("again", d);
	askAt("listed again", sub, "in");
	char text[1000], *pos;
	snprintf(text, sizeof text, "/proc/self/fdinfo/%d", here);
	int info = open(text, O_RDONLY);
	int n = read(info, text, sizeof text - 1);
	text[n < 0 ? 0 : n] = 0;
	if ((pos = strstr(text, "pos:")))
		printf("%.*s\n", (int)strcspn(pos, "\n"), pos);
	touch("sub/none", "new");
	askAt("created", sub, "none");
	fails("rename", rename("sub", "bus"));
	askAt("moved", sub, "in");
	askAt("moved", here, "sub/in");
	askAt("moved", here, "bus/in");
	askAt("moved", sub, "../one");
	fails("mkdir", mkdir("sub", 0755));
	askAt("moved", here, "sub/in");
	int empty = openat(here, "sub", O_RDONLY | O_DIRECTORY);
	askAt("empty", empty, "in");
	dup2(empty, sub);
	askAt("another of its number", sub, "in");
	fails("unlink", unlinkat(here, "bus/in", 0));
	fails("unlink", unlinkat(here, "bus/none", 0));
	fails("rmdir", rmdir("bus"));
	askAt("removed", dirfd(d), "in");
	askAt("removed", dirfd(d), "../one");
	int path = open("sub", O_PATH);
	askAt("by its path", path, "../one");
}

// paths are odd ones.
static void paths(void)
{
	static char text[6000];
	fails("symlink", symlink("one/", "slashed"));
	fails("symlink", symlink("sub/../sub/./in", "winding"));
	fails("symlink", symlink(".", "dot"));
	memset(text, 'x', 4010);
	for (int i = 200; i < 4010; i += 200)
		text[i] = '/';
	fails("symlink", symlink(text, "far"));
	for (int again = 0; again < 2; again++) {
		ask("link to a file", "alias");
		ask("link to a file", "alias/");
		ask("link to a file", "alias/more");
		ask("with a slash", "slashed");
		ask("winding", "winding");
		ask("far", "far");
		struct stat st;
		for (int n = 39; n < 43; n++) {
			text[0] = 0;
			for (int i = 0; i < n; i++)
				strcat(text, "dot/");
			strcat(text, "one");
			printf("%d links: %d %d\n", n, stat(text, &st), errno);
		}
		memset(text, 'x', 256);
		text[256] = 0;
		printf("a long name: %d %d\n", stat(text, &st), errno);
		memset(text, '/', 5000);
		text[5000] = 0;
		printf("slashes: %d %d\n", stat(text, &st), errno);
		memcpy(text, "none", 4);
		printf("none and slashes: %d %d\n", stat(text, &st), errno);
		printf("temporary: %d %d\n", open("none", O_TMPFILE | O_RDONLY), errno);
		printf("emptied: %d %d\n", open("none", O_WRONLY | O_TRUNC), errno);
	}
}

static int known(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// rest lists what an open directory has from where it stands on, a few names at a time, and
// prints how many and which are first and last by name.
static void rest(const char *what, int fd)
{
	static char *names[2000], buf[512];
	int n = 0;
	for (long got; (got = syscall(SYS_getdents64, fd, buf, sizeof buf)) > 0;)
		for (long at = 0; at < got; at += *(unsigned short *)(buf + at + 16))
			if (buf[at + 19] != '.')
				names[n++] = strdup(buf + at + 19);
	qsort(names, n, sizeof *names, known);
	printf("%s: %d names %s %s, then %ld %ld\n", what, n, n ? names[0] : "", n ? names[n - 1] : "",
	       syscall(SYS_getdents64, fd, buf, sizeof buf), syscall(SYS_getdents64, fd, buf, sizeof buf));
	while (n)
		free(names[--n]);
}

static void fstats(const char *what, int fd)
{
	struct stat st, other;
	for (int i = 0; i < MANY; i++) {
		memset(&st, 0, sizeof st);
		if (fstat(fd, &st) || syscall(SYS_newfstatat, fd, "", &other, AT_EMPTY_PATH) || st.st_ino != other.st_ino || st.st_mode != other.st_mode) {
			printf("%s: fstat: %s\n", what, strerror(errno));
			return;
		}
	}
	printf("%s: fstat: mode %o\n", what, st.st_mode);
}

// listings lists directories while they change.
static void listings(void)
{
	char name[100];
	mkdir("many", 0755);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "many/n%03d", i);
		touch(name, "x");
	}
	for (int i = 0; i < 5; i++) {
		int fd = open("many", O_RDONLY | O_DIRECTORY);
		fstats("many", fd);
		rest("whole", fd);
		fstats("listed", fd);
		lseek(fd, 0, SEEK_SET);
		rest("once more", fd);
		close(fd);
		int sub = open("sub", O_RDONLY | O_DIRECTORY);
		rest("sub", sub);
		fstats("sub", sub);
		close(sub);
	}
	int first = open("many", O_RDONLY | O_DIRECTORY), second = open("many", O_RDONLY | O_DIRECTORY);
	int both = dup(second);
	rest("first", first);
	touch("many/more", "x");
	rest("second", second);
	rest("the same", both);
	int third = open("many", O_RDONLY | O_DIRECTORY);
	rest("third", third);
	unlink("many/n000");
	unlink("many/n001");
	rest("first at its end", first);
	int fourth = open("many", O_RDONLY | O_DIRECTORY);
	rest("fourth", fourth);
	fails("chmod", fchmod(fourth, 0700));
	fstats("changed", fourth);
	fails("rename", rename("many", "lot"));
	fstats("moved", fourth);
	rest("moved", fourth);
	fflush(stdout);
	if (!fork()) {
		rest("in child", open("lot", O_RDONLY | O_DIRECTORY));
		rest("inherited", fourth);
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	int file = open("one", O_RDONLY), gone = open("sub", O_RDONLY | O_DIRECTORY);
	fstats("a file", file);
	printf("list a file: %ld %d\n", syscall(SYS_getdents64, file, name, 100), errno);
	rest("sub", gone);
	unlink("sub/in");
	rmdir("sub");
	printf("list what is gone: %ld %d\n", syscall(SYS_getdents64, gone, name, 100), errno);
	fstats("gone", gone);
	printf("closed: %ld %d\n", syscall(SYS_getdents64, 99, name, 100), errno);
}

// filtered gets a filter that doesn't let it ask.
static void filtered(void)
{
	struct sock_filter refuse[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_newfstatat, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
	};
	struct sock_fprog prog = {sizeof refuse / sizeof *refuse, refuse};
	ask("without", "one");
	fails("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	fflush(stdout);
	if (!fork()) {
		fails("seccomp", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog));
		ask("with", "one");
		if (!fork()) {
			ask("with", "two");
			fflush(stdout);
			_exit(0);
		}
		wait(NULL);
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	ask("without", "two");
	fails("prctl", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
	ask("with", "sub");
}

static char *volatile nothing;

// pointers hands over memory that isn't there.
static void pointers(void)
{
	struct stat st;
	signal(SIGSEGV, onSEGV);
	signal(SIGBUS, onSEGV);
	ask("at first", "one");
	char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(two + 4096, 4096);
	char *end = two + 4096 - 4;
	strcpy(end, "one");
	printf("at the end of a page: %d\n", stat(end, &st));
	memcpy(end, "none", 4);
	printf("beyond it: %d %d\n", lstat(end, &st), errno);
	printf("no path: %d %d\n", stat(nothing, &st), errno);
	printf("no such path: %d %d\n", access((char *)16, F_OK), errno);
	printf("no canonical path: %d %d\n", access((char *)0x1234567812345678, F_OK), errno);
	printf("no buffer: %d %d\n", stat("one", (void *)nothing), errno);
	printf("too little of a buffer: %d %d\n", stat("one", (void *)(two + 4096 - 100)), errno);
	printf("no buffer for a target: %d %d\n", (int)readlink("alias", nothing, 10), errno);
	printf("a path that isn't: %d %d\n", open(nothing, O_RDONLY), errno);
	ask("afterwards", "one");
	printf("caught %d\n", caught);
	raise(SIGSEGV);
	printf("then %d\n", caught);
	signal(SIGSEGV, SIG_DFL);
	fflush(stdout);
	*(volatile char *)nothing = 0;
}

// others becomes somebody else.
static void others(void)
{
	fails("mkdir", mkdir("dir", 0700));
	touch("dir/file", "x");
	chmod("one", 0600);
	ask("as root", "sub/in");
	ask("as root", "secret/in");
	ask("as root", "private");
	fails("chown", chown("secret", 1000, 1000));
	fails("chown", chown("private", 1000, 1000));
	ask("as root", "secret/in");
	fflush(stdout);
	if (!fork()) {
		prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0);
		prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH, 0, 0, 0);
		execl("/proc/self/exe", "names", "weak", NULL);
		_exit(1);
	}
	wait(NULL);
	if (setresuid(65534, 65534, 65534))
		printf("setresuid: %s\n", strerror(errno));
	ask("as nobody", "sub/in");
	ask("as nobody", "secret/in");
	ask("as nobody", "private");
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	if (!getcwd(here, sizeof here) || argc < 2)
		return 2;
	for (int i = 0; i < 20; i++) // whoever asks seldom is not told
		access("one", F_OK);
	if (!strcmp(argv[1], "changes"))
		changes();
	if (!strcmp(argv[1], "concurrent"))
		concurrent();
	if (!strcmp(argv[1], "places"))
		places();
	if (!strcmp(argv[1], "pointers"))
		pointers();
	if (!strcmp(argv[1], "descriptors"))
		descriptors();
	if (!strcmp(argv[1], "paths"))
		paths();
	if (!strcmp(argv[1], "listings"))
		listings();
	if (!strcmp(argv[1], "filtered"))
		filtered();
	if (!strcmp(argv[1], "weak")) {
		ask("without a capability", "secret/in");
		ask("without a capability", "private");
		ask("without a capability", "one");
	}
	if (!strcmp(argv[1], "others"))
		others();
	return 0;
}

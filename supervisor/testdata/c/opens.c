// A program that wants to open by openat2(2) what isn't to be opened, by a path of its own
// where those that the supervisor has placed lie. It prints what has come of each attempt, and
// 0 where a descriptor of the file was the result.
#include "raw.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>

#define PATHS 0x7e9000000000L
#define SIZE (16L << 20)
#define SLOT 128
#define FIRST 16 // slots that say how

static const char *wanted;

// opened tries to open the file by the path that begins at, and how.
static long opened(long path, long how)
{
	long fd = raw(437, AT_FDCWD, path, how, 24);
	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

// taken has put memory of its own where the paths are, and uses it.
static long taken(long at)
{
	if (at != PATHS)
		return at < 0 ? at : -EFAULT;
	memset((void *)PATHS, 0, 24);
	strcpy((char *)PATHS + FIRST * SLOT, wanted);
	return opened(PATHS + FIRST * SLOT, PATHS);
}

static long maps(int fixed)
{
	return raw(SYS_mmap, PATHS, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
}

// told has the kernel say of a file where only what tells it apart is to be said.
static long told(void)
{
	return raw(SYS_fstat, 0, PATHS - 16);
}

static long toldElsewhere(void)
{
	long at = raw(SYS_mmap, PATHS - 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	return at < 0 ? at : told();
}

static long own(void)
{
	static char path[4096];
	static long how[3];
	strcpy(path, wanted);
	return opened((long)path, (long)how);
}

static long moved(void)
{
	void *own = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return taken(raw(SYS_mremap, own, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, PATHS));
}

static long attached(void)
{
	int id = shmget(IPC_PRIVATE, SIZE, 0600);
	long at = raw(SYS_shmat, id, PATHS, SHM_REMAP);
	shmctl(id, IPC_RMID, 0);
	return taken(at);
}

// inChild does so in a child that was to be made without the memory.
static long inChild(void)
{
	long err = raw(SYS_madvise, PATHS, SIZE, MADV_DONTFORK);
	pid_t pid = fork();
	if (!pid) {
		long child = taken(maps(MAP_FIXED_NOREPLACE));
		_exit(child < 0 ? -child : 0);
	}
	int status;
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	printf("without it for children: errno %ld\n", -err);
	return -WEXITSTATUS(status);
}

// anothers opens the memory of another process to write to it.
static void anothers(void)
{
	char name[64];
	pid_t pid = fork();
	if (!pid)
		for (;;)
			pause();
	snprintf(name, sizeof name, "/proc/%d/mem", pid);
	say("another's memory", open(name, O_RDWR) < 0 ? -errno : 0);
	int path = open(name, O_PATH);
	snprintf(name, sizeof name, "/proc/self/fd/%d", path);
	say("again", open(name, O_WRONLY) < 0 ? -errno : 0);
	snprintf(name, sizeof name, "/proc/%d/task/%d/mem", pid, pid);
	say("a thread's", open(name, O_WRONLY) < 0 ? -errno : 0);
	say("to read", open(name, O_RDONLY) < 0 ? -errno : 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	say("one's own", open("/proc/self/mem", O_RDWR) < 0 ? -errno : 0);
}

// filtered installs a filter that answers some calls itself as if they had succeeded.
static void filtered(const char *what)
{
	int map = !strcmp(what, "maps"), guard = !strcmp(what, "guard");
	struct sock_filter all[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, map ? SYS_mmap : 9999, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PATHS >> 32, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, map ? 462 /* mseal */ : guard ? SYS_seccomp : 9999, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof all / sizeof *all, all};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		die("filter");
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "filtered")) {
		filtered(argv[3]);
		argv[1] = strcmp(argv[3], "maps") ? "limited" : "next";
		argc = 3;
	}
	if (argc == 3 && !strcmp(argv[1], "next")) {
		execl(argv[0], argv[0], "map", argv[2], NULL);
		die("execl");
	}
	wanted = argv[2];
	if (argc == 3 && !strcmp(argv[1], "map")) {
		say("mapped", taken(maps(MAP_FIXED_NOREPLACE)));
		say("told", toldElsewhere());
		return 0;
	}
	if (argc == 3 && !strcmp(argv[1], "limited")) {
		struct rlimit most = {1 << 30, 1 << 30};
		if (setrlimit(RLIMIT_AS, &most))
			die("setrlimit");
		execl(argv[0], argv[0], "map", wanted, NULL);
		die("execl");
	}
	anothers();
	say("a path of one's own", own());
	say("within a path", opened(PATHS + FIRST * SLOT + 1, PATHS));
	say("how within how", opened(PATHS + FIRST * SLOT, PATHS + 8));
	say("how behind", opened(PATHS + FIRST * SLOT, PATHS + FIRST * SLOT));
	say("how it is opened as a path", opened(PATHS, PATHS));
	say("behind the last", opened(PATHS + SIZE - SLOT, PATHS));
	say("written to", raw(SYS_getrandom, PATHS + FIRST * SLOT, 8, 0));
	say("made writable", raw(SYS_mprotect, PATHS, SIZE, PROT_READ | PROT_WRITE));
	say("unmapped", raw(SYS_munmap, PATHS, SIZE));
	say("replaced", taken(maps(MAP_FIXED)));
	say("replaced, in pieces", taken(raw(SYS_mmap, PATHS, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)));
	say("mapped again", taken(maps(MAP_FIXED_NOREPLACE)));
	say("moved away", raw(SYS_mremap, PATHS, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, PATHS - SIZE));
	say("shortened", raw(SYS_mremap, PATHS, SIZE, 4096, 0));
	say("moved there", moved());
	say("attached", attached());
	say("arranged otherwise", raw(SYS_remap_file_pages, PATHS, 4096, 0, 1, 0));
	say("dropped", raw(SYS_madvise, PATHS, SIZE, MADV_DONTNEED) ?: opened(PATHS + SIZE - SLOT, PATHS));
	say("cut out", raw(SYS_madvise, PATHS, SIZE, MADV_REMOVE));
	say("told", told());
	say("replaced where it is told", raw(SYS_munmap, PATHS - 4096, 4096) ?: toldElsewhere());
	say("in a child", inChild());
	return 0;
}

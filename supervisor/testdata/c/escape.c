// escape NAME DIR PID TCP UDP ADDRESS KEY IDS makes one attempt to get out of the sandbox, and
// prints what came of it: 0 or more, or a negative errno. DIR is a directory of the host's,
// PID a process of the host's, TCP and UDP are ports at which it listens, also at ADDRESS,
// and KEY is what it calls things that have no path. IDS are those of its shared memory,
// semaphores and message queue of System V, of which PID is the key. The host's
// descriptors 3 (a file, to read), 4 (a directory), 5 (a socket, from which a descriptor
// comes) and 6 (a directory that is denied) are open.
//
// With N at the end, NAME is a race, which is run so many times.
#include "raw.h"
#include <arpa/inet.h>
#include <linux/capability.h>
#include <linux/fiemap.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/openat2.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>

static const char *dir, *address, *key;
static int pid, tcp, udp, shm, sem, msg;

// text formats one of a few strings.
static char *text(const char *format, ...)
{
	static char b[8][4096];
	static int next;
	char *s = b[next++ % 8];
	va_list args;
	va_start(args, format);
	vsnprintf(s, sizeof b[0], format, args);
	va_end(args);
	return s;
}

// in is a path in the host's directory.
static char *in(const char *name) { return text("%s/%s", dir, name); }

static long opens(const char *path, int flags) { return raw(SYS_open, path, flags, 0666); }

// writes opens a file and writes to it.
static long writes(const char *path, int flags)
{
	long fd = opens(path, flags);
	return fd < 0 ? fd : raw(SYS_write, fd, "escaped\n", 8);
}

// opensAt opens a path that begins at another.
static long opensAt(const char *start, const char *path, int flags)
{
	long fd = opens(start, O_PATH);
	return fd < 0 ? fd : raw(SYS_openat, fd, path, flags, 0666);
}

static long restricted(const char *start, const char *path, unsigned long resolve)
{
	unsigned long how[3] = {O_RDONLY, 0, resolve};
	long fd = opens(start, O_PATH);
	return fd < 0 ? fd : raw(SYS_openat2, fd, path, how, sizeof how);
}

static long goes(const char *path) { return raw(SYS_chdir, path); }

// linked opens a new symbolic link.
static long linked(const char *target, int flags)
{
	long err = raw(SYS_symlink, target, in("link"));
	return err ? err : writes(in("link"), flags);
}

static long executes(const char *path)
{
	char *argv[] = {(char *)path, 0};
	return raw(SYS_execve, path, argv, argv + 1);
}

// script executes a new script, of which the interpreter is a path.
static long script(const char *interpreter)
{
	const char *line = text("#!%s\n", interpreter);
	int fd = opens(in("script"), O_CREAT | O_WRONLY);
	if (fd < 0 || raw(SYS_fchmod, fd, 0755) || write(fd, line, strlen(line)) < 0)
		die("script");
	close(fd);
	return executes(in("script"));
}

// moved looks for what is denied after the directory in which it lies was moved.
static long moved(void)
{
	long err = raw(SYS_rename, in("parent"), in("other"));
	return err ? err : opens(in("other/denied/secret"), O_RDONLY);
}

// again opens a file that is open for reading, to write.
static long again(int fd, int flags) { return writes(text("/proc/self/fd/%d", fd), flags); }

static long reading(void)
{
	long fd = opens(in("file"), O_RDONLY);
	if (fd < 0)
		die("file");
	return fd;
}

// pokes writes to memory of its own that can't be written to, the way debuggers do.
static long pokes(void *at)
{
	int fd = opens("/proc/self/mem", O_RDWR);
	return fd < 0 ? fd : raw(SYS_pwrite64, fd, "escaped\n", 8, (long)at);
}

static long splices(void)
{
	int p[2];
	if (pipe(p) || write(p[1], "x", 1) != 1)
		die("pipe");
	return raw(SYS_splice, p[0], 0, reading(), 0, 1, 0);
}

static long handle(void)
{
	struct file_handle h = {.handle_bytes = 0};
	return raw(SYS_open_by_handle_at, opens("/", O_RDONLY), &h, O_RDONLY);
}

static void *shared(void)
{
	void *p = mmap(0, 4096, PROT_READ, MAP_SHARED, reading(), 0);
	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

// page finds the first page of the memory that is shared with the supervisor: it is the only
// one that is shared, and code.
static char *page(void)
{
	char line[4096];
	unsigned long from;
	FILE *f = fopen("/proc/self/maps", "r");
	while (f && fgets(line, sizeof line, f))
		if (strstr(line, "r-xs") && sscanf(line, "%lx", &from) == 1)
			return (char *)from;
	die("the page isn't mapped");
	return 0;
}

// now tells whether a raw read of the clock is on the first day of 2000.
static long now(void)
{
	struct timespec ts = {0, 0};
	long err = raw(SYS_clock_gettime, CLOCK_REALTIME, &ts);
	return err ? err : ts.tv_sec / 86400 == 10957 ? 0 : -EBADE;
}

static long replaced(void)
{
	char *p = page();
	long at = raw(SYS_mmap, p, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	return at == (long)p ? now() : at;
}

static long moves(void)
{
	char *p = page();
	long at = raw(SYS_mremap, p, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, p - (1 << 30));
	return at < 0 ? at : now();
}

// mapped opens what is mapped, to write.
static long mapped(const char *what)
{
	char line[4096];
	unsigned long from, to;
	long fd = -EBADE;
	FILE *f = fopen("/proc/self/maps", "r");
	while (f && fd < 0 && fgets(line, sizeof line, f))
		if (strstr(line, what) && sscanf(line, "%lx-%lx", &from, &to) == 2)
			fd = opens(text("/proc/self/map_files/%lx-%lx", from, to), O_RDWR);
	return fd;
}

static long counter(void)
{
	uint32_t low, high;
	long err = raw(SYS_prctl, PR_SET_TSC, PR_TSC_ENABLE);
	if (err)
		return err;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return ((uint64_t)high << 32 | low) / 1000000000 == 3600 ? 0 : -EBADE;
}

// i386 makes a call by the interrupt, x32 is the bit of the other ABI.
static long i386(long nr, long a, long b)
{
	long ret;
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(a), "c"(b), "d"(0) : "r8", "r9", "r10", "r11", "memory");
	return (int)ret;
}

#define X32 0x40000000

// filters adds a filter of the program's own, which answers every call with an action.
static long filters(unsigned action, unsigned flags)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, action);
	struct sock_fprog prog = {1, &all};
	return raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

// filtersOne adds one that answers a single call.
static long filtersOne(unsigned nr, unsigned action)
{
	struct sock_filter list[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof list / sizeof *list, list};
	return raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog);
}

// dispatches lets system calls be dispatched to the program, but for all of them.
static long dispatches(void)
{
	static char off;
	return raw(SYS_prctl, 59, 1, 0, -1, &off); // PR_SET_SYSCALL_USER_DISPATCH
}

static long mounts(void) { return raw(SYS_mount, "none", in("sub"), "tmpfs", 0, 0); }

static long internet(int family, int kind, int protocol) { return raw(SYS_socket, family, kind, protocol); }

static struct sockaddr_in four(const char *host, int port)
{
	struct sockaddr_in a = {AF_INET, htons(port), {0}, ""};
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
		die(host);
	return a;
}

static struct sockaddr_in6 six(const char *host, int port)
{
	struct sockaddr_in6 a = {AF_INET6, htons(port), 0, IN6ADDR_ANY_INIT, 0};
	if (inet_pton(AF_INET6, host, &a.sin6_addr) != 1)
		die(host);
	return a;
}

static long connects(int kind, const char *host, int port)
{
	struct sockaddr_in a = four(host, port);
	return raw(SYS_connect, internet(AF_INET, kind, 0), &a, sizeof a);
}

static long connects6(int kind, const char *host, int port)
{
	struct sockaddr_in6 a = six(host, port);
	return raw(SYS_connect, internet(AF_INET6, kind, 0), &a, sizeof a);
}

// sends sends two datagrams: after the first, the second learns that nobody listens.
static long sends(int family, const void *to, socklen_t size)
{
	int fd = internet(family, SOCK_DGRAM, 0);
	long n = raw(SYS_sendto, fd, "escaped", 7, 0, to, size);
	if (n >= 0)
		n = raw(SYS_connect, fd, to, size);
	if (n >= 0)
		n = raw(SYS_write, fd, "escaped", 7);
	return n < 0 ? n : raw(SYS_write, fd, "escaped", 7);
}

static long sends4(const char *host, int port)
{
	struct sockaddr_in a = four(host, port);
	return sends(AF_INET, &a, sizeof a);
}

static long sends6(const char *host, int port)
{
	struct sockaddr_in6 a = six(host, port);
	return sends(AF_INET6, &a, sizeof a);
}

static long fastOpen(void)
{
	struct sockaddr_in a = four("127.0.0.1", tcp);
	return raw(SYS_sendto, internet(AF_INET, SOCK_STREAM, 0), "escaped", 7, MSG_FASTOPEN | MSG_NOSIGNAL, &a, sizeof a);
}

static long connectsFast(void)
{
	struct sockaddr_in a = four("127.0.0.1", tcp);
	int fd = internet(AF_INET, SOCK_STREAM, 0), on = 1;
	if (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on))
		return -ECONNREFUSED; // the host can't
	long err = raw(SYS_connect, fd, &a, sizeof a);
	return err ? err : raw(SYS_write, fd, "escaped", 7);
}

static long binds(const char *host, int option)
{
	struct sockaddr_in a = four(host, udp);
	int fd = internet(AF_INET, SOCK_DGRAM, 0), on = 1;
	if (option && setsockopt(fd, IPPROTO_IP, option, &on, sizeof on))
		return -errno;
	return raw(SYS_bind, fd, &a, sizeof a);
}

static socklen_t local(struct sockaddr_un *a, const char *path)
{
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	if (*path == '@') {
		memcpy(a->sun_path + 1, path + 1, strlen(path) - 1);
		return offsetof(struct sockaddr_un, sun_path) + strlen(path);
	}
	if (strlen(path) >= sizeof a->sun_path)
		die("the path is too long");
	strcpy(a->sun_path, path);
	return sizeof *a;
}

static long connectsLocal(int kind, const char *path)
{
	struct sockaddr_un a;
	socklen_t size = local(&a, path);
	return raw(SYS_connect, internet(AF_UNIX, kind, 0), &a, size);
}

static long bindsLocal(const char *path)
{
	struct sockaddr_un a;
	socklen_t size = local(&a, path);
	return raw(SYS_bind, internet(AF_UNIX, SOCK_STREAM, 0), &a, size);
}

static long sendsLocal(const char *path)
{
	struct sockaddr_un a;
	socklen_t size = local(&a, path);
	return raw(SYS_sendto, internet(AF_UNIX, SOCK_DGRAM, 0), "escaped", 7, 0, &a, size);
}

// sendsMessage does so by sendmsg, or sendmmsg.
static long sendsMessage(const char *path, int many)
{
	struct sockaddr_un a;
	socklen_t size = local(&a, path);
	struct iovec iov = {"escaped", 7};
	struct mmsghdr m = {{&a, size, &iov, 1, 0, 0, 0}, 0};
	int fd = internet(AF_UNIX, SOCK_DGRAM, 0);
	return many ? raw(SYS_sendmmsg, fd, &m, 1, 0) : raw(SYS_sendmsg, fd, &m.msg_hdr, 0);
}

// sendsFrom sends to a server of the sandbox's own, by an interface or from an address of
// the host's.
static long sendsFrom(int interface, const char *source, int many)
{
	struct sockaddr_in to = four("127.0.0.1", 4321);
	struct iovec iov = {"escaped", 7};
	struct in_pktinfo info = {.ipi_ifindex = interface};
	char control[CMSG_SPACE(sizeof info)] = {0};
	struct mmsghdr m = {{&to, sizeof to, &iov, 1, control, sizeof control, 0}, 0};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m.msg_hdr);
	int fd = internet(AF_INET, SOCK_DGRAM, 0);
	inet_aton(source, &info.ipi_spec_dst);
	*c = (struct cmsghdr){CMSG_LEN(sizeof info), IPPROTO_IP, IP_PKTINFO};
	memcpy(CMSG_DATA(c), &info, sizeof info);
	return many ? raw(SYS_sendmmsg, fd, &m, 1, 0) : raw(SYS_sendmsg, fd, &m.msg_hdr, 0);
}

// throughDescriptor connects to a socket by what a descriptor has open.
static long throughDescriptor(void)
{
	int fd = opens(in("socket"), O_PATH);
	return fd < 0 ? fd : connectsLocal(SOCK_STREAM, text("/proc/self/fd/%d", fd));
}

// routes asks for a route to be made, and returns what the answer says.
static long routes(void)
{
	struct {
		struct nlmsghdr h;
		struct rtmsg r;
		struct rtattr to;
		struct in_addr where;
	} ask = {{sizeof ask, RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, 1, 0},
		 {AF_INET, 32, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_HOST, RTN_BLACKHOLE, 0},
		 {sizeof(struct rtattr) + 4, RTA_DST},
		 {htonl(0xc0000277)}};
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char rest[256];
	} answer;
	int fd = internet(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	if (send(fd, &ask, sizeof ask, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < (int)sizeof(struct nlmsghdr))
		return -errno;
	return answer.h.nlmsg_type == NLMSG_ERROR ? answer.e.error : -EBADE;
}

static long interface(unsigned long request, const char *name)
{
	struct ifreq r = {0};
	strcpy(r.ifr_name, name);
	return raw(SYS_ioctl, internet(AF_INET, SOCK_DGRAM, 0), request, &r);
}

// received takes the descriptor that the host has sent.
static int received(void)
{
	char c, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {&c, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	if (recvmsg(5, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		die("recvmsg");
	return *(int *)CMSG_DATA(CMSG_FIRSTHDR(&m));
}

static long signals(int sig)
{
	long fd = raw(SYS_pidfd_open, pid, 0);
	return fd < 0 ? fd : raw(SYS_pidfd_send_signal, fd, sig, 0, 0);
}

static long queues(int thread)
{
	siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
	return thread ? raw(SYS_rt_tgsigqueueinfo, pid, pid, SIGUSR1, &info) : raw(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info);
}

// owned lets the kernel send a signal to who owns a pipe, when something is written.
static long owned(int owner)
{
	int p[2];
	if (pipe(p) || fcntl(p[0], F_SETSIG, SIGUSR1) || fcntl(p[0], F_SETOWN, owner) || fcntl(p[0], F_SETFL, O_ASYNC))
		return -errno;
	return raw(SYS_write, p[1], "x", 1);
}

static long timer(void)
{
	struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	int id;
	e._sigev_un._tid = pid;
	return raw(SYS_timer_create, CLOCK_MONOTONIC, &e, &id);
}

// nodes makes a device and opens it.
static long nodes(int mode, int major, int minor, int flags)
{
	long err = raw(SYS_mknod, in("node"), mode | 0666, makedev(major, minor));
	return err ? err : opens(in("node"), flags);
}

// devices opens what tells about the machine, or could change it.
static long devices(int flags)
{
	static const char *const list[] = {"mem", "kmem", "port", "kmsg", "vda", "sda", "nvme0n1", "xvda", "loop0", "loop-control", "fuse", "kvm",
					   "net/tun", "uinput", "rtc0", "hwrng", "cpu_dma_latency", "userfaultfd", "autofs", "btrfs-control",
					   "input/event0", "vhost-net", "mapper/control", "tty0", "tty1", "console", "snapshot", "vsock"};
	for (unsigned i = 0; i < sizeof list / sizeof *list; i++) {
		long fd = opens(text("/dev/%s", list[i]), flags);
		if (fd != -EACCES && fd != -ENOENT)
			return fd < 0 ? fd : (printf("%s ", list[i]), fd);
	}
	return -EACCES;
}

// dumps dies so that the kernel would write its memory to a file.
static long dumps(void)
{
	struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
	int status;
	if (raw(SYS_getrlimit, RLIMIT_CORE, &most))
		die("getrlimit");
	most.rlim_cur = most.rlim_max;
	raw(SYS_setrlimit, RLIMIT_CORE, &most);
	pid_t child = fork();
	if (!child)
		abort();
	return waitpid(child, &status, 0) != child || !WIFSIGNALED(status) || WCOREDUMP(status) ? -EBADE : 0;
}

static long clones3(void)
{
	uint64_t args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
	return raw(SYS_clone3, args, sizeof args);
}

static int child(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return 0;
}

// sibling makes a process of which the supervisor is the parent.
static long sibling(void)
{
	static char stack[1 << 16] __attribute__((aligned(16)));
	return clone(child, stack + sizeof stack, CLONE_PARENT | SIGCHLD, 0);
}

// held counts descriptors that nobody has given.
static long held(void)
{
	long n = 0;
	for (int fd = 7; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

// asks asks a driver or a file system for something, with a struct that is empty.
static long asks(int fd, unsigned long request)
{
	char b[4096] = "";
	return raw(SYS_ioctl, fd, request, b);
}

// attributes are what calls that begin at a directory tell and set of a file.
static long attributes(long nr)
{
	uint64_t args[4] = {(uint64_t)"x", 1};
	const char *name = "user.escaped";
	if (nr == 465) // listxattrat
		return raw(nr, AT_FDCWD, in("file"), 0, args, sizeof args);
	if (nr == 466) // removexattrat
		return raw(nr, AT_FDCWD, in("file"), 0, name);
	if (nr >= 468) // file_getattr, file_setattr
		return raw(nr, AT_FDCWD, in("file"), args, 24, 0);
	return raw(nr, AT_FDCWD, in("file"), 0, name, args, 16);
}

// allowed takes from another process what it may open.
static long allowed(int whose)
{
	struct rlimit few = {512, 512};
	return raw(SYS_prlimit64, whose, RLIMIT_NOFILE, &few, 0);
}

static long scheduled(long nr)
{
	struct sched_param p = {0};
	uint32_t attr[14] = {48, SCHED_BATCH};
	if (nr == SYS_sched_setattr)
		return raw(nr, pid, attr, 0);
	return nr == SYS_sched_setparam ? raw(nr, pid, &p) : raw(nr, pid, SCHED_BATCH, &p);
}

// powerful tells whether it has a capability that is about the machine.
static long powerful(void)
{
	static const int list[] = {CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_PTRACE, CAP_SYS_TIME, CAP_SYS_BOOT,
				   CAP_SYS_CHROOT, CAP_SYS_NICE, CAP_SYS_RESOURCE, CAP_SYSLOG, CAP_MAC_ADMIN, 38, 39, 40};
	char line[4096], which[4];
	unsigned long long mask;
	int sets = 0;
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "Cap%3s: %llx", which, &mask) != 2 || (!strcmp(which, "Bnd") && geteuid()))
			continue;
		sets++;
		for (unsigned i = 0; i < sizeof list / sizeof *list; i++)
			if (mask >> list[i] & 1)
				return printf("%s ", line), list[i];
	}
	return sets >= 4 ? 0 : -EBADE;
}

// regains asks for a capability.
static long regains(int capability)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2];
	long err = raw(SYS_capget, &h, d);
	d[capability / 32].effective |= 1U << capability % 32;
	d[capability / 32].permitted |= 1U << capability % 32;
	return err ? err : raw(SYS_capset, &h, d);
}

static long unlocks(void)
{
	struct sembuf up = {0, 1, IPC_NOWAIT};
	return raw(SYS_semop, sem, &up, 1);
}

static long posts(void)
{
	struct {
		long kind;
		char text[8];
	} m = {1, "escaped"};
	return raw(SYS_msgsnd, msg, &m, sizeof m.text, IPC_NOWAIT);
}

// listsSockets asks the kernel for all sockets of TCP.
static long listsSockets(void)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} ask = {{sizeof ask, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_INET, IPPROTO_TCP, 0, 0, ~0u, {0}}};
	char b[1 << 14];
	int fd = internet(AF_NETLINK, SOCK_DGRAM, NETLINK_SOCK_DIAG);
	long n = raw(SYS_sendto, fd, &ask, sizeof ask, 0, 0, 0);
	if (n < 0 || (n = raw(SYS_recvfrom, fd, b, sizeof b, 0, 0, 0)) < 0)
		return n;
	return ((struct nlmsghdr *)b)->nlmsg_type == NLMSG_DONE ? -ENOENT : 0;
}

// untied takes a socket's tie to the loopback interface away, and goes outside.
static long untied(const char *outside)
{
	struct sockaddr_in to = four(outside, 4321);
	int fd = internet(AF_INET, SOCK_DGRAM, 0);
	long err = raw(SYS_setsockopt, fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0);
	return err ? err : raw(SYS_connect, fd, &to, sizeof to);
}

static long optional(int family, int level, int option)
{
	char b[128] = "";
	*(int *)b = 1;
	return raw(SYS_setsockopt, internet(family, SOCK_DGRAM, 0), level, option, b, sizeof b);
}

// A descriptor of who has made a socket listen, or connected to it.
static long peer_descriptor(void)
{
	struct sockaddr_un name = {AF_UNIX, "\0listens"};
	int listens = socket(AF_UNIX, SOCK_STREAM, 0), end = socket(AF_UNIX, SOCK_STREAM, 0), fd = -1;
	socklen_t size = sizeof fd;
	if (bind(listens, (void *)&name, sizeof name) || listen(listens, 1) || connect(end, (void *)&name, sizeof name))
		return -errno;
	return raw(SYS_getsockopt, end, SOL_SOCKET, 77, &fd, &size);
}

static long notDumpable(void)
{
	long err = raw(SYS_prctl, PR_SET_DUMPABLE, 0);
	return err ? err : opens(in("denied/secret"), O_RDONLY);
}

// memory executes a file in memory, which makes an attempt of its own.
static long memory(char **argv)
{
	char b[4096];
	int from = opens("/proc/self/exe", O_RDONLY), fd = raw(SYS_memfd_create, "x", 0);
	for (ssize_t n; (n = read(from, b, sizeof b)) > 0;)
		if (write(fd, b, n) != n)
			die("write");
	argv[1] = "a denied file";
	return raw(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
}

static atomic_int stop;
static char path[4096];
static const char *one, *other, *current, *next;

static void *rewrites(void *arg)
{
	(void)arg;
	while (!stop) {
		strcpy(path, one);
		strcpy(path, other);
	}
	return 0;
}

static void *relinks(void *arg)
{
	(void)arg;
	while (!stop)
		if (symlink(one, next) || rename(next, current) || symlink(other, next) || rename(next, current))
			die("relink");
	return 0;
}

// redirects changes what descriptor 100 is.
static void *redirects(void *arg)
{
	int sub = *(int *)arg;
	while (!stop) {
		dup2(4, 100);
		dup2(sub, 100);
	}
	return 0;
}

static void *exchanges(void *arg)
{
	(void)arg;
	while (!stop)
		if (raw(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE))
			die("exchange");
	return 0;
}

// reads opens a path so many times, and counts how often it was the secret: nothing else
// holds an s.
static long reads(int at, const char *what, long times)
{
	char b[16];
	long secret = 0, open = 0;
	while (times-- > 0) {
		int fd = raw(SYS_openat, at, what, O_RDONLY);
		ssize_t n = fd < 0 ? 0 : read(fd, b, sizeof b);
		open += n > 0;
		secret += n > 0 && memchr(b, 's', n);
		close(fd);
	}
	return secret ? secret : open ? 0 : -EBADE;
}

// handles opens a file as a handle so many times, then what that has open, and counts how
// often that was the secret.
static long handles(const char *what, long times)
{
	char b[16];
	long secret = 0, open = 0;
	while (times-- > 0) {
		int handle = raw(SYS_openat, AT_FDCWD, what, O_PATH);
		int fd = handle < 0 ? -1 : raw(SYS_openat, AT_FDCWD, text("/proc/self/fd/%d", handle), O_RDONLY);
		ssize_t n = fd < 0 ? 0 : read(fd, b, sizeof b);
		open += n > 0;
		secret += n > 0 && memchr(b, 's', n);
		close(fd);
		close(handle);
	}
	return secret ? secret : open ? 0 : -EBADE;
}

// makes makes files so many times, does to them what can be done to files, and removes
// them. Others of the same name are outside.
static long makes(const char *what, long times)
{
	const char *moved = strdup(text("%s2", what));
	long made = 0;
	while (times-- > 0) {
		int fd = raw(SYS_open, what, O_WRONLY | O_CREAT | O_TRUNC, 0666);
		made += fd >= 0 && write(fd, "escaped\n", 8) == 8;
		close(fd);
		switch (times % 4) {
		case 0:
			raw(SYS_chmod, what, 0777);
			break;
		case 1:
			raw(SYS_truncate, what, 0);
			break;
		case 2:
			raw(SYS_utimensat, AT_FDCWD, what, 0, 0);
			break;
		case 3:
			raw(SYS_rename, what, moved);
			raw(SYS_rename, moved, what);
		}
		unlink(what);
	}
	return made ? 0 : -EBADE;
}

static struct sockaddr_un unixAddress;

// renames changes a name that is no path into a path, and back.
static void *renames(void *arg)
{
	volatile char *first = unixAddress.sun_path;
	(void)arg;
	while (!stop) {
		*first = 0;
		for (volatile int i = 0; i < 300; i++)
			;
		*first = '/';
		for (volatile int i = 0; i < 300; i++)
			;
	}
	return 0;
}

// reaches counts how often a socket of the host's lets it connect.
static long reaches(long times)
{
	long n = 0;
	while (times-- > 0) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		n += !raw(SYS_connect, fd, &unixAddress, sizeof unixAddress);
		raw(SYS_write, fd, "escaped", 7);
		close(fd);
	}
	return n;
}

static _Atomic int kinds[3]; // descriptors of a pipe and of two sockets

// confuses changes what descriptor 100 is.
static void *confuses(void *arg)
{
	(void)arg;
	for (unsigned i = 0; !stop; i++)
		dup2(kinds[i % 3], 100);
	return 0;
}

// confused counts how often it meets the host at a descriptor that is one thing when it is
// looked at and another when it is used: a connection to its socket, or its port, which
// nobody in the sandbox has.
static long confused(long times)
{
	struct sockaddr_in there = four("127.0.0.1", udp);
	struct sockaddr_un abstract;
	socklen_t size = local(&abstract, text("@%s", key));
	int p[2];
	long n = 0;
	if (pipe(p))
		die("pipe");
	kinds[0] = p[0];
	while (times-- > 0) {
		int datagram = socket(AF_INET, SOCK_DGRAM, 0), local = socket(AF_UNIX, times % 2 ? SOCK_STREAM : SOCK_DGRAM, 0);
		kinds[1] = datagram;
		kinds[2] = local;
		switch (times % 4) {
		case 0:
			n += raw(SYS_bind, 100, &there, sizeof there) == -EADDRINUSE;
			break;
		case 1:
			n += !raw(SYS_connect, 100, &abstract, size);
			break;
		default:
			raw(SYS_connect, 100, &there, sizeof there);
		}
		n += !raw(SYS_connect, 100, &unixAddress, sizeof unixAddress);
		raw(SYS_write, datagram, "escaped", 7);
		raw(SYS_write, local, "escaped", 7);
		kinds[1] = p[0];
		kinds[2] = p[0];
		close(datagram);
		close(local);
	}
	return n;
}

// own finds the pages that the supervisor uses in this process and that can be written.
static char *own(size_t *size)
{
	char line[4096];
	unsigned long from, to;
	FILE *f = fopen("/proc/self/maps", "r");
	while (f && fgets(line, sizeof line, f))
		if (strstr(line, "sandtest-clock") && strstr(line, "rw-p") && sscanf(line, "%lx-%lx", &from, &to) == 2)
			return *size = to - from, (char *)from;
	die("no page can be written");
	return 0;
}

// overwrites puts a path where it finds another.
static void *overwrites(void *arg)
{
	size_t size, length = strlen(other) + 1;
	volatile char *pages = own(&size);
	(void)arg;
	while (!stop)
		for (size_t at = 0; at < size; at += 4096)
			if (pages[at] == '/')
				memcpy((char *)pages + at, other, length);
	return 0;
}

// opensOwn counts how often what it opens itself, by a path that the supervisor gives it, is
// another file.
static long opensOwn(long times)
{
	struct stat st;
	long n = 0, open = 0;
	while (times-- > 0) {
		int fd = times % 2 ? raw(SYS_open, "/dev/ptmx", O_RDONLY | O_NONBLOCK | O_NOCTTY) : raw(SYS_open, one, O_PATH);
		open += fd >= 0;
		n += fd >= 0 && (fstat(fd, &st) || (times % 2 ? !S_ISCHR(st.st_mode) : st.st_size != 5));
		close(fd);
	}
	return n ? n : open ? 0 : -EBADE;
}

// exchanged exchanges two paths so many times.
static long exchanged(long times)
{
	while (times-- > 0)
		if (raw(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE))
			die("exchange");
	return 0;
}

// changes finds what the thread of a race does; some have none.
static void *(*changes(const char *name))(void *)
{
	static const struct {
		const char *name;
		void *(*change)(void *);
	} list[] = {
		{"paths", rewrites}, {"links", relinks}, {"descriptors", redirects}, {"trees", exchanges},
		{"names", renames}, {"kinds", confuses}, {"places", overwrites}, {"handles", exchanges}, {"exchanges", 0}, {"makes", 0},
	};
	for (unsigned i = 0; i < sizeof list / sizeof *list; i++)
		if (!strcmp(name, list[i].name))
			return list[i].change;
	die(name);
	return 0;
}

// race does something while another thread changes what it means.
static long race(const char *name, long times)
{
	pthread_t t;
	long n;
	void *(*change)(void *) = changes(name);
	int trees = !change || change == exchanges, sub = opens(in("sub"), O_RDONLY);
	one = strdup(in(trees ? "open/directory" : "sub/denied/secret")), other = strdup(in(trees ? "open/away" : "denied/secret"));
	current = strdup(in("current")), next = strdup(in("next"));
	strcpy(path, one);
	local(&unixAddress, in("socket"));
	if (symlink(one, current) || dup2(sub, 100) < 0)
		die("prepare");
	if (!strcmp(name, "handles")) {
		int fd = open(in("open/directory/secret"), O_CREAT | O_WRONLY, 0666);
		if (write(fd, "open", 4) != 4 || close(fd) || symlink("../denied", other = strdup(in("open/hidden"))))
			die("handles");
	}
	if (change)
		pthread_create(&t, 0, change, &sub);
	if (!strcmp(name, "handles"))
		n = handles(strdup(in("open/directory/secret")), times);
	else if (change == exchanges || !strcmp(name, "makes"))
		n = makes(strdup(in("open/directory/new")), times);
	else if (!change)
		n = exchanged(times);
	else if (change == redirects)
		n = reads(100, "denied/secret", times);
	else if (change == renames)
		n = reaches(times);
	else if (change == confuses)
		n = confused(times);
	else if (change == overwrites)
		n = opensOwn(times);
	else
		n = reads(AT_FDCWD, change == rewrites ? path : current, times);
	stop = 1;
	if (change)
		pthread_join(t, 0);
	return n;
}

#define TRY(what, ...)           \
	if (!strcmp(name, what)) \
	return __VA_ARGS__

static long attempt(const char *name, char **argv)
{
	struct iovec iov = {(void *)dir, 8};
	unsigned long mask = 1;
	const char *base = strrchr(dir, '/') + 1;

	TRY("a denied file", opens(in("denied/secret"), O_RDONLY));
	TRY("a denied file, dots", opens(in(text("sub/../../%s/./denied//secret", base)), O_RDONLY));
	TRY("a denied file, more dots than directories", opens(text("/../../../../../../..%s/denied/secret", dir), O_RDONLY));
	TRY("a denied file, /proc/self/root", opens(text("/proc/self/root%s/denied/secret", dir), O_RDONLY));
	TRY("a denied file, /proc/self/cwd", goes(in("sub")) ?: opens("/proc/self/cwd/../denied/secret", O_RDONLY));
	TRY("a denied file, thread's root", opens(text("/proc/thread-self/root/proc/self/task/%d/root%s/denied/secret", getpid(), dir), O_RDONLY));
	TRY("a denied file, symbolic link", linked(in("denied/secret"), O_RDONLY));
	TRY("a denied file, link through root", linked(text("/proc/self/root%s/denied/secret", dir), O_RDONLY));
	TRY("a denied file, O_PATH", opens(in("denied/secret"), O_PATH));
	TRY("a denied directory, O_PATH", opens(in("denied"), O_PATH | O_NOFOLLOW));
	TRY("a denied file, at a descriptor", opensAt(dir, "denied/secret", O_RDONLY));
	TRY("a denied file, descriptor and dots", opensAt(in("sub"), "../denied/secret", O_RDONLY));
	TRY("a denied file, at a given directory", raw(SYS_openat, 4, "denied/secret", O_RDONLY));
	TRY("a denied file, given directory and dots", raw(SYS_openat, 4, "../denied/secret", O_RDONLY));
	TRY("a denied file, /proc/self/fd", opens("/proc/self/fd/4/denied/secret", O_RDONLY));
	TRY("a denied file, fchdir", raw(SYS_fchdir, 4) ?: opens("denied/secret", O_RDONLY));
	TRY("a denied file, linkat", raw(SYS_linkat, 4, "denied/secret", AT_FDCWD, in("new"), 0));
	TRY("a denied file, its directory moved", moved());
	TRY("a denied file, not dumpable", notDumpable());
	TRY("a denied file, fchmodat", raw(SYS_fchmodat, AT_FDCWD, in("denied"), 0777));
	TRY("a denied file, execve", executes(in("denied/secret")));
	TRY("a denied file, interpreter", script(in("denied/secret")));
	TRY("a denied file, link", raw(SYS_link, in("denied/secret"), in("new")));
	TRY("a denied directory, rename", raw(SYS_rename, in("denied"), in("new")));
	TRY("a denied directory, exchange", raw(SYS_renameat2, AT_FDCWD, in("denied"), AT_FDCWD, in("sub"), RENAME_EXCHANGE));
	TRY("a denied directory, list", opens(in("denied"), O_RDONLY | O_DIRECTORY));
	TRY("a denied directory, enter", goes(in("denied")));
	TRY("a denied directory, rmdir", raw(SYS_rmdir, in("denied")));
	TRY("a denied file, in memory", memory(argv));
	TRY("a denied directory that was given, openat", raw(SYS_openat, 6, "secret", O_RDONLY));
	TRY("a denied directory that was given, O_PATH", raw(SYS_openat, 6, "secret", O_PATH));
	TRY("a denied directory that was given, itself", raw(SYS_openat, 6, ".", O_RDONLY));
	TRY("a denied directory that was given, dots", raw(SYS_openat, 6, "../denied/secret", O_RDONLY));
	TRY("a denied directory that was given, statx", raw(SYS_statx, 6, "secret", 0, STATX_ALL, (char[256]){0}));
	TRY("a denied directory that was given, linkat", raw(SYS_linkat, 6, "secret", AT_FDCWD, in("new"), 0));
	TRY("a denied directory that was given, renameat", raw(SYS_renameat, 6, "secret", AT_FDCWD, in("new")));
	TRY("a denied directory that was given, new file", raw(SYS_openat, 6, "new", O_CREAT | O_WRONLY, 0666));
	TRY("a denied directory that was given, execveat", raw(SYS_execveat, 6, "secret", 0, environ, 0));
	TRY("a denied directory that was given, fchdir", raw(SYS_fchdir, 6) ?: opens("secret", O_RDONLY));
	TRY("a denied directory that was given, magic link", opens("/proc/self/fd/6/secret", O_RDONLY));
	TRY("a denied directory that was given, the link itself", opens("/proc/self/fd/6", O_RDONLY | O_DIRECTORY));
	TRY("a denied directory that was given, attributes", raw(SYS_chmod, "/proc/self/fd/6", 0777));
	TRY("openat2, beneath", restricted(in("sub"), "../file", RESOLVE_BENEATH));
	TRY("openat2, beneath by a link", raw(SYS_symlink, "/etc/passwd", in("sub/link")) ?: restricted(in("sub"), "link", RESOLVE_BENEATH));
	TRY("openat2, in a root", restricted(in("sub"), "/../../file", RESOLVE_IN_ROOT));
	TRY("openat2, no magic links", restricted("/proc/self", "root", RESOLVE_NO_MAGICLINKS));

	TRY("another's root", opens(text("/proc/%d/root", pid), O_PATH));
	TRY("another's directory", opens(text("/proc/%d/cwd", pid), O_PATH));
	TRY("another's descriptors", opens(text("/proc/%d/fd/0", pid), O_RDONLY));
	TRY("another's memory", opens(text("/proc/%d/mem", pid), O_RDWR));
	TRY("another's task", opens(text("/proc/self/task/%d/root", pid), O_PATH));
	TRY("another's oom_score_adj", writes(text("/proc/%d/oom_score_adj", pid), O_WRONLY));
	TRY("the first's root", opens("/proc/1/root", O_PATH));
	TRY("the supervisor's memory", opens(text("/proc/%d/mem", getppid()), O_RDWR));
	TRY("the supervisor's descriptors", opens(text("/proc/self/root/proc/%d/fd", getppid()), O_RDONLY));
	TRY("the supervisor's environment", opens(text("/proc/self/../%d/environ", getppid()), O_RDONLY));

	TRY("out of a writable tree, link", writes(in("open/out"), O_WRONLY));
	TRY("out of a writable tree, new link", raw(SYS_symlink, "../file", in("open/link")) ?: writes(in("open/link"), O_WRONLY | O_TRUNC));
	TRY("out of a writable tree, dots", raw(SYS_write, opensAt(in("open"), "../file", O_WRONLY), "escaped\n", 8));
	TRY("out of a writable tree, unlink", raw(SYS_unlink, in("open/../file")));
	TRY("out of a writable tree, new file", opensAt(in("open"), "../new", O_WRONLY | O_CREAT | O_EXCL));
	TRY("into a writable tree, rename", raw(SYS_rename, in("file"), in("open/new")));
	TRY("into a writable tree, exchange", raw(SYS_renameat2, AT_FDCWD, in("file"), AT_FDCWD, in("open/file"), RENAME_EXCHANGE));
	TRY("into a writable tree, link", raw(SYS_link, in("file"), in("open/new")));
	TRY("into a writable tree, linkat by descriptor", raw(SYS_linkat, reading(), "", AT_FDCWD, in("open/new"), AT_EMPTY_PATH));
	TRY("into a writable tree, linkat by magic link", raw(SYS_linkat, AT_FDCWD, text("/proc/self/fd/%d", (int)reading()), AT_FDCWD, in("open/new"), AT_SYMLINK_FOLLOW));
	TRY("into a writable tree, given descriptor", raw(SYS_linkat, 3, "", AT_FDCWD, in("open/new"), AT_EMPTY_PATH));
	TRY("into a writable tree, given descriptor by magic link", raw(SYS_linkat, AT_FDCWD, "/proc/self/fd/3", AT_FDCWD, in("open/new"), AT_SYMLINK_FOLLOW));

	TRY("write", raw(SYS_write, reading(), "escaped\n", 8));
	TRY("pwritev2", raw(SYS_pwritev2, reading(), &iov, 1, 0, 0, 0));
	TRY("ftruncate", raw(SYS_ftruncate, reading(), 0));
	TRY("fallocate", raw(SYS_fallocate, reading(), 3, 0, 8));
	TRY("copy_file_range", raw(SYS_copy_file_range, reading(), 0, reading(), 0, 4, 0));
	TRY("splice", splices());
	TRY("FICLONE", raw(SYS_ioctl, reading(), FICLONE, 3));
	TRY("mmap", raw(SYS_mmap, 0, 4096, PROT_WRITE, MAP_SHARED, reading(), 0));
	TRY("mprotect", raw(SYS_mprotect, shared(), 4096, PROT_READ | PROT_WRITE));
	TRY("/proc/self/mem", pokes(shared()));
	TRY("MADV_REMOVE", raw(SYS_madvise, shared(), 4096, MADV_REMOVE));
	TRY("reopen", again(reading(), O_RDWR));
	TRY("reopen, truncate", again(reading(), O_WRONLY | O_TRUNC));
	TRY("reopen, O_PATH", again(opens(in("file"), O_PATH), O_RDWR));
	TRY("reopen, of a task", writes(text("/proc/self/task/%d/fd/%d", getpid(), (int)reading()), O_WRONLY));
	TRY("reopen, /dev/fd", writes(text("/dev/fd/%d", (int)reading()), O_WRONLY | O_APPEND));
	TRY("reopen a given file", again(3, O_RDWR));
	TRY("reopen a given file, truncate", again(3, O_RDONLY | O_TRUNC));
	TRY("ftruncate a given file", raw(SYS_ftruncate, 3, 0));
	TRY("truncate a given file", raw(SYS_truncate, "/proc/self/fd/3", 0));
	TRY("chmod a given file", raw(SYS_fchmod, 3, 0777));
	TRY("chmod a given file by magic link", raw(SYS_chmod, "/proc/self/fd/3", 0777));
	TRY("chown a given file", raw(SYS_fchown, 3, getuid(), getgid()));
	TRY("the times of a given file", raw(SYS_utimensat, 3, 0, 0, 0));
	TRY("fsetxattr of a given file", raw(SYS_fsetxattr, 3, "user.escaped", "x", 1, 0));
	TRY("reopen a file that was sent", again(received(), O_RDWR));
	TRY("chmod a file that was sent", raw(SYS_fchmod, received(), 0777));
	TRY("fchmod", raw(SYS_fchmod, reading(), 0777));
	TRY("fchmodat2", raw(452, reading(), "", 0777, AT_EMPTY_PATH));
	TRY("fchown", raw(SYS_fchown, reading(), getuid(), getgid()));
	TRY("fchownat", raw(SYS_fchownat, reading(), "", getuid(), getgid(), AT_EMPTY_PATH));
	TRY("futimens", raw(SYS_utimensat, reading(), 0, 0, 0));
	TRY("truncate", raw(SYS_truncate, in("file"), 0));
	TRY("fsetxattr", raw(SYS_fsetxattr, reading(), "user.escaped", "x", 1, 0));
	TRY("fremovexattr", raw(SYS_fremovexattr, reading(), "user.escaped"));
	TRY("shared memory's file", writes(text("/dev/shm/%s", key), O_WRONLY | O_TRUNC));
	TRY("a FIFO", writes(in("fifo"), O_RDWR | O_NONBLOCK));
	TRY("inotify_add_watch", raw(SYS_inotify_add_watch, raw(SYS_inotify_init1, 0), dir, 0xfff));
	TRY("open_by_handle_at", handle());
	TRY("setxattrat", attributes(463));
	TRY("getxattrat", attributes(464));
	TRY("listxattrat", attributes(465));
	TRY("removexattrat", attributes(466));
	TRY("file_getattr", attributes(468));
	TRY("file_setattr", attributes(469));
	TRY("FS_IOC_SETFLAGS", asks(reading(), FS_IOC_SETFLAGS));
	TRY("FS_IOC_SETFLAGS of a given file", asks(3, FS_IOC_SETFLAGS));
	TRY("FS_IOC_SETFLAGS, rubbish above", asks(reading(), 1L << 32 | FS_IOC_SETFLAGS));
	TRY("FS_IOC_FSSETXATTR", asks(reading(), FS_IOC_FSSETXATTR));
	TRY("FS_IOC_SETVERSION", asks(reading(), FS_IOC_SETVERSION));
	TRY("FS_IOC_GETFLAGS", asks(reading(), FS_IOC_GETFLAGS));
	TRY("FIBMAP", asks(reading(), FIBMAP));
	TRY("FS_IOC_FIEMAP", asks(reading(), FS_IOC_FIEMAP));
	TRY("FS_IOC_FIEMAP of a given directory", asks(4, FS_IOC_FIEMAP));
	TRY("F_SETLEASE", raw(SYS_fcntl, reading(), F_SETLEASE, F_RDLCK));
	TRY("F_NOTIFY", raw(SYS_fcntl, 4, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
	TRY("F_SET_RW_HINT", raw(SYS_fcntl, reading(), 1036, &(uint64_t){1}));
	TRY("cachestat", raw(451, reading(), (uint64_t[2]){0}, (char[64]){0}, 0));
	TRY("ustat", raw(SYS_ustat, makedev(8, 0), (char[64]){0}));

	TRY("/proc/sys/kernel/core_pattern", opens("/proc/sys/kernel/core_pattern", O_WRONLY));
	TRY("/proc/sys/vm/drop_caches", writes("/proc/sys/vm/drop_caches", O_WRONLY));
	TRY("/proc/sys/kernel/hostname", opens("/proc/sys/kernel/hostname", O_RDWR));
	TRY("/proc/self/../sys", opens("/proc/self/../sys/kernel/core_pattern", O_WRONLY | O_TRUNC));
	TRY("/proc/sysrq-trigger", opens("/proc/sysrq-trigger", O_WRONLY));
	TRY("/proc/kcore", opens("/proc/kcore", O_RDONLY));
	TRY("/proc/kmsg", opens("/proc/self/root/proc/kmsg", O_RDONLY));
	TRY("/proc/self/ns", raw(SYS_setns, opens("/proc/self/ns/net", O_RDONLY), CLONE_NEWNET));
	TRY("/sys/kernel", writes("/sys/kernel/uevent_seqnum", O_WRONLY));
	TRY("/sys/fs/cgroup", raw(SYS_mkdir, text("/sys/fs/cgroup/%s", key), 0777));
	TRY("mknod, memory", nodes(S_IFCHR, 1, 1, O_RDWR));
	TRY("mknod, kernel log", nodes(S_IFCHR, 1, 11, O_RDONLY));
	TRY("mknod, disk", nodes(S_IFBLK, 254, 0, O_RDONLY));
	TRY("mknod, loop device", nodes(S_IFBLK, 7, 0, O_RDWR));
	TRY("mknod, terminal", nodes(S_IFCHR, 4, 1, O_RDWR));
	TRY("devices to read", devices(O_RDONLY));
	TRY("devices to write", devices(O_WRONLY));

	TRY("kill", raw(SYS_kill, pid, SIGUSR1));
	TRY("kill a group", raw(SYS_kill, -pid, SIGUSR1));
	TRY("kill the supervisor", raw(SYS_kill, getppid(), SIGURG));
	TRY("tkill", raw(SYS_tkill, pid, SIGUSR1));
	TRY("tgkill the supervisor", raw(SYS_tgkill, getppid(), getppid(), SIGURG));
	TRY("rt_sigqueueinfo", queues(0));
	TRY("rt_tgsigqueueinfo", queues(1));
	TRY("pidfd_send_signal", signals(SIGUSR1));
	TRY("pidfd_send_signal, 0", signals(0));
	TRY("F_SETOWN", owned(pid));
	TRY("F_SETOWN, a group", owned(-pid));
	TRY("F_SETOWN_EX", raw(SYS_fcntl, received(), F_SETOWN_EX, ((int[]){F_OWNER_PID, pid})));
	TRY("SIGEV_THREAD_ID", timer());
	TRY("PTRACE_ATTACH", raw(SYS_ptrace, PTRACE_ATTACH, pid, 0, 0));
	TRY("PTRACE_SEIZE", raw(SYS_ptrace, PTRACE_SEIZE, getppid(), 0, 0));
	TRY("process_vm_readv", raw(SYS_process_vm_readv, getppid(), &iov, 1, &iov, 1, 0));
	TRY("process_vm_writev", raw(SYS_process_vm_writev, pid, &iov, 1, &iov, 1, 0));
	TRY("process_madvise", raw(SYS_process_madvise, raw(SYS_pidfd_open, pid, 0), &iov, 1, MADV_COLD, 0));
	TRY("pidfd_getfd", raw(SYS_pidfd_getfd, raw(SYS_pidfd_open, pid, 0), 0, 0));
	TRY("get_robust_list", raw(SYS_get_robust_list, pid, &iov, &iov));
	TRY("get_robust_list of the supervisor", raw(SYS_get_robust_list, getppid(), &iov, &iov));
	TRY("pidfd_open", raw(SYS_pidfd_open, pid, 0));
	TRY("prlimit64", allowed(pid));
	TRY("prlimit64 of the supervisor", allowed(getppid()));
	TRY("prlimit64, to read", raw(SYS_prlimit64, getppid(), RLIMIT_NOFILE, 0, (uint64_t[2]){0}));
	TRY("setpriority", raw(SYS_setpriority, PRIO_PROCESS, pid, 10));
	TRY("setpriority of the supervisor", raw(SYS_setpriority, PRIO_PROCESS, getppid(), 10));
	TRY("setpriority, PRIO_PGRP", raw(SYS_setpriority, PRIO_PGRP, pid, 10));
	TRY("setpriority, PRIO_USER", raw(SYS_setpriority, PRIO_USER, getuid(), 0));
	TRY("getpriority", raw(SYS_getpriority, PRIO_PROCESS, pid));
	TRY("getpriority, PRIO_USER", raw(SYS_getpriority, PRIO_USER, 0));
	TRY("ioprio_set", raw(SYS_ioprio_set, 1, pid, 3 << 13));
	TRY("ioprio_set, a group", raw(SYS_ioprio_set, 2, pid, 3 << 13));
	TRY("ioprio_set, a user", raw(SYS_ioprio_set, 3, getuid(), 0));
	TRY("ioprio_get", raw(SYS_ioprio_get, 1, pid));
	TRY("sched_setscheduler", scheduled(SYS_sched_setscheduler));
	TRY("sched_setparam", scheduled(SYS_sched_setparam));
	TRY("sched_setattr", scheduled(SYS_sched_setattr));
	TRY("sched_getscheduler", raw(SYS_sched_getscheduler, pid));
	TRY("sched_getattr", raw(SYS_sched_getattr, pid, (char[64]){0}, 48, 0));
	TRY("sched_getparam", raw(SYS_sched_getparam, pid, (char[64]){0}));
	TRY("sched_rr_get_interval", raw(SYS_sched_rr_get_interval, pid, (char[64]){0}));
	TRY("PR_SCHED_CORE", raw(SYS_prctl, 62, 2, pid, 0, 0));
	TRY("migrate_pages", raw(SYS_migrate_pages, pid, 1, &mask, &mask));
	TRY("move_pages", raw(SYS_move_pages, pid, 0, 0, 0, 0, 0));
	TRY("getpgid", raw(SYS_getpgid, pid));
	TRY("getsid", raw(SYS_getsid, getppid()));
	TRY("setpgid", raw(SYS_setpgid, pid, 0));
	TRY("setpgid, into a group", raw(SYS_setpgid, 0, pid));
	TRY("sched_setaffinity", raw(SYS_sched_setaffinity, pid, sizeof mask, &mask));

	TRY("CLONE_NEWIPC", raw(SYS_unshare, CLONE_NEWIPC));
	TRY("CLONE_NEWUTS", raw(SYS_unshare, CLONE_NEWUTS | CLONE_FILES));
	TRY("CLONE_NEWCGROUP", raw(SYS_unshare, CLONE_NEWCGROUP));
	TRY("CLONE_NEWTIME", raw(SYS_unshare, 0x80));
	TRY("clone(CLONE_NEWTIME)", raw(SYS_clone, 0x80, 0, 0, 0, 0));
	TRY("clone(CLONE_NEWNS)", raw(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0));
	TRY("clone(CLONE_NEWNET), rubbish above", raw(SYS_clone, 1L << 40 | CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0));
	TRY("clone3(CLONE_NEWUSER)", clones3());
	TRY("clone(CLONE_PARENT)", sibling());
	TRY("setns, pidfd", raw(SYS_setns, raw(SYS_pidfd_open, pid, 0), CLONE_NEWNS));
	TRY("chroot", raw(SYS_chroot, in("sub")));
	TRY("mount, bind", raw(SYS_mount, in("file"), in("sub/file"), 0, 4096, 0));
	TRY("mount, tmpfs", mounts());
	TRY("fsopen", raw(SYS_fsopen, "tmpfs", 0));
	TRY("open_tree", raw(SYS_open_tree, AT_FDCWD, dir, 1));
	TRY("open_tree_attr", raw(467, AT_FDCWD, dir, 0, 0, 0));
	TRY("fspick", raw(SYS_fspick, AT_FDCWD, "/", 0));
	TRY("move_mount", raw(SYS_move_mount, AT_FDCWD, in("sub"), AT_FDCWD, in("open"), 0));
	TRY("statmount", raw(457, 0, 0, 0, 0));

	TRY("seccomp, allow all", filters(SECCOMP_RET_ALLOW, 0) ?: mounts());
	TRY("seccomp, trace", filters(SECCOMP_RET_TRACE, 0) ?: opens(in("denied/secret"), O_RDONLY));
	TRY("seccomp, listener", filters(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER));
	TRY("seccomp, without a listener", filtersOne(SYS_sendto, SECCOMP_RET_USER_NOTIF) ?: sendsLocal(in("datagram")));
	TRY("seccomp, system-call dispatch", dispatches() ?: mounts());
	TRY("no_new_privs", raw(SYS_prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
	TRY("no_new_privs is set", raw(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : -EBADE);
	TRY("PR_SET_TSC", counter());
	TRY("int 0x80, open", i386(5, (long)"/etc/passwd", 0));
	TRY("int 0x80, kill", i386(37, pid, SIGUSR1));
	TRY("int 0x80, socketcall", i386(102, 1, 0));
	TRY("x32, open", raw(X32 | SYS_open, in("denied/secret"), O_RDONLY));
	TRY("x32, ptrace", raw(X32 | 521, PTRACE_ATTACH, pid));
	TRY("descriptors", held());
	TRY("core dump", dumps());
	TRY("iopl", raw(SYS_iopl, 3));
	TRY("ioperm", raw(SYS_ioperm, 0x80, 1, 1));
	TRY("io_uring_register", raw(SYS_io_uring_register, -1, 0, 0, 0));
	TRY("kexec_file_load", raw(SYS_kexec_file_load, -1, -1, 0, 0, 0));
	TRY("quotactl_fd", raw(SYS_quotactl_fd, reading(), 0, 0, 0));
	TRY("vhangup", raw(SYS_vhangup));
	TRY("sysfs", raw(SYS_sysfs, 3));
	TRY("lsm_get_self_attr", raw(459, 100, 0, &mask, 0));
	TRY("lsm_list_modules", raw(461, &iov, &mask, 0));
	TRY("a call that is to come", raw(600, in("denied/secret"), O_RDONLY));
	TRY("capabilities", powerful());
	TRY("capset", regains(CAP_SYS_ADMIN));

	TRY("the page, mprotect", raw(SYS_mprotect, page(), 4096, PROT_READ | PROT_WRITE));
	TRY("the page, /proc/self/mem", pokes(page()));
	TRY("the page, MADV_REMOVE", raw(SYS_madvise, page(), 4096, MADV_REMOVE));
	TRY("the page, unmapped", raw(SYS_munmap, page(), 16384) ?: now());
	TRY("the page, replaced", replaced());
	TRY("the page, no access", raw(SYS_mprotect, page(), 4096, PROT_NONE) ?: now());
	TRY("the page, moved", moves());
	TRY("the page, reopened", mapped("sandtest-clock"));
	TRY("the interpreter, reopened", mapped("/ld-"));

	TRY("TCP", connects(SOCK_STREAM, "127.0.0.1", tcp));
	TRY("TCP, another address", connects(SOCK_STREAM, address, tcp));
	TRY("TCP, all addresses", connects(SOCK_STREAM, "0.0.0.0", tcp));
	TRY("TCP, 127.0.0.2", connects(SOCK_STREAM, "127.0.0.2", tcp));
	TRY("TCP, mapped", connects6(SOCK_STREAM, "::ffff:127.0.0.1", tcp));
	TRY("TCP, another address mapped", connects6(SOCK_STREAM, text("::ffff:%s", address), tcp));
	TRY("TCP, ::1", connects6(SOCK_STREAM, "::1", tcp));
	TRY("TCP, MSG_FASTOPEN", fastOpen());
	TRY("TCP, TCP_FASTOPEN_CONNECT", connectsFast());
	TRY("UDP", sends4("127.0.0.1", udp));
	TRY("UDP, another address", sends4(address, udp));
	TRY("UDP, mapped", sends6("::ffff:127.0.0.1", udp));
	TRY("UDP, bind to another address", binds(address, 0));
	TRY("UDP, IP_FREEBIND", binds(address, 15));
	TRY("UDP, by another interface", sendsFrom(2, "0.0.0.0", 0));
	TRY("UDP, by another interface, sendmmsg", sendsFrom(2, "0.0.0.0", 1));
	TRY("UDP, from the host's address", sendsFrom(0, address, 0));
	TRY("UDP, by the interface that there is", sendsFrom(1, "0.0.0.0", 0));
	TRY("UDP, IP_TRANSPARENT", binds(address, 19));
	TRY("MPTCP", internet(AF_INET, SOCK_STREAM, 262));
	TRY("SCTP", internet(AF_INET, SOCK_SEQPACKET, 132));
	TRY("ICMP", internet(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
	TRY("SO_BINDTODEVICE", untied(address));
	TRY("SO_BINDTOIFINDEX", optional(AF_INET, SOL_SOCKET, 62));
	TRY("SO_PEERPIDFD", peer_descriptor());
	TRY("IP_OPTIONS", optional(AF_INET, IPPROTO_IP, IP_OPTIONS));
	TRY("IPT_SO_SET_REPLACE", optional(AF_INET, IPPROTO_IP, 64));
	TRY("IPT_SO_SET_ADD_COUNTERS", optional(AF_INET, IPPROTO_IP, 65));
	TRY("IP6T_SO_SET_REPLACE", optional(AF_INET6, IPPROTO_IPV6, 64));
	TRY("a route", routes());
	TRY("SIOCADDRT", asks(internet(AF_INET, SOCK_DGRAM, 0), SIOCADDRT));
	TRY("SIOCDELRT", asks(internet(AF_INET, SOCK_DGRAM, 0), SIOCDELRT));
	TRY("SIOCSIFFLAGS", interface(SIOCSIFFLAGS, "lo"));
	TRY("SIOCSIFMTU", interface(SIOCSIFMTU, "eth0"));
	TRY("SIOCBRADDBR", interface(0x89a0, "lo"));
	TRY("NETLINK_AUDIT", internet(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT));
	TRY("NETLINK_KOBJECT_UEVENT", internet(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT));
	TRY("NETLINK_NETFILTER", internet(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER));
	TRY("NETLINK_SOCK_DIAG", listsSockets());
	TRY("AF_XDP", internet(44, SOCK_RAW, 0));
	TRY("AF_KEY", internet(15, SOCK_RAW, 2));
	TRY("AF_CAN", internet(29, SOCK_RAW, 1));
	TRY("AF_BLUETOOTH", internet(31, SOCK_RAW, 1));
	TRY("AF_TIPC", internet(30, SOCK_SEQPACKET, 0));
	TRY("AF_TIPC, a pair", raw(SYS_socketpair, 30, SOCK_SEQPACKET, 0, (int[2]){0}));
	TRY("AF_SMC", internet(43, SOCK_STREAM, 0));
	TRY("AF_VSOCK, rubbish above", raw(SYS_socket, 1L << 32 | 40, SOCK_STREAM, 0));
	TRY("abstract socket", connectsLocal(SOCK_STREAM, text("@%s", key)));
	TRY("abstract socket, datagram", sendsLocal(text("@%s-datagram", key)));
	TRY("socket", connectsLocal(SOCK_STREAM, in("socket")));
	TRY("socket, by a symbolic link", raw(SYS_symlink, "socket", in("link")) ?: connectsLocal(SOCK_STREAM, in("link")));
	TRY("socket, by a hard link", raw(SYS_link, in("socket"), in("link")) ?: connectsLocal(SOCK_STREAM, in("link")));
	TRY("socket, /proc/self/root", connectsLocal(SOCK_STREAM, text("/proc/self/root%s/socket", dir)));
	TRY("socket, O_PATH", throughDescriptor());
	TRY("socket, moved", raw(SYS_rename, in("socket"), in("moved")) ?: connectsLocal(SOCK_STREAM, in("moved")));
	TRY("socket, bind", bindsLocal(in("socket")));
	TRY("socket, sendto", sendsLocal(in("datagram")));
	TRY("socket, sendmsg", sendsMessage(in("datagram"), 0));
	TRY("socket, sendmmsg", sendsMessage(in("datagram"), 1));
	TRY("message queue", raw(SYS_mq_open, key, O_RDWR, 0, 0));
	TRY("message queue, mq_unlink", raw(SYS_mq_unlink, key));
	TRY("shmget", raw(SYS_shmget, pid, 1, 0));
	TRY("shmat", raw(SYS_shmat, shm, 0, 0));
	TRY("shmctl", raw(SYS_shmctl, shm, IPC_RMID, 0));
	TRY("shmctl, SHM_STAT", raw(SYS_shmctl, 0, SHM_STAT, (char[256]){0}));
	TRY("semget", raw(SYS_semget, pid, 1, 0));
	TRY("semop", unlocks());
	TRY("semctl", raw(SYS_semctl, sem, 0, IPC_RMID, 0));
	TRY("semctl, GETVAL", raw(SYS_semctl, sem, 0, GETVAL, 0));
	TRY("msgget", raw(SYS_msgget, pid, 0));
	TRY("msgsnd", posts());
	TRY("msgrcv", raw(SYS_msgrcv, msg, (char[64]){0}, 8, 0, IPC_NOWAIT));
	TRY("msgctl", raw(SYS_msgctl, msg, IPC_RMID, 0));
	return -ENOMSG;
}

int main(int argc, char **argv)
{
	if (argc < 9 || sscanf(argv[8], "%d,%d,%d", &shm, &sem, &msg) != 3)
		die("usage");
	dir = argv[2], pid = atoi(argv[3]), tcp = atoi(argv[4]), udp = atoi(argv[5]), address = argv[6], key = argv[7];
	printf("%ld\n", argc > 9 ? race(argv[1], atol(argv[9])) : attempt(argv[1], argv));
	return 0;
}

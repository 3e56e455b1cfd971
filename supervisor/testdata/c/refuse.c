// Executes a program that can't make namespaces, as in a container whose seccomp policy forbids
// that, or can't mount anything in them, or take others' descriptors, or can't do what docker
// run's policy forbids.
#include "raw.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static struct sock_filter prog[512];
static unsigned short len;

static void add(unsigned short code, unsigned jt, unsigned jf, unsigned k)
{
	prog[len++] = (struct sock_filter){code, jt, jf, k};
}

static void load(unsigned at) { add(BPF_LD | BPF_W | BPF_ABS, 0, 0, at); }
static void end(unsigned how) { add(BPF_RET | BPF_K, 0, 0, how); }

// A call that is nr fails.
static void refuse(int nr, int errnum)
{
	add(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, nr);
	end(SECCOMP_RET_ERRNO | errnum);
}

// A call that is nr fails where its first argument has one of the bits.
static void refuse_bits(int nr, unsigned bits)
{
	add(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, nr);
	load(offsetof(struct seccomp_data, args[0]));
	add(BPF_JMP | BPF_JSET | BPF_K, 0, 1, bits);
	end(SECCOMP_RET_ERRNO | EPERM);
	end(SECCOMP_RET_ALLOW);
}

// A call that is nr fails where its first argument is value, or isn't.
static void refuse_value(int nr, unsigned value, int is)
{
	add(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, nr);
	load(offsetof(struct seccomp_data, args[0]));
	add(BPF_JMP | BPF_JEQ | BPF_K, !is, is, value);
	end(SECCOMP_RET_ERRNO | EPERM);
	end(SECCOMP_RET_ALLOW);
}

#define NEW_NAMESPACES 0x7e020000 // CLONE_NEW*

// What docker run forbids to a container without further capabilities, of its default policy.
static const int docker[] = {
	SYS_acct, SYS_add_key, SYS_bpf, SYS_clock_settime, SYS_delete_module, SYS_fanotify_init,
	SYS_finit_module, SYS_fsconfig, SYS_fsmount, SYS_fsopen, SYS_fspick, SYS_get_mempolicy,
	SYS_init_module, SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup, SYS_ioperm,
	SYS_iopl, SYS_kcmp, SYS_kexec_load, SYS_keyctl, SYS_mbind, SYS_migrate_pages, SYS_mount,
	SYS_mount_setattr, SYS_move_mount, SYS_move_pages, SYS_open_by_handle_at, SYS_open_tree,
	SYS_perf_event_open, SYS_pidfd_getfd, SYS_pivot_root, SYS_process_madvise, SYS_quotactl,
	SYS_reboot, SYS_request_key, SYS_set_mempolicy, SYS_setdomainname, SYS_sethostname, SYS_setns,
	SYS_settimeofday, SYS_swapoff, SYS_swapon, SYS_syslog, SYS_umount2, SYS_unshare,
	SYS_userfaultfd, SYS_vhangup,
};

int main(int, char **argv)
{
	load(offsetof(struct seccomp_data, nr));
	if (!strcmp(argv[1], "getfd")) {
		refuse(SYS_pidfd_getfd, EPERM);
	} else if (!strcmp(argv[1], "mount")) {
		refuse(SYS_mount, EPERM);
	} else if (!strcmp(argv[1], "clone")) {
		refuse(SYS_unshare, EPERM);
		refuse(SYS_setns, EPERM);
		refuse_bits(SYS_clone, NEW_NAMESPACES);
	} else {
		for (size_t i = 0; i < sizeof docker / sizeof *docker; i++)
			refuse(docker[i], EPERM);
		refuse(SYS_clone3, ENOSYS);
		refuse_bits(SYS_clone, NEW_NAMESPACES);
		refuse_value(SYS_socket, 40 /* AF_VSOCK */, 1);
		refuse_value(SYS_personality, 0xffffffff, 0);
	}
	end(SECCOMP_RET_ALLOW);
	struct sock_fprog filter = {len, prog};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		die("seccomp");
	execv(argv[2], argv + 2);
	die(argv[2]);
}

// Who this is, and whom it may become.
#include "raw.h"

#define TRY(what, call) printf("%s: %ld\n", what, (long)(call))

int main(void)
{
	gid_t list[70000 / 64];
	long uid = getuid(), gid = getgid(), n;
	TRY("getgroups, how many", raw(SYS_getgroups, 0, 0));
	TRY("getgroups, too few", raw(SYS_getgroups, 1, list));
	TRY("getgroups, a negative number", raw(SYS_getgroups, -1, list));
	TRY("getgroups, nowhere", raw(SYS_getgroups, 1000, 8));
	TRY("getgroups", n = raw(SYS_getgroups, 1000, list));
	for (long i = 0; i < n; i++)
		printf("  %u\n", list[i]);
	TRY("setuid(0)", raw(SYS_setuid, 0));
	TRY("setuid(1)", raw(SYS_setuid, 1));
	TRY("setuid(-1)", raw(SYS_setuid, -1));
	TRY("setuid, own", raw(SYS_setuid, uid));
	TRY("setgid(0)", raw(SYS_setgid, 0));
	TRY("setgid, of a group", raw(SYS_setgid, 27));
	TRY("setgid, own", raw(SYS_setgid, gid));
	TRY("setreuid(-1, -1)", raw(SYS_setreuid, -1, -1));
	TRY("setreuid(-1, 1)", raw(SYS_setreuid, -1, 1));
	TRY("setregid(0, -1)", raw(SYS_setregid, 0, -1));
	TRY("setresuid, own", raw(SYS_setresuid, uid, -1, uid));
	TRY("setresuid(.., 5)", raw(SYS_setresuid, uid, uid, 5));
	TRY("setresgid(.., 5)", raw(SYS_setresgid, gid, -1, 5));
	TRY("setfsuid(0)", raw(SYS_setfsuid, 0) == uid);
	TRY("setfsuid, after that", raw(SYS_setfsuid, -1) == uid);
	TRY("setgroups", raw(SYS_setgroups, 0, list));
	TRY("getuid", (long)getuid() == uid && (long)geteuid() == uid && (long)getgid() == gid);
	return 0;
}

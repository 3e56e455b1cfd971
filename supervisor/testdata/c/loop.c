// Makes one call as many times as it is told to.
#include "raw.h"

int main(int argc, char **argv)
{
	static char b[400];
	long n = argc > 2 ? atol(argv[2]) : 0, ret = 0;
	while (n-- > 0 && ret >= 0)
		if (!strcmp(argv[1], "uname"))
			ret = raw(SYS_uname, b);
		else if (!strcmp(argv[1], "getrandom"))
			ret = raw(SYS_getrandom, b, 16, 0);
		else if (!strcmp(argv[1], "sched_getaffinity"))
			ret = raw(SYS_sched_getaffinity, 0, sizeof b, b);
		else if (!strcmp(argv[1], "clock_gettime"))
			ret = raw(SYS_clock_gettime, CLOCK_REALTIME, b);
		else if (!strcmp(argv[1], "getcpu"))
			ret = raw(SYS_getcpu, b, 0);
		else if (!strcmp(argv[1], "getrusage"))
			ret = raw(SYS_getrusage, 0, b);
		else
			return 99;
	return ret < 0;
}

// Prints where things lie in memory.
#include "raw.h"
#include <sys/auxv.h>

int main(int argc, char **argv)
{
	int local;
	printf("stack %p\nargv %p %s\nenv %p\n", (void *)&local, (void *)argv, argv[0], (void *)getenv("PATH"));
	printf("heap %p\nbrk %p\n", malloc(100), sbrk(0));
	printf("big %p\n", malloc(10 << 20));
	printf("mmap %p\n", mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	printf("libc %p\nmain %p\n", (void *)printf, (void *)main);
	printf("vdso %#lx\nAT_RANDOM %#lx\n", getauxval(AT_SYSINFO_EHDR), getauxval(AT_RANDOM));
	fflush(stdout);
	if (argc > 1)
		execv(argv[0], (char *[]){argv[0], 0});
	return 0;
}

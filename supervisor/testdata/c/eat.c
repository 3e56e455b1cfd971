// eat N M has N processes that each write M MiB of memory and keep it until all have;
// eat shared N M has them write the same M MiB. With a further argument it never ends.
#include "raw.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	if (argc < 3)
		die("usage");
	int shared = !strcmp(argv[1], "shared");
	argv += shared, argc -= shared;
	int n = atoi(argv[1]);
	size_t size = (size_t)atoi(argv[2]) << 20;
	char *all = shared ? mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) : 0;
	int ready[2], go[2];
	char c;
	if (pipe(ready) || pipe(go))
		die("pipe");
	for (int i = 0; i < n; i++) {
		if (fork() == 0) {
			close(go[1]);
			memset(shared ? all : malloc(size), 1, size);
			if (write(ready[1], "x", 1) != 1 || read(go[0], &c, 1) != 0)
				die("pipe");
			_exit(0);
		}
	}
	for (int i = 0; i < n; i++)
		if (read(ready[0], &c, 1) != 1)
			die("read");
	while (argc > 3)
		pause();
	close(go[1]);
	while (wait(0) > 0)
		;
	printf("done\n");
	return 0;
}

// mallocs allocates, writes to and frees blocks of 16 bytes to 256 KiB, of which it keeps
// ten thousand, as many times as it is told to.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	enum { kept = 10000 };
	static char *list[kept];
	long n = argc > 1 ? atol(argv[1]) : 0;
	unsigned long long random = 1;
	while (n-- > 0) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		unsigned at = (random >> 33) % kept, shift = (random >> 50) % 15;
		// Large ones are rare, as in most programs.
		size_t size = (16 << (shift < 10 ? shift : (random >> 58) % 15)) + (random >> 40) % 16;
		free(list[at]);
		if (!(list[at] = malloc(size)))
			return puts("no memory"), 1;
		memset(list[at], 1, size < 4096 ? size : 4096);
	}
	return 0;
}

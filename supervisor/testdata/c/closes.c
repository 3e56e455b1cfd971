// Opens and closes one end of a FIFO, and of a terminal, and looks at the other at once.
// Prints how often that doesn't tell.
#define _XOPEN_SOURCE 700
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
	int n = argc > 1 ? atoi(argv[1]) : 1, untold = 0;
	char c;
	if (mkfifo("fifo", 0600) < 0)
		return 2;
	int reader = open("fifo", O_RDONLY | O_NONBLOCK);
	for (int i = 0; i < n; i++) {
		int writer = open("fifo", i % 2 ? O_RDWR : O_WRONLY);
		if (writer < 0 || close(writer) < 0)
			return 2;
		untold += read(reader, &c, 1) != 0;
	}
	printf("FIFO: %d\n", untold);
	untold = 0;
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		return 2;
	for (int i = 0; i < n; i++) {
		int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
		if (slave < 0 || close(slave) < 0)
			return 2;
		struct pollfd p = {.fd = master, .events = POLLIN};
		untold += poll(&p, 1, 0) < 0 || !(p.revents & POLLHUP);
	}
	printf("terminal: %d\n", untold);
	return 0;
}

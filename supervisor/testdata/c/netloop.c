// netloop does something with sockets as many times as it is told to: connect (and
// accept, and close), datagram (there and back), stream (bytes there and back on one
// connection).
#include "raw.h"
#include <arpa/inet.h>
#include <sys/socket.h>

static int made(int kind, struct sockaddr_in *a)
{
	socklen_t size = sizeof *a;
	int fd = socket(AF_INET, kind, 0);
	a->sin_family = AF_INET;
	a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a->sin_port = 0;
	if (fd < 0 || bind(fd, (void *)a, sizeof *a) || getsockname(fd, (void *)a, &size))
		die("bind");
	if (kind == SOCK_STREAM && listen(fd, 8))
		die("listen");
	return fd;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		die("usage");
	long n = atol(argv[2]);
	char b[100] = "";
	struct sockaddr_in to, from;
	socklen_t size = sizeof from;
	if (!strcmp(argv[1], "connect")) {
		int server = made(SOCK_STREAM, &to);
		while (n-- > 0) {
			int fd = socket(AF_INET, SOCK_STREAM, 0);
			if (connect(fd, (void *)&to, sizeof to))
				die("connect");
			int end = accept(server, (void *)&from, &size);
			if (end < 0)
				die("accept");
			// Otherwise its port would wait for late packets, and the kernel look the longer
			// for another the more do.
			struct linger none = {1, 0};
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
			close(fd);
			close(end);
		}
	} else if (!strcmp(argv[1], "datagram")) {
		struct sockaddr_in other;
		int x = made(SOCK_DGRAM, &to), y = made(SOCK_DGRAM, &other);
		while (n-- > 0)
			if (sendto(y, b, sizeof b, 0, (void *)&to, sizeof to) < 0 || recvfrom(x, b, sizeof b, 0, (void *)&from, &size) < 0 ||
			    sendto(x, b, sizeof b, 0, (void *)&from, sizeof from) < 0 || recv(y, b, sizeof b, 0) < 0)
				die("datagram");
	} else {
		int server = made(SOCK_STREAM, &to), fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (void *)&to, sizeof to))
			die("connect");
		int end = accept(server, 0, 0);
		while (n-- > 0)
			if (send(fd, b, sizeof b, 0) < 0 || recv(end, b, sizeof b, 0) < 0 || write(end, b, sizeof b) < 0 || read(fd, b, sizeof b) < 0)
				die("stream");
	}
	return 0;
}

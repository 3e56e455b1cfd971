// connecting waits for connections to servers that have as many as they want, and says
// how that ends: by the socket's timeout, by a signal, by the server.
#include "raw.h"
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

static int server;
static volatile int caught, accepts, closes;
static struct sockaddr_in at;

static void handler(int sig)
{
	(void)sig;
	caught++;
	while (accepts && accept4(server, 0, 0, SOCK_NONBLOCK) >= 0)
		;
	if (closes)
		close(server);
}

// full makes a server that takes no more connections.
static void full(void)
{
	socklen_t size = sizeof at;
	server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (server < 0 || bind(server, (void *)&at, size) || listen(server, 1) || getsockname(server, (void *)&at, &size))
		die("listen");
	for (struct pollfd p = {.events = POLLOUT, .revents = POLLOUT}; p.revents;) {
		p.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (connect(p.fd, (void *)&at, sizeof at) && errno != EINPROGRESS)
			die("connect");
		if (poll(&p, 1, 0) < 0)
			die("poll");
		if (!p.revents)
			close(p.fd); // it would be let in before others
	}
}

static int client(long timeout_ms)
{
	struct timeval tv = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (timeout_ms && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv))
		die("setsockopt");
	return fd;
}

// alarmed lets a signal come soon.
static void alarmed(int flags)
{
	struct sigaction sa = {.sa_handler = handler, .sa_flags = flags};
	struct itimerval soon = {.it_value = {0, 20000}};
	caught = 0;
	if (sigaction(SIGALRM, &sa, 0) || setitimer(ITIMER_REAL, &soon, 0))
		die("alarm");
}

static void connects(const char *what, int fd)
{
	printf("%s: %ld", what, raw(SYS_connect, fd, &at, sizeof at));
	printf(", %d signals\n", caught);
}

static void after(int fd)
{
	int error;
	socklen_t size = sizeof error;
	struct sockaddr_in peer;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	size = sizeof peer;
	long ret = raw(SYS_getpeername, fd, &peer, &size);
	printf("then error %d, name %ld, ", error, ret);
	connects("connect", fd);
}

int main(void)
{
	full();
	int fd = client(30);
	connects("timeout", fd);
	connects("timeout once more", fd);
	close(fd);
	fd = client(0);
	alarmed(0);
	connects("signal", fd);
	alarmed(0);
	connects("signal once more", fd);
	close(fd);
	fd = client(20000);
	alarmed(SA_RESTART);
	connects("signal, with a timeout and SA_RESTART", fd);
	close(fd);
	fd = client(0);
	accepts = 1;
	alarmed(SA_RESTART);
	connects("accepted after a signal with SA_RESTART", fd);
	after(fd);
	full();
	fd = client(0);
	closes = 1;
	alarmed(SA_RESTART);
	connects("closed after a signal with SA_RESTART", fd);
	after(fd);
	fflush(stdout);
	return 0;
}

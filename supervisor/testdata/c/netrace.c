// netrace PORT PATH N tries to reach a UDP port of the host's, and a Unix socket at a path
// of the host's, while another thread rewrites addresses and message headers.
#include "raw.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

static atomic_int stop;
static struct sockaddr_in in, host;
static struct sockaddr_un un, path;
static struct msghdr msg;
static struct iovec iov;

static void *rewriter(void *arg)
{
	(void)arg;
	while (!stop) {
		memcpy(&in, &host, sizeof in);
		msg.msg_name = &host;
		memcpy(&un, &path, sizeof un);
		in.sin_port = htons(8080);
		msg.msg_name = 0;
		memcpy(un.sun_path, "own", 4);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		die("usage");
	int own = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), fd = socket(AF_INET, SOCK_DGRAM, 0);
	int local = socket(AF_UNIX, SOCK_DGRAM, 0), server = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	host = (struct sockaddr_in){AF_INET, htons(atoi(argv[1])), {htonl(INADDR_LOOPBACK)}, ""};
	in = host, in.sin_port = htons(8080);
	path.sun_family = un.sun_family = AF_UNIX;
	strncpy(path.sun_path, argv[2], sizeof path.sun_path - 1);
	strcpy(un.sun_path, "own");
	if (bind(own, (void *)&in, sizeof in) || bind(server, (void *)&un, sizeof un) || connect(fd, (void *)&in, sizeof in))
		die("bind");
	char b[16] = "escaped";
	iov = (struct iovec){b, sizeof b};
	msg = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1, .msg_namelen = sizeof host};
	pthread_t t;
	pthread_create(&t, 0, rewriter, 0);
	for (long n = atol(argv[3]); n > 0; n--) {
		sendto(fd, b, sizeof b, MSG_DONTWAIT, (void *)&in, sizeof in);
		sendmsg(fd, &msg, MSG_DONTWAIT);
		sendto(local, b, sizeof b, MSG_DONTWAIT, (void *)&un, sizeof un);
		while (recv(own, b, sizeof b, 0) > 0 || recv(server, b, sizeof b, 0) > 0)
			;
	}
	stop = 1;
	pthread_join(t, 0);
	printf("end\n");
	return 0;
}

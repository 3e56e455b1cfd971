// mmsg sends and receives several messages at once, and says what came of it.
#include "raw.h"
#include <arpa/inet.h>
#include <sys/socket.h>

enum { most = 20 };
static char text[most][8], heard[most][8];
static struct sockaddr_in to[most], from[most];
static struct iovec out[most], in[most];
static struct mmsghdr send_[most], receive[most];

static int made(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || bind(fd, (void *)&a, sizeof a))
		die("bind");
	return fd;
}

static void prepare(int connected)
{
	for (int i = 0; i < most; i++) {
		snprintf(text[i], sizeof text[i], "%d", i * 1000);
		out[i] = (struct iovec){text[i], strlen(text[i])};
		in[i] = (struct iovec){heard[i], sizeof heard[i]};
		memset(heard[i], 0, sizeof heard[i]);
		to[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(7000), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		send_[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &out[i], .msg_iovlen = 1, .msg_name = connected ? 0 : &to[i], .msg_namelen = connected ? 0 : sizeof to[i]}, .msg_len = 99};
		receive[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &in[i], .msg_iovlen = 1, .msg_name = &from[i], .msg_namelen = sizeof from[i]}, .msg_len = 99};
	}
}

// sendall sends what is left as long as some is sent, as programs do.
static long sendall(int fd, int n)
{
	int sent = 0;
	long ret = 1;
	while (sent < n && (ret = raw(SYS_sendmmsg, fd, send_ + sent, n - sent, 0)) > 0)
		sent += ret;
	return sent ? sent : ret;
}

static void tell(const char *what, long sent, int fd)
{
	printf("%s: %ld, lengths", what, sent);
	for (int i = 0; i < most; i++)
		printf(" %u", send_[i].msg_len);
	long got = raw(SYS_recvmmsg, fd, receive, most, MSG_DONTWAIT, 0);
	printf("\nreceived %ld:", got);
	for (int i = 0; i < got; i++)
		printf(" %s (%u) from %d", heard[i], receive[i].msg_len, ntohs(from[i].sin_port));
	printf("\n");
}

int main(void)
{
	int server = made(7000), client = made(7001);
	prepare(0);
	tell("addressed", sendall(client, most), server);
	prepare(0);
	tell("three", sendall(client, 3), server);
	prepare(0);
	tell("none", raw(SYS_sendmmsg, client, send_, 0, 0), server);
	prepare(0);
	to[2].sin_family = AF_INET6;
	tell("the third is wrong", sendall(client, most), server);
	prepare(0);
	to[0].sin_port = 0;
	tell("the first is wrong", sendall(client, most), server);
	prepare(0);
	send_[1].msg_hdr.msg_name = (void *)8;
	tell("the second can't be read", sendall(client, most), server);
	prepare(0);
	out[4].iov_base = (void *)8;
	tell("the fifth can't be read", sendall(client, most), server);
	if (connect(client, (void *)&to[0], sizeof to[0]))
		die("connect");
	prepare(1);
	tell("connected", sendall(client, most), server);
	printf("nowhere: %ld\n", raw(SYS_sendmmsg, client, (void *)8, 1, 0));
	return 0;
}

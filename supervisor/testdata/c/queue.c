// POSIX message queues.
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 64};
	mqd_t q = mq_open("/test-queue", O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
	printf("mq_open: %d\n", q < 0 ? errno : 0);
	mqd_t r = mq_open("/test-queue", O_RDONLY);
	printf("mq_open again: %d\n", r < 0 ? errno : 0);
	printf("exclusive: %d\n", mq_open("/test-queue", O_RDWR | O_CREAT | O_EXCL, 0600, &attr) < 0 ? errno : 0);
	printf("missing: %d\n", mq_open("/no-such-queue", O_RDWR) < 0 ? errno : 0);
	char buf[64] = "";
	if (mq_send(q, "hello", 6, 1) || mq_receive(r, buf, sizeof buf, 0) < 0)
		perror("message");
	printf("received: %s\n", buf);
	printf("unlink: %d\n", mq_unlink("/test-queue") ? errno : 0);
	printf("unlink again: %d\n", mq_unlink("/test-queue") ? errno : 0);
	printf("left behind: %d\n", mq_open("/left-behind", O_RDWR | O_CREAT, 0600, &attr) < 0 ? errno : 0);
	return 0;
}

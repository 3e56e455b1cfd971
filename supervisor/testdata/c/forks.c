// forks makes processes: forks N M has N threads that each try M times, and says how
// many could be made while all of them stay; forks bomb never ends.
#include "raw.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_int made, refused;

static void *maker(void *times)
{
	for (int i = 0; i < *(int *)times; i++) {
		pid_t pid = fork();
		if (pid == 0)
			for (;;)
				pause();
		if (pid > 0)
			made++;
		else if (errno == EAGAIN)
			refused++;
		else
			die("fork");
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2)
		for (;;)
			fork();
	if (argc != 3)
		die("usage");
	int n = atoi(argv[1]), times = atoi(argv[2]), threads = 0;
	pthread_t list[256];
	for (int i = 0; i < n; i++) {
		if (pthread_create(&list[threads], 0, maker, &times) == 0)
			threads++;
	}
	if (threads == 0 || n > 0)
		maker(&times);
	for (int i = 0; i < threads; i++)
		pthread_join(list[i], 0);
	maker(&times); // now that no thread counts any more
	printf("made %d refused %d\n", made, refused);
	return 0;
}

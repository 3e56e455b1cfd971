// Threads that wait for time, for benchmarks.
//   waiters jump THREADS N   every thread sleeps, in all N times
//   waiters pingpong N       two threads wake each other N times, in waits that
//                            would end after a second
#include "raw.h"
#include <pthread.h>

static long count, threads;
static void *sleeper(void *arg)
{
	struct timespec ts = {0, 1000000 + (long)arg};
	for (long i = 0; i < count / threads; i++)
		nanosleep(&ts, 0);
	return 0;
}

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static long turns;
static void *player(void *arg)
{
	pthread_mutex_lock(&mu);
	while (turns < count) {
		if (turns % 2 == (long)arg) {
			turns++;
			pthread_cond_signal(&turned);
			continue;
		}
		struct timespec ts;
		clock_gettime(CLOCK_REALTIME, &ts);
		ts.tv_sec++;
		if (pthread_cond_timedwait(&turned, &mu, &ts) == ETIMEDOUT)
			die("timed out");
	}
	pthread_mutex_unlock(&mu);
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t list[1000];
	int jump = argc == 4 && !strcmp(argv[1], "jump");
	threads = jump ? atol(argv[2]) : 2;
	count = atol(argv[argc - 1]);
	for (long i = 0; i < threads; i++)
		if (pthread_create(&list[i], 0, jump ? sleeper : player, (void *)i))
			die("pthread_create");
	for (long i = 0; i < threads; i++)
		pthread_join(list[i], 0);
	return 0;
}

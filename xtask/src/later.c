/* A clock that is put forward, for a program that is linked dynamically: LD_PRELOAD this.
 *
 * libfaketime does the same, but `faketime -f +400d rustc --version` never ended with its release 0.9.10. This asks the kernel, and looks
 * nothing up. Clocks that only measure how long something takes stay as they are. */
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int failed = (int)syscall(SYS_clock_gettime, clock, now);
	if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += FORWARD;
	return failed;
}

time_t time(time_t *into)
{
	struct timespec now = {0};
	clock_gettime(CLOCK_REALTIME, &now);
	if (into)
		*into = now.tv_sec;
	return now.tv_sec;
}

int gettimeofday(struct timeval *into, void *zone)
{
	struct timespec now = {0};
	int failed = clock_gettime(CLOCK_REALTIME, &now);
	(void)zone;
	into->tv_sec = now.tv_sec;
	into->tv_usec = now.tv_nsec / 1000;
	return failed;
}

/*
 * Preloaded: a clock that jumps. Of four looks at the time of day the second sees yesterday, the third a day before 1970, as
 * on a board without a battery, and the fourth a year after 9999; with NUNATAK_CLOCK=monotonic the clock for durations
 * goes back an hour every third look, too.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
  static long looks, jumps;
  static int monotonic = -1;
  int code = (int)syscall(SYS_clock_gettime, clock, time);
  if (monotonic < 0) {
    const char *words = getenv("NUNATAK_CLOCK");
    monotonic = words != NULL && strcmp(words, "monotonic") == 0;
  }
  if (code != 0) return code;
  if (clock == CLOCK_REALTIME) {
    switch (__atomic_fetch_add(&jumps, 1, __ATOMIC_RELAXED) % 4) {
      case 1: time->tv_sec -= 86400; break;
      case 2: time->tv_sec = -86400; break;
      case 3: time->tv_sec = 253402300800; break;
    }
  } else if (clock == CLOCK_MONOTONIC && monotonic && __atomic_fetch_add(&looks, 1, __ATOMIC_RELAXED) % 3 == 2) {
    time->tv_sec = time->tv_sec > 3600 ? time->tv_sec - 3600 : 0;
  }
  return code;
}

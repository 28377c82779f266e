/* What the tests in C share: a condition that does not hold is told and counted, and the program goes on. */
#ifndef TRUE_H
#define TRUE_H

#include <nunatak.h>
#include <stdio.h>

/* Counted by any thread. */
static int failures;
#define TRUE(condition)                                                                     \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      fprintf(stderr, "%d: not so: %s (%s)\n", __LINE__, #condition, nunatak_last_error()); \
      __atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);                                   \
    }                                                                                       \
  } while (0)
#define OK(call) TRUE((call) == NUNATAK_OK)

#endif

/* What the examples share: a call that fails ends the program with the library's own words. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <nunatak.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(call)                                                                                            \
  do {                                                                                                         \
    nunatak_status check_status = (call);                                                                      \
    if (check_status != NUNATAK_OK) {                                                                          \
      fprintf(stderr, "%s:%d: %s: %s\n  %s\n", __FILE__, __LINE__, #call, nunatak_status_name(check_status), \
              nunatak_last_error());                                                                           \
      exit(1);                                                                                                 \
    }                                                                                                          \
  } while (0)

/* Ends the program where a number is off by more than a part of what is expected. */
static inline void expect(const char *what, double got, double expected, double part) {
  int good = fabs(got - expected) <= part * fabs(expected);
  printf("%-36s %16.6f   PyTorch %16.6f%s\n", what, got, expected, good ? "" : "   WRONG");
  if (!good) exit(1);
}

static inline void *allocate(size_t bytes) {
  void *memory = malloc(bytes);
  if (memory == NULL) {
    fprintf(stderr, "no memory for %lu bytes\n", (unsigned long)bytes);
    exit(1);
  }
  return memory;
}

#endif

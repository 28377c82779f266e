// Two static libraries in Rust in one program: each has its own standard library, panics and allocator.
#include <nunatak.h>
#include <stdio.h>

unsigned other_sum(unsigned count);
int other_caught(void);

int main(void) {
  nunatak_trainer *none = 0;
  // 0 + 1 + … + 999, by a library that allocates, prints and catches a panic.
  if (other_sum(1000) != 499500 || other_caught() != 1) return 1;
  if (nunatak_trainer_forward(none) == NUNATAK_OK || nunatak_last_error()[0] == 0) return 2;
  printf("two libraries in Rust: %s\n", nunatak_version_text());
  return 0;
}

/* Two libraries that were written in Rust, each with its own copy of what Rust needs, in one program. */
#include <nunatak.h>
#include <stdio.h>
#include <stdlib.h>

unsigned other_sum(unsigned count);

int main(void) {
  nunatak_recipe recipe;
  nunatak_config config;
  size_t bytes = 0;
  nunatak_trainer *t = NULL;
  void *memory;
  if (nunatak_recipe_resnet8(10, sizeof recipe, &recipe) != NUNATAK_OK) return 1;
  if (nunatak_config_default(&recipe, 2, 16, 16, sizeof config, &config) != NUNATAK_OK) return 2;
  if (other_sum(10) != 46) return 3;
  if (nunatak_trainer_required_bytes(&config, &bytes) != NUNATAK_OK) return 4;
  memory = malloc(bytes);
  if (nunatak_trainer_init(&config, memory, bytes, &t) != NUNATAK_OK) return 5;
  if (other_sum(5) != 11) return 6;
  if (nunatak_trainer_release(t) != NUNATAK_OK) return 7;
  free(memory);
  puts("both work");
  return 0;
}

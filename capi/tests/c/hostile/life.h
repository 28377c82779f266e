/* Trainers that are made, switched, released. */
#include "fixture.h"

static nunatak_status init(const nunatak_config *config) {
  static char memory[4096];
  nunatak_trainer *t = NULL;
  nunatak_status status = nunatak_trainer_init(config, memory, sizeof memory, &t);
  TRUE(t == NULL);
  return status;
}

static void case_nunatak_trainer_init(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_CROSS_ENTROPY), threads = good;
  size_t bytes = bytes_of(&good), shift;
  char *memory = (char *)allocate(2 * bytes + 64);
  nunatak_trainer *t = NULL, *second = NULL;
  bad_configs(init);
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, init(&good));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_init(&good, NULL, bytes, &t));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_init(&good, memory, bytes, NULL));
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, nunatak_trainer_init(&good, memory, bytes - 1, &t));
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, nunatak_trainer_init(&good, memory, 0, &t));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_trainer_init(&good, memory, SIZE_MAX, &t));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_init(&good, memory, bytes, (nunatak_trainer **)(void *)memory));
  threads.threads = 5;
  {
    size_t more = bytes_of(&threads);
    void *large = allocate(more);
    EXPECT(NUNATAK_NO_THREADS, nunatak_trainer_init(&threads, large, more, &t));
    free(large);
  }
  TRUE(t == NULL);
  /* Any address will do, and one block serves one trainer. */
  for (shift = 0; shift < 3; shift++) {
    EXPECT(NUNATAK_OK, nunatak_trainer_init(&good, memory + shift, bytes, &t));
    EXPECT(NUNATAK_MEMORY_IN_USE, nunatak_trainer_init(&good, memory + shift, bytes, &second));
    EXPECT(NUNATAK_MEMORY_IN_USE, nunatak_trainer_init(&good, memory + shift + bytes - 1, bytes, &second));
    EXPECT(NUNATAK_OK, nunatak_trainer_init(&good, memory + shift + bytes, bytes, &second));
    EXPECT(NUNATAK_OK, nunatak_trainer_release(second));
    EXPECT(NUNATAK_OK, nunatak_trainer_release(t));
  }
  free(memory);
}

static fixture *switched;
static nunatak_status switch_it(const nunatak_config *config) { return nunatak_trainer_switch(switched->t, config); }

static void case_nunatak_trainer_switch(void) {
  fixture f = make_usual();
  nunatak_config other = f.config;
  switched = &f;
  NO_HANDLES(f, nunatak_trainer_switch(t, &f.config));
  bad_configs(switch_it);
  other.batch = 3;
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, nunatak_trainer_switch(f.t, &other));
  other = f.config;
  other.recipe.widths[0] = 8;
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_trainer_switch(f.t, &other));
  other = f.config;
  other.threads = 2;
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_trainer_switch(f.t, &other));
  other = f.config;
  other.trainable = "head";
  other.recipe.classes = 4;
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_forward(f.t)); /* inputs were those of another plan */
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &f.config));
  learn(&f);
  end(&f);
}

static void case_nunatak_trainer_release(void) {
  fixture f = make_usual();
  nunatak_trainer *copy = (nunatak_trainer *)allocate(4096);
  NO_HANDLES(f, nunatak_trainer_release(t));
  memcpy((void *)copy, (void *)f.t, 4096);
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_release(copy));
  free(copy);
  end(&f); /* releases twice */
}

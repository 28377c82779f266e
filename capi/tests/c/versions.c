/*
 * Programs that were built with an older header, whose structs end earlier, and with a newer one, whose structs are
 * longer: both work with this library, and neither is written past its struct's end.
 */
#include "true.h"
#include <nunatak.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/* A struct of this many bytes with marked bytes behind it. */
typedef struct room {
  union {
    unsigned char bytes[2048];
    uint64_t aligned;
    void *pointer;
  } u;
} room;

static void mark(room *r) { memset(r->u.bytes, 0xa5, sizeof r->u.bytes); }
static int untouched(const room *r, size_t from) {
  while (from < sizeof r->u.bytes && r->u.bytes[from] == 0xa5) from++;
  return from == sizeof r->u.bytes;
}

static nunatak_recipe recipe;

static nunatak_status bytes_of(const void *config, size_t *bytes) {
  return nunatak_trainer_required_bytes((const nunatak_config *)config, bytes);
}

static void configs(void) {
  size_t usual, bytes, size;
  room r;
  nunatak_config config;
  TRUE(nunatak_config_default(&recipe, 2, 16, 16, sizeof config, &config) == NUNATAK_OK);
  TRUE(bytes_of(&config, &usual) == NUNATAK_OK);
  /* Older ones: what they lack has its default. */
  for (size = offsetof(nunatak_config, mode); size <= sizeof config; size += 8) {
    if (size % 8 != 0) size += 4;
    mark(&r);
    TRUE(nunatak_config_default(&recipe, 2, 16, 16, size, (nunatak_config *)(void *)r.u.bytes) == NUNATAK_OK);
    TRUE(untouched(&r, size));
    TRUE(((nunatak_config *)(void *)r.u.bytes)->struct_bytes == size);
    TRUE(bytes_of(r.u.bytes, &bytes) == NUNATAK_OK && bytes == usual);
  }
  mark(&r);
  TRUE(nunatak_config_default(&recipe, 2, 16, 16, offsetof(nunatak_config, width), (nunatak_config *)(void *)r.u.bytes) ==
       NUNATAK_BAD_CONFIG);
  TRUE(nunatak_config_default(&recipe, 2, 16, 16, SIZE_MAX, (nunatak_config *)(void *)r.u.bytes) == NUNATAK_BAD_CONFIG);
  TRUE(untouched(&r, 0));
  /* Newer ones: members that this library does not know are 0, or refused. */
  for (size = sizeof config + 8; size <= sizeof config + 64; size += 8) {
    mark(&r);
    TRUE(nunatak_config_default(&recipe, 2, 16, 16, size, (nunatak_config *)(void *)r.u.bytes) == NUNATAK_OK);
    TRUE(untouched(&r, size));
    TRUE(bytes_of(r.u.bytes, &bytes) == NUNATAK_OK && bytes == usual);
    r.u.bytes[size - 1] = 1;
    TRUE(bytes_of(r.u.bytes, &bytes) == NUNATAK_BAD_CONFIG);
    TRUE(strstr(nunatak_last_error(), "does not know") != NULL);
  }
}

static void settings(void) {
  room r;
  size_t bytes, size;
  nunatak_config config;
  nunatak_trainer *t = NULL;
  void *memory;
  TRUE(nunatak_config_default(&recipe, 2, 16, 16, sizeof config, &config) == NUNATAK_OK);
  TRUE(bytes_of(&config, &bytes) == NUNATAK_OK);
  memory = malloc(bytes);
  TRUE(nunatak_trainer_init(&config, memory, bytes, &t) == NUNATAK_OK);
  for (size = 16; size <= sizeof(nunatak_sgd) + 16; size += 8) {
    mark(&r);
    TRUE(nunatak_sgd_default(.5f, size, (nunatak_sgd *)(void *)r.u.bytes) == NUNATAK_OK);
    TRUE(untouched(&r, size));
    TRUE(nunatak_trainer_set_sgd(t, (nunatak_sgd *)(void *)r.u.bytes) == NUNATAK_OK);
    TRUE(nunatak_trainer_add_group(t, "fc", (nunatak_sgd *)(void *)r.u.bytes) == NUNATAK_OK);
  }
  r.u.bytes[sizeof(nunatak_sgd) + 3] = 9;
  TRUE(nunatak_trainer_set_sgd(t, (nunatak_sgd *)(void *)r.u.bytes) == NUNATAK_BAD_CONFIG);
  TRUE(nunatak_sgd_default(.5f, 8, (nunatak_sgd *)(void *)r.u.bytes) == NUNATAK_BAD_CONFIG);
  for (size = offsetof(nunatak_schedule, size); size <= sizeof(nunatak_schedule) + 16; size += 8) {
    float factor = 0;
    mark(&r);
    TRUE(nunatak_schedule_default(NUNATAK_SCHEDULE_CONSTANT, size, (nunatak_schedule *)(void *)r.u.bytes) == NUNATAK_OK);
    TRUE(untouched(&r, size));
    TRUE(nunatak_schedule_factor((nunatak_schedule *)(void *)r.u.bytes, 3, &factor) == NUNATAK_OK && factor == 1);
  }
  for (size = sizeof(nunatak_shape); size <= sizeof(nunatak_shape) + 16; size += 8) {
    const nunatak_shape *shape = (const nunatak_shape *)(void *)r.u.bytes;
    mark(&r);
    TRUE(nunatak_trainer_tensor_shape(t, "fc.bias", size, (nunatak_shape *)(void *)r.u.bytes) == NUNATAK_OK);
    TRUE(untouched(&r, size) && shape->struct_bytes == size && shape->rank == 1 && shape->sizes[0] == 10);
  }
  for (size = sizeof(nunatak_recipe); size <= sizeof(nunatak_recipe) + 16; size += 8) {
    mark(&r);
    TRUE(nunatak_recipe_resnet18(10, size, (nunatak_recipe *)(void *)r.u.bytes) == NUNATAK_OK);
    TRUE(untouched(&r, size));
    TRUE(nunatak_config_default((nunatak_recipe *)(void *)r.u.bytes, 2, 16, 16, sizeof config, &config) == NUNATAK_OK);
    TRUE(bytes_of(&config, &bytes) == NUNATAK_OK);
  }
  TRUE(nunatak_trainer_release(t) == NUNATAK_OK);
  free(memory);
}

int main(void) {
  TRUE(nunatak_recipe_resnet8(10, sizeof recipe, &recipe) == NUNATAK_OK);
  configs();
  settings();
  printf("%d failures\n", failures);
  return failures != 0;
}

/* What the hostile cases share: expectations that are counted, and trainers to be mistreated. */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <nunatak.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 2, SIZE = 16, CLASSES = 10, PIXELS = BATCH * 3 * SIZE * SIZE };

static int failures;
/* Which call gave which status, to be compared with what the header says. */
static FILE *statuses;

#define EXPECT(status, call)                                                                                    \
  do {                                                                                                          \
    nunatak_status expect_got = (call);                                                                         \
    if (statuses != NULL) fprintf(statuses, "%s %s\n", nunatak_status_name(expect_got), #call);                 \
    if (expect_got != (status)) {                                                                               \
      fprintf(stderr, "%d: %s\n  gave %s (%s), expected %s\n", __LINE__, #call, nunatak_status_name(expect_got), \
              nunatak_last_error(), nunatak_status_name(status));                                               \
      failures++;                                                                                               \
    } else if (expect_got != NUNATAK_OK && nunatak_last_error()[0] == 0) {                                      \
      fprintf(stderr, "%d: %s left no text\n", __LINE__, #call);                                                \
      failures++;                                                                                               \
    }                                                                                                           \
  } while (0)

#define TRUE(condition)                                             \
  do {                                                              \
    if (!(condition)) {                                             \
      fprintf(stderr, "%d: not so: %s\n", __LINE__, #condition);    \
      failures++;                                                   \
    }                                                               \
  } while (0)

static void *allocate(size_t bytes) {
  void *memory = malloc(bytes ? bytes : 1);
  if (memory == NULL) exit(3);
  return memory;
}

static float *floats(size_t count) {
  float *f = (float *)allocate(count * sizeof(float));
  for (size_t i = 0; i < count; i++) f[i] = (float)(i % 7) / 8.0f;
  return f;
}

/* A pointer that no float may have. */
static float *odd(void *p) { return (float *)(void *)((char *)p + 1); }

static nunatak_config config_of(uint32_t loss) {
  nunatak_recipe recipe;
  nunatak_config config;
  EXPECT(NUNATAK_OK, nunatak_recipe_resnet8(CLASSES, sizeof(nunatak_recipe), &recipe));
  EXPECT(NUNATAK_OK, nunatak_config_default(&recipe, BATCH, SIZE, SIZE, sizeof(nunatak_config), &config));
  config.loss = loss;
  return config;
}

static size_t bytes_of(const nunatak_config *config) {
  size_t bytes = 0;
  EXPECT(NUNATAK_OK, nunatak_trainer_required_bytes(config, &bytes));
  return bytes;
}

/* What no trainer is. */
static char anything[64];

static float infinite(void) {
  float v = 1e38f;
  return v * v;
}

/* A trainer, its memory, and one that was released. */
typedef struct fixture {
  nunatak_config config;
  size_t bytes;
  void *memory;
  nunatak_trainer *t;
  nunatak_trainer *released;
  nunatak_trainer *invented;
  nunatak_random random;
} fixture;

static fixture make(const nunatak_config *config) {
  fixture f;
  memset(&f, 0, sizeof f);
  f.config = *config;
  f.bytes = bytes_of(config);
  f.memory = allocate(f.bytes);
  EXPECT(NUNATAK_OK, nunatak_trainer_init(config, f.memory, f.bytes, &f.released));
  EXPECT(NUNATAK_OK, nunatak_trainer_release(f.released));
  free(f.memory);
  /* Elsewhere than the released one, by a byte at least; with room to switch to the other losses. */
  f.bytes += 64 + 4096;
  f.memory = allocate(f.bytes);
  EXPECT(NUNATAK_OK, nunatak_trainer_init(config, (char *)f.memory + 64, f.bytes - 64, &f.t));
  if (f.released == f.t) f.released = NULL;
  f.invented = (nunatak_trainer *)(void *)anything;
  EXPECT(NUNATAK_OK, nunatak_random_seed(&f.random, sizeof(nunatak_random), 5));
  EXPECT(NUNATAK_OK, nunatak_trainer_draw_weights(f.t, &f.random));
  return f;
}

static fixture make_usual(void) {
  nunatak_config config = config_of(NUNATAK_LOSS_CROSS_ENTROPY);
  return make(&config);
}

static void end(fixture *f) {
  EXPECT(NUNATAK_OK, nunatak_trainer_release(f->t));
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_release(f->t));
  free(f->memory);
}

/* Calls with every handle that is none. `call` names the handle `t`. */
#define NO_HANDLES(f, call)                                                              \
  do {                                                                                   \
    nunatak_trainer *t = NULL;                                                           \
    EXPECT(NUNATAK_NULL_POINTER, call);                                                  \
    t = (f).invented;                                                                    \
    EXPECT(NUNATAK_BAD_HANDLE, call);                                                    \
    t = (nunatak_trainer *)(void *)((char *)(f).t + 64);                                 \
    EXPECT(NUNATAK_BAD_HANDLE, call);                                                    \
    t = (nunatak_trainer *)(void *)1;                                                    \
    EXPECT(NUNATAK_BAD_HANDLE, call);                                                    \
    t = (f).released;                                                                    \
    if (t != NULL) EXPECT(NUNATAK_BAD_HANDLE, call);                                     \
  } while (0)

/* Names that no tensor has. */
#define NAMES(call)                                  \
  do {                                               \
    const char *name = NULL;                         \
    EXPECT(NUNATAK_NULL_POINTER, call);              \
    name = "";                                       \
    EXPECT(NUNATAK_UNKNOWN_NAME, call);              \
    name = "fc";                                     \
    EXPECT(NUNATAK_UNKNOWN_NAME, call);              \
    name = "\x80";                                   \
    EXPECT(NUNATAK_BAD_TEXT, call);                  \
  } while (0)

static void feed(fixture *f) {
  float *images = floats(PIXELS);
  int64_t labels[BATCH] = {3, 9};
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f->t, images, PIXELS));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_labels(f->t, labels, BATCH));
  free(images);
}

static void set_sgd(fixture *f, float momentum) {
  nunatak_sgd sgd;
  EXPECT(NUNATAK_OK, nunatak_sgd_default(0.01f, sizeof(nunatak_sgd), &sgd));
  sgd.momentum = momentum;
  EXPECT(NUNATAK_OK, nunatak_trainer_set_sgd(f->t, &sgd));
}

static void learn(fixture *f) {
  float loss = -1;
  feed(f);
  set_sgd(f, 0.9f);
  EXPECT(NUNATAK_OK, nunatak_trainer_step(f->t, &loss));
  TRUE(loss > 0);
}

#endif

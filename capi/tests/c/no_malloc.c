/*
 * Nothing is allocated by trainers on programs: init, loading of native files, steps, predictions, saves,
 * switches. A trainer on a config allocates when it plans, and only then; what it has allocated is free again
 * after the release. Every allocation of the program goes through these wrappers (linked with --wrap), which count.
 */
#include "wrapped.h"
#include <nunatak.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif
static long allocations;
/* Pieces that this thread has allocated and not freed: a worker thread that starts frees what it was given. */
static __thread long held;

static void count(void) {
  __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
  held++;
}

void __wrap_free(void *memory) {
  if (memory != NULL) held--;
  __real_free(memory);
}
void *__wrap_malloc(size_t bytes) {
  count();
  return __real_malloc(bytes);
}
void *__wrap_calloc(size_t number, size_t bytes) {
  count();
  return __real_calloc(number, bytes);
}
void *__wrap_realloc(void *memory, size_t bytes) {
  count();
  if (memory != NULL) held--;
  return __real_realloc(memory, bytes);
}
int __wrap_posix_memalign(void **memory, size_t align, size_t bytes) {
  count();
  return __real_posix_memalign(memory, align, bytes);
}
void *__wrap_aligned_alloc(size_t align, size_t bytes) {
  count();
  return __real_aligned_alloc(align, bytes);
}
#ifdef __cplusplus
}
#endif

#define CHECK(call)                                                                                 \
  do {                                                                                              \
    nunatak_status check_status = (call);                                                           \
    if (check_status != NUNATAK_OK) {                                                               \
      fprintf(stderr, "%d: %s: %s\n", __LINE__, nunatak_status_name(check_status), nunatak_last_error()); \
      exit(1);                                                                                      \
    }                                                                                               \
  } while (0)

/* A call that allocates nothing. */
#define QUIET(call)                                                        \
  do {                                                                     \
    long quiet_before = __atomic_load_n(&allocations, __ATOMIC_RELAXED);   \
    CHECK(call);                                                           \
    if (__atomic_load_n(&allocations, __ATOMIC_RELAXED) != quiet_before) { \
      fprintf(stderr, "%d: %s allocates\n", __LINE__, #call);              \
      exit(1);                                                             \
    }                                                                      \
  } while (0)

/* What makes and switches trainers: of configs or of programs. */
typedef struct planned {
  nunatak_config config;
  void *program;
  size_t bytes;
} planned;

static planned plan(const nunatak_config *config) {
  planned p;
  long before = held;
  p.config = *config;
  p.bytes = 0;
  if (nunatak_program_from_config(config, &p, 0, &p.bytes) != NUNATAK_BUFFER_TOO_SMALL || p.bytes == 0) exit(1);
  p.program = malloc(p.bytes);
  CHECK(nunatak_program_from_config(config, p.program, p.bytes, &p.bytes));
  if (held != before + 1) {
    fprintf(stderr, "planning leaves %ld pieces on the heap\n", held - before - 1);
    exit(1);
  }
  return p;
}

static void run(size_t threads, int programs) {
  static float images[4 * 3 * 32 * 32], prediction[40];
  static const int64_t labels[4] = {0, 3, 7, 9};
  nunatak_recipe recipe;
  nunatak_config config, evaluate;
  nunatak_trainer *t;
  nunatak_random random;
  nunatak_sgd sgd;
  size_t bytes, saved, written;
  float loss, norm;
  void *memory, *file;
  uint32_t format;
  planned step, evaluation;
  long before;

  CHECK(nunatak_threads_start(threads)); /* this may allocate */
  QUIET(nunatak_recipe_resnet8(10, sizeof(nunatak_recipe), &recipe));
  QUIET(nunatak_config_default(&recipe, 4, 32, 32, sizeof(nunatak_config), &config));
  config.threads = threads;
  evaluate = config;
  evaluate.loss = NUNATAK_LOSS_NONE;
  evaluate.mode = NUNATAK_EVAL;
  step = plan(&config);
  evaluation = plan(&evaluate);
  QUIET(nunatak_program_check(step.program, step.bytes));
  QUIET(nunatak_program_required_bytes(step.program, step.bytes, &bytes));
  memory = malloc(bytes);
  before = held;
  if (programs) {
    nunatak_region region = {memory, bytes};
    QUIET(nunatak_trainer_init_program(step.program, step.bytes, NULL, 0, threads, NULL, &region, 1, &t));
  } else {
    CHECK(nunatak_trainer_init(&config, memory, bytes, &t));
  }
  QUIET(nunatak_random_seed(&random, sizeof(nunatak_random), 0));
  QUIET(nunatak_trainer_draw_weights(t, &random));
  QUIET(nunatak_random_uniform(&random, 0, 1, images, sizeof images / sizeof images[0]));
  QUIET(nunatak_sgd_default(0.1f, sizeof(nunatak_sgd), &sgd));
  sgd.momentum = 0.9f;
  QUIET(nunatak_trainer_set_sgd(t, &sgd));
  QUIET(nunatak_trainer_set_images(t, images, sizeof images / sizeof images[0]));
  QUIET(nunatak_trainer_set_labels(t, labels, 4));
  QUIET(nunatak_trainer_forward(t));
  QUIET(nunatak_trainer_backward(t));
  QUIET(nunatak_trainer_clip_grad_norm(t, 1, &norm));
  QUIET(nunatak_trainer_update(t));
  QUIET(nunatak_trainer_zero_grad(t));
  QUIET(nunatak_trainer_set_images(t, images, sizeof images / sizeof images[0]));
  QUIET(nunatak_trainer_set_labels(t, labels, 4));
  QUIET(nunatak_trainer_step(t, &loss));
  if (programs) {
    QUIET(nunatak_trainer_switch_program(t, evaluation.program, evaluation.bytes));
  } else {
    CHECK(nunatak_trainer_switch(t, &evaluate));
  }
  QUIET(nunatak_trainer_set_images(t, images, sizeof images / sizeof images[0]));
  QUIET(nunatak_trainer_predict(t, prediction, 40));
  for (format = NUNATAK_SAFETENSORS; format <= NUNATAK_NATIVE; format++) {
    QUIET(nunatak_trainer_saved_bytes(t, format, &saved));
    file = malloc(saved);
    QUIET(nunatak_trainer_save(t, format, file, saved, &written));
    if (format == NUNATAK_NATIVE) QUIET(nunatak_trainer_load(t, file, written, NUNATAK_HEAD_LOAD));
    free(file);
  }
  QUIET(nunatak_trainer_release(t));
  if (held != before) {
    fprintf(stderr, "%ld pieces are on the heap after the release\n", held - before);
    exit(1);
  }
  free(step.program);
  free(evaluation.program);
  CHECK(nunatak_threads_stop(threads));
  free(memory);
}

int main(void) {
  void *volatile probe = malloc(1); /* the wrappers are in place */
  free(probe);
  if (allocations == 0 || held != 0) {
    fprintf(stderr, "allocations are not counted\n");
    return 1;
  }
  run(1, 1);
  run(2, 1);
  run(1, 0);
  run(2, 0);
  printf("programs allocate nothing, configs what they give back\n");
  return 0;
}

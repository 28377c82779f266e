/*
 * Nothing is allocated by init, loading of native files, steps, predictions, saves, switches:
 * every allocation of the program goes through these wrappers (linked with --wrap), which count.
 */
#include <nunatak.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif
static long allocations;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
int __real_posix_memalign(void **memory, size_t align, size_t bytes);
void *__real_aligned_alloc(size_t align, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
int __wrap_posix_memalign(void **memory, size_t align, size_t bytes);
void *__wrap_aligned_alloc(size_t align, size_t bytes);

void *__wrap_malloc(size_t bytes) {
  __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
  return __real_malloc(bytes);
}
void *__wrap_calloc(size_t count, size_t bytes) {
  __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
  return __real_calloc(count, bytes);
}
void *__wrap_realloc(void *memory, size_t bytes) {
  __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
  return __real_realloc(memory, bytes);
}
int __wrap_posix_memalign(void **memory, size_t align, size_t bytes) {
  __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
  return __real_posix_memalign(memory, align, bytes);
}
void *__wrap_aligned_alloc(size_t align, size_t bytes) {
  __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
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

static void run(size_t threads) {
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

  CHECK(nunatak_threads_start(threads)); /* this may allocate */
  QUIET(nunatak_recipe_resnet8(10, &recipe));
  QUIET(nunatak_config_default(&recipe, 4, 32, 32, &config));
  config.threads = threads;
  QUIET(nunatak_trainer_required_bytes(&config, &bytes));
  memory = malloc(bytes);
  QUIET(nunatak_trainer_init(&config, memory, bytes, &t));
  QUIET(nunatak_random_seed(&random, 0));
  QUIET(nunatak_trainer_draw_weights(t, &random));
  QUIET(nunatak_random_uniform(&random, 0, 1, images, sizeof images / sizeof images[0]));
  QUIET(nunatak_sgd_default(0.1f, &sgd));
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
  evaluate = config;
  evaluate.loss = NUNATAK_LOSS_NONE;
  evaluate.mode = NUNATAK_EVAL;
  QUIET(nunatak_trainer_switch(t, &evaluate));
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
  CHECK(nunatak_threads_stop(threads));
  free(memory);
}

int main(void) {
  void *volatile probe = malloc(1); /* the wrappers are in place */
  free(probe);
  if (allocations == 0) {
    fprintf(stderr, "allocations are not counted\n");
    return 1;
  }
  run(1);
  run(2);
  printf("nothing is allocated\n");
  return 0;
}

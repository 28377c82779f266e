/*
 * Every function on a thread with a stack of 96 kB, of which the untouched part keeps its paint: what computes takes
 * at most 40 kB, everything else 32 kB. The header says so.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "true.h"
#include <nunatak.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BATCH = 2, SIZE = 32, CLASSES = 10, PIXELS = BATCH * 3 * SIZE * SIZE, STACK = 96 << 10, GUARD = 64 << 10 };


/* All that the calls work on. */
static nunatak_recipe recipe;
static nunatak_config config, head;
static nunatak_trainer *t;
static nunatak_random rng;
static nunatak_sgd sgd;
static nunatak_schedule schedule;
static nunatak_region region;
static size_t regions, bytes, head_bytes, file_bytes, native_bytes, program_bytes, text_bytes, written;
static char *memory, *file, *native, *program, *text;
static float images[PIXELS], values[64 * CLASSES], loss, deviation[3] = {1, 1, 1}, mean[3];
static unsigned char pixels[PIXELS];
static int64_t labels[BATCH] = {3, 9}, batches;
static float targets[BATCH * CLASSES];

static void *allocate(size_t size) {
  void *piece = malloc(size);
  if (piece == NULL) exit(3);
  return piece;
}

static void planning(void) {
  nunatak_shape shape;
  OK(nunatak_recipe_resnet34(CLASSES, sizeof recipe, &recipe));
  OK(nunatak_recipe_resnet18(CLASSES, sizeof recipe, &recipe));
  OK(nunatak_config_default(&recipe, BATCH, SIZE, SIZE, sizeof config, &config));
  OK(nunatak_trainer_required_bytes(&config, &bytes));
  head = config;
  head.trainable = "head";
  head.statistics = NUNATAK_STATISTICS_FIXED;
  OK(nunatak_trainer_required_bytes(&head, &head_bytes));
  if (head_bytes > bytes) bytes = head_bytes;
  OK(nunatak_plan_text_bytes(&config, &text_bytes));
  text = (char *)allocate(text_bytes);
  OK(nunatak_plan_text(&config, text, text_bytes));
  TRUE(nunatak_program_from_config(&config, text, 0, &program_bytes) == NUNATAK_BUFFER_TOO_SMALL);
  program = (char *)allocate(program_bytes);
  OK(nunatak_program_from_config(&config, program, program_bytes, &written));
  memory = (char *)allocate(bytes);
  OK(nunatak_trainer_init(&config, memory, bytes, &t));
  OK(nunatak_trainer_switch(t, &head));
  OK(nunatak_trainer_switch(t, &config));
  OK(nunatak_trainer_tensor_shape(t, "fc.weight", sizeof shape, &shape));
}

static int on(void *user, size_t done, size_t total) {
  (void)user;
  return done > total;
}
static uint64_t now(void *user) {
  (void)user;
  return 7;
}
static void tick(void *user, uint32_t kind, size_t number, uint64_t ticks) {
  char name[NUNATAK_NAME_BYTES];
  (void)user, (void)ticks;
  TRUE(nunatak_trainer_call_name(t, kind, number, name, sizeof name) == NUNATAK_BUSY);
}

static void training(void) {
  uint32_t updated;
  char name[NUNATAK_NAME_BYTES];
  const char *level;
  float norm, factor;
  size_t count;
  OK(nunatak_random_seed(&rng, sizeof rng, 3));
  OK(nunatak_random_uniform(&rng, 0, 1, images, PIXELS));
  OK(nunatak_trainer_draw_weights(t, &rng));
  OK(nunatak_trainer_draw_head(t, &rng));
  OK(nunatak_sgd_default(.01f, sizeof sgd, &sgd));
  sgd.momentum = .9f;
  OK(nunatak_trainer_set_sgd(t, &sgd));
  OK(nunatak_trainer_add_group(t, "fc", &sgd));
  OK(nunatak_schedule_default(NUNATAK_SCHEDULE_COSINE, sizeof schedule, &schedule));
  schedule.total = 9;
  OK(nunatak_schedule_factor(&schedule, 3, &factor));
  OK(nunatak_trainer_set_rate(t, factor));
  OK(nunatak_trainer_on_progress(t, on, NULL));
  OK(nunatak_trainer_on_tick(t, now, tick, NULL));
  OK(nunatak_trainer_set_images_u8(t, pixels, PIXELS, mean, deviation));
  OK(nunatak_trainer_set_images(t, images, PIXELS));
  TRUE(nunatak_trainer_set_targets(t, targets, BATCH * CLASSES) == NUNATAK_NOT_PLANNED);
  OK(nunatak_trainer_set_labels(t, labels, BATCH));
  OK(nunatak_trainer_step(t, &loss));
  TRUE(loss > 0);
  OK(nunatak_trainer_set_images(t, images, PIXELS));
  OK(nunatak_trainer_set_labels(t, labels, BATCH));
  OK(nunatak_trainer_forward(t));
  TRUE(nunatak_trainer_backward_from(t, targets, BATCH * CLASSES) == NUNATAK_NOT_PLANNED);
  OK(nunatak_trainer_backward(t));
  OK(nunatak_trainer_clip_grad_norm(t, 1, &norm));
  OK(nunatak_trainer_get_gradient(t, "fc.bias", values, CLASSES));
  OK(nunatak_trainer_set_gradient(t, "fc.bias", values, CLASSES));
  OK(nunatak_trainer_update(t));
  OK(nunatak_trainer_zero_grad(t));
  TRUE(nunatak_trainer_was_updated(t, "fc.bias", &updated) == NUNATAK_NOT_PLANNED);
  OK(nunatak_trainer_loss(t, &loss));
  OK(nunatak_trainer_predictions(t, values, BATCH * CLASSES));
  TRUE(nunatak_trainer_features(t, values, 1) == NUNATAK_WRONG_LENGTH);
  OK(nunatak_trainer_set_images(t, images, PIXELS));
  OK(nunatak_trainer_set_labels(t, labels, BATCH));
  OK(nunatak_trainer_predict(t, values, BATCH * CLASSES));
  OK(nunatak_trainer_on_tick(t, NULL, NULL, NULL));
  OK(nunatak_trainer_tensor_count(t, &count));
  OK(nunatak_trainer_tensor_name(t, count - 1, name, sizeof name));
  OK(nunatak_trainer_call_name(t, NUNATAK_CALL_UPDATE, 0, name, sizeof name));
  OK(nunatak_trainer_get_tensor(t, "fc.bias", values, CLASSES));
  OK(nunatak_trainer_set_tensor(t, "fc.bias", values, CLASSES));
  OK(nunatak_trainer_get_momentum(t, "fc.bias", values, CLASSES));
  OK(nunatak_trainer_set_momentum(t, "fc.bias", values, CLASSES));
  OK(nunatak_trainer_get_batches(t, "bn1.num_batches_tracked", &batches));
  OK(nunatak_trainer_set_batches(t, "bn1.num_batches_tracked", batches));
  OK(nunatak_trainer_level(t, &level));
}

static void files(void) {
  nunatak_recipe found;
  int64_t numbers[2];
  OK(nunatak_trainer_saved_bytes(t, NUNATAK_SAFETENSORS_WITH_MOMENTUM, &file_bytes));
  file = (char *)allocate(file_bytes);
  OK(nunatak_trainer_save(t, NUNATAK_SAFETENSORS_WITH_MOMENTUM, file, file_bytes, &written));
  OK(nunatak_trainer_saved_bytes(t, NUNATAK_NATIVE, &native_bytes));
  native = (char *)allocate(native_bytes);
  OK(nunatak_trainer_save(t, NUNATAK_NATIVE, native, native_bytes, &written));
  OK(nunatak_trainer_load(t, file, file_bytes, NUNATAK_HEAD_LOAD));
  OK(nunatak_trainer_load_momentum(t, file, file_bytes));
  OK(nunatak_trainer_load(t, native, native_bytes, NUNATAK_HEAD_KEEP));
  OK(nunatak_recipe_of_file(file, file_bytes, sizeof found, &found));
  OK(nunatak_file_verify(file, file_bytes));
  OK(nunatak_file_verify(native, native_bytes));
  OK(nunatak_program_check(program, program_bytes));
  OK(nunatak_program_required_bytes(program, program_bytes, &bytes));
  OK(nunatak_program_text_bytes(program, program_bytes, &text_bytes));
  OK(nunatak_program_text(program, program_bytes, text, text_bytes));
  OK(nunatak_trainer_switch_program(t, program, program_bytes));
  OK(nunatak_trainer_release(t));
  OK(nunatak_program_region_count(program, program_bytes, &regions));
  OK(nunatak_program_region_bytes(program, program_bytes, 0, &region.bytes));
  region.memory = memory;
  TRUE(regions == 1 && region.bytes == bytes);
  OK(nunatak_trainer_init_program(program, program_bytes, NULL, 0, 1, NULL, &region, 1, &t));
  OK(nunatak_trainer_forget(memory));
  TRUE(nunatak_trainer_release(t) == NUNATAK_BAD_HANDLE);
  TRUE(nunatak_last_error_numbers(&numbers[0], &numbers[1]) == 0);
  TRUE(nunatak_on_panic(NULL) == NUNATAK_UNSUPPORTED);
  TRUE(nunatak_version() > 0 && nunatak_version_text()[0] != 0 && nunatak_status_name(1)[0] != 0);
  OK(nunatak_threads_start(2));
  OK(nunatak_threads_stop(2));
}

static void *run(void *calls) {
  (*(void (**)(void))calls)();
  return NULL;
}

/* Runs on a painted stack with forbidden pages below; returns the bytes that were touched. */
static size_t on_stack(const char *what, void (*calls)(void), size_t most) {
  pthread_attr_t attributes;
  pthread_t thread;
  size_t i;
  unsigned char *block = (unsigned char *)mmap(NULL, GUARD + STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *stack = block + GUARD;
  if (block == MAP_FAILED || mprotect(stack, STACK, PROT_READ | PROT_WRITE) != 0) exit(3);
  memset(stack, 0x5a, STACK);
  pthread_attr_init(&attributes);
  if (pthread_attr_setstack(&attributes, stack, STACK) != 0) exit(3);
  if (pthread_create(&thread, &attributes, run, &calls) != 0) exit(3);
  pthread_join(thread, NULL);
  pthread_attr_destroy(&attributes);
  for (i = 0; i < STACK && stack[i] == 0x5a; i++) {
  }
  munmap(block, GUARD + STACK);
  printf("%s: %zu bytes of stack\n", what, STACK - i);
  if (STACK - i > most) {
    fprintf(stderr, "%s takes %zu bytes of stack, more than %zu\n", what, STACK - i, most);
    failures++;
  }
  return STACK - i;
}

static void nothing(void) {}

int main(void) {
  /* What a thread has on its stack before it does anything. */
  size_t own = on_stack("nothing", nothing, STACK);
  on_stack("planning", planning, own + (32 << 10));
  on_stack("training", training, own + (40 << 10));
  on_stack("files and programs", files, own + (32 << 10));
  free(memory);
  free(file);
  free(native);
  free(program);
  free(text);
  printf("%d failures\n", failures);
  return failures != 0;
}

/*
 * Several threads and one trainer each, or one between them; a text of the last error for each; a fork; a callback
 * that leaves by longjmp; memory that is used again.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "true.h"
#include <nunatak.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BATCH = 2, SIZE = 16, CLASSES = 10, PIXELS = BATCH * 3 * SIZE * SIZE, THREADS = 4 };


static nunatak_config config_of(size_t threads) {
  nunatak_recipe recipe;
  nunatak_config config;
  TRUE(nunatak_recipe_resnet8(CLASSES, sizeof recipe, &recipe) == NUNATAK_OK);
  TRUE(nunatak_config_default(&recipe, BATCH, SIZE, SIZE, sizeof config, &config) == NUNATAK_OK);
  config.threads = threads;
  return config;
}

static nunatak_trainer *make(const nunatak_config *config, void *memory, size_t bytes) {
  nunatak_trainer *t = NULL;
  nunatak_random random;
  nunatak_sgd sgd;
  TRUE(nunatak_trainer_init(config, memory, bytes, &t) == NUNATAK_OK);
  TRUE(nunatak_random_seed(&random, sizeof random, 1) == NUNATAK_OK);
  TRUE(nunatak_trainer_draw_weights(t, &random) == NUNATAK_OK);
  TRUE(nunatak_sgd_default(.01f, sizeof sgd, &sgd) == NUNATAK_OK);
  TRUE(nunatak_trainer_set_sgd(t, &sgd) == NUNATAK_OK);
  return t;
}

static nunatak_status learn(nunatak_trainer *t, float *loss) {
  float images[PIXELS];
  int64_t labels[BATCH] = {3, 9};
  int i;
  nunatak_status status;
  for (i = 0; i < PIXELS; i++) images[i] = (float)(i % 7) / 8;
  status = nunatak_trainer_set_images(t, images, PIXELS);
  if (status == NUNATAK_OK) status = nunatak_trainer_set_labels(t, labels, BATCH);
  return status == NUNATAK_OK ? nunatak_trainer_step(t, loss) : status;
}

static float losses[THREADS];
static nunatak_trainer *shared;

/* A trainer of its own; and the one that all have, which is busy now and then. */
static void *work(void *number) {
  int own = *(int *)number, i;
  nunatak_config config = config_of(1);
  size_t bytes = 0;
  void *memory;
  nunatak_trainer *t;
  char text[64];
  TRUE(nunatak_trainer_required_bytes(&config, &bytes) == NUNATAK_OK);
  memory = malloc(bytes);
  t = make(&config, memory, bytes);
  for (i = 0; i < 3; i++) TRUE(learn(t, &losses[own]) == NUNATAK_OK);
  /* Its own text: the name is in it, whatever the others do. */
  for (i = 0; i < 200; i++) {
    float room[1];
    nunatak_status status;
    sprintf(text, "no_tensor_%d_%d", own, i);
    TRUE(nunatak_trainer_get_tensor(t, text, room, 1) == NUNATAK_UNKNOWN_NAME);
    status = nunatak_trainer_loss(shared, room);
    TRUE(status == NUNATAK_OK || status == NUNATAK_BUSY || status == NUNATAK_WRONG_ORDER);
    TRUE(nunatak_trainer_get_tensor(t, text, room, 1) == NUNATAK_UNKNOWN_NAME);
    TRUE(strstr(nunatak_last_error(), text) != NULL);
  }
  TRUE(nunatak_trainer_release(t) == NUNATAK_OK);
  free(memory);
  return NULL;
}

static void threads(void) {
  pthread_t all[THREADS];
  int numbers[THREADS], i;
  nunatak_config config = config_of(1);
  size_t bytes = 0;
  void *memory;
  TRUE(nunatak_trainer_required_bytes(&config, &bytes) == NUNATAK_OK);
  memory = malloc(bytes);
  shared = make(&config, memory, bytes);
  for (i = 0; i < THREADS; i++) {
    numbers[i] = i;
    if (pthread_create(&all[i], NULL, work, &numbers[i]) != 0) exit(3);
  }
  for (i = 0; i < THREADS; i++) pthread_join(all[i], NULL);
  for (i = 1; i < THREADS; i++) TRUE(losses[i] == losses[0] && losses[0] > 0);
  TRUE(nunatak_trainer_release(shared) == NUNATAK_OK);
  free(memory);
}

/* The child has no threads but its own: it computes alone, to the same bits, and may stop and start threads. */
static void forks(void) {
  nunatak_config config = config_of(2);
  size_t bytes = 0;
  float loss = 0, again = 0;
  void *memory;
  nunatak_trainer *t;
  pid_t child;
  int result = 1;
  TRUE(nunatak_threads_start(2) == NUNATAK_OK);
  TRUE(nunatak_trainer_required_bytes(&config, &bytes) == NUNATAK_OK);
  memory = malloc(bytes);
  t = make(&config, memory, bytes);
  TRUE(learn(t, &loss) == NUNATAK_OK);
  fflush(NULL);
  child = fork();
  if (child == 0) {
    float of_child = 0;
    int before = failures;
    freopen("child.txt", "w", stderr);
    if (learn(t, &of_child) != NUNATAK_OK) _exit(2);
    if (nunatak_threads_stop(2) != NUNATAK_OK) _exit(3);
    if (nunatak_threads_stop(2) != NUNATAK_NO_THREADS) _exit(4);
    if (nunatak_threads_start(2) != NUNATAK_OK) _exit(5);
    if (nunatak_trainer_release(t) != NUNATAK_OK) _exit(6);
    t = make(&config, memory, bytes);
    if (learn(t, &again) != NUNATAK_OK || again != loss) _exit(7);
    if (nunatak_trainer_release(t) != NUNATAK_OK) _exit(8);
    if (nunatak_threads_stop(2) != NUNATAK_OK) _exit(9);
    fflush(stderr);
    {
      FILE *out = fopen("child.txt", "rb");
      if (out == NULL || fgetc(out) != EOF) _exit(10); /* nothing was printed */
    }
    _exit(failures != before ? 11 : 0);
  }
  TRUE(child > 0 && waitpid(child, &result, 0) == child);
  TRUE(WIFEXITED(result) && WEXITSTATUS(result) == 0);
  if (WIFEXITED(result)) printf("the child ended with %d\n", WEXITSTATUS(result));
  TRUE(learn(t, &again) == NUNATAK_OK);
  TRUE(nunatak_trainer_release(t) == NUNATAK_OK);
  TRUE(nunatak_threads_stop(2) == NUNATAK_OK);
  free(memory);
}

static jmp_buf away;
static int leave(void *user, size_t done, size_t total) {
  (void)total;
  if (done == *(size_t *)user) longjmp(away, 1);
  return 0;
}

/* A callback that never returns leaves the trainer busy; forgotten, its memory serves another one. */
static void never_returns(void) {
  nunatak_config config = config_of(1);
  static size_t bytes, at = 3;
  static void *memory;
  static nunatak_trainer *t;
  float loss = 0;
  TRUE(nunatak_trainer_required_bytes(&config, &bytes) == NUNATAK_OK);
  memory = malloc(bytes);
  t = make(&config, memory, bytes);
  TRUE(nunatak_trainer_on_progress(t, leave, &at) == NUNATAK_OK);
  if (setjmp(away) == 0) {
    (void)learn(t, &loss);
    TRUE(0);
  }
  TRUE(nunatak_trainer_release(t) == NUNATAK_BUSY);
  TRUE(nunatak_trainer_forget(memory) == NUNATAK_OK);
  TRUE(nunatak_trainer_release(t) == NUNATAK_BAD_HANDLE);
  t = make(&config, memory, bytes);
  TRUE(learn(t, &loss) == NUNATAK_OK);
  TRUE(nunatak_trainer_release(t) == NUNATAK_OK);
  free(memory);
}

int main(int argc, char **argv) {
  threads();
  never_returns();
  /* Sanitizers have threads of their own, and watch jumps. */
  if (argc == 1 || strcmp(argv[1], "nofork") != 0) forks();
  printf("%d failures\n", failures);
  return failures != 0;
}

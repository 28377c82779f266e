/*
 * Every call that allocates, with the n-th allocation refused, for every n: a status each time, never an abort, and
 * what was there stays as it was. Then with all allocations refused from the n-th on. Every allocation of the
 * program goes through these wrappers (linked with --wrap).
 */
#include "true.h"
#include "wrapped.h"
#include <nunatak.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif
/* Counted down at each allocation; refused at 0, or below 0 too where `all` says so. */
static long left = -1;
static int all, refused;

static int refuse(void) {
  if (left < 0) return 0;
  if (left > 0) {
    left--;
    return 0;
  }
  refused++;
  if (!all) left = -1;
  return 1;
}

void __wrap_free(void *memory) { __real_free(memory); }
void *__wrap_malloc(size_t bytes) { return refuse() ? NULL : __real_malloc(bytes); }
void *__wrap_calloc(size_t number, size_t bytes) { return refuse() ? NULL : __real_calloc(number, bytes); }
void *__wrap_realloc(void *memory, size_t bytes) { return refuse() ? NULL : __real_realloc(memory, bytes); }
int __wrap_posix_memalign(void **memory, size_t align, size_t bytes) {
  return refuse() ? 12 : __real_posix_memalign(memory, align, bytes);
}
void *__wrap_aligned_alloc(size_t align, size_t bytes) { return refuse() ? NULL : __real_aligned_alloc(align, bytes); }
#ifdef __cplusplus
}
#endif


/* A call with the n-th allocation refused, for n from 0 until none is. Ends with a call that went well. */
#define REFUSED(call, after)                                                                     \
  do {                                                                                           \
    long n = 0;                                                                                  \
    int in_vain = 0;                                                                             \
    for (all = 0; all < 2; all++) {                                                              \
      for (n = 0;; n++) {                                                                        \
        nunatak_status status;                                                                   \
        left = n;                                                                                \
        refused = 0;                                                                             \
        status = (call);                                                                         \
        left = -1;                                                                               \
        TRUE(status == NUNATAK_OK || status == NUNATAK_OUT_OF_MEMORY); \
        if (status == NUNATAK_OK) {                                                              \
          after;                                                                                 \
        } else {                                                                                 \
          in_vain++;                                                                             \
          TRUE(nunatak_last_error()[0] != 0 && refused > 0);                                     \
        }                                                                                        \
        if (refused == 0 || n > 20000) break;                                                    \
      }                                                                                          \
    }                                                                                            \
    printf("%-60.60s %5ld allocations, %d of the refusals a status\n", #call, n, in_vain);        \
  } while (0)

static char *read_file(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  char *text;
  if (file == NULL) return NULL;
  fseek(file, 0, SEEK_END);
  *bytes = (size_t)ftell(file);
  rewind(file);
  text = (char *)malloc(*bytes ? *bytes : 1);
  if (text == NULL || fread(text, 1, *bytes, file) != *bytes) exit(3);
  fclose(file);
  return text;
}

int main(int argc, char **argv) {
  enum { BATCH = 2, SIZE = 16 };
  nunatak_recipe recipe, found;
  nunatak_config config, head;
  nunatak_trainer *t = NULL;
  nunatak_random random;
  size_t bytes = 0, head_bytes = 0, file_bytes = 0, written = 0, plan_bytes = 0, program_bytes = 0;
  void *memory;
  char *file, *text, *state;
  int i;
  TRUE(nunatak_recipe_resnet8(10, sizeof recipe, &recipe) == NUNATAK_OK);
  TRUE(nunatak_config_default(&recipe, BATCH, SIZE, SIZE, sizeof config, &config) == NUNATAK_OK);
  head = config;
  head.trainable = "head";
  REFUSED(nunatak_trainer_required_bytes(&config, &bytes), (void)0);
  TRUE(nunatak_trainer_required_bytes(&head, &head_bytes) == NUNATAK_OK);
  if (head_bytes > bytes) bytes = head_bytes;
  memory = malloc(bytes);
  REFUSED(nunatak_plan_text_bytes(&config, &plan_bytes), (void)0);
  text = (char *)malloc(plan_bytes);
  REFUSED(nunatak_plan_text(&config, text, plan_bytes), (void)0);
  (void)nunatak_program_from_config(&config, text, 0, &program_bytes);
  state = (char *)malloc(program_bytes);
  REFUSED(nunatak_program_from_config(&config, state, program_bytes, &written), (void)0);
  free(state);
  REFUSED(nunatak_threads_start(2), TRUE(nunatak_threads_stop(2) == NUNATAK_OK));
  REFUSED(nunatak_threads_start(5), TRUE(nunatak_threads_stop(5) == NUNATAK_OK));
  REFUSED(nunatak_trainer_init(&config, memory, bytes, &t), TRUE(nunatak_trainer_release(t) == NUNATAK_OK));
  TRUE(nunatak_trainer_init(&config, memory, bytes, &t) == NUNATAK_OK);
  TRUE(nunatak_random_seed(&random, sizeof random, 0) == NUNATAK_OK);
  TRUE(nunatak_trainer_draw_weights(t, &random) == NUNATAK_OK);
  TRUE(nunatak_trainer_saved_bytes(t, NUNATAK_SAFETENSORS, &file_bytes) == NUNATAK_OK);
  file = (char *)malloc(file_bytes);
  state = (char *)malloc(file_bytes);
  TRUE(nunatak_trainer_save(t, NUNATAK_SAFETENSORS, file, file_bytes, &written) == NUNATAK_OK);
  REFUSED(nunatak_trainer_load(t, file, file_bytes, NUNATAK_HEAD_LOAD), (void)0);
  TRUE(nunatak_trainer_save(t, NUNATAK_SAFETENSORS, state, file_bytes, &written) == NUNATAK_OK);
  TRUE(memcmp(file, state, file_bytes) == 0);
  REFUSED(nunatak_trainer_load_momentum(t, file, file_bytes), (void)0);
  REFUSED(nunatak_file_verify(file, file_bytes), (void)0);
  REFUSED(nunatak_recipe_of_file(file, file_bytes, sizeof found, &found), (void)0);
  REFUSED(nunatak_trainer_switch(t, &head), (void)0);
  REFUSED(nunatak_trainer_switch(t, &config), (void)0);
  TRUE(nunatak_trainer_save(t, NUNATAK_SAFETENSORS, state, file_bytes, &written) == NUNATAK_OK);
  TRUE(memcmp(file, state, file_bytes) == 0);
  /* Files of other kinds, of any tensors. */
  for (i = 1; i < argc; i++) {
    size_t other_bytes = 0;
    char *other = read_file(argv[i], &other_bytes);
    if (other == NULL) {
      fprintf(stderr, "%s can't be read\n", argv[i]);
      failures++;
      continue;
    }
    /* Some are refused for what is in them. */
    if (nunatak_file_verify(other, other_bytes) == NUNATAK_OK) {
      REFUSED(nunatak_file_verify(other, other_bytes), (void)0);
    }
    free(other);
  }
  TRUE(nunatak_trainer_release(t) == NUNATAK_OK);
  free(text);
  free(file);
  free(state);
  free(memory);
  printf("%d failures\n", failures);
  return failures != 0;
}

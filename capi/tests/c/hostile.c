/*
 * Every function with NULLs, short buffers, in the wrong order and twice: a status each time, and no
 * output written but on success. Run under AddressSanitizer and valgrind: buffers are as long as they are
 * said to be, and not a byte longer.
 *
 *   hostile                 all cases
 *   hostile NAME NAME …     the cases of these functions; one without a case is an error
 */
#include <nunatak.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 2, SIZE = 16, CLASSES = 10, PIXELS = BATCH * 3 * SIZE * SIZE };

static int failures;

#define EXPECT(status, call)                                                                                    \
  do {                                                                                                          \
    nunatak_status expect_got = (call);                                                                         \
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
  EXPECT(NUNATAK_OK, nunatak_recipe_resnet8(CLASSES, &recipe));
  EXPECT(NUNATAK_OK, nunatak_config_default(&recipe, BATCH, SIZE, SIZE, &config));
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
  EXPECT(NUNATAK_OK, nunatak_random_seed(&f.random, 5));
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

static void feed(fixture *f) {
  float *images = floats(PIXELS);
  int64_t labels[BATCH] = {3, 9};
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f->t, images, PIXELS));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_labels(f->t, labels, BATCH));
  free(images);
}

static void set_sgd(fixture *f, float momentum) {
  nunatak_sgd sgd;
  EXPECT(NUNATAK_OK, nunatak_sgd_default(0.01f, &sgd));
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

/* ---- information ---- */

static void case_nunatak_version(void) {
  TRUE(nunatak_version() == (NUNATAK_VERSION_MAJOR << 16 | NUNATAK_VERSION_MINOR << 8 | NUNATAK_VERSION_PATCH));
}

static void case_nunatak_version_text(void) {
  char text[32];
  sprintf(text, "%d.%d.%d", NUNATAK_VERSION_MAJOR, NUNATAK_VERSION_MINOR, NUNATAK_VERSION_PATCH);
  TRUE(strcmp(nunatak_version_text(), text) == 0);
}

static void case_nunatak_last_error(void) {
  TRUE(nunatak_last_error() != NULL);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_recipe_resnet18(10, NULL));
  TRUE(strstr(nunatak_last_error(), "recipe") != NULL);
  TRUE(nunatak_last_error() == nunatak_last_error());
}

static void case_nunatak_status_name(void) {
  int32_t i;
  for (i = 0; i <= 26; i++) TRUE(strncmp(nunatak_status_name(i), "NUNATAK_", 8) == 0);
  TRUE(strcmp(nunatak_status_name(-1), "unknown") == 0 && strcmp(nunatak_status_name(INT32_MAX), "unknown") == 0);
}

/* ---- recipes, configs, settings ---- */

#define PRESET(name)                                                              \
  static void case_##name(void) {                                                 \
    nunatak_recipe recipe;                                                        \
    EXPECT(NUNATAK_NULL_POINTER, name(10, NULL));                                 \
    EXPECT(NUNATAK_MISALIGNED, name(10, (nunatak_recipe *)(void *)odd(&recipe))); \
    EXPECT(NUNATAK_OK, name(10, &recipe));                                        \
    EXPECT(NUNATAK_OK, name(0, &recipe));                                         \
    TRUE(recipe.classes == 0 && recipe.in_channels == 3);                         \
  }
PRESET(nunatak_recipe_resnet18)
PRESET(nunatak_recipe_resnet34)
PRESET(nunatak_recipe_resnet8)

static void case_nunatak_config_default(void) {
  nunatak_recipe recipe;
  nunatak_config config;
  EXPECT(NUNATAK_OK, nunatak_recipe_resnet8(10, &recipe));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_config_default(NULL, 1, 32, 32, &config));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_config_default(&recipe, 1, 32, 32, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_config_default((nunatak_recipe *)(void *)odd(&recipe), 1, 32, 32, &config));
  EXPECT(NUNATAK_MISALIGNED, nunatak_config_default(&recipe, 1, 32, 32, (nunatak_config *)(void *)odd(&config)));
  EXPECT(NUNATAK_OK, nunatak_config_default(&recipe, 1, 32, 32, &config));
  TRUE(config.struct_bytes == sizeof config && config.threads == 1);
}

static void case_nunatak_sgd_default(void) {
  nunatak_sgd sgd;
  EXPECT(NUNATAK_NULL_POINTER, nunatak_sgd_default(0.1f, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_sgd_default(0.1f, (nunatak_sgd *)(void *)odd(&sgd)));
  EXPECT(NUNATAK_OK, nunatak_sgd_default(0.1f, &sgd));
}

static void case_nunatak_schedule_factor(void) {
  uint64_t milestones[2] = {2, 5};
  nunatak_schedule s;
  float factor = 7;
  memset(&s, 0, sizeof s);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_schedule_factor(NULL, 0, &factor));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_schedule_factor(&s, 0, NULL));
  s.kind = 99;
  EXPECT(NUNATAK_BAD_SETTING, nunatak_schedule_factor(&s, 0, &factor));
  s.kind = NUNATAK_SCHEDULE_MULTI_STEP;
  s.gamma = 0.5f;
  s.milestone_count = 2;
  EXPECT(NUNATAK_NULL_POINTER, nunatak_schedule_factor(&s, 0, &factor));
  s.milestones = milestones;
  s.milestone_count = SIZE_MAX;
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_schedule_factor(&s, 0, &factor));
  TRUE(factor == 7);
  s.milestone_count = 2;
  EXPECT(NUNATAK_OK, nunatak_schedule_factor(&s, 5, &factor));
  TRUE(factor == 0.25f);
  s.kind = NUNATAK_SCHEDULE_ONE_CYCLE; /* all its numbers are 0 */
  EXPECT(NUNATAK_BAD_SETTING, nunatak_schedule_factor(&s, 5, &factor));
  s.kind = NUNATAK_SCHEDULE_COSINE;
  EXPECT(NUNATAK_OK, nunatak_schedule_factor(&s, UINT64_MAX, &factor));
}

/* Configs that describe nothing, with what they get. */
static void bad_configs(nunatak_status (*call)(const nunatak_config *)) {
  nunatak_config good = config_of(NUNATAK_LOSS_CROSS_ENTROPY), c;
  char *long_text = (char *)allocate(5000);
  memset(long_text, 'a', 5000);
  memset(&c, 0, sizeof c);
  EXPECT(NUNATAK_NULL_POINTER, call(NULL));
  EXPECT(NUNATAK_BAD_CONFIG, call(&c));
  memset(&c, 0xff, sizeof c);
  EXPECT(NUNATAK_BAD_CONFIG, call(&c));
  c.struct_bytes = sizeof c;
  EXPECT(NUNATAK_BAD_CONFIG, call(&c));
  EXPECT(NUNATAK_MISALIGNED, call((nunatak_config *)(void *)odd(&good)));
#define BAD(status, change) \
  c = good;                 \
  change;                   \
  EXPECT(status, call(&c))
  BAD(NUNATAK_BAD_CONFIG, c.struct_bytes -= 1);
  BAD(NUNATAK_BAD_CONFIG, c.batch = 0);
  BAD(NUNATAK_BAD_CONFIG, c.height = 0);
  BAD(NUNATAK_BAD_CONFIG, c.width = 0);
  BAD(NUNATAK_BAD_CONFIG, c.batch = SIZE_MAX);
  BAD(NUNATAK_BAD_CONFIG, c.batch = SIZE_MAX / 768 + 1);
  BAD(NUNATAK_BAD_CONFIG, c.height = (size_t)1 << 31; c.width = (size_t)1 << 31);
  BAD(NUNATAK_BAD_CONFIG, c.batch = 1; c.height = 4; c.width = 4);
  BAD(NUNATAK_BAD_CONFIG, c.mode = 2);
  BAD(NUNATAK_BAD_CONFIG, c.statistics = 2);
  BAD(NUNATAK_BAD_CONFIG, c.loss = 6);
  BAD(NUNATAK_BAD_CONFIG, c.loss = UINT32_MAX);
  BAD(NUNATAK_BAD_CONFIG, c.reduction = 2);
  BAD(NUNATAK_BAD_CONFIG, c.memory = 2);
  BAD(NUNATAK_BAD_CONFIG, c.update = 2);
  BAD(NUNATAK_BAD_CONFIG, c.momentum = 2);
  BAD(NUNATAK_BAD_CONFIG, c.threads = 0);
  BAD(NUNATAK_BAD_CONFIG, c.threads = SIZE_MAX);
  BAD(NUNATAK_BAD_CONFIG, c.label_smoothing = -1);
  BAD(NUNATAK_BAD_CONFIG, c.label_smoothing = 0.0f / (c.label_smoothing * 0));
  BAD(NUNATAK_UNSUPPORTED, c.level = "sse9");
  BAD(NUNATAK_UNSUPPORTED, c.level = "");
  BAD(NUNATAK_BAD_TEXT, c.level = "\xff\xfe");
  BAD(NUNATAK_UNKNOWN_NAME, c.trainable = "");
  BAD(NUNATAK_UNKNOWN_NAME, c.trainable = "layer");
  BAD(NUNATAK_UNKNOWN_NAME, c.trainable = "fc,,");
  BAD(NUNATAK_BAD_TEXT, c.trainable = "\xc3");
  BAD(NUNATAK_BAD_TEXT, c.trainable = long_text);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.layers = 0);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.layers = 9);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.layers = SIZE_MAX);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.blocks[1] = 0);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.blocks[1] = 65);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.widths[2] = 0);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.widths[2] = SIZE_MAX);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.stem_kernel = 0);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.stem_stride = 0);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.stem_pad = SIZE_MAX);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.stem_pool = 2);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.in_channels = 0);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.classes = SIZE_MAX);
  BAD(NUNATAK_BAD_FILE, c.weights = long_text; c.weights_bytes = 5000);
  BAD(NUNATAK_BAD_FILE, c.weights = long_text; c.weights_bytes = 0);
  BAD(NUNATAK_WRONG_LENGTH, c.weights = long_text; c.weights_bytes = SIZE_MAX);
  free(long_text);
}

/* ---- planning ---- */

static nunatak_status required(const nunatak_config *config) {
  size_t bytes = 77;
  nunatak_status status = nunatak_trainer_required_bytes(config, &bytes);
  TRUE(status == NUNATAK_OK || bytes == 77);
  return status;
}

static void case_nunatak_trainer_required_bytes(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_SUM);
  size_t two[2];
  bad_configs(required);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_required_bytes(&good, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_trainer_required_bytes(&good, (size_t *)(void *)odd(two)));
}

static nunatak_status plan_bytes(const nunatak_config *config) {
  size_t bytes = 77;
  nunatak_status status = nunatak_plan_text_bytes(config, &bytes);
  TRUE(status == NUNATAK_OK || bytes == 77);
  return status;
}

static void case_nunatak_plan_text_bytes(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_SUM);
  bad_configs(plan_bytes);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_plan_text_bytes(&good, NULL));
}

static nunatak_status plan(const nunatak_config *config) {
  char text[4] = {1, 1, 1, 1};
  nunatak_status status = nunatak_plan_text(config, text, sizeof text);
  TRUE(text[0] == 1 && text[3] == 1);
  return status;
}

static void case_nunatak_plan_text(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_SUM);
  size_t bytes = 0;
  char *text;
  bad_configs(plan);
  EXPECT(NUNATAK_OK, nunatak_plan_text_bytes(&good, &bytes));
  text = (char *)allocate(bytes);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_plan_text(&good, NULL, bytes));
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_plan_text(&good, text, bytes - 1));
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_plan_text(&good, text, 0));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_plan_text(&good, text, SIZE_MAX));
  EXPECT(NUNATAK_OK, nunatak_plan_text(&good, text, bytes));
  TRUE(strlen(text) == bytes - 1 && strstr(text, "layer3.0.conv1") != NULL);
  free(text);
}

static void case_nunatak_threads_start(void) {
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_threads_start(0));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_threads_start(SIZE_MAX));
  EXPECT(NUNATAK_OK, nunatak_threads_start(1));
  EXPECT(NUNATAK_OK, nunatak_threads_start(2));
  EXPECT(NUNATAK_OK, nunatak_threads_start(2));
  EXPECT(NUNATAK_OK, nunatak_threads_stop(2));
}

static void case_nunatak_threads_stop(void) {
  nunatak_config config = config_of(NUNATAK_LOSS_CROSS_ENTROPY);
  fixture f;
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_threads_stop(0));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_threads_stop(257));
  EXPECT(NUNATAK_OK, nunatak_threads_stop(1));
  EXPECT(NUNATAK_NO_THREADS, nunatak_threads_stop(3));
  EXPECT(NUNATAK_OK, nunatak_threads_start(3));
  config.threads = 3;
  f = make(&config);
  EXPECT(NUNATAK_OK, nunatak_threads_stop(3));
  EXPECT(NUNATAK_NO_THREADS, nunatak_threads_stop(3));
  learn(&f); /* it keeps its threads */
  end(&f);
}

/* ---- a trainer's life ---- */

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

/* ---- random numbers ---- */

static void case_nunatak_random_seed(void) {
  nunatak_random two[2];
  EXPECT(NUNATAK_NULL_POINTER, nunatak_random_seed(NULL, 0));
  EXPECT(NUNATAK_MISALIGNED, nunatak_random_seed((nunatak_random *)(void *)odd(two), 0));
  EXPECT(NUNATAK_OK, nunatak_random_seed(two, UINT64_MAX));
  EXPECT(NUNATAK_OK, nunatak_random_seed(two, 0));
}

static void case_nunatak_random_uniform(void) {
  nunatak_random random, blank;
  float out[2] = {7, 7};
  memset(&blank, 0, sizeof blank);
  EXPECT(NUNATAK_OK, nunatak_random_seed(&random, 0));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_random_uniform(NULL, 0, 1, out, 2));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_random_uniform(&random, 0, 1, NULL, 2));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_random_uniform(&blank, 0, 1, out, 2));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_random_uniform(&random, 1, 0, out, 2));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_random_uniform(&random, 0, infinite(), out, 2));
  EXPECT(NUNATAK_MISALIGNED, nunatak_random_uniform(&random, 0, 1, odd(out), 1));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_random_uniform(&random, 0, 1, out, SIZE_MAX));
  EXPECT(NUNATAK_OVERLAP, nunatak_random_uniform(&random, 0, 1, (float *)(void *)random.state, 2));
  TRUE(out[0] == 7 && out[1] == 7);
  EXPECT(NUNATAK_OK, nunatak_random_uniform(&random, 0, 1, out, 2));
  TRUE(out[0] > .49625f && out[0] < .49626f); /* torch.manual_seed(0); torch.rand(1) */
}

static void case_nunatak_random_permutation(void) {
  static const uint32_t torch[8] = {4, 0, 7, 3, 2, 5, 1, 6};
  nunatak_random random, blank;
  uint32_t out[8] = {9};
  memset(&blank, 0, sizeof blank);
  EXPECT(NUNATAK_OK, nunatak_random_seed(&random, 0));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_random_permutation(NULL, out, 8));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_random_permutation(&random, NULL, 8));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_random_permutation(&blank, out, 8));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_random_permutation(&random, out, SIZE_MAX));
  TRUE(out[0] == 9);
  EXPECT(NUNATAK_OK, nunatak_random_permutation(&random, out, 0));
  EXPECT(NUNATAK_OK, nunatak_random_permutation(&random, out, 8));
  TRUE(memcmp(out, torch, sizeof torch) == 0);
}

static void case_nunatak_trainer_draw_weights(void) {
  fixture f = make_usual();
  nunatak_random blank;
  memset(&blank, 0, sizeof blank);
  NO_HANDLES(f, nunatak_trainer_draw_weights(t, &f.random));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_draw_weights(f.t, NULL));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_draw_weights(f.t, &blank));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_draw_weights(f.t, (nunatak_random *)(void *)f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_draw_weights(f.t, &f.random));
  learn(&f);
  end(&f);
}

static void case_nunatak_trainer_draw_head(void) {
  fixture f = make_usual();
  nunatak_random blank;
  memset(&blank, 0, sizeof blank);
  NO_HANDLES(f, nunatak_trainer_draw_head(t, &f.random));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_draw_head(f.t, NULL));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_draw_head(f.t, &blank));
  EXPECT(NUNATAK_OK, nunatak_trainer_draw_head(f.t, &f.random));
  end(&f);
  {
    nunatak_config headless = config_of(NUNATAK_LOSS_NONE);
    headless.recipe.classes = 0;
    f = make(&headless);
    EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_draw_head(f.t, &f.random));
    end(&f);
  }
}

/* ---- inputs ---- */

/* Of a function that takes a buffer of exactly `right` elements of type `type`. */
#define BUFFER(f, type, right, call)                                                  \
  do {                                                                                \
    type *buffer = NULL;                                                              \
    size_t count = (right);                                                           \
    void *buffer_memory = allocate((right) * sizeof(type));                           \
    memset(buffer_memory, 0, (right) * sizeof(type));                                 \
    NO_HANDLES(f, call);                                                              \
    {                                                                                 \
      nunatak_trainer *t = (f).t;                                                     \
      EXPECT(NUNATAK_NULL_POINTER, call);                                             \
      buffer = (type *)buffer_memory;                                                 \
      count = (right)-1;                                                              \
      EXPECT(NUNATAK_WRONG_LENGTH, call);                                             \
      count = 0;                                                                      \
      EXPECT(NUNATAK_WRONG_LENGTH, call);                                             \
      count = SIZE_MAX;                                                               \
      EXPECT(NUNATAK_WRONG_LENGTH, call);                                             \
      count = SIZE_MAX / sizeof(type);                                                \
      EXPECT(NUNATAK_WRONG_LENGTH, call);                                             \
      count = (right);                                                                \
      if (sizeof(type) > 1) {                                                         \
        buffer = (type *)(void *)odd(buffer_memory);                                  \
        EXPECT(NUNATAK_MISALIGNED, call);                                             \
      }                                                                               \
      buffer = (type *)(void *)((char *)(f).t + 64);                                  \
      EXPECT(NUNATAK_OVERLAP, call);                                                  \
    }                                                                                 \
    free(buffer_memory);                                                              \
  } while (0)

static void case_nunatak_trainer_set_images(void) {
  fixture f = make_usual();
  BUFFER(f, float, PIXELS, nunatak_trainer_set_images(t, buffer, count));
  feed(&f);
  feed(&f);
  end(&f);
}

static void case_nunatak_trainer_set_images_u8(void) {
  static const float mean[3] = {0, 0, 0}, one[3] = {1, 1, 1}, zero[3] = {1, 0, 1};
  fixture f = make_usual();
  uint8_t *pixels = (uint8_t *)allocate(PIXELS);
  memset(pixels, 100, PIXELS);
  BUFFER(f, uint8_t, PIXELS, nunatak_trainer_set_images_u8(t, buffer, count, mean, one));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_set_images_u8(f.t, pixels, PIXELS, NULL, one));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_set_images_u8(f.t, pixels, PIXELS, mean, NULL));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_set_images_u8(f.t, pixels, PIXELS, mean, zero));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images_u8(f.t, pixels, PIXELS, mean, one));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images_u8(f.t, pixels, PIXELS, mean, one));
  free(pixels);
  end(&f);
}

static void case_nunatak_trainer_set_labels(void) {
  fixture f = make_usual();
  nunatak_config sum = config_of(NUNATAK_LOSS_SUM), none = config_of(NUNATAK_LOSS_NONE);
  int64_t labels[BATCH] = {10, -5};
  float *images = floats(PIXELS), loss;
  BUFFER(f, int64_t, BATCH, nunatak_trainer_set_labels(t, buffer, count));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_labels(f.t, labels, BATCH));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f.t, images, PIXELS));
  EXPECT(NUNATAK_LABEL_OUT_OF_RANGE, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_loss(f.t, &loss));
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &sum));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_labels(f.t, labels, BATCH));
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &none));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_labels(f.t, labels, BATCH));
  free(images);
  end(&f);
}

static void case_nunatak_trainer_set_targets(void) {
  nunatak_config sum = config_of(NUNATAK_LOSS_SUM);
  fixture f = make(&sum), g = make_usual();
  float targets[BATCH * CLASSES] = {0};
  BUFFER(f, float, BATCH *CLASSES, nunatak_trainer_set_targets(t, buffer, count));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_targets(f.t, targets, BATCH * CLASSES));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_targets(g.t, targets, BATCH * CLASSES));
  end(&f);
  end(&g);
}

/* ---- steps ---- */

static void case_nunatak_trainer_forward(void) {
  fixture f = make_usual();
  nunatak_trainer *raw = NULL;
  void *memory = allocate(f.bytes);
  NO_HANDLES(f, nunatak_trainer_forward(t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_forward(f.t));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_init(&f.config, memory, f.bytes, &raw));
  EXPECT(NUNATAK_NO_WEIGHTS, nunatak_trainer_forward(raw));
  EXPECT(NUNATAK_OK, nunatak_trainer_release(raw));
  free(memory);
  end(&f);
}

static void case_nunatak_trainer_backward(void) {
  fixture f = make_usual();
  nunatak_config other = f.config;
  NO_HANDLES(f, nunatak_trainer_backward(t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_backward(f.t));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_backward(f.t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_backward(f.t));
  other.trainable = "none";
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_backward(f.t));
  other = f.config;
  other.update = NUNATAK_UPDATE_DURING;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_backward(f.t));
  end(&f);
}

static void case_nunatak_trainer_backward_from(void) {
  nunatak_config outside = config_of(NUNATAK_LOSS_OUTSIDE);
  fixture f = make(&outside), g = make_usual();
  float *images = floats(PIXELS), *gradient = floats(BATCH * CLASSES), loss;
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_backward_from(f.t, gradient, BATCH * CLASSES));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f.t, images, PIXELS));
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  BUFFER(f, float, BATCH *CLASSES, nunatak_trainer_backward_from(t, buffer, count));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_loss(f.t, &loss));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_backward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_backward_from(f.t, gradient, BATCH * CLASSES));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_backward_from(f.t, gradient, BATCH * CLASSES));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_backward_from(g.t, gradient, BATCH * CLASSES));
  free(images);
  free(gradient);
  end(&f);
  end(&g);
}

static void case_nunatak_trainer_update(void) {
  fixture f = make_usual();
  NO_HANDLES(f, nunatak_trainer_update(t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_update(f.t));
  set_sgd(&f, 0.9f);
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_update(f.t));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_backward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_update(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_update(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_zero_grad(f.t));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_update(f.t));
  end(&f);
}

static void case_nunatak_trainer_step(void) {
  fixture f = make_usual();
  nunatak_config other = f.config;
  float loss = 77, *bad;
  NO_HANDLES(f, nunatak_trainer_step(t, &loss));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_step(f.t, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_trainer_step(f.t, odd(&loss)));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_step(f.t, (float *)(void *)f.t));
  feed(&f);
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_step(f.t, &loss)); /* no settings */
  set_sgd(&f, 0.9f);
  EXPECT(NUNATAK_OK, nunatak_trainer_step(f.t, &loss));
  loss = 77;
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_step(f.t, &loss)); /* no images */
  other.momentum = 0;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  feed(&f);
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_step(f.t, &loss)); /* no room for momentum */
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &f.config));
  bad = floats(PIXELS);
  bad[5] = infinite();
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f.t, bad, PIXELS));
  EXPECT(NUNATAK_LOSS_NOT_FINITE, nunatak_trainer_step(f.t, &loss));
  free(bad);
  other = f.config;
  other.loss = NUNATAK_LOSS_NONE;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_step(f.t, &loss));
  TRUE(loss == 77);
  end(&f);
}

static void case_nunatak_trainer_zero_grad(void) {
  fixture f = make_usual();
  NO_HANDLES(f, nunatak_trainer_zero_grad(t));
  EXPECT(NUNATAK_OK, nunatak_trainer_zero_grad(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_zero_grad(f.t));
  end(&f);
}

static void case_nunatak_trainer_clip_grad_norm(void) {
  fixture f = make_usual();
  float norm = 77;
  NO_HANDLES(f, nunatak_trainer_clip_grad_norm(t, 1, &norm));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_clip_grad_norm(f.t, 1, NULL));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_clip_grad_norm(f.t, 1, &norm));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_backward(f.t));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_clip_grad_norm(f.t, -1, &norm));
  TRUE(norm == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_clip_grad_norm(f.t, 0.5f, &norm));
  EXPECT(NUNATAK_OK, nunatak_trainer_clip_grad_norm(f.t, 0.5f, &norm));
  TRUE(norm > 0 && norm < 0.51f);
  end(&f);
}

static void case_nunatak_trainer_loss(void) {
  fixture f = make_usual();
  float loss = 77;
  NO_HANDLES(f, nunatak_trainer_loss(t, &loss));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_loss(f.t, NULL));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_loss(f.t, &loss));
  TRUE(loss == 77);
  learn(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_loss(f.t, &loss));
  EXPECT(NUNATAK_OK, nunatak_trainer_loss(f.t, &loss));
  end(&f);
}

static void case_nunatak_trainer_predictions(void) {
  fixture f = make_usual();
  float out[BATCH * CLASSES] = {77};
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_predictions(f.t, out, BATCH * CLASSES));
  learn(&f);
  BUFFER(f, float, BATCH *CLASSES, nunatak_trainer_predictions(t, buffer, count));
  TRUE(out[0] == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_predictions(f.t, out, BATCH * CLASSES));
  end(&f);
}

static void case_nunatak_trainer_features(void) {
  fixture f = make_usual();
  float out[BATCH * 64] = {77};
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_features(f.t, out, BATCH * 64));
  learn(&f);
  BUFFER(f, float, BATCH * 64, nunatak_trainer_features(t, buffer, count));
  EXPECT(NUNATAK_OK, nunatak_trainer_features(f.t, out, BATCH * 64));
  end(&f);
}

static void case_nunatak_trainer_predict(void) {
  nunatak_config none = config_of(NUNATAK_LOSS_NONE);
  fixture f = make(&none), g = make_usual();
  float out[BATCH * CLASSES] = {77}, *images = floats(PIXELS);
  BUFFER(f, float, BATCH *CLASSES, nunatak_trainer_predict(t, buffer, count));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_predict(f.t, out, BATCH * CLASSES));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f.t, images, PIXELS));
  EXPECT(NUNATAK_OK, nunatak_trainer_predict(f.t, out, BATCH * CLASSES));
  out[0] = 77;
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_predict(f.t, out, BATCH * CLASSES));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(g.t, images, PIXELS));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_predict(g.t, out, BATCH * CLASSES)); /* labels are due */
  TRUE(out[0] == 77);
  free(images);
  end(&f);
  end(&g);
}

/* ---- settings ---- */

static void case_nunatak_trainer_set_sgd(void) {
  fixture f = make_usual();
  nunatak_sgd good, sgd;
  EXPECT(NUNATAK_OK, nunatak_sgd_default(0.1f, &good));
  NO_HANDLES(f, nunatak_trainer_set_sgd(t, &good));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_set_sgd(f.t, NULL));
#define BAD_SGD(change) \
  sgd = good;           \
  change;               \
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_set_sgd(f.t, &sgd))
  BAD_SGD(sgd.lr = -1);
  BAD_SGD(sgd.lr = infinite());
  BAD_SGD(sgd.momentum = -1);
  BAD_SGD(sgd.weight_decay = -1);
  BAD_SGD(sgd.nesterov = 1);
  BAD_SGD(sgd.nesterov = 2);
  BAD_SGD(sgd.maximize = UINT32_MAX);
  EXPECT(NUNATAK_OK, nunatak_trainer_set_sgd(f.t, &good));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_sgd(f.t, &good));
  end(&f);
}

static void case_nunatak_trainer_add_group(void) {
  fixture f = make_usual();
  nunatak_sgd sgd;
  int i;
  EXPECT(NUNATAK_OK, nunatak_sgd_default(0.1f, &sgd));
  NO_HANDLES(f, nunatak_trainer_add_group(t, "fc", &sgd));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_add_group(f.t, NULL, &sgd));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_add_group(f.t, "fc", NULL));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_add_group(f.t, "fc", &sgd));
  set_sgd(&f, 0);
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_add_group(f.t, "fd", &sgd));
  sgd.lr = -1;
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_add_group(f.t, "fc", &sgd));
  sgd.lr = 1;
  for (i = 0; i < 8; i++) EXPECT(NUNATAK_OK, nunatak_trainer_add_group(f.t, "fc", &sgd));
  EXPECT(NUNATAK_TOO_MANY, nunatak_trainer_add_group(f.t, "fc", &sgd));
  end(&f);
}

static void case_nunatak_trainer_set_rate(void) {
  fixture f = make_usual();
  float nan = 0;
  nan /= nan;
  NO_HANDLES(f, nunatak_trainer_set_rate(t, 1));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_set_rate(f.t, -1));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_set_rate(f.t, nan));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_rate(f.t, 0));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_rate(f.t, 2));
  end(&f);
}

/* ---- tensors ---- */

static void case_nunatak_trainer_tensor_count(void) {
  fixture f = make_usual();
  size_t count = 77;
  NO_HANDLES(f, nunatak_trainer_tensor_count(t, &count));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_tensor_count(f.t, NULL));
  TRUE(count == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_tensor_count(f.t, &count));
  TRUE(count == 56);
  end(&f);
}

static void case_nunatak_trainer_tensor_name(void) {
  fixture f = make_usual();
  char name[NUNATAK_NAME_BYTES] = "unchanged", *tight = (char *)allocate(13);
  NO_HANDLES(f, nunatak_trainer_tensor_name(t, 0, name, sizeof name));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_tensor_name(f.t, 0, NULL, sizeof name));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_tensor_name(f.t, 1000, name, sizeof name));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_tensor_name(f.t, SIZE_MAX, name, sizeof name));
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_trainer_tensor_name(f.t, 0, name, 12));
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_trainer_tensor_name(f.t, 0, name, 0));
  TRUE(strcmp(name, "unchanged") == 0);
  EXPECT(NUNATAK_OK, nunatak_trainer_tensor_name(f.t, 0, tight, 13));
  TRUE(strcmp(tight, "conv1.weight") == 0);
  free(tight);
  end(&f);
}

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

static void case_nunatak_trainer_tensor_shape(void) {
  fixture f = make_usual();
  nunatak_shape shape;
  NO_HANDLES(f, nunatak_trainer_tensor_shape(t, "fc.weight", &shape));
  NAMES(nunatak_trainer_tensor_shape(f.t, name, &shape));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_tensor_shape(f.t, "fc.weight", NULL));
  EXPECT(NUNATAK_OK, nunatak_trainer_tensor_shape(f.t, "fc.weight", &shape));
  TRUE(shape.rank == 2 && shape.sizes[0] == 10 && shape.sizes[1] == 64 && shape.sizes[3] == 1);
  EXPECT(NUNATAK_OK, nunatak_trainer_tensor_shape(f.t, "bn1.num_batches_tracked", &shape));
  TRUE(shape.rank == 0);
  end(&f);
}

static void case_nunatak_trainer_get_tensor(void) {
  fixture f = make_usual();
  float out[640] = {77};
  BUFFER(f, float, 640, nunatak_trainer_get_tensor(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_get_tensor(f.t, name, out, 640));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_get_tensor(f.t, "bn1.num_batches_tracked", out, 1));
  TRUE(out[0] == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_get_tensor(f.t, "fc.weight", out, 640));
  EXPECT(NUNATAK_OK, nunatak_trainer_get_tensor(f.t, "bn1.running_var", out, 16));
  end(&f);
}

static void case_nunatak_trainer_set_tensor(void) {
  fixture f = make_usual();
  float numbers[640] = {0};
  BUFFER(f, float, 640, nunatak_trainer_set_tensor(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_set_tensor(f.t, name, numbers, 640));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_set_tensor(f.t, "bn1.num_batches_tracked", numbers, 1));
  numbers[15] = -1;
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_set_tensor(f.t, "bn1.running_var", numbers, 16));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_tensor(f.t, "bn1.running_mean", numbers, 16));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_tensor(f.t, "fc.weight", numbers, 640));
  end(&f);
}

static void case_nunatak_trainer_get_batches(void) {
  fixture f = make_usual();
  int64_t batches = 77;
  NO_HANDLES(f, nunatak_trainer_get_batches(t, "bn1.num_batches_tracked", &batches));
  NAMES(nunatak_trainer_get_batches(f.t, name, &batches));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_get_batches(f.t, "bn1.num_batches_tracked", NULL));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_get_batches(f.t, "bn1.weight", &batches));
  TRUE(batches == 77);
  learn(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_get_batches(f.t, "bn1.num_batches_tracked", &batches));
  TRUE(batches == 1);
  end(&f);
}

static void case_nunatak_trainer_set_batches(void) {
  fixture f = make_usual();
  NO_HANDLES(f, nunatak_trainer_set_batches(t, "bn1.num_batches_tracked", 3));
  NAMES(nunatak_trainer_set_batches(f.t, name, 3));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_set_batches(f.t, "bn1.weight", 3));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_set_batches(f.t, "bn1.num_batches_tracked", -1));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_batches(f.t, "bn1.num_batches_tracked", 3));
  end(&f);
}

static void case_nunatak_trainer_get_gradient(void) {
  fixture f = make_usual();
  nunatak_config during = f.config;
  float out[640] = {77};
  BUFFER(f, float, 640, nunatak_trainer_get_gradient(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_get_gradient(f.t, name, out, 640));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_get_gradient(f.t, "bn1.running_mean", out, 16));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_get_gradient(f.t, "fc.weight", out, 640));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_get_gradient(f.t, "fc.weight", out, 640));
  TRUE(out[0] == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_backward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_get_gradient(f.t, "fc.weight", out, 640));
  during.update = NUNATAK_UPDATE_DURING;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &during));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_get_gradient(f.t, "fc.weight", out, 640));
  end(&f);
}

static void case_nunatak_trainer_set_gradient(void) {
  fixture f = make_usual();
  nunatak_config head = f.config;
  float numbers[640] = {0};
  BUFFER(f, float, 640, nunatak_trainer_set_gradient(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_set_gradient(f.t, name, numbers, 640));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_gradient(f.t, "fc.weight", numbers, 640));
  set_sgd(&f, 0.9f);
  EXPECT(NUNATAK_OK, nunatak_trainer_update(f.t));
  head.trainable = "head";
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &head));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_gradient(f.t, "bn1.weight", numbers, 16));
  end(&f);
}

static void case_nunatak_trainer_get_momentum(void) {
  fixture f = make_usual();
  float out[640] = {77};
  BUFFER(f, float, 640, nunatak_trainer_get_momentum(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_get_momentum(f.t, name, out, 640));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_get_momentum(f.t, "fc.weight", out, 640));
  TRUE(out[0] == 77);
  learn(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_get_momentum(f.t, "fc.weight", out, 640));
  end(&f);
}

static void case_nunatak_trainer_set_momentum(void) {
  fixture f = make_usual();
  nunatak_config without = f.config;
  float numbers[640] = {0};
  BUFFER(f, float, 640, nunatak_trainer_set_momentum(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_set_momentum(f.t, name, numbers, 640));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_momentum(f.t, "fc.weight", numbers, 640));
  without.momentum = 0;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &without));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_set_momentum(f.t, "fc.weight", numbers, 640));
  end(&f);
}

/* ---- files ---- */

static void case_nunatak_trainer_load(void) {
  fixture f = make_usual();
  nunatak_config four = f.config;
  size_t bytes = 0, written = 0, cut;
  char *file, *wrong;
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, NUNATAK_SAFETENSORS, &bytes));
  file = (char *)allocate(bytes);
  EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, NUNATAK_SAFETENSORS, file, bytes, &written));
  NO_HANDLES(f, nunatak_trainer_load(t, file, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_load(f.t, NULL, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_load(f.t, file, bytes, 2));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_trainer_load(f.t, file, SIZE_MAX, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_load(f.t, f.t, 100, NUNATAK_HEAD_LOAD));
  for (cut = 0; cut < bytes; cut += 1 + bytes / 50) {
    char *part = (char *)allocate(cut);
    memcpy(part, file, cut);
    EXPECT(NUNATAK_BAD_FILE, nunatak_trainer_load(f.t, part, cut, NUNATAK_HEAD_LOAD));
    free(part);
  }
  wrong = (char *)allocate(bytes);
  memcpy(wrong, file, bytes);
  for (cut = 0; strncmp(wrong + cut, "conv1.weight", 12) != 0; cut++) {
  }
  wrong[cut] = 'C';
  EXPECT(NUNATAK_WRONG_FILE, nunatak_trainer_load(f.t, wrong, bytes, NUNATAK_HEAD_LOAD));
  free(wrong);
  EXPECT(NUNATAK_OK, nunatak_trainer_load(f.t, file, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_OK, nunatak_trainer_load(f.t, file, bytes, NUNATAK_HEAD_KEEP));
  four.recipe.classes = 4;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &four));
  EXPECT(NUNATAK_WRONG_FILE, nunatak_trainer_load(f.t, file, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_OK, nunatak_trainer_load(f.t, file, bytes, NUNATAK_HEAD_KEEP));
  free(file);
  end(&f);
}

static void case_nunatak_trainer_load_momentum(void) {
  fixture f = make_usual();
  size_t bytes = 0, written = 0;
  char *file;
  float out[640];
  learn(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, NUNATAK_SAFETENSORS_WITH_MOMENTUM, &bytes));
  file = (char *)allocate(bytes);
  EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, NUNATAK_SAFETENSORS_WITH_MOMENTUM, file, bytes, &written));
  NO_HANDLES(f, nunatak_trainer_load_momentum(t, file, bytes));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_load_momentum(f.t, NULL, bytes));
  EXPECT(NUNATAK_BAD_FILE, nunatak_trainer_load_momentum(f.t, file, bytes - 1));
  EXPECT(NUNATAK_BAD_FILE, nunatak_trainer_load_momentum(f.t, file, 0));
  EXPECT(NUNATAK_OK, nunatak_trainer_load(f.t, file, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_get_momentum(f.t, "fc.weight", out, 640));
  EXPECT(NUNATAK_OK, nunatak_trainer_load_momentum(f.t, file, bytes));
  EXPECT(NUNATAK_OK, nunatak_trainer_load_momentum(f.t, file, bytes));
  EXPECT(NUNATAK_OK, nunatak_trainer_get_momentum(f.t, "fc.weight", out, 640));
  free(file);
  end(&f);
}

static void case_nunatak_trainer_saved_bytes(void) {
  fixture f = make_usual();
  size_t bytes = 77;
  NO_HANDLES(f, nunatak_trainer_saved_bytes(t, NUNATAK_SAFETENSORS, &bytes));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_saved_bytes(f.t, NUNATAK_SAFETENSORS, NULL));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_saved_bytes(f.t, 4, &bytes));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_saved_bytes(f.t, NUNATAK_NATIVE_DELTA, &bytes)); /* over what? */
  TRUE(bytes == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, NUNATAK_NATIVE, &bytes));
  TRUE(bytes > 300000 && bytes % 64 == 0);
  end(&f);
}

static void case_nunatak_trainer_save(void) {
  fixture f = make_usual();
  uint32_t format;
  size_t written = 77;
  for (format = NUNATAK_SAFETENSORS; format <= NUNATAK_NATIVE; format++) {
    size_t bytes = 0;
    unsigned char *file;
    EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, format, &bytes));
    file = (unsigned char *)allocate(bytes + 1);
    memset(file, 0xee, bytes + 1);
    written = 77;
    NO_HANDLES(f, nunatak_trainer_save(t, format, file, bytes, &written));
    EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_save(f.t, format, NULL, bytes, &written));
    EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_save(f.t, format, file, bytes, NULL));
    EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_trainer_save(f.t, format, file, bytes - 1, &written));
    EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_trainer_save(f.t, format, file, 0, &written));
    EXPECT(NUNATAK_OVERLAP, nunatak_trainer_save(f.t, format, f.t, 100, &written));
    EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_save(f.t, 99, file, bytes, &written));
    TRUE(file[0] == 0xee && file[bytes - 1] == 0xee && written == 77);
    EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, format, file + 1, bytes, &written)); /* any address */
    TRUE(file[0] == 0xee && written == bytes);
    EXPECT(NUNATAK_OK, nunatak_trainer_load(f.t, file + 1, bytes, NUNATAK_HEAD_LOAD));
    free(file);
  }
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_save(f.t, NUNATAK_NATIVE_DELTA, &written, sizeof written, &written));
  end(&f);
}

static void case_nunatak_recipe_of_file(void) {
  fixture f = make_usual();
  nunatak_recipe recipe;
  size_t bytes = 0;
  char *file;
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, NUNATAK_NATIVE, &bytes));
  file = (char *)allocate(bytes);
  EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, NUNATAK_NATIVE, file, bytes, &bytes));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_recipe_of_file(NULL, bytes, &recipe));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_recipe_of_file(file, bytes, NULL));
  EXPECT(NUNATAK_BAD_FILE, nunatak_recipe_of_file(file, bytes - 1, &recipe));
  EXPECT(NUNATAK_BAD_FILE, nunatak_recipe_of_file(file, 0, &recipe));
  EXPECT(NUNATAK_OK, nunatak_recipe_of_file(file, bytes, &recipe));
  TRUE(memcmp(&recipe.widths, &f.config.recipe.widths, sizeof recipe.widths) == 0);
  free(file);
  end(&f);
}

static void case_nunatak_file_verify(void) {
  fixture f = make_usual();
  size_t bytes = 0;
  char *file;
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, NUNATAK_NATIVE, &bytes));
  file = (char *)allocate(bytes);
  EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, NUNATAK_NATIVE, file, bytes, &bytes));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_file_verify(NULL, bytes));
  EXPECT(NUNATAK_BAD_FILE, nunatak_file_verify(file, bytes - 64));
  EXPECT(NUNATAK_BAD_FILE, nunatak_file_verify(file, 0));
  EXPECT(NUNATAK_OK, nunatak_file_verify(file, bytes));
  file[bytes / 2] ^= 1;
  EXPECT(NUNATAK_BAD_FILE, nunatak_file_verify(file, bytes));
  free(file);
  end(&f);
}

/* ---- callbacks and texts ---- */

static size_t seen;
static nunatak_trainer *stepping;

static int count_progress(void *user, size_t done, size_t total) {
  TRUE(done == seen + 1 && done <= total);
  seen = done;
  if (user == NULL) return 0;
  EXPECT(NUNATAK_BUSY, nunatak_trainer_forward(stepping)); /* its own call */
  EXPECT(NUNATAK_BUSY, nunatak_trainer_release(stepping));
  return done == *(size_t *)user;
}

static void case_nunatak_trainer_on_progress(void) {
  fixture f = make_usual();
  size_t stop = 5;
  float loss;
  NO_HANDLES(f, nunatak_trainer_on_progress(t, count_progress, NULL));
  EXPECT(NUNATAK_OK, nunatak_trainer_on_progress(f.t, NULL, NULL));
  EXPECT(NUNATAK_OK, nunatak_trainer_on_progress(f.t, count_progress, NULL));
  seen = 0;
  learn(&f);
  TRUE(seen > 50);
  stepping = f.t;
  EXPECT(NUNATAK_OK, nunatak_trainer_on_progress(f.t, count_progress, &stop));
  feed(&f);
  seen = 0;
  EXPECT(NUNATAK_STOPPED, nunatak_trainer_step(f.t, &loss));
  TRUE(seen == 5);
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_loss(f.t, &loss));
  EXPECT(NUNATAK_OK, nunatak_trainer_on_progress(f.t, NULL, NULL));
  learn(&f);
  end(&f);
}

static uint64_t ticks_now(void *user) { return ++*(uint64_t *)user; }
static void ticked(void *user, uint32_t kind, size_t number, uint64_t ticks) {
  (void)user;
  (void)number;
  TRUE(kind <= NUNATAK_CALL_UPDATE && ticks >= 1);
  seen++;
}

static void case_nunatak_trainer_on_tick(void) {
  fixture f = make_usual();
  uint64_t time = 0;
  NO_HANDLES(f, nunatak_trainer_on_tick(t, ticks_now, ticked, &time));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_on_tick(f.t, NULL, ticked, &time));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_on_tick(f.t, ticks_now, NULL, &time));
  EXPECT(NUNATAK_OK, nunatak_trainer_on_tick(f.t, NULL, NULL, NULL));
  EXPECT(NUNATAK_OK, nunatak_trainer_on_tick(f.t, ticks_now, ticked, &time));
  seen = 0;
  learn(&f);
  TRUE(seen > 50 && time > 2 * seen - 2);
  EXPECT(NUNATAK_OK, nunatak_trainer_on_tick(f.t, NULL, NULL, NULL));
  learn(&f);
  end(&f);
}

static void case_nunatak_trainer_call_name(void) {
  fixture f = make_usual();
  char name[NUNATAK_NAME_BYTES] = "unchanged";
  NO_HANDLES(f, nunatak_trainer_call_name(t, 1, 1, name, sizeof name));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_call_name(f.t, 1, 1, NULL, sizeof name));
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_trainer_call_name(f.t, 1, 1, name, 3));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_call_name(f.t, 6, 1, name, sizeof name));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_call_name(f.t, 1, SIZE_MAX, name, sizeof name));
  TRUE(strcmp(name, "unchanged") == 0);
  EXPECT(NUNATAK_OK, nunatak_trainer_call_name(f.t, NUNATAK_CALL_FORWARD, 1, name, sizeof name));
  TRUE(strcmp(name, "conv1") == 0);
  EXPECT(NUNATAK_OK, nunatak_trainer_call_name(f.t, NUNATAK_CALL_UPDATE, 0, name, sizeof name));
  TRUE(strcmp(name, "conv1.weight") == 0);
  end(&f);
}

static void case_nunatak_trainer_level(void) {
  fixture f = make_usual();
  nunatak_config portable = f.config;
  const char *level = "unchanged";
  NO_HANDLES(f, nunatak_trainer_level(t, &level));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_level(f.t, NULL));
  TRUE(strcmp(level, "unchanged") == 0);
  end(&f);
  portable.level = "portable";
  f = make(&portable);
  EXPECT(NUNATAK_OK, nunatak_trainer_level(f.t, &level));
  TRUE(strcmp(level, "portable") == 0);
  end(&f);
}

static void panicked(const char *text) { (void)text; }

static void case_nunatak_on_panic(void) {
  EXPECT(NUNATAK_UNSUPPORTED, nunatak_on_panic(NULL));
  EXPECT(NUNATAK_UNSUPPORTED, nunatak_on_panic(panicked));
}

/* ---- all ---- */

typedef struct test {
  const char *name;
  void (*run)(void);
} test;

#define CASE(name) {#name, case_##name}
static const test tests[] = {
    CASE(nunatak_version), CASE(nunatak_version_text), CASE(nunatak_last_error), CASE(nunatak_status_name),
    CASE(nunatak_recipe_resnet18), CASE(nunatak_recipe_resnet34), CASE(nunatak_recipe_resnet8),
    CASE(nunatak_config_default), CASE(nunatak_sgd_default), CASE(nunatak_schedule_factor),
    CASE(nunatak_trainer_required_bytes), CASE(nunatak_plan_text_bytes), CASE(nunatak_plan_text),
    CASE(nunatak_threads_start), CASE(nunatak_threads_stop), CASE(nunatak_trainer_init), CASE(nunatak_trainer_switch),
    CASE(nunatak_trainer_release), CASE(nunatak_random_seed), CASE(nunatak_random_uniform),
    CASE(nunatak_random_permutation), CASE(nunatak_trainer_draw_weights), CASE(nunatak_trainer_draw_head),
    CASE(nunatak_trainer_set_images), CASE(nunatak_trainer_set_images_u8), CASE(nunatak_trainer_set_labels),
    CASE(nunatak_trainer_set_targets), CASE(nunatak_trainer_forward), CASE(nunatak_trainer_backward),
    CASE(nunatak_trainer_backward_from), CASE(nunatak_trainer_update), CASE(nunatak_trainer_step),
    CASE(nunatak_trainer_zero_grad), CASE(nunatak_trainer_clip_grad_norm), CASE(nunatak_trainer_loss),
    CASE(nunatak_trainer_predictions), CASE(nunatak_trainer_features), CASE(nunatak_trainer_predict),
    CASE(nunatak_trainer_set_sgd), CASE(nunatak_trainer_add_group), CASE(nunatak_trainer_set_rate),
    CASE(nunatak_trainer_tensor_count), CASE(nunatak_trainer_tensor_name), CASE(nunatak_trainer_tensor_shape),
    CASE(nunatak_trainer_get_tensor), CASE(nunatak_trainer_set_tensor), CASE(nunatak_trainer_get_batches),
    CASE(nunatak_trainer_set_batches), CASE(nunatak_trainer_get_gradient), CASE(nunatak_trainer_set_gradient),
    CASE(nunatak_trainer_get_momentum), CASE(nunatak_trainer_set_momentum), CASE(nunatak_trainer_load),
    CASE(nunatak_trainer_load_momentum), CASE(nunatak_trainer_saved_bytes), CASE(nunatak_trainer_save),
    CASE(nunatak_recipe_of_file), CASE(nunatak_file_verify), CASE(nunatak_trainer_on_progress),
    CASE(nunatak_trainer_on_tick), CASE(nunatak_trainer_call_name), CASE(nunatak_trainer_level),
    CASE(nunatak_on_panic),
};

int main(int argc, char **argv) {
  size_t count = sizeof tests / sizeof tests[0], i;
  int a;
  for (a = 1; a < argc; a++) {
    for (i = 0; i < count && strcmp(tests[i].name, argv[a]) != 0; i++) {
    }
    if (i == count) {
      fprintf(stderr, "%s has no hostile case: write one\n", argv[a]);
      failures++;
    }
  }
  for (i = 0; i < count; i++) {
    int wanted = argc == 1;
    for (a = 1; a < argc; a++) wanted |= strcmp(tests[i].name, argv[a]) == 0;
    if (wanted) tests[i].run();
  }
  printf("%d failures\n", failures);
  return failures != 0;
}

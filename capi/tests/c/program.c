/*
 * A step as a program: planned once, run from its bytes, with the same bits as from its config. Then every byte of
 * a small program is changed: its checksum refuses it. With a checksum that was made to fit, what is wrong is
 * refused too, or it is a program of its own, which runs or says why not.
 *
 *   program [EVERY]     changes every byte, or one in so many
 */
#include "../../examples/check.h"
#include <string.h>

enum { BATCH = 2, SIZE = 12, CLASSES = 4, PIXELS = BATCH * 3 * SIZE * SIZE, STEPS = 3 };

static float images[PIXELS];

static nunatak_config config_of(const char *trainable) {
  nunatak_recipe recipe;
  nunatak_config config;
  CHECK(nunatak_recipe_resnet8(CLASSES, sizeof(nunatak_recipe), &recipe));
  recipe.layers = 2;
  recipe.widths[0] = 4;
  recipe.widths[1] = 6;
  CHECK(nunatak_config_default(&recipe, BATCH, SIZE, SIZE, sizeof(nunatak_config), &config));
  config.trainable = trainable;
  return config;
}

typedef struct bytes {
  unsigned char *at;
  size_t count;
} bytes;

static bytes program_of(const nunatak_config *config) {
  bytes program = {NULL, 0};
  if (nunatak_program_from_config(config, images, 0, &program.count) != NUNATAK_BUFFER_TOO_SMALL) exit(1);
  program.at = (unsigned char *)allocate(program.count);
  CHECK(nunatak_program_from_config(config, program.at, program.count, &program.count));
  return program;
}

static void ready(nunatak_trainer *t) {
  nunatak_random random;
  nunatak_sgd sgd;
  CHECK(nunatak_random_seed(&random, sizeof(nunatak_random), 0));
  CHECK(nunatak_trainer_draw_weights(t, &random));
  CHECK(nunatak_random_uniform(&random, 0, 1, images, PIXELS));
  CHECK(nunatak_sgd_default(.1f, sizeof(nunatak_sgd), &sgd));
  sgd.momentum = .9f;
  CHECK(nunatak_trainer_set_sgd(t, &sgd));
  sgd.lr = .01f;
  sgd.weight_decay = .1f;
  CHECK(nunatak_trainer_add_group(t, "layer2,fc.bias", &sgd));
  sgd.lr = 0;
  CHECK(nunatak_trainer_add_group(t, "layer2.0.conv1,conv1", &sgd)); /* layer2 has a group already */
}

static void learn(nunatak_trainer *t, float *losses) {
  static const int64_t labels[BATCH] = {3, 1};
  for (int i = 0; i < STEPS; i++) {
    CHECK(nunatak_trainer_set_images(t, images, PIXELS));
    CHECK(nunatak_trainer_set_labels(t, labels, BATCH));
    CHECK(nunatak_trainer_step(t, &losses[i]));
  }
}

/* All that a run leaves. */
static bytes saved(nunatak_trainer *t) {
  bytes file;
  CHECK(nunatak_trainer_saved_bytes(t, NUNATAK_SAFETENSORS_WITH_MOMENTUM, &file.count));
  file.at = (unsigned char *)allocate(file.count);
  CHECK(nunatak_trainer_save(t, NUNATAK_SAFETENSORS_WITH_MOMENTUM, file.at, file.count, &file.count));
  return file;
}

static void expect_that(int so, const char *what) {
  if (so) return;
  fprintf(stderr, "not so: %s\n", what);
  exit(1);
}

/* Everything, then the head, by configs and by programs; `threads` may be fewer than were planned. */
static void the_same_bits(uint32_t update, size_t threads, const char *level) {
  nunatak_config all = config_of("all"), head = config_of("head");
  float losses[2][2 * STEPS], first;
  bytes files[2], programs[2];
  nunatak_shape shape;
  all.update = head.update = update;
  all.threads = head.threads = 2;
  all.level = head.level = level;
  programs[0] = program_of(&all);
  programs[1] = program_of(&head);
  for (int by_program = 0; by_program < 2; by_program++) {
    nunatak_trainer *t;
    size_t count;
    CHECK(nunatak_trainer_required_bytes(&all, &count));
    void *memory = allocate(count);
    if (by_program) {
      size_t same;
      CHECK(nunatak_program_required_bytes(programs[0].at, programs[0].count, &same));
      expect_that(same == count, "the same memory");
      nunatak_region region = {memory, count};
      CHECK(nunatak_trainer_init_program(programs[0].at, programs[0].count, NULL, 0, threads, level, &region, 1, &t));
    } else {
      CHECK(nunatak_trainer_init(&all, memory, count, &t));
    }
    ready(t);
    CHECK(nunatak_trainer_tensor_shape(t, "conv1.weight", sizeof(nunatak_shape), &shape));
    expect_that(shape.rank == 4 && shape.sizes[0] == 4, "the shape of conv1.weight");
    learn(t, losses[by_program]);
    if (by_program) {
      CHECK(nunatak_trainer_switch_program(t, programs[1].at, programs[1].count));
    } else {
      CHECK(nunatak_trainer_switch(t, &head));
    }
    learn(t, losses[by_program] + STEPS);
    CHECK(nunatak_trainer_loss(t, &first));
    files[by_program] = saved(t);
    CHECK(nunatak_trainer_release(t));
    free(memory);
  }
  expect_that(memcmp(losses[0], losses[1], sizeof losses[0]) == 0, "the same losses");
  expect_that(losses[0][STEPS - 1] != losses[0][0], "losses move");
  expect_that(files[0].count == files[1].count && memcmp(files[0].at, files[1].at, files[0].count) == 0, "the same files");
  for (int i = 0; i < 2; i++) {
    free(files[i].at);
    free(programs[i].at);
  }
}

/* Steps from features have the bits of steps from images, where nothing below the head moves. */
static void features_once(void) {
  static const int64_t labels[BATCH] = {3, 1};
  nunatak_config config = config_of("head");
  float features[BATCH * 6], losses[2][STEPS];
  size_t count;
  config.statistics = NUNATAK_STATISTICS_FIXED;
  CHECK(nunatak_trainer_required_bytes(&config, &count));
  void *memory = allocate(count);
  for (int once = 0; once < 2; once++) {
    nunatak_trainer *t;
    CHECK(nunatak_trainer_init(&config, memory, count, &t));
    ready(t);
    for (int i = 0; i < STEPS; i++) {
      if (once && i > 0) {
        CHECK(nunatak_trainer_set_features(t, features, BATCH * 6));
      } else {
        CHECK(nunatak_trainer_set_images(t, images, PIXELS));
      }
      CHECK(nunatak_trainer_set_labels(t, labels, BATCH));
      CHECK(nunatak_trainer_step(t, &losses[once][i]));
      if (i == 0) CHECK(nunatak_trainer_features(t, features, BATCH * 6));
    }
    CHECK(nunatak_trainer_release(t));
  }
  free(memory);
  expect_that(memcmp(losses[0], losses[1], sizeof losses[0]) == 0, "the same losses from features");
}

/* FNV-1a of 64 bits over all bytes, those of the checksum taken as zero. */
static void repair(bytes program) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < program.count; i++) {
    hash = (hash ^ (i >= 20 && i < 28 ? 0 : program.at[i])) * 0x100000001b3u;
  }
  for (int i = 0; i < 8; i++) program.at[20 + i] = (unsigned char)(hash >> 8 * i);
}

/* Any status but one that tells of a mistake of the library's own. */
static int withstood(nunatak_status status, size_t at) {
  if (status != NUNATAK_PANICKED) return status == NUNATAK_OK;
  fprintf(stderr, "byte %lu changed: %s\n", (unsigned long)at, nunatak_last_error());
  exit(1);
}

/* Runs what may be a program; whether it ran to its end. */
static int run(bytes program, size_t at, void *memory, size_t memory_bytes) {
  static const int64_t labels[BATCH] = {3, 1};
  nunatak_trainer *t;
  nunatak_random random;
  nunatak_sgd sgd;
  float loss;
  nunatak_region region = {memory, memory_bytes};
  if (!withstood(nunatak_trainer_init_program(program.at, program.count, NULL, 0, 1, NULL, &region, 1, &t), at)) return 0;
  CHECK(nunatak_random_seed(&random, sizeof(nunatak_random), 0));
  withstood(nunatak_trainer_draw_weights(t, &random), at);
  CHECK(nunatak_sgd_default(.1f, sizeof(nunatak_sgd), &sgd));
  CHECK(nunatak_trainer_set_sgd(t, &sgd));
  withstood(nunatak_trainer_set_images(t, images, PIXELS), at);
  withstood(nunatak_trainer_set_labels(t, labels, BATCH), at);
  int ran = withstood(nunatak_trainer_step(t, &loss), at);
  bytes file;
  withstood(nunatak_trainer_saved_bytes(t, NUNATAK_SAFETENSORS_WITH_MOMENTUM, &file.count), at);
  CHECK(nunatak_trainer_release(t));
  return ran;
}

static void changed_bytes(size_t every) {
  nunatak_config config = config_of("all");
  bytes program = program_of(&config), copy;
  size_t memory_bytes, refused = 0, accepted = 0, ran = 0;
  copy.count = program.count;
  copy.at = (unsigned char *)allocate(copy.count);
  CHECK(nunatak_program_required_bytes(program.at, program.count, &memory_bytes));
  void *memory = allocate(memory_bytes);
  memcpy(copy.at, program.at, program.count);
  repair(copy);
  expect_that(memcmp(copy.at, program.at, program.count) == 0, "the checksum is FNV-1a");
  expect_that(run(program, 0, memory, memory_bytes), "the whole program runs");
  for (size_t at = 0; at < program.count; at += every) {
    memcpy(copy.at, program.at, program.count);
    copy.at[at] ^= (unsigned char)(1u << at % 8);
    if (nunatak_program_check(copy.at, copy.count) != NUNATAK_BAD_PROGRAM) {
      fprintf(stderr, "byte %lu was changed, and nobody noticed\n", (unsigned long)at);
      exit(1);
    }
    repair(copy);
    if (!withstood(nunatak_program_check(copy.at, copy.count), at)) {
      refused++;
      continue;
    }
    accepted++;
    ran += (size_t)run(copy, at, memory, memory_bytes);
  }
  printf("%lu bytes; with a checksum that fits %lu changes are refused, %lu are programs, of which %lu ran\n",
         (unsigned long)program.count, (unsigned long)refused, (unsigned long)accepted, (unsigned long)ran);
  expect_that(refused > 0 && ran > 0, "some are refused and some run");
  free(memory);
  free(copy.at);
  free(program.at);
}

/* What a trainer has learnt, by a config. */
static bytes learnt(const nunatak_config *config, float *losses) {
  nunatak_trainer *t;
  size_t count;
  CHECK(nunatak_trainer_required_bytes(config, &count));
  expect_that(config->max_bytes == 0 || count <= config->max_bytes, "no more than max_bytes");
  void *memory = allocate(count);
  CHECK(nunatak_trainer_init(config, memory, count, &t));
  ready(t);
  learn(t, losses);
  bytes file = saved(t);
  CHECK(nunatak_trainer_release(t));
  free(memory);
  return file;
}

/* Values are computed again where memory is bounded: less of it, the same bits. */
static void within_fewer_bytes(void) {
  nunatak_config config = config_of("all");
  float losses[2][STEPS];
  size_t most, count;
  int64_t least, asked;
  CHECK(nunatak_trainer_required_bytes(&config, &most));
  bytes files[2];
  files[0] = learnt(&config, losses[0]);
  config.max_bytes = 1;
  expect_that(nunatak_trainer_required_bytes(&config, &count) == NUNATAK_MEMORY_TOO_SMALL, "one byte is too few");
  expect_that(nunatak_last_error_numbers(&least, &asked) == 1 && asked == 1, "the least is told");
  config.max_bytes = (size_t)least;
  expect_that(config.max_bytes < most, "less memory");
  files[1] = learnt(&config, losses[1]);
  expect_that(memcmp(losses[0], losses[1], sizeof losses[0]) == 0, "the same losses in less memory");
  expect_that(files[0].count == files[1].count && memcmp(files[0].at, files[1].at, files[0].count) == 0, "the same model in less memory");
  free(files[0].at);
  free(files[1].at);
}

int main(int argc, char **argv) {
  within_fewer_bytes();
  CHECK(nunatak_threads_start(2));
  for (size_t threads = 1; threads <= 2; threads++) {
    the_same_bits(NUNATAK_UPDATE_AFTER, threads, NULL);
    the_same_bits(NUNATAK_UPDATE_DURING, threads, NULL);
    the_same_bits(NUNATAK_UPDATE_DURING, threads, "portable");
  }
  CHECK(nunatak_threads_stop(2));
  features_once();
  changed_bytes(argc > 1 ? (size_t)atoi(argv[1]) : 1);
  return 0;
}

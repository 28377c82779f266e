/* A class is added: to whom it can't, and what stays as it is. */
#include "fixture.h"

enum { FEATURES = 64 }; /* of ResNet-8 */

/* A trainer whose memory has room for classes more. */
static fixture make_roomy(nunatak_config *more) {
  nunatak_config config = config_of(NUNATAK_LOSS_CROSS_ENTROPY);
  fixture f;
  *more = config;
  more->recipe.classes = CLASSES + 1;
  f = make(more);
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &config));
  EXPECT(NUNATAK_NO_WEIGHTS, nunatak_trainer_add_class(f.t, more, NUNATAK_NEW_CLASS_ZERO, NULL, NULL, 0));
  EXPECT(NUNATAK_OK, nunatak_trainer_draw_head(f.t, &f.random));
  learn(&f);
  f.config = config;
  return f;
}

/* Rows of the head, and their momentum. */
typedef struct rows {
  float weight[(CLASSES + 1) * FEATURES], bias[CLASSES + 1], momentum[(CLASSES + 1) * FEATURES];
} rows;

static rows rows_of(nunatak_trainer *t, size_t classes) {
  rows r;
  memset(&r, 0, sizeof r);
  EXPECT(NUNATAK_OK, nunatak_trainer_get_tensor(t, "fc.weight", r.weight, classes * FEATURES));
  EXPECT(NUNATAK_OK, nunatak_trainer_get_tensor(t, "fc.bias", r.bias, classes));
  EXPECT(NUNATAK_OK, nunatak_trainer_get_momentum(t, "fc.weight", r.momentum, classes * FEATURES));
  return r;
}

static int same_rows(const rows *a, const rows *b) {
  return memcmp(a->weight, b->weight, CLASSES * FEATURES * sizeof(float)) == 0 && memcmp(a->bias, b->bias, CLASSES * sizeof(float)) == 0 &&
         memcmp(a->momentum, b->momentum, CLASSES * FEATURES * sizeof(float)) == 0;
}

static fixture *grown;
static nunatak_status add_it(const nunatak_config *config) {
  return nunatak_trainer_add_class(grown->t, config, NUNATAK_NEW_CLASS_ZERO, NULL, NULL, 0);
}
static nunatak_status add_program(const void *program, size_t bytes) {
  return nunatak_trainer_add_class_program(grown->t, program, bytes, NUNATAK_NEW_CLASS_ZERO, NULL, NULL, 0);
}

static void case_nunatak_trainer_add_class(void) {
  nunatak_config more, other;
  nunatak_random blank;
  fixture f = make_roomy(&more);
  float *row = floats(FEATURES + 1);
  rows before = rows_of(f.t, CLASSES), after;
  memset(&blank, 0, sizeof blank);
  grown = &f;
  NO_HANDLES(f, nunatak_trainer_add_class(t, &more, NUNATAK_NEW_CLASS_ZERO, NULL, NULL, 0));
  bad_configs(add_it);
  EXPECT(NUNATAK_BAD_CONFIG, add_it(&f.config)); /* not a class more */
  other = more;
  other.threads = 2;
  EXPECT(NUNATAK_BAD_CONFIG, add_it(&other));
  other = more;
  other.batch = 3;
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, add_it(&other));
  other = more;
  other.recipe.widths[0] = 8;
  EXPECT(NUNATAK_BAD_CONFIG, add_it(&other));
#define ADD(begins, random, row, count) nunatak_trainer_add_class(f.t, &more, begins, random, row, count)
  EXPECT(NUNATAK_BAD_SETTING, ADD(3, NULL, NULL, 0));
  EXPECT(NUNATAK_NULL_POINTER, ADD(NUNATAK_NEW_CLASS_DRAWN, NULL, row, FEATURES + 1));
  EXPECT(NUNATAK_WRONG_ORDER, ADD(NUNATAK_NEW_CLASS_DRAWN, &blank, NULL, 0));
  EXPECT(NUNATAK_OVERLAP, ADD(NUNATAK_NEW_CLASS_DRAWN, (nunatak_random *)(void *)((char *)f.memory + 64), NULL, 0));
  EXPECT(NUNATAK_NULL_POINTER, ADD(NUNATAK_NEW_CLASS_GIVEN, &f.random, NULL, FEATURES + 1));
  EXPECT(NUNATAK_MISALIGNED, ADD(NUNATAK_NEW_CLASS_GIVEN, NULL, odd(row), FEATURES));
  EXPECT(NUNATAK_WRONG_LENGTH, ADD(NUNATAK_NEW_CLASS_GIVEN, NULL, row, FEATURES));
  EXPECT(NUNATAK_WRONG_LENGTH, ADD(NUNATAK_NEW_CLASS_GIVEN, NULL, row, SIZE_MAX));
  EXPECT(NUNATAK_OVERLAP, ADD(NUNATAK_NEW_CLASS_GIVEN, NULL, (float *)(void *)((char *)f.memory + 64), FEATURES + 1));
  after = rows_of(f.t, CLASSES);
  TRUE(same_rows(&before, &after));
  learn(&f);
  before = rows_of(f.t, CLASSES);
  EXPECT(NUNATAK_OK, ADD(NUNATAK_NEW_CLASS_GIVEN, NULL, row, FEATURES + 1));
  after = rows_of(f.t, CLASSES + 1);
  TRUE(same_rows(&before, &after));
  TRUE(memcmp(after.weight + CLASSES * FEATURES, row, FEATURES * sizeof(float)) == 0 && after.bias[CLASSES] == row[FEATURES]);
  EXPECT(NUNATAK_BAD_CONFIG, add_it(&more));
  learn(&f);
  free(row);
  end(&f);
}

static void case_nunatak_trainer_add_class_program(void) {
  nunatak_config more;
  size_t bytes;
  fixture f = make_roomy(&more);
  unsigned char *program = program_of(&more, &bytes);
  rows before = rows_of(f.t, CLASSES), after;
  grown = &f;
  NO_HANDLES(f, nunatak_trainer_add_class_program(t, program, bytes, NUNATAK_NEW_CLASS_ZERO, NULL, NULL, 0));
  bad_programs(add_program);
  EXPECT(NUNATAK_OVERLAP, add_program(f.t, 64));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_add_class_program(f.t, program, bytes, 9, NULL, NULL, 0));
  EXPECT(NUNATAK_OK, nunatak_trainer_add_class_program(f.t, program, bytes, NUNATAK_NEW_CLASS_DRAWN, &f.random, NULL, 0));
  after = rows_of(f.t, CLASSES + 1);
  TRUE(same_rows(&before, &after) && after.weight[CLASSES * FEATURES] != 0);
  EXPECT(NUNATAK_BAD_CONFIG, add_program(program, bytes));
  learn(&f);
  end(&f);
  free(program);
}

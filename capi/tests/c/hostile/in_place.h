/* Weights that are used where they lie: misplaced, damaged, another network's, written to. */
#include "fixture.h"

/* A native file at a multiple of 64 and `off` bytes; `room` is to be freed. */
static char *native_of(nunatak_trainer *t, uint32_t format, size_t off, size_t *bytes, void **room) {
  char *file;
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(t, format, bytes));
  *room = allocate(*bytes + 128);
  file = (char *)*room + (64 - (size_t)*room % 64) + off;
  EXPECT(NUNATAK_OK, nunatak_trainer_save(t, format, file, *bytes, bytes));
  return file;
}

/* What planning finds, both calls tell. */
static nunatak_status init_in(const nunatak_config *config) {
  size_t bytes = 1 << 20;
  nunatak_status planned = nunatak_trainer_required_bytes(config, &bytes), status;
  void *memory = allocate(bytes);
  nunatak_trainer *t = NULL;
  status = nunatak_trainer_init(config, memory, bytes, &t);
  TRUE(status == NUNATAK_OK || t == NULL);
  TRUE(planned == NUNATAK_OK || planned == status);
  if (t != NULL) EXPECT(NUNATAK_OK, nunatak_trainer_release(t));
  free(memory);
  return status;
}

/* Programs that read weights in place, and their file. */
static void programs_in_place(const nunatak_config *lent, const nunatak_config *whole, char *file, size_t bytes) {
  size_t lent_bytes, whole_bytes, memory_bytes, i;
  unsigned char *reads = program_of(lent, &lent_bytes), *owns = program_of(whole, &whole_bytes);
  char *memory;
  nunatak_trainer *t = NULL;
  fixture g;
  EXPECT(NUNATAK_OK, nunatak_program_required_bytes(owns, whole_bytes, &memory_bytes));
  memory = (char *)allocate(memory_bytes);
#define RUN(program, program_bytes, weights, weights_bytes) \
  in_one(program, program_bytes, weights, weights_bytes, 1, NULL, memory, memory_bytes, &t)
  EXPECT(NUNATAK_NO_WEIGHTS, RUN(reads, lent_bytes, NULL, 0));
  EXPECT(NUNATAK_BAD_FILE, RUN(reads, lent_bytes, file, bytes - 64));
  g = make(whole); /* other weights, and their file */
  learn(&g);
  {
    void *room;
    size_t other_bytes;
    char *other = native_of(g.t, NUNATAK_NATIVE, 0, &other_bytes, &room);
    EXPECT(NUNATAK_WRONG_FILE, RUN(reads, lent_bytes, other, other_bytes));
    EXPECT(NUNATAK_NO_WEIGHTS, nunatak_trainer_switch_program(g.t, reads, lent_bytes));
    free(room);
  }
  end(&g);
  EXPECT(NUNATAK_OK, RUN(reads, lent_bytes, file, bytes));
  g.t = t;
  for (i = 0; i < 2; i++) learn(&g);
  EXPECT(NUNATAK_OK, nunatak_trainer_switch_program(t, owns, whole_bytes));
  learn(&g);
  /* What was trained since is not the file's any more. */
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_switch_program(t, reads, lent_bytes));
  learn(&g);
  EXPECT(NUNATAK_OK, nunatak_trainer_release(t));
  /* A program that reads nothing in place takes a file all the same: its weights are copied. */
  EXPECT(NUNATAK_OK, RUN(owns, whole_bytes, file, bytes));
  g.t = t;
  learn(&g);
  EXPECT(NUNATAK_OK, nunatak_trainer_release(t));
  free(memory);
  free(reads);
  free(owns);
}

static void weights_in_place(void) {
  fixture f = make_usual(), g;
  nunatak_config lent = f.config, other;
  size_t bytes, delta_bytes, i;
  void *room, *odd_room, *delta_room, *copy;
  char *file = native_of(f.t, NUNATAK_NATIVE, 0, &bytes, &room), *delta;
  char *misplaced = native_of(f.t, NUNATAK_NATIVE, 4, &bytes, &odd_room);
  float conv[432], ours[432], var[16] = {0};
  copy = allocate(bytes);
  memcpy(copy, file, bytes);
  lent.trainable = "head";
  lent.weights = file;
  lent.weights_bytes = bytes;

  other = lent;
  other.weights = misplaced;
  EXPECT(NUNATAK_MISALIGNED, init_in(&other));
  other = lent;
  other.weights_bytes = bytes - 64;
  EXPECT(NUNATAK_BAD_FILE, nunatak_trainer_required_bytes(&other, &i));
  other = lent;
  other.recipe.widths[1] += 1;
  EXPECT(NUNATAK_BAD_CONFIG, init_in(&other)); /* another network's */
  other = lent;
  other.recipe.classes = 3;
  EXPECT(NUNATAK_OK, init_in(&other));
  other.trainable = "none";
  EXPECT(NUNATAK_OK, init_in(&other)); /* a new head lies in the trainer's memory, to be set */

  g = make(&lent); /* draws weights too: of the head alone */
  EXPECT(NUNATAK_OK, nunatak_trainer_get_tensor(f.t, "conv1.weight", conv, 432));
  EXPECT(NUNATAK_OK, nunatak_trainer_get_tensor(g.t, "conv1.weight", ours, 432));
  TRUE(memcmp(conv, ours, sizeof conv) == 0);
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_tensor(g.t, "conv1.weight", conv, 432));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_tensor(g.t, "bn1.running_var", var, 16)); /* it moves: it is ours */
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_load(g.t, file, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_load(g.t, file, bytes, NUNATAK_HEAD_KEEP));
  for (i = 0; i < 3; i++) learn(&g);
  other = lent;
  other.weights = copy;
  TRUE(nunatak_trainer_switch(g.t, &other) != NUNATAK_OK); /* not those of the start, and perhaps not aligned */
  other = lent;
  other.statistics = NUNATAK_STATISTICS_FIXED;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(g.t, &other));
  learn(&g);
  other.weights = NULL;
  other.weights_bytes = 0;
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, nunatak_trainer_switch(g.t, &other));
  learn(&g);

  /* A delta belongs over its base, undamaged, and nowhere else. */
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(g.t, &lent));
  delta = native_of(g.t, NUNATAK_NATIVE_DELTA, 0, &delta_bytes, &delta_room);
  EXPECT(NUNATAK_OK, nunatak_trainer_load(g.t, delta, delta_bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_load(f.t, delta, delta_bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_BAD_FILE, nunatak_trainer_load(g.t, delta, delta_bytes - 1, NUNATAK_HEAD_LOAD));
  delta[delta_bytes - 100] ^= 1;
  EXPECT(NUNATAK_BAD_FILE, nunatak_trainer_load(g.t, delta, delta_bytes, NUNATAK_HEAD_LOAD));
  delta[delta_bytes - 100] ^= 1;
  other = lent;
  other.weights = delta;
  other.weights_bytes = delta_bytes;
  EXPECT(NUNATAK_NOT_PLANNED, init_in(&other));

  programs_in_place(&lent, &f.config, file, bytes);
  TRUE(memcmp(copy, file, bytes) == 0); /* nothing has written to it */
  end(&g);
  end(&f);
  free(copy);
  free(room);
  free(odd_room);
  free(delta_room);
}

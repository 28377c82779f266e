/* Programs: short, damaged, in the wrong place, for another trainer. */
#include "fixture.h"

/* The program of a config; to be freed. */
static unsigned char *program_of(const nunatak_config *config, size_t *bytes) {
  unsigned char *program;
  *bytes = 0;
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_program_from_config(config, bytes, 0, bytes));
  program = (unsigned char *)allocate(*bytes);
  EXPECT(NUNATAK_OK, nunatak_program_from_config(config, program, *bytes, bytes));
  return program;
}

static nunatak_status from_config(const nunatak_config *config) {
  char program[4] = {1, 1, 1, 1};
  size_t written = 77;
  nunatak_status status = nunatak_program_from_config(config, program, sizeof program, &written);
  TRUE(program[0] == 1 && program[3] == 1 && written == 77);
  return status;
}

static void case_nunatak_program_from_config(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_CROSS_ENTROPY);
  size_t bytes, written = 77;
  unsigned char *program = program_of(&good, &bytes), *again = (unsigned char *)allocate(bytes + 8);
  bad_configs(from_config);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_program_from_config(&good, NULL, bytes, &written));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_program_from_config(&good, again, bytes, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_program_from_config(&good, again, bytes, (size_t *)(void *)odd(&written)));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_program_from_config(&good, again, SIZE_MAX, &written));
  EXPECT(NUNATAK_OVERLAP, nunatak_program_from_config(&good, &written, sizeof written, &written));
  TRUE(written == 77);
  again[0] = 1;
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_program_from_config(&good, again, bytes - 1, &written));
  TRUE(written == bytes && again[0] == 1);
  EXPECT(NUNATAK_OK, nunatak_program_from_config(&good, again + 1, bytes + 7, &written));
  TRUE(written == bytes && memcmp(program, again + 1, bytes) == 0);
  free(program);
  free(again);
}

/* Bytes that are no program, with what they get. `call` is what takes a program. */
static void bad_programs(nunatak_status (*call)(const void *, size_t)) {
  nunatak_config config = config_of(NUNATAK_LOSS_CROSS_ENTROPY);
  size_t bytes, i;
  unsigned char *program = program_of(&config, &bytes), *last = (unsigned char *)allocate(64);
  EXPECT(NUNATAK_NULL_POINTER, call(NULL, bytes));
  EXPECT(NUNATAK_WRONG_LENGTH, call(program, SIZE_MAX));
  EXPECT(NUNATAK_BAD_PROGRAM, call(program, 0));
  EXPECT(NUNATAK_BAD_PROGRAM, call(program, bytes - 1));
  EXPECT(NUNATAK_BAD_PROGRAM, call(program, bytes - 64));
  memset(last, 0xff, 64);
  EXPECT(NUNATAK_BAD_PROGRAM, call(last, 64));
  for (i = 0; i < bytes; i += 499) {
    program[i] ^= 0x10;
    EXPECT(NUNATAK_BAD_PROGRAM, call(program, bytes));
    program[i] ^= 0x10;
  }
  free(program);
  free(last);
}

static void case_nunatak_program_check(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_NONE);
  size_t bytes;
  unsigned char *program = program_of(&good, &bytes), *moved = (unsigned char *)allocate(bytes + 1);
  bad_programs(nunatak_program_check);
  EXPECT(NUNATAK_OK, nunatak_program_check(program, bytes));
  memcpy(moved + 1, program, bytes);
  EXPECT(NUNATAK_OK, nunatak_program_check(moved + 1, bytes));
  free(program);
  free(moved);
}

static nunatak_status program_required(const void *program, size_t bytes) {
  size_t needed = 77;
  nunatak_status status = nunatak_program_required_bytes(program, bytes, &needed);
  TRUE(status == NUNATAK_OK || needed == 77);
  return status;
}

static void case_nunatak_program_required_bytes(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_SUM);
  size_t bytes, two[2], needed = 0;
  unsigned char *program = program_of(&good, &bytes);
  bad_programs(program_required);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_program_required_bytes(program, bytes, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_program_required_bytes(program, bytes, (size_t *)(void *)odd(two)));
  EXPECT(NUNATAK_OVERLAP, nunatak_program_required_bytes(two, sizeof two, two));
  EXPECT(NUNATAK_OK, nunatak_program_required_bytes(program, bytes, &needed));
  TRUE(needed == bytes_of(&good));
  free(program);
}

static nunatak_status region_count(const void *program, size_t bytes) {
  size_t count = 77;
  nunatak_status status = nunatak_program_region_count(program, bytes, &count);
  TRUE(status == NUNATAK_OK || count == 77);
  return status;
}

static void case_nunatak_program_region_count(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_SUM);
  size_t bytes, two[2], count = 0;
  unsigned char *program = program_of(&good, &bytes);
  bad_programs(region_count);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_program_region_count(program, bytes, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_program_region_count(program, bytes, (size_t *)(void *)odd(two)));
  EXPECT(NUNATAK_OVERLAP, nunatak_program_region_count(two, sizeof two, two));
  EXPECT(NUNATAK_OK, nunatak_program_region_count(program, bytes, &count));
  TRUE(count == 1);
  free(program);
}

static nunatak_status region_bytes(const void *program, size_t bytes) {
  size_t needed = 77;
  nunatak_status status = nunatak_program_region_bytes(program, bytes, 0, &needed);
  TRUE(status == NUNATAK_OK || needed == 77);
  return status;
}

static void case_nunatak_program_region_bytes(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_SUM);
  size_t bytes, two[2], needed = 77;
  unsigned char *program = program_of(&good, &bytes);
  bad_programs(region_bytes);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_program_region_bytes(program, bytes, 0, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_program_region_bytes(program, bytes, 0, (size_t *)(void *)odd(two)));
  EXPECT(NUNATAK_OVERLAP, nunatak_program_region_bytes(two, sizeof two, 0, two));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_program_region_bytes(program, bytes, 1, &needed));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_program_region_bytes(program, bytes, SIZE_MAX, &needed));
  TRUE(needed == 77);
  EXPECT(NUNATAK_OK, nunatak_program_region_bytes(program, bytes, 0, &needed));
  TRUE(needed == bytes_of(&good));
  free(program);
}

static nunatak_status program_text_bytes(const void *program, size_t bytes) {
  size_t needed = 77;
  nunatak_status status = nunatak_program_text_bytes(program, bytes, &needed);
  TRUE(status == NUNATAK_OK || needed == 77);
  return status;
}

static void case_nunatak_program_text_bytes(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_SUM);
  size_t bytes, two[2];
  unsigned char *program = program_of(&good, &bytes);
  bad_programs(program_text_bytes);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_program_text_bytes(program, bytes, NULL));
  EXPECT(NUNATAK_OVERLAP, nunatak_program_text_bytes(two, sizeof two, two));
  free(program);
}

static nunatak_status program_text(const void *program, size_t bytes) {
  char text[4] = {1, 1, 1, 1};
  nunatak_status status = nunatak_program_text(program, bytes, text, sizeof text);
  TRUE(text[0] == 1 && text[3] == 1);
  return status;
}

static void case_nunatak_program_text(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_SUM);
  size_t bytes, text_bytes = 0, plan_bytes = 0;
  unsigned char *program = program_of(&good, &bytes);
  char *text, *plan;
  bad_programs(program_text);
  EXPECT(NUNATAK_OK, nunatak_program_text_bytes(program, bytes, &text_bytes));
  EXPECT(NUNATAK_OK, nunatak_plan_text_bytes(&good, &plan_bytes));
  TRUE(text_bytes == plan_bytes);
  text = (char *)allocate(text_bytes);
  plan = (char *)allocate(plan_bytes);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_program_text(program, bytes, NULL, text_bytes));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_program_text(program, bytes, text, SIZE_MAX));
  EXPECT(NUNATAK_OVERLAP, nunatak_program_text(program, bytes, (char *)program + 8, 8));
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_program_text(program, bytes, text, text_bytes - 1));
  EXPECT(NUNATAK_OK, nunatak_program_text(program, bytes, text, text_bytes));
  EXPECT(NUNATAK_OK, nunatak_plan_text(&good, plan, plan_bytes));
  TRUE(strcmp(text, plan) == 0);
  free(text);
  free(plan);
  free(program);
}

/* In one piece of memory. */
static nunatak_status in_one(const void *program, size_t program_bytes, const void *weights, size_t weights_bytes, size_t threads,
                             const char *level, void *memory, size_t bytes, nunatak_trainer **t) {
  nunatak_region region;
  region.memory = memory;
  region.bytes = bytes;
  return nunatak_trainer_init_program(program, program_bytes, weights, weights_bytes, threads, level, &region, 1, t);
}

static nunatak_status init_program(const void *program, size_t bytes) {
  static char memory[4096];
  nunatak_trainer *t = NULL;
  nunatak_status status = in_one(program, bytes, NULL, 0, 1, NULL, memory, sizeof memory, &t);
  TRUE(t == NULL);
  return status;
}

static void case_nunatak_trainer_init_program(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_CROSS_ENTROPY);
  size_t bytes, memory_bytes = bytes_of(&good), copy_bytes;
  unsigned char *program = program_of(&good, &bytes), *two_threads;
  char *memory = (char *)allocate(memory_bytes + bytes), long_text[5000];
  nunatak_trainer *t = NULL;
  nunatak_region two[2];
  memset(long_text, 'a', sizeof long_text);
  memset(two, 0, sizeof two);
  bad_programs(init_program);
#define INIT(threads, level, memory, bytes_given, t) \
  in_one(program, bytes, NULL, 0, threads, level, memory, bytes_given, t)
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, init_program(program, bytes));
  EXPECT(NUNATAK_NULL_POINTER, INIT(1, NULL, NULL, memory_bytes, &t));
  EXPECT(NUNATAK_NULL_POINTER, INIT(1, NULL, memory, memory_bytes, NULL));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_init_program(program, bytes, NULL, 0, 1, NULL, NULL, 1, &t));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_trainer_init_program(program, bytes, NULL, 0, 1, NULL, two, 0, &t));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_trainer_init_program(program, bytes, NULL, 0, 1, NULL, two, SIZE_MAX, &t));
  EXPECT(NUNATAK_MISALIGNED, nunatak_trainer_init_program(program, bytes, NULL, 0, 1, NULL, (nunatak_region *)(void *)odd(two), 1, &t));
  two[0].memory = memory;
  two[0].bytes = memory_bytes;
  two[1].memory = memory + memory_bytes;
  two[1].bytes = bytes;
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_trainer_init_program(program, bytes, NULL, 0, 1, NULL, two, 2, &t));
  two[1].bytes = 0;
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_trainer_init_program(program, bytes, NULL, 0, 1, NULL, two, 2, &t));
  two[1] = two[0];
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_init_program(program, bytes, NULL, 0, 1, NULL, two, 2, &t));
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, INIT(1, NULL, memory, memory_bytes - 1, &t));
  EXPECT(NUNATAK_WRONG_LENGTH, INIT(1, NULL, memory, SIZE_MAX, &t));
  EXPECT(NUNATAK_OVERLAP, INIT(1, NULL, memory, memory_bytes, (nunatak_trainer **)(void *)memory));
  EXPECT(NUNATAK_BAD_CONFIG, INIT(0, NULL, memory, memory_bytes, &t));
  EXPECT(NUNATAK_BAD_CONFIG, INIT(2, NULL, memory, memory_bytes, &t));
  EXPECT(NUNATAK_BAD_CONFIG, INIT(SIZE_MAX, NULL, memory, memory_bytes, &t));
  EXPECT(NUNATAK_UNSUPPORTED, INIT(1, "sse9", memory, memory_bytes, &t));
  EXPECT(NUNATAK_BAD_TEXT, INIT(1, long_text, memory, memory_bytes, &t));
  memcpy(memory + memory_bytes - 1, program, bytes); /* the program in the trainer's memory */
  EXPECT(NUNATAK_OVERLAP,
         in_one(memory + memory_bytes - 1, bytes, NULL, 0, 1, NULL, memory, memory_bytes, &t));
  EXPECT(NUNATAK_BAD_FILE, in_one(program, bytes, program, bytes, 1, NULL, memory, memory_bytes, &t));
  EXPECT(NUNATAK_WRONG_LENGTH, in_one(program, bytes, program, SIZE_MAX, 1, NULL, memory, memory_bytes, &t));
  TRUE(t == NULL);
  EXPECT(NUNATAK_OK, INIT(1, "portable", memory, memory_bytes, &t));
  EXPECT(NUNATAK_MEMORY_IN_USE, INIT(1, NULL, memory, memory_bytes, &t));
  EXPECT(NUNATAK_OK, nunatak_trainer_release(t));
  /* Threads at most: fewer will do, and must have been started. */
  good.threads = 2;
  two_threads = program_of(&good, &copy_bytes);
  EXPECT(NUNATAK_OK, nunatak_program_required_bytes(two_threads, copy_bytes, &memory_bytes));
  free(memory);
  memory = (char *)allocate(memory_bytes);
  t = NULL;
  EXPECT(NUNATAK_NO_THREADS,
         in_one(two_threads, copy_bytes, NULL, 0, 2, NULL, memory, memory_bytes, &t));
  TRUE(t == NULL);
  EXPECT(NUNATAK_OK, in_one(two_threads, copy_bytes, NULL, 0, 1, NULL, memory, memory_bytes, &t));
  EXPECT(NUNATAK_OK, nunatak_trainer_release(t));
  free(memory);
  free(two_threads);
  free(program);
}

static fixture *programmed;
static nunatak_status switch_program(const void *program, size_t bytes) {
  return nunatak_trainer_switch_program(programmed->t, program, bytes);
}

static void case_nunatak_trainer_switch_program(void) {
  fixture f = make_usual();
  nunatak_config other = f.config;
  size_t bytes, head_bytes;
  unsigned char *own = program_of(&f.config, &bytes), *program;
  programmed = &f;
  NO_HANDLES(f, nunatak_trainer_switch_program(t, own, bytes));
  bad_programs(switch_program);
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_switch_program(f.t, f.t, 64));
  other.batch = 3;
  program = program_of(&other, &head_bytes);
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, nunatak_trainer_switch_program(f.t, program, head_bytes));
  free(program);
  other = f.config;
  other.recipe.widths[0] = 8;
  program = program_of(&other, &head_bytes);
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_trainer_switch_program(f.t, program, head_bytes));
  free(program);
  other = f.config;
  other.trainable = "head";
  other.recipe.classes = 4;
  program = program_of(&other, &head_bytes);
  learn(&f);
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_switch_program(f.t, program, head_bytes));
  EXPECT(NUNATAK_NO_WEIGHTS, nunatak_trainer_forward(f.t)); /* a head of another size */
  EXPECT(NUNATAK_OK, nunatak_trainer_draw_head(f.t, &f.random));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_forward(f.t)); /* inputs were those of another program */
  EXPECT(NUNATAK_OK, nunatak_trainer_switch_program(f.t, program, head_bytes));
  EXPECT(NUNATAK_OK, nunatak_trainer_switch_program(f.t, own, bytes));
  EXPECT(NUNATAK_OK, nunatak_trainer_draw_head(f.t, &f.random));
  learn(&f);
  /* From a program back to a config, whose program is the library's own. */
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &f.config));
  free(own);
  free(program);
  learn(&f);
  end(&f);
}

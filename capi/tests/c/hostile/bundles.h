/* Bundles: short, damaged, of another kind; and tables of routines. What a sound bundle gives is tested from Rust. */
#include "fixture.h"

static void case_nunatak_bundle_count(void) {
  unsigned char bytes[256] = {0x89, 'n', 'u', 'n', 'b', 'u', 'n', 'd', 1};
  size_t count = 77;
  EXPECT(NUNATAK_NULL_POINTER, nunatak_bundle_count(NULL, sizeof bytes, &count));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_bundle_count(bytes, sizeof bytes, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_bundle_count(bytes, sizeof bytes, (size_t *)(void *)odd(&count)));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_bundle_count(bytes, SIZE_MAX, &count));
  EXPECT(NUNATAK_OVERLAP, nunatak_bundle_count(&count, sizeof count, &count));
  for (size_t length = 0; length <= sizeof bytes; length++) EXPECT(NUNATAK_BAD_PROGRAM, nunatak_bundle_count(bytes, length, &count));
  TRUE(count == 77);
}

static void case_nunatak_bundle_program(void) {
  unsigned char bytes[256] = {0x89, 'n', 'u', 'n', 'b', 'u', 'n', 'd', 1};
  const void *program = bytes;
  size_t length = 77;
  EXPECT(NUNATAK_NULL_POINTER, nunatak_bundle_program(NULL, sizeof bytes, "predict", &program, &length));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_bundle_program(bytes, SIZE_MAX, "predict", &program, &length));
  EXPECT(NUNATAK_OVERLAP, nunatak_bundle_program(&program, sizeof program, "predict", &program, &length));
  EXPECT(NUNATAK_BAD_PROGRAM, nunatak_bundle_program(bytes, sizeof bytes, "predict", &program, &length));
  TRUE(program == bytes && length == 77);
}

static void case_nunatak_use_routines(void) {
  static const nunatak_routine *nothing[1];
  static const nunatak_routine *endless[300];
  nunatak_config good = config_of(NUNATAK_LOSS_CROSS_ENTROPY);
  size_t bytes, needed = 77, i;
  unsigned char *program = program_of(&good, &bytes);
  for (i = 0; i < 300; i++) endless[i] = (const nunatak_routine *)(const void *)endless;
  EXPECT(NUNATAK_NULL_POINTER, nunatak_use_routines(NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_use_routines((const nunatak_routine *const *)(const void *)odd(nothing)));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_use_routines(endless));
  EXPECT(NUNATAK_OK, nunatak_program_check(program, bytes));
  EXPECT(NUNATAK_OK, nunatak_use_routines(nothing));
  EXPECT(NUNATAK_BAD_PROGRAM, nunatak_program_check(program, bytes));
  EXPECT(NUNATAK_BAD_PROGRAM, nunatak_program_required_bytes(program, bytes, &needed));
  TRUE(needed == 77);
  EXPECT(NUNATAK_OK, nunatak_use_all_routines());
  EXPECT(NUNATAK_OK, nunatak_program_check(program, bytes));
  free(program);
}

static void case_nunatak_use_all_routines(void) {
  EXPECT(NUNATAK_OK, nunatak_use_all_routines());
  EXPECT(NUNATAK_OK, nunatak_use_all_routines());
}

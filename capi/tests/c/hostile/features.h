/* Features in flash: misuse, flash that refuses, records that are damaged. */
#include "fixture.h"

enum { PAGE = 256, CHIP = 4 * PAGE, NUMBERS = 3 };

/* Flash in memory, whose n-th call from now on is refused, or which calls the library from its callbacks. */
typedef struct chip {
  unsigned char bytes[CHIP];
  int until; /* calls until one is refused; negative: none is */
  nunatak_features *asked;
  nunatak_status answer;
} chip;

static int refuses(chip *c) {
  size_t count;
  if (c->asked != NULL) c->answer = nunatak_features_count(c->asked, &count);
  return c->until >= 0 && c->until-- == 0 ? 7 : 0;
}
static int chip_read(void *user, size_t at, void *out, size_t bytes) {
  chip *c = (chip *)user;
  if (refuses(c)) return 7;
  memcpy(out, c->bytes + at, bytes);
  return 0;
}
static int chip_erase(void *user, size_t at) {
  chip *c = (chip *)user;
  if (refuses(c)) return 7;
  memset(c->bytes + at, 0xff, PAGE);
  return 0;
}
static int chip_program(void *user, size_t at, const void *bytes, size_t count) {
  chip *c = (chip *)user;
  size_t i;
  if (refuses(c)) return 7;
  for (i = 0; i < count; i++) c->bytes[at + i] &= ((const unsigned char *)bytes)[i];
  return 0;
}

static nunatak_flash flash_of(chip *c) {
  nunatak_flash flash;
  memset(&flash, 0, sizeof flash);
  memset(c, 0, sizeof *c);
  c->until = -1;
  flash.struct_bytes = sizeof flash;
  flash.size = CHIP;
  flash.page = PAGE;
  flash.unit = 8;
  flash.read = chip_read;
  flash.erase = chip_erase;
  flash.program = chip_program;
  flash.user = c;
  return flash;
}

static const uint8_t a_key[NUNATAK_KEY_BYTES] = {1, 2, 3}, other_key[NUNATAK_KEY_BYTES] = {1, 2, 4};
static const float three[NUMBERS] = {.5f, -1.5f, 2};

static nunatak_features zeros(void) {
  nunatak_features features;
  memset(&features, 0, sizeof features);
  return features;
}

/* What both ways to open refuse. `call` names the function for the record of statuses. */
#define BAD_OPENS(call)                                                                                        \
  do {                                                                                                         \
    chip c;                                                                                                    \
    nunatak_flash good = flash_of(&c), flash = good;                                                           \
    nunatak_features features = zeros();                                                                       \
    EXPECT(NUNATAK_NULL_POINTER, call(NULL, a_key, NUMBERS, sizeof features, &features));                      \
    EXPECT(NUNATAK_NULL_POINTER, call(&good, NULL, NUMBERS, sizeof features, &features));                      \
    EXPECT(NUNATAK_NULL_POINTER, call(&good, a_key, NUMBERS, sizeof features, NULL));                          \
    EXPECT(NUNATAK_BAD_CONFIG, call(&good, a_key, NUMBERS, sizeof features - 8, &features));                   \
    EXPECT(NUNATAK_BAD_CONFIG, call(&good, a_key, 0, sizeof features, &features));                             \
    EXPECT(NUNATAK_BAD_CONFIG, call(&good, a_key, 200, sizeof features, &features));                           \
    EXPECT(NUNATAK_BAD_CONFIG, call(&good, a_key, SIZE_MAX, sizeof features, &features));                      \
    features.struct_bytes = sizeof flash;                                                                      \
    EXPECT(NUNATAK_OVERLAP, call((nunatak_flash *)(void *)&features, a_key, NUMBERS, sizeof features, &features)); \
    features.struct_bytes = 0;                                                                                 \
    EXPECT(NUNATAK_OVERLAP, call(&good, (const uint8_t *)&features + 8, NUMBERS, sizeof features, &features)); \
    flash.struct_bytes = 8;                                                                                    \
    EXPECT(NUNATAK_BAD_CONFIG, call(&flash, a_key, NUMBERS, sizeof features, &features));                      \
    flash = good;                                                                                              \
    flash.read = NULL;                                                                                         \
    EXPECT(NUNATAK_NULL_POINTER, call(&flash, a_key, NUMBERS, sizeof features, &features));                    \
    flash = good;                                                                                              \
    flash.unit = 65;                                                                                           \
    EXPECT(NUNATAK_BAD_CONFIG, call(&flash, a_key, NUMBERS, sizeof features, &features));                      \
    flash.unit = 0;                                                                                            \
    EXPECT(NUNATAK_BAD_CONFIG, call(&flash, a_key, NUMBERS, sizeof features, &features));                      \
    flash = good;                                                                                              \
    flash.page = 0;                                                                                            \
    EXPECT(NUNATAK_BAD_CONFIG, call(&flash, a_key, NUMBERS, sizeof features, &features));                      \
    flash.page = flash.size = SIZE_MAX - 7;                                                                    \
    EXPECT(NUNATAK_BAD_CONFIG, call(&flash, a_key, NUMBERS, sizeof features, &features));                      \
    c.until = 0;                                                                                               \
    EXPECT(NUNATAK_FLASH, call(&good, a_key, NUMBERS, sizeof features, &features));                            \
    c.until = -1;                                                                                              \
    TRUE(features.struct_bytes == 0);                                                                          \
    EXPECT(NUNATAK_OK, call(&good, a_key, NUMBERS, sizeof features, &features));                               \
    TRUE(features.struct_bytes == sizeof features);                                                            \
    /* Opened while its own callback runs, or used then. */                                                    \
    c.asked = &features;                                                                                       \
    EXPECT(NUNATAK_OK, nunatak_features_append(&features, 1, three, NUMBERS));                                 \
    TRUE(c.answer == NUNATAK_BUSY);                                                                            \
    c.asked = NULL;                                                                                            \
    EXPECT(NUNATAK_OK, call(&good, a_key, NUMBERS, sizeof features, &features));                               \
  } while (0)

static void case_nunatak_features_open(void) {
  chip c;
  nunatak_flash flash = flash_of(&c);
  nunatak_features features = zeros();
  size_t count = 77;
  BAD_OPENS(nunatak_features_open);
  EXPECT(NUNATAK_OK, nunatak_features_clear(&flash, a_key, NUMBERS, sizeof features, &features));
  EXPECT(NUNATAK_OK, nunatak_features_append(&features, 1, three, NUMBERS));
  EXPECT(NUNATAK_OTHER_FEATURES, nunatak_features_open(&flash, other_key, NUMBERS, sizeof features, &features));
  EXPECT(NUNATAK_OTHER_FEATURES, nunatak_features_open(&flash, a_key, NUMBERS + 1, sizeof features, &features));
  EXPECT(NUNATAK_OK, nunatak_features_open(&flash, a_key, NUMBERS, sizeof features, &features));
  EXPECT(NUNATAK_OK, nunatak_features_count(&features, &count));
  TRUE(count == 1);
}

static void case_nunatak_features_clear(void) {
  chip c;
  nunatak_flash flash = flash_of(&c);
  nunatak_features features = zeros();
  size_t count = 77;
  BAD_OPENS(nunatak_features_clear);
  EXPECT(NUNATAK_OK, nunatak_features_clear(&flash, a_key, NUMBERS, sizeof features, &features));
  EXPECT(NUNATAK_OK, nunatak_features_append(&features, 1, three, NUMBERS));
  EXPECT(NUNATAK_OK, nunatak_features_clear(&flash, other_key, NUMBERS, sizeof features, &features));
  EXPECT(NUNATAK_OK, nunatak_features_count(&features, &count));
  TRUE(count == 0);
}

/* Features that are not open: never, or copied elsewhere. */
#define NOT_OPEN(call)                                \
  do {                                                \
    nunatak_features blank = zeros(), copy = features; \
    nunatak_features *f;                              \
    f = NULL;                                         \
    EXPECT(NUNATAK_NULL_POINTER, call);               \
    f = (nunatak_features *)(void *)odd(&blank);      \
    EXPECT(NUNATAK_MISALIGNED, call);                 \
    f = &blank;                                       \
    EXPECT(NUNATAK_WRONG_ORDER, call);                \
    f = &copy;                                        \
    EXPECT(NUNATAK_WRONG_ORDER, call);                \
  } while (0)

static void case_nunatak_features_append(void) {
  chip c;
  nunatak_flash flash = flash_of(&c);
  nunatak_features features = zeros();
  float bad[NUMBERS] = {0, 0, 0};
  size_t count = 0, i;
  EXPECT(NUNATAK_OK, nunatak_features_clear(&flash, a_key, NUMBERS, sizeof features, &features));
  NOT_OPEN(nunatak_features_append(f, 1, three, NUMBERS));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_features_append(&features, 1, NULL, NUMBERS));
  EXPECT(NUNATAK_MISALIGNED, nunatak_features_append(&features, 1, odd(bad), NUMBERS - 1));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_features_append(&features, 1, three, NUMBERS - 1));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_features_append(&features, 1, three, SIZE_MAX));
  EXPECT(NUNATAK_OVERLAP, nunatak_features_append(&features, 1, (const float *)(const void *)&features.state[1], NUMBERS));
  bad[1] = infinite();
  EXPECT(NUNATAK_NOT_FINITE, nunatak_features_append(&features, 1, bad, NUMBERS));
  for (i = 0; i < 8; i++) {
    c.until = (int)i;
    if (nunatak_features_append(&features, 1, three, NUMBERS) == NUNATAK_OK) break;
    c.until = (int)i;
    EXPECT(NUNATAK_FLASH, nunatak_features_append(&features, 1, three, NUMBERS));
  }
  c.until = -1;
  for (i = 0; i < 100; i++) EXPECT(NUNATAK_OK, nunatak_features_append(&features, (int64_t)i, three, NUMBERS));
  EXPECT(NUNATAK_OK, nunatak_features_count(&features, &count));
  TRUE(count > 10 && count < 30);
}

static void case_nunatak_features_count(void) {
  chip c;
  nunatak_flash flash = flash_of(&c);
  nunatak_features features = zeros();
  size_t two[2], count = 77;
  EXPECT(NUNATAK_OK, nunatak_features_clear(&flash, a_key, NUMBERS, sizeof features, &features));
  NOT_OPEN(nunatak_features_count(f, &count));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_features_count(&features, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_features_count(&features, (size_t *)(void *)odd(two)));
  EXPECT(NUNATAK_OVERLAP, nunatak_features_count(&features, (size_t *)(void *)&features.state[2]));
  TRUE(count == 77);
  EXPECT(NUNATAK_OK, nunatak_features_count(&features, &count));
  TRUE(count == 0);
}

static void case_nunatak_features_read(void) {
  chip c;
  nunatak_flash flash = flash_of(&c);
  nunatak_features features = zeros();
  float out[NUMBERS] = {7, 7, 7};
  int64_t label = 77;
  size_t at;
  EXPECT(NUNATAK_OK, nunatak_features_clear(&flash, a_key, NUMBERS, sizeof features, &features));
  EXPECT(NUNATAK_OK, nunatak_features_append(&features, -9, three, NUMBERS));
  NOT_OPEN(nunatak_features_read(f, 0, out, NUMBERS, &label));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_features_read(&features, 0, NULL, NUMBERS, &label));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_features_read(&features, 0, out, NUMBERS, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_features_read(&features, 0, odd(out), NUMBERS - 1, &label));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_features_read(&features, 0, out, NUMBERS - 1, &label));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_features_read(&features, 0, out, SIZE_MAX, &label));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_features_read(&features, 1, out, NUMBERS, &label));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_features_read(&features, SIZE_MAX, out, NUMBERS, &label));
  EXPECT(NUNATAK_OVERLAP, nunatak_features_read(&features, 0, out, NUMBERS, (int64_t *)(void *)&features.state[0]));
  c.until = 0;
  EXPECT(NUNATAK_FLASH, nunatak_features_read(&features, 0, out, NUMBERS, &label));
  c.until = -1;
  TRUE(label == 77 && out[0] == 7);
  EXPECT(NUNATAK_OK, nunatak_features_read(&features, 0, out, NUMBERS, &label));
  TRUE(label == -9 && memcmp(out, three, sizeof three) == 0);
  /* A bit of its numbers, behind the sector's head and the record's front. */
  at = 64 + 24 + 5;
  c.bytes[at] ^= 4;
  label = 77;
  EXPECT(NUNATAK_DAMAGED, nunatak_features_read(&features, 0, out, NUMBERS, &label));
  TRUE(label == 77 && out[0] == 0);
  c.bytes[at] ^= 4;
  EXPECT(NUNATAK_OK, nunatak_features_read(&features, 0, out, NUMBERS, &label));
}

static void case_nunatak_features_flash_bytes(void) {
  size_t two[2], bytes = 77;
  EXPECT(NUNATAK_NULL_POINTER, nunatak_features_flash_bytes(64, 200, 2048, 8, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_features_flash_bytes(64, 200, 2048, 8, (size_t *)(void *)odd(two)));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_features_flash_bytes(0, 200, 2048, 8, &bytes));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_features_flash_bytes(64, SIZE_MAX, 2048, 8, &bytes));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_features_flash_bytes(64, 200, 2050, 8, &bytes));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_features_flash_bytes(64, 200, 2048, 128, &bytes));
  TRUE(bytes == 77);
  EXPECT(NUNATAK_OK, nunatak_features_flash_bytes(64, 200, 2048, 8, &bytes));
  TRUE(bytes % 2048 == 0 && bytes > 200 * 64 * 4);
}

static void case_nunatak_features_key(void) {
  fixture f = make_usual();
  nunatak_config config = f.config;
  nunatak_trainer *t = NULL;
  uint8_t key[NUNATAK_KEY_BYTES], same[NUNATAK_KEY_BYTES];
  void *memory = allocate(f.bytes);
  memset(key, 7, sizeof key);
  NO_HANDLES(f, nunatak_features_key(t, "32 x 32", 7, key));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_features_key(f.t, "32 x 32", 7, NULL));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_features_key(f.t, NULL, 7, key));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_features_key(f.t, "32 x 32", SIZE_MAX, key));
  EXPECT(NUNATAK_OVERLAP, nunatak_features_key(f.t, key, 7, key));
  EXPECT(NUNATAK_OVERLAP, nunatak_features_key(f.t, NULL, 0, (uint8_t *)f.memory + 64));
  EXPECT(NUNATAK_OK, nunatak_trainer_init(&config, memory, f.bytes, &t));
  EXPECT(NUNATAK_NO_WEIGHTS, nunatak_features_key(t, NULL, 0, key));
  EXPECT(NUNATAK_OK, nunatak_trainer_release(t));
  free(memory);
  TRUE(key[0] == 7 && key[31] == 7);
  EXPECT(NUNATAK_OK, nunatak_features_key(f.t, NULL, 0, key));
  EXPECT(NUNATAK_OK, nunatak_trainer_draw_head(f.t, &f.random));
  EXPECT(NUNATAK_OK, nunatak_features_key(f.t, NULL, 0, same));
  TRUE(memcmp(key, same, sizeof key) == 0); /* the head is not part of it */
  EXPECT(NUNATAK_OK, nunatak_features_key(f.t, "32 x 32", 7, same));
  TRUE(memcmp(key, same, sizeof key) != 0);
  learn(&f);
  EXPECT(NUNATAK_OK, nunatak_features_key(f.t, NULL, 0, same));
  TRUE(memcmp(key, same, sizeof key) != 0); /* all of it was trained */
  end(&f);
}

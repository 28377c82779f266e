/* Callbacks and texts. */
#include "fixture.h"

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
  TRUE(kind <= NUNATAK_CALL_BACKWARD_STEP && ticks >= 1);
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

/* Counts calls, and adds up their hashes where `user` has room. */
static void digested(void *user, uint32_t kind, size_t number, uint32_t hash, float sum, float magnitude) {
  uint32_t *all = (uint32_t *)user;
  TRUE(kind != NUNATAK_CALL_INPUT && kind <= NUNATAK_CALL_BACKWARD_STEP && number < 1000);
  TRUE(magnitude >= 0 && sum <= magnitude && -sum <= magnitude);
  *all = *all * 31 + hash;
  seen++;
}

static void case_nunatak_trainer_on_digest(void) {
  fixture f = make_usual();
  uint32_t all[2] = {0, 0};
  NO_HANDLES(f, nunatak_trainer_on_digest(t, digested, all));
  EXPECT(NUNATAK_OK, nunatak_trainer_on_digest(f.t, NULL, NULL));
  end(&f);
  for (int run = 0; run < 2; run++) {
    f = make_usual();
    EXPECT(NUNATAK_OK, nunatak_trainer_on_digest(f.t, digested, all + run));
    seen = 0;
    learn(&f);
    TRUE(seen > 50);
    end(&f);
  }
  TRUE(all[0] == all[1] && all[0] != 0);
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

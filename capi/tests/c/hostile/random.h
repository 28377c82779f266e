/* Random numbers. */
#include "fixture.h"

static void case_nunatak_random_seed(void) {
  nunatak_random two[2];
  EXPECT(NUNATAK_NULL_POINTER, nunatak_random_seed(NULL, sizeof(nunatak_random), 0));
  EXPECT(NUNATAK_MISALIGNED, nunatak_random_seed((nunatak_random *)(void *)odd(two), sizeof(nunatak_random), 0));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_random_seed(two, sizeof(nunatak_random) - 8, 0));
  EXPECT(NUNATAK_OK, nunatak_random_seed(two, sizeof(nunatak_random), UINT64_MAX));
  EXPECT(NUNATAK_OK, nunatak_random_seed(two, sizeof(nunatak_random), 0));
}

static void case_nunatak_random_uniform(void) {
  nunatak_random random, blank;
  float out[2] = {7, 7};
  memset(&blank, 0, sizeof blank);
  EXPECT(NUNATAK_OK, nunatak_random_seed(&random, sizeof(nunatak_random), 0));
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
  EXPECT(NUNATAK_OK, nunatak_random_seed(&random, sizeof(nunatak_random), 0));
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
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_draw_weights(f.t, (nunatak_random *)(void *)((char *)f.memory + 64)));
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

/* Settings of the optimiser. */
#include "fixture.h"

static void case_nunatak_trainer_set_sgd(void) {
  fixture f = make_usual();
  nunatak_sgd good, sgd;
  EXPECT(NUNATAK_OK, nunatak_sgd_default(0.1f, sizeof(nunatak_sgd), &good));
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
  EXPECT(NUNATAK_OK, nunatak_sgd_default(0.1f, sizeof(nunatak_sgd), &sgd));
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

/* Recipes, configs, settings that can't be. */
#include "fixture.h"

#define PRESET(name)                                                                                        \
  static void case_##name(void) {                                                                           \
    nunatak_recipe recipe;                                                                                  \
    EXPECT(NUNATAK_NULL_POINTER, name(10, sizeof(nunatak_recipe), NULL));                                   \
    EXPECT(NUNATAK_MISALIGNED, name(10, sizeof(nunatak_recipe), (nunatak_recipe *)(void *)odd(&recipe)));   \
    EXPECT(NUNATAK_BAD_CONFIG, name(10, 0, &recipe));                                                       \
    EXPECT(NUNATAK_BAD_CONFIG, name(10, sizeof(nunatak_recipe) - 8, &recipe));                              \
    EXPECT(NUNATAK_OK, name(10, sizeof(nunatak_recipe), &recipe));                                          \
    EXPECT(NUNATAK_OK, name(0, sizeof(nunatak_recipe), &recipe));                                           \
    TRUE(recipe.classes == 0 && recipe.in_channels == 3 && recipe.struct_bytes == sizeof recipe);           \
  }
PRESET(nunatak_recipe_resnet18)
PRESET(nunatak_recipe_resnet34)
PRESET(nunatak_recipe_resnet8)

static void case_nunatak_config_default(void) {
  nunatak_recipe recipe;
  nunatak_config config;
  EXPECT(NUNATAK_OK, nunatak_recipe_resnet8(10, sizeof(nunatak_recipe), &recipe));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_config_default(NULL, 1, 32, 32, sizeof(nunatak_config), &config));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_config_default(&recipe, 1, 32, 32, sizeof(nunatak_config), NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_config_default((nunatak_recipe *)(void *)odd(&recipe), 1, 32, 32, sizeof(nunatak_config), &config));
  EXPECT(NUNATAK_MISALIGNED, nunatak_config_default(&recipe, 1, 32, 32, sizeof(nunatak_config), (nunatak_config *)(void *)odd(&config)));
  EXPECT(NUNATAK_OK, nunatak_config_default(&recipe, 1, 32, 32, sizeof(nunatak_config), &config));
  TRUE(config.struct_bytes == sizeof config && config.threads == 1);
}

static void case_nunatak_sgd_default(void) {
  nunatak_sgd sgd;
  EXPECT(NUNATAK_NULL_POINTER, nunatak_sgd_default(0.1f, sizeof(nunatak_sgd), NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_sgd_default(0.1f, sizeof(nunatak_sgd), (nunatak_sgd *)(void *)odd(&sgd)));
  EXPECT(NUNATAK_OK, nunatak_sgd_default(0.1f, sizeof(nunatak_sgd), &sgd));
}

static void case_nunatak_schedule_default(void) {
  nunatak_schedule s;
  float factor;
  EXPECT(NUNATAK_NULL_POINTER, nunatak_schedule_default(0, sizeof s, NULL));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_schedule_default(0, 8, &s));
  EXPECT(NUNATAK_OK, nunatak_schedule_default(NUNATAK_SCHEDULE_ONE_CYCLE, sizeof s, &s));
  TRUE(s.rise == 0.3f && s.div == 25 && s.final_div == 10000 && s.gamma == 0.1f && s.struct_bytes == sizeof s);
  s.total = 100;
  EXPECT(NUNATAK_OK, nunatak_schedule_factor(&s, 0, &factor));
  TRUE(factor > 0.0399f && factor < 0.0401f);
}

static void case_nunatak_schedule_factor(void) {
  uint64_t milestones[2] = {2, 5};
  nunatak_schedule s;
  float factor = 7;
  memset(&s, 0, sizeof s);
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_schedule_factor(&s, 0, &factor));
  s.struct_bytes = sizeof s;
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
  BAD(NUNATAK_BAD_CONFIG, c.memory = 3);
  BAD(NUNATAK_BAD_CONFIG, c.update = 3);
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
  BAD(NUNATAK_BAD_CONFIG, c.recipe.struct_bytes = 0);
  BAD(NUNATAK_BAD_CONFIG, c.recipe.reserved[3] = 1);
  BAD(NUNATAK_UNKNOWN_NAME, c.recipe.classes = 0; c.trainable = "head");
  BAD(NUNATAK_NULL_POINTER, c.weights_bytes = 1);
  BAD(NUNATAK_BAD_FILE, c.weights = long_text; c.weights_bytes = 5000);
  BAD(NUNATAK_BAD_FILE, c.weights = long_text; c.weights_bytes = 0);
  BAD(NUNATAK_WRONG_LENGTH, c.weights = long_text; c.weights_bytes = SIZE_MAX);
  free(long_text);
}

/* Versions, texts, names of statuses. */
#include "fixture.h"

static void case_nunatak_version(void) {
  TRUE(nunatak_version() == (NUNATAK_VERSION_MAJOR << 16 | NUNATAK_VERSION_MINOR << 8 | NUNATAK_VERSION_PATCH));
}

static void case_nunatak_version_text(void) {
  char text[32];
  sprintf(text, "%d.%d.%d", NUNATAK_VERSION_MAJOR, NUNATAK_VERSION_MINOR, NUNATAK_VERSION_PATCH);
  TRUE(strcmp(nunatak_version_text(), text) == 0);
}

static void case_nunatak_last_error(void) {
  TRUE(nunatak_last_error() != NULL);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_recipe_resnet18(10, sizeof(nunatak_recipe), NULL));
  TRUE(strstr(nunatak_last_error(), "recipe") != NULL);
  TRUE(nunatak_last_error() == nunatak_last_error());
}

static void case_nunatak_last_error_numbers(void) {
  fixture f = make_usual();
  int64_t expected = -1, got = -1, labels[BATCH] = {3, CLASSES};
  char name[4];
  size_t written = 0;
  float loss;
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_trainer_set_labels(f.t, labels, BATCH - 1));
  TRUE(nunatak_last_error_numbers(NULL, &got) == 0 && nunatak_last_error_numbers(&expected, NULL) == 0);
  TRUE(nunatak_last_error_numbers(&expected, &got) == 1 && expected == BATCH && got == BATCH - 1);
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_trainer_tensor_name(f.t, 0, name, sizeof name));
  TRUE(nunatak_last_error_numbers(&expected, &got) == 1 && expected == (int64_t)sizeof "conv1.weight" && got == 4);
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_trainer_save(f.t, NUNATAK_SAFETENSORS, name, sizeof name, &written));
  TRUE(nunatak_last_error_numbers(&expected, &got) == 1 && expected > 1000 && got == 4);
  TRUE(written == (size_t)expected);
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, nunatak_trainer_init(&f.config, name, sizeof name, &f.released));
  TRUE(nunatak_last_error_numbers(&expected, &got) == 1 && expected == (int64_t)bytes_of(&f.config) && got == 4);
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_set_labels(f.t, labels, BATCH));
  set_sgd(&f, 0);
  EXPECT(NUNATAK_LABEL_OUT_OF_RANGE, nunatak_trainer_step(f.t, &loss));
  TRUE(nunatak_last_error_numbers(&expected, &got) == 1 && expected == CLASSES && got == CLASSES);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_step(f.t, NULL));
  expected = got = 77;
  TRUE(nunatak_last_error_numbers(&expected, &got) == 0 && expected == 77 && got == 77);
  end(&f);
}

static void case_nunatak_status_name(void) {
  int32_t i;
  for (i = 0; i <= 32; i++) TRUE(strncmp(nunatak_status_name(i), "NUNATAK_", 8) == 0);
  TRUE(strcmp(nunatak_status_name(-1), "unknown") == 0 && strcmp(nunatak_status_name(INT32_MAX), "unknown") == 0);
}

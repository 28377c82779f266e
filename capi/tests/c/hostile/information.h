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
  EXPECT(NUNATAK_NULL_POINTER, nunatak_recipe_resnet18(10, NULL));
  TRUE(strstr(nunatak_last_error(), "recipe") != NULL);
  TRUE(nunatak_last_error() == nunatak_last_error());
}

static void case_nunatak_status_name(void) {
  int32_t i;
  for (i = 0; i <= 26; i++) TRUE(strncmp(nunatak_status_name(i), "NUNATAK_", 8) == 0);
  TRUE(strcmp(nunatak_status_name(-1), "unknown") == 0 && strcmp(nunatak_status_name(INT32_MAX), "unknown") == 0);
}

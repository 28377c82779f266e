/* Bytes, plans, threads. */
#include "fixture.h"

static nunatak_status required(const nunatak_config *config) {
  size_t bytes = 77;
  nunatak_status status = nunatak_trainer_required_bytes(config, &bytes);
  TRUE(status == NUNATAK_OK || bytes == 77);
  return status;
}

static void case_nunatak_trainer_required_bytes(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_SUM);
  size_t two[2];
  bad_configs(required);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_required_bytes(&good, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_trainer_required_bytes(&good, (size_t *)(void *)odd(two)));
  /* Within fewer bytes: what is least is told, and can be kept. */
  size_t most = 0, got = 0;
  int64_t least = 0, asked = 0;
  EXPECT(NUNATAK_OK, nunatak_trainer_required_bytes(&good, &most));
  good.max_bytes = 1;
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, nunatak_trainer_required_bytes(&good, &got));
  TRUE(nunatak_last_error_numbers(&least, &asked) == 1);
  TRUE(asked == 1 && least > 1000 && (size_t)least < most);
  good.max_bytes = (size_t)least;
  EXPECT(NUNATAK_OK, nunatak_trainer_required_bytes(&good, &got));
  TRUE(got <= (size_t)least);
  good.max_bytes = most;
  EXPECT(NUNATAK_OK, nunatak_trainer_required_bytes(&good, &got));
  TRUE(got == most);
}

static nunatak_status plan_bytes(const nunatak_config *config) {
  size_t bytes = 77;
  nunatak_status status = nunatak_plan_text_bytes(config, &bytes);
  TRUE(status == NUNATAK_OK || bytes == 77);
  return status;
}

static void case_nunatak_plan_text_bytes(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_SUM);
  bad_configs(plan_bytes);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_plan_text_bytes(&good, NULL));
}

static nunatak_status plan(const nunatak_config *config) {
  char text[4] = {1, 1, 1, 1};
  nunatak_status status = nunatak_plan_text(config, text, sizeof text);
  TRUE(text[0] == 1 && text[3] == 1);
  return status;
}

static void case_nunatak_plan_text(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_SUM);
  size_t bytes = 0;
  char *text;
  bad_configs(plan);
  EXPECT(NUNATAK_OK, nunatak_plan_text_bytes(&good, &bytes));
  text = (char *)allocate(bytes);
  EXPECT(NUNATAK_NULL_POINTER, nunatak_plan_text(&good, NULL, bytes));
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_plan_text(&good, text, bytes - 1));
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_plan_text(&good, text, 0));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_plan_text(&good, text, SIZE_MAX));
  EXPECT(NUNATAK_OK, nunatak_plan_text(&good, text, bytes));
  TRUE(strlen(text) == bytes - 1 && strstr(text, "layer3.0.conv1") != NULL);
  free(text);
}

static void case_nunatak_threads_start(void) {
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_threads_start(0));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_threads_start(SIZE_MAX));
  EXPECT(NUNATAK_OK, nunatak_threads_start(1));
  EXPECT(NUNATAK_OK, nunatak_threads_start(2));
  EXPECT(NUNATAK_OK, nunatak_threads_start(2));
  EXPECT(NUNATAK_OK, nunatak_threads_stop(2));
}

static void case_nunatak_threads_stop(void) {
  nunatak_config config = config_of(NUNATAK_LOSS_CROSS_ENTROPY);
  fixture f;
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_threads_stop(0));
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_threads_stop(257));
  EXPECT(NUNATAK_OK, nunatak_threads_stop(1));
  EXPECT(NUNATAK_NO_THREADS, nunatak_threads_stop(3));
  EXPECT(NUNATAK_OK, nunatak_threads_start(3));
  config.threads = 3;
  f = make(&config);
  EXPECT(NUNATAK_OK, nunatak_threads_stop(3));
  EXPECT(NUNATAK_NO_THREADS, nunatak_threads_stop(3));
  learn(&f); /* it keeps its threads */
  end(&f);
}

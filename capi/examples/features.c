/*
 * Features once, as on a board: a frozen ResNet-8 makes features of images, which are kept in raw flash with their labels;
 * a head is trained from there, without computing the network below it again. Then a class is added: the rows of the old
 * classes stay as they are, a few images of the new one are appended, and the head learns all three.
 *
 *   cc features.c -lnunatak -lm && ./a.out
 *
 * The flash is drawn up in memory here; a board's functions call its driver. The weights are random: even those tell
 * stripes from dots.
 */
#include "check.h"
#include <string.h>
#include <time.h>

enum { SIZE = 32, CHANNELS = 3, PIXELS = SIZE * SIZE * CHANNELS, BATCH = 4, FEATURES = 64, IMAGES = 24, EPOCHS = 40, TESTS = 6 };
enum { PAGE = 2048, UNIT = 8 };

/* Raw flash: erasing makes ones, programming makes zeros of ones, a unit at a time. */
static unsigned char *flash_bytes;

static int flash_read(void *user, size_t at, void *out, size_t bytes) {
  (void)user;
  memcpy(out, flash_bytes + at, bytes);
  return 0;
}

static int flash_erase(void *user, size_t at) {
  (void)user;
  memset(flash_bytes + at, 0xff, PAGE);
  return 0;
}

static int flash_program(void *user, size_t at, const void *bytes, size_t count) {
  (void)user;
  for (size_t i = 0; i < count; i++) {
    if (flash_bytes[at + i] != 0xff) return -1; /* it was programmed before */
    flash_bytes[at + i] = ((const unsigned char *)bytes)[i];
  }
  return 0;
}

/* Draws an image of a class: lying stripes, standing stripes, dots; with noise. */
static void draw(nunatak_random *random, int64_t label, float *image) {
  CHECK(nunatak_random_uniform(random, -.4f, .4f, image, PIXELS));
  for (int at = 0; at < PIXELS; at++) {
    int lying = at / SIZE % SIZE / 4 % 2, standing = at % SIZE / 4 % 2;
    image[at] += (label == 0 ? lying : label == 1 ? standing : lying && standing) ? 1 : -.5f;
  }
}

static void draw_batch(nunatak_random *random, int64_t first, int64_t classes, float *images, int64_t *labels) {
  for (int64_t i = 0; i < BATCH; i++) {
    labels[i] = (first + i) % classes;
    draw(random, labels[i], images + i * PIXELS);
  }
}

/* The steps of a network with so many classes: one that makes features and predictions, one that trains the head. */
static nunatak_config step_of(size_t classes, uint32_t loss) {
  nunatak_recipe recipe;
  nunatak_config config;
  CHECK(nunatak_recipe_resnet8(classes, sizeof(nunatak_recipe), &recipe));
  CHECK(nunatak_config_default(&recipe, BATCH, SIZE, SIZE, sizeof(nunatak_config), &config));
  config.loss = loss;
  config.trainable = "head";
  config.mode = NUNATAK_EVAL;
  return config;
}

/* Shows images of a class to the network and keeps what it makes of them: the one time that they are computed. */
static void see(nunatak_trainer *model, nunatak_random *random, int64_t label, nunatak_features *ring) {
  static float images[BATCH * PIXELS], features[BATCH * FEATURES];
  for (int seen = 0; seen < IMAGES; seen += BATCH) {
    for (int i = 0; i < BATCH; i++) draw(random, label, images + i * PIXELS);
    CHECK(nunatak_trainer_set_images(model, images, BATCH * PIXELS));
    CHECK(nunatak_trainer_forward(model));
    CHECK(nunatak_trainer_features(model, features, BATCH * FEATURES));
    for (int i = 0; i < BATCH; i++) CHECK(nunatak_features_append(ring, label, features + i * FEATURES, FEATURES));
  }
}

/* Epochs over the records, each in another order. A record that the flash has lost is left out. */
static void teach(nunatak_trainer *model, nunatak_random *random, nunatak_features *ring) {
  static uint32_t order[3 * IMAGES];
  static float features[BATCH * FEATURES];
  int64_t labels[BATCH];
  size_t count;
  float loss = 0;
  clock_t began = clock();
  CHECK(nunatak_features_count(ring, &count));
  for (int epoch = 0; epoch < EPOCHS; epoch++) {
    CHECK(nunatak_random_permutation(random, order, count));
    for (size_t i = 0, filled = 0; i < count; i++) {
      nunatak_status status = nunatak_features_read(ring, order[i], features + filled * FEATURES, FEATURES, &labels[filled]);
      if (status == NUNATAK_DAMAGED) continue;
      CHECK(status);
      if (++filled < BATCH) continue;
      filled = 0;
      CHECK(nunatak_trainer_set_features(model, features, BATCH * FEATURES));
      CHECK(nunatak_trainer_set_labels(model, labels, BATCH));
      CHECK(nunatak_trainer_step(model, &loss));
    }
  }
  double ms = 1e3 * (double)(clock() - began) / CLOCKS_PER_SEC / EPOCHS;
  printf("%d epochs over %lu records: loss %.4f, %.2f ms an epoch\n", EPOCHS, (unsigned long)count, (double)loss, ms);
}

/* How many of so many new images are told right, in a hundred. */
static int right(nunatak_trainer *model, nunatak_random *random, int64_t classes) {
  static float images[BATCH * PIXELS];
  float predictions[BATCH * 3];
  int64_t labels[BATCH];
  int good = 0;
  for (int test = 0; test < TESTS; test++) {
    draw_batch(random, test, classes, images, labels);
    CHECK(nunatak_trainer_set_images(model, images, BATCH * PIXELS));
    CHECK(nunatak_trainer_predict(model, predictions, BATCH * (size_t)classes));
    for (int i = 0; i < BATCH; i++) {
      int64_t best = 0;
      for (int64_t k = 1; k < classes; k++) {
        if (predictions[i * classes + k] > predictions[i * classes + best]) best = k;
      }
      good += best == labels[i];
    }
  }
  printf("%d of %d new images of %d classes are told right\n", good, TESTS * BATCH, (int)classes);
  return 100 * good / (TESTS * BATCH);
}

int main(void) {
  static float images[BATCH * PIXELS];
  static const char view[] = "drawn, 32 x 32";
  nunatak_config two[2] = {step_of(2, NUNATAK_LOSS_NONE), step_of(2, NUNATAK_LOSS_CROSS_ENTROPY)};
  nunatak_config three[2] = {step_of(3, NUNATAK_LOSS_NONE), step_of(3, NUNATAK_LOSS_CROSS_ENTROPY)}, settle = two[0];
  nunatak_trainer *model;
  nunatak_random random;
  nunatak_sgd sgd;
  static nunatak_features ring; /* zeros */
  uint8_t key[NUNATAK_KEY_BYTES], other[NUNATAK_KEY_BYTES] = {0};
  float before[BATCH * 2], after[BATCH * 3];
  int64_t labels[BATCH];
  size_t bytes = 0;
  settle.mode = NUNATAK_TRAIN;

  /* One block for all that comes. */
  nunatak_config all[5] = {two[0], two[1], three[0], three[1], settle};
  for (int i = 0; i < 5; i++) {
    size_t needed;
    CHECK(nunatak_trainer_required_bytes(&all[i], &needed));
    if (needed > bytes) bytes = needed;
  }
  void *memory = allocate(bytes);
  CHECK(nunatak_trainer_init(&settle, memory, bytes, &model));
  CHECK(nunatak_random_seed(&random, sizeof(nunatak_random), 0));
  CHECK(nunatak_trainer_draw_weights(model, &random));
  for (int i = 0; i < 30; i++) { /* running statistics of images like these */
    draw_batch(&random, i, 3, images, labels);
    CHECK(nunatak_trainer_set_images(model, images, BATCH * PIXELS));
    CHECK(nunatak_trainer_forward(model));
  }
  CHECK(nunatak_sgd_default(.1f, sizeof(nunatak_sgd), &sgd));
  sgd.momentum = .9f;
  CHECK(nunatak_trainer_set_sgd(model, &sgd));

  /* The flash, in the size that holds the newest images of all classes, and what the features in it are of. */
  nunatak_flash flash = {sizeof flash, 0, PAGE, UNIT, flash_read, flash_erase, flash_program, NULL};
  CHECK(nunatak_features_flash_bytes(FEATURES, 3 * IMAGES, PAGE, UNIT, &flash.size));
  flash_bytes = (unsigned char *)allocate(flash.size);
  CHECK(nunatak_features_key(model, view, sizeof view, key));
  CHECK(nunatak_features_clear(&flash, key, FEATURES, sizeof ring, &ring));
  printf("%lu bytes of flash for %d images, %lu of memory\n", (unsigned long)flash.size, 3 * IMAGES, (unsigned long)bytes);

  CHECK(nunatak_trainer_switch(model, &two[0]));
  for (int label = 0; label < 2; label++) see(model, &random, label, &ring);
  CHECK(nunatak_trainer_switch(model, &two[1]));
  teach(model, &random, &ring);
  CHECK(nunatak_trainer_switch(model, &two[0]));
  int first = right(model, &random, 2);
  draw_batch(&random, 0, 2, images, labels);
  CHECK(nunatak_trainer_set_images(model, images, BATCH * PIXELS));
  CHECK(nunatak_trainer_predict(model, before, BATCH * 2));

  /* After a restart the records are found again; those of another network are refused. */
  memset(&ring, 0, sizeof ring);
  if (nunatak_features_open(&flash, other, FEATURES, sizeof ring, &ring) != NUNATAK_OTHER_FEATURES) return 1;
  CHECK(nunatak_features_open(&flash, key, FEATURES, sizeof ring, &ring));

  /* A class more: the old ones have the logits of before, to the bit. */
  CHECK(nunatak_trainer_add_class(model, &three[0], NUNATAK_NEW_CLASS_DRAWN, &random, NULL, 0));
  CHECK(nunatak_trainer_set_images(model, images, BATCH * PIXELS));
  CHECK(nunatak_trainer_predict(model, after, BATCH * 3));
  for (int i = 0; i < BATCH; i++) {
    if (memcmp(before + i * 2, after + i * 3, 2 * sizeof(float)) != 0) return 1;
  }
  see(model, &random, 2, &ring);
  CHECK(nunatak_trainer_switch(model, &three[1]));
  teach(model, &random, &ring);
  CHECK(nunatak_trainer_switch(model, &three[0]));
  int second = right(model, &random, 3);

  CHECK(nunatak_trainer_release(model));
  free(memory);
  free(flash_bytes);
  return first >= 90 && second >= 90 ? 0 : 1;
}

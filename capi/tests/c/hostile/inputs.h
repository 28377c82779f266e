/* Images, labels, targets. */
#include "fixture.h"

/* Of a function that takes a buffer of exactly `right` elements of type `type`. */
#define BUFFER(f, type, right, call)                                                  \
  do {                                                                                \
    type *buffer = NULL;                                                              \
    size_t count = (right);                                                           \
    void *buffer_memory = allocate((right) * sizeof(type));                           \
    memset(buffer_memory, 0, (right) * sizeof(type));                                 \
    NO_HANDLES(f, call);                                                              \
    {                                                                                 \
      nunatak_trainer *t = (f).t;                                                     \
      EXPECT(NUNATAK_NULL_POINTER, call);                                             \
      buffer = (type *)buffer_memory;                                                 \
      count = (right)-1;                                                              \
      EXPECT(NUNATAK_WRONG_LENGTH, call);                                             \
      count = 0;                                                                      \
      EXPECT(NUNATAK_WRONG_LENGTH, call);                                             \
      count = SIZE_MAX;                                                               \
      EXPECT(NUNATAK_WRONG_LENGTH, call);                                             \
      count = SIZE_MAX / sizeof(type);                                                \
      EXPECT(NUNATAK_WRONG_LENGTH, call);                                             \
      count = (right);                                                                \
      if (sizeof(type) > 1) {                                                         \
        buffer = (type *)(void *)odd(buffer_memory);                                  \
        EXPECT(NUNATAK_MISALIGNED, call);                                             \
      }                                                                               \
      buffer = (type *)(void *)((char *)(f).memory + 192);                            \
      EXPECT(NUNATAK_OVERLAP, call);                                                  \
    }                                                                                 \
    free(buffer_memory);                                                              \
  } while (0)

static void case_nunatak_trainer_set_images(void) {
  fixture f = make_usual();
  BUFFER(f, float, PIXELS, nunatak_trainer_set_images(t, buffer, count));
  feed(&f);
  feed(&f);
  end(&f);
}

static void case_nunatak_trainer_set_images_u8(void) {
  static const float mean[3] = {0, 0, 0}, one[3] = {1, 1, 1}, zero[3] = {1, 0, 1};
  fixture f = make_usual();
  uint8_t *pixels = (uint8_t *)allocate(PIXELS);
  memset(pixels, 100, PIXELS);
  BUFFER(f, uint8_t, PIXELS, nunatak_trainer_set_images_u8(t, buffer, count, mean, one));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_set_images_u8(f.t, pixels, PIXELS, NULL, one));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_set_images_u8(f.t, pixels, PIXELS, mean, NULL));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_set_images_u8(f.t, pixels, PIXELS, mean, zero));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images_u8(f.t, pixels, PIXELS, mean, one));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images_u8(f.t, pixels, PIXELS, mean, one));
  free(pixels);
  end(&f);
}

static void case_nunatak_trainer_set_labels(void) {
  fixture f = make_usual();
  nunatak_config sum = config_of(NUNATAK_LOSS_SUM), none = config_of(NUNATAK_LOSS_NONE);
  int64_t labels[BATCH] = {10, -5};
  float *images = floats(PIXELS), loss;
  BUFFER(f, int64_t, BATCH, nunatak_trainer_set_labels(t, buffer, count));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_labels(f.t, labels, BATCH));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f.t, images, PIXELS));
  EXPECT(NUNATAK_LABEL_OUT_OF_RANGE, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_loss(f.t, &loss));
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &sum));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_labels(f.t, labels, BATCH));
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &none));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_labels(f.t, labels, BATCH));
  free(images);
  end(&f);
}

static void case_nunatak_trainer_set_targets(void) {
  nunatak_config sum = config_of(NUNATAK_LOSS_SUM);
  fixture f = make(&sum), g = make_usual();
  float targets[BATCH * CLASSES] = {0};
  BUFFER(f, float, BATCH *CLASSES, nunatak_trainer_set_targets(t, buffer, count));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_targets(f.t, targets, BATCH * CLASSES));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_targets(g.t, targets, BATCH * CLASSES));
  end(&f);
  end(&g);
}

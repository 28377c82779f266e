/* Forward, backward, update, in the wrong order too. */
#include "fixture.h"

static void case_nunatak_trainer_forward(void) {
  fixture f = make_usual();
  nunatak_trainer *raw = NULL;
  void *memory = allocate(f.bytes);
  NO_HANDLES(f, nunatak_trainer_forward(t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_forward(f.t));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_init(&f.config, memory, f.bytes, &raw));
  EXPECT(NUNATAK_NO_WEIGHTS, nunatak_trainer_forward(raw));
  EXPECT(NUNATAK_OK, nunatak_trainer_release(raw));
  free(memory);
  end(&f);
}

static void case_nunatak_trainer_backward(void) {
  fixture f = make_usual();
  nunatak_config other = f.config;
  NO_HANDLES(f, nunatak_trainer_backward(t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_backward(f.t));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_backward(f.t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_backward(f.t));
  other.trainable = "none";
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_backward(f.t));
  other = f.config;
  other.update = NUNATAK_UPDATE_DURING;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_backward(f.t));
  end(&f);
}

static void case_nunatak_trainer_backward_from(void) {
  nunatak_config outside = config_of(NUNATAK_LOSS_OUTSIDE);
  fixture f = make(&outside), g = make_usual();
  float *images = floats(PIXELS), *gradient = floats(BATCH * CLASSES), loss;
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_backward_from(f.t, gradient, BATCH * CLASSES));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f.t, images, PIXELS));
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  BUFFER(f, float, BATCH *CLASSES, nunatak_trainer_backward_from(t, buffer, count));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_loss(f.t, &loss));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_backward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_backward_from(f.t, gradient, BATCH * CLASSES));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_backward_from(f.t, gradient, BATCH * CLASSES));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_backward_from(g.t, gradient, BATCH * CLASSES));
  free(images);
  free(gradient);
  end(&f);
  end(&g);
}

static void case_nunatak_trainer_update(void) {
  fixture f = make_usual();
  NO_HANDLES(f, nunatak_trainer_update(t));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_update(f.t));
  set_sgd(&f, 0.9f);
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_update(f.t));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_backward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_update(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_update(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_zero_grad(f.t));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_update(f.t));
  end(&f);
}

/* Two micro-batches by PyTorch's calls, one by one. */
static void by_hand(fixture *f, float *loss) {
  int i;
  for (i = 0; i < 2; i++) {
    feed(f);
    EXPECT(NUNATAK_OK, nunatak_trainer_forward(f->t));
    EXPECT(NUNATAK_OK, nunatak_trainer_loss(f->t, loss));
    EXPECT(NUNATAK_OK, nunatak_trainer_backward(f->t));
  }
}

static void case_nunatak_trainer_accumulate(void) {
  fixture f = make_usual(), g = make_usual();
  nunatak_config other = f.config;
  float loss = 77, same = 78, *bad, a[16], b[16];
  size_t i;
  NO_HANDLES(f, nunatak_trainer_accumulate(t, 1, &loss));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_accumulate(f.t, 1, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_trainer_accumulate(f.t, 1, odd(&loss)));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_accumulate(f.t, 1, (float *)(void *)((char *)f.memory + 64)));
  feed(&f);
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_accumulate(f.t, 1, &loss)); /* no settings */
  set_sgd(&f, 0.9f);
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_accumulate(f.t, infinite(), &loss));
  TRUE(loss == 77);
  /* Twice, with an update after each pair: what came before the update does not count any more. */
  set_sgd(&g, 0.9f);
  for (i = 0; i < 2; i++) {
    feed(&f);
    EXPECT(NUNATAK_OK, nunatak_trainer_accumulate(f.t, 1, &loss));
    feed(&f);
    EXPECT(NUNATAK_OK, nunatak_trainer_accumulate(f.t, 1, &loss));
    EXPECT(NUNATAK_OK, nunatak_trainer_update(f.t));
    EXPECT(NUNATAK_OK, nunatak_trainer_zero_grad(g.t));
    by_hand(&g, &same);
    EXPECT(NUNATAK_OK, nunatak_trainer_update(g.t));
    TRUE(loss == same);
  }
  EXPECT(NUNATAK_OK, nunatak_trainer_get_tensor(f.t, "bn1.weight", a, 16));
  EXPECT(NUNATAK_OK, nunatak_trainer_get_tensor(g.t, "bn1.weight", b, 16));
  TRUE(memcmp(a, b, sizeof a) == 0);
  loss = 77;
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_accumulate(f.t, 1, &loss)); /* no images */
  bad = floats(PIXELS);
  bad[5] = infinite();
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f.t, bad, PIXELS));
  EXPECT(NUNATAK_LOSS_NOT_FINITE, nunatak_trainer_accumulate(f.t, 1, &loss));
  free(bad);
  /* In the momentum. */
  other.update = NUNATAK_UPDATE_SUMMED;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_backward(f.t));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_update(f.t));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_accumulate(f.t, 1, &loss));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_get_gradient(f.t, "bn1.weight", a, 16));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_clip_grad_norm(f.t, 1, &same));
  EXPECT(NUNATAK_OK, nunatak_trainer_update(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_get_tensor(f.t, "bn1.weight", b, 16));
  TRUE(memcmp(a, b, sizeof a) != 0);
  other.update = NUNATAK_UPDATE_DURING;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  feed(&f);
  loss = 77;
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_accumulate(f.t, 1, &loss));
  other = f.config;
  other.trainable = "none";
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  feed(&f);
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_accumulate(f.t, 1, &loss));
  TRUE(loss == 77);
  end(&f);
  end(&g);
}

static void case_nunatak_trainer_step(void) {
  fixture f = make_usual();
  nunatak_config other = f.config;
  float loss = 77, *bad;
  NO_HANDLES(f, nunatak_trainer_step(t, &loss));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_step(f.t, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_trainer_step(f.t, odd(&loss)));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_step(f.t, (float *)(void *)((char *)f.memory + 64)));
  feed(&f);
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_step(f.t, &loss)); /* no settings */
  set_sgd(&f, 0.9f);
  EXPECT(NUNATAK_OK, nunatak_trainer_step(f.t, &loss));
  loss = 77;
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_step(f.t, &loss)); /* no images */
  other.momentum = 0;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  feed(&f);
  {
    int64_t before = -1, after = -2;
    EXPECT(NUNATAK_OK, nunatak_trainer_get_batches(f.t, "bn1.num_batches_tracked", &before));
    EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_step(f.t, &loss)); /* no room for momentum */
    EXPECT(NUNATAK_OK, nunatak_trainer_get_batches(f.t, "bn1.num_batches_tracked", &after));
    TRUE(before == after); /* found before anything moves */
    set_sgd(&f, 0);
    EXPECT(NUNATAK_OK, nunatak_trainer_step(f.t, &loss));
    set_sgd(&f, 0.9f);
    loss = 77;
  }
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &f.config));
  bad = floats(PIXELS);
  bad[5] = infinite();
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f.t, bad, PIXELS));
  EXPECT(NUNATAK_LOSS_NOT_FINITE, nunatak_trainer_step(f.t, &loss));
  free(bad);
  other = f.config;
  other.trainable = "none";
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  feed(&f);
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_step(f.t, &loss));
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t)); /* images and labels are still there */
  other.loss = NUNATAK_LOSS_NONE;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_step(f.t, &loss));
  TRUE(loss == 77);
  end(&f);
}

/* All that lasts, as a file. */
static char *state_of(fixture *f, size_t *bytes) {
  char *file;
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f->t, NUNATAK_SAFETENSORS_WITH_MOMENTUM, bytes));
  file = (char *)allocate(*bytes);
  EXPECT(NUNATAK_OK, nunatak_trainer_save(f->t, NUNATAK_SAFETENSORS_WITH_MOMENTUM, file, *bytes, bytes));
  return file;
}

static void same_state(fixture *f, const char *before, size_t bytes) {
  size_t now_bytes;
  char *now = state_of(f, &now_bytes);
  TRUE(now_bytes == bytes && memcmp(now, before, bytes) == 0);
  free(now);
}

/* One NaN pixel, a gradient that is infinite: nothing has changed. */
static void not_finite(uint32_t update) {
  nunatak_config config = config_of(NUNATAK_LOSS_CROSS_ENTROPY);
  fixture f;
  float loss = 77, *bad = floats(PIXELS), weights[64 * CLASSES], *images = floats(PIXELS);
  size_t bytes, i;
  char *before;
  config.update = update;
  f = make(&config);
  learn(&f);
  before = state_of(&f, &bytes);
  bad[5] = infinite() - infinite();
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f.t, bad, PIXELS));
  EXPECT(NUNATAK_LOSS_NOT_FINITE, nunatak_trainer_step(f.t, &loss));
  TRUE(loss == 77 && nunatak_trainer_loss(f.t, &loss) == NUNATAK_OK && loss != loss);
  same_state(&f, before, bytes);
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f.t, bad, PIXELS));
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  same_state(&f, before, bytes);
  EXPECT(update == NUNATAK_UPDATE_AFTER ? NUNATAK_LOSS_NOT_FINITE : NUNATAK_NOT_PLANNED, nunatak_trainer_backward(f.t));
  learn(&f);
  free(before);
  /* A loss that is finite, and a gradient behind the head that is not: the weights of two classes are far apart. */
  for (i = 0; i < 64 * CLASSES; i++) weights[i] = 0;
  for (i = 0; i < 64; i++) weights[3 * 64 + i] = weights[9 * 64 + i] = 2e38f;
  memset(images, 0, PIXELS * sizeof(float));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_tensor(f.t, "fc.weight", weights, 64 * CLASSES));
  before = state_of(&f, &bytes);
  feed(&f);
  loss = 77;
  {
    nunatak_status status = nunatak_trainer_step(f.t, &loss);
    TRUE(status == NUNATAK_LOSS_NOT_FINITE || status == NUNATAK_NOT_FINITE);
    TRUE(loss == 77);
    if (update == NUNATAK_UPDATE_AFTER || status == NUNATAK_LOSS_NOT_FINITE) same_state(&f, before, bytes);
  }
  free(before);
  free(images);
  free(bad);
  end(&f);
}

static void case_nunatak_trainer_was_updated(void) {
  nunatak_config config = config_of(NUNATAK_LOSS_CROSS_ENTROPY);
  fixture f = make_usual();
  uint32_t updated = 77;
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_was_updated(f.t, "fc.weight", &updated));
  end(&f);
  config.update = NUNATAK_UPDATE_DURING;
  config.trainable = "head";
  f = make(&config);
  NO_HANDLES(f, nunatak_trainer_was_updated(t, "fc.weight", &updated));
  NAMES(nunatak_trainer_was_updated(f.t, name, &updated));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_was_updated(f.t, "bn1.running_mean", &updated));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_was_updated(f.t, "fc.weight", NULL));
  TRUE(updated == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_was_updated(f.t, "fc.weight", &updated));
  TRUE(updated == 0);
  learn(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_was_updated(f.t, "fc.weight", &updated));
  TRUE(updated == 1);
  EXPECT(NUNATAK_OK, nunatak_trainer_was_updated(f.t, "conv1.weight", &updated));
  TRUE(updated == 0);
  end(&f);
  not_finite(NUNATAK_UPDATE_AFTER);
  not_finite(NUNATAK_UPDATE_DURING);
}

static void case_nunatak_trainer_zero_grad(void) {
  fixture f = make_usual();
  NO_HANDLES(f, nunatak_trainer_zero_grad(t));
  EXPECT(NUNATAK_OK, nunatak_trainer_zero_grad(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_zero_grad(f.t));
  end(&f);
}

static void case_nunatak_trainer_clip_grad_norm(void) {
  fixture f = make_usual();
  float norm = 77;
  NO_HANDLES(f, nunatak_trainer_clip_grad_norm(t, 1, &norm));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_clip_grad_norm(f.t, 1, NULL));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_clip_grad_norm(f.t, 1, &norm));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_backward(f.t));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_clip_grad_norm(f.t, -1, &norm));
  TRUE(norm == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_clip_grad_norm(f.t, 0.5f, &norm));
  EXPECT(NUNATAK_OK, nunatak_trainer_clip_grad_norm(f.t, 0.5f, &norm));
  TRUE(norm > 0 && norm < 0.51f);
  end(&f);
}

static void case_nunatak_trainer_loss(void) {
  fixture f = make_usual();
  float loss = 77;
  NO_HANDLES(f, nunatak_trainer_loss(t, &loss));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_loss(f.t, NULL));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_loss(f.t, &loss));
  TRUE(loss == 77);
  learn(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_loss(f.t, &loss));
  EXPECT(NUNATAK_OK, nunatak_trainer_loss(f.t, &loss));
  end(&f);
}

static void case_nunatak_trainer_predictions(void) {
  fixture f = make_usual();
  float out[BATCH * CLASSES] = {77};
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_predictions(f.t, out, BATCH * CLASSES));
  learn(&f);
  BUFFER(f, float, BATCH *CLASSES, nunatak_trainer_predictions(t, buffer, count));
  TRUE(out[0] == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_predictions(f.t, out, BATCH * CLASSES));
  end(&f);
}

static void case_nunatak_trainer_features(void) {
  fixture f = make_usual();
  float out[BATCH * 64] = {77};
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_features(f.t, out, BATCH * 64));
  learn(&f);
  BUFFER(f, float, BATCH * 64, nunatak_trainer_features(t, buffer, count));
  EXPECT(NUNATAK_OK, nunatak_trainer_features(f.t, out, BATCH * 64));
  end(&f);
}

static void case_nunatak_trainer_set_features(void) {
  fixture f = make_usual(); /* trains everything */
  float values[BATCH * 64] = {0};
  BUFFER(f, float, BATCH * 64, nunatak_trainer_set_features(t, buffer, count));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_features(f.t, values, BATCH * 64));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_forward(f.t));
  end(&f);
}

static void case_nunatak_trainer_predict(void) {
  nunatak_config none = config_of(NUNATAK_LOSS_NONE);
  fixture f = make(&none), g = make_usual();
  float out[BATCH * CLASSES] = {77}, *images = floats(PIXELS);
  BUFFER(f, float, BATCH *CLASSES, nunatak_trainer_predict(t, buffer, count));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_predict(f.t, out, BATCH * CLASSES));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(f.t, images, PIXELS));
  EXPECT(NUNATAK_OK, nunatak_trainer_predict(f.t, out, BATCH * CLASSES));
  out[0] = 77;
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_predict(f.t, out, BATCH * CLASSES));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_images(g.t, images, PIXELS));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_predict(g.t, out, BATCH * CLASSES)); /* labels are due */
  TRUE(out[0] == 77);
  free(images);
  end(&f);
  end(&g);
}

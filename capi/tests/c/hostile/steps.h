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

static void case_nunatak_trainer_step(void) {
  fixture f = make_usual();
  nunatak_config other = f.config;
  float loss = 77, *bad;
  NO_HANDLES(f, nunatak_trainer_step(t, &loss));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_step(f.t, NULL));
  EXPECT(NUNATAK_MISALIGNED, nunatak_trainer_step(f.t, odd(&loss)));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_step(f.t, (float *)(void *)f.t));
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

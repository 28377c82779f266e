/* Tensors by name. */
#include "fixture.h"

static void case_nunatak_trainer_tensor_count(void) {
  fixture f = make_usual();
  size_t count = 77;
  NO_HANDLES(f, nunatak_trainer_tensor_count(t, &count));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_tensor_count(f.t, NULL));
  TRUE(count == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_tensor_count(f.t, &count));
  TRUE(count == 56);
  end(&f);
}

static void case_nunatak_trainer_tensor_name(void) {
  fixture f = make_usual();
  char name[NUNATAK_NAME_BYTES] = "unchanged", *tight = (char *)allocate(13);
  NO_HANDLES(f, nunatak_trainer_tensor_name(t, 0, name, sizeof name));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_tensor_name(f.t, 0, NULL, sizeof name));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_tensor_name(f.t, 1000, name, sizeof name));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_tensor_name(f.t, SIZE_MAX, name, sizeof name));
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_trainer_tensor_name(f.t, 0, name, 12));
  EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_trainer_tensor_name(f.t, 0, name, 0));
  TRUE(strcmp(name, "unchanged") == 0);
  EXPECT(NUNATAK_OK, nunatak_trainer_tensor_name(f.t, 0, tight, 13));
  TRUE(strcmp(tight, "conv1.weight") == 0);
  free(tight);
  end(&f);
}

static void case_nunatak_trainer_tensor_shape(void) {
  fixture f = make_usual();
  nunatak_shape shape;
  NO_HANDLES(f, nunatak_trainer_tensor_shape(t, "fc.weight", sizeof(nunatak_shape), &shape));
  NAMES(nunatak_trainer_tensor_shape(f.t, name, sizeof(nunatak_shape), &shape));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_tensor_shape(f.t, "fc.weight", sizeof(nunatak_shape), NULL));
  EXPECT(NUNATAK_OK, nunatak_trainer_tensor_shape(f.t, "fc.weight", sizeof(nunatak_shape), &shape));
  TRUE(shape.rank == 2 && shape.sizes[0] == 10 && shape.sizes[1] == 64 && shape.sizes[3] == 1);
  EXPECT(NUNATAK_OK, nunatak_trainer_tensor_shape(f.t, "bn1.num_batches_tracked", sizeof(nunatak_shape), &shape));
  TRUE(shape.rank == 0);
  end(&f);
}

static void case_nunatak_trainer_get_tensor(void) {
  fixture f = make_usual();
  float out[640] = {77};
  BUFFER(f, float, 640, nunatak_trainer_get_tensor(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_get_tensor(f.t, name, out, 640));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_get_tensor(f.t, "bn1.num_batches_tracked", out, 1));
  TRUE(out[0] == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_get_tensor(f.t, "fc.weight", out, 640));
  EXPECT(NUNATAK_OK, nunatak_trainer_get_tensor(f.t, "bn1.running_var", out, 16));
  end(&f);
}

static void case_nunatak_trainer_set_tensor(void) {
  fixture f = make_usual();
  float numbers[640] = {0};
  BUFFER(f, float, 640, nunatak_trainer_set_tensor(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_set_tensor(f.t, name, numbers, 640));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_set_tensor(f.t, "bn1.num_batches_tracked", numbers, 1));
  numbers[15] = -1;
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_set_tensor(f.t, "bn1.running_var", numbers, 16));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_tensor(f.t, "bn1.running_mean", numbers, 16));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_tensor(f.t, "fc.weight", numbers, 640));
  end(&f);
}

static void case_nunatak_trainer_get_batches(void) {
  fixture f = make_usual();
  int64_t batches = 77;
  NO_HANDLES(f, nunatak_trainer_get_batches(t, "bn1.num_batches_tracked", &batches));
  NAMES(nunatak_trainer_get_batches(f.t, name, &batches));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_get_batches(f.t, "bn1.num_batches_tracked", NULL));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_get_batches(f.t, "bn1.weight", &batches));
  TRUE(batches == 77);
  learn(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_get_batches(f.t, "bn1.num_batches_tracked", &batches));
  TRUE(batches == 1);
  end(&f);
}

static void case_nunatak_trainer_set_batches(void) {
  fixture f = make_usual();
  NO_HANDLES(f, nunatak_trainer_set_batches(t, "bn1.num_batches_tracked", 3));
  NAMES(nunatak_trainer_set_batches(f.t, name, 3));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_set_batches(f.t, "bn1.weight", 3));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_set_batches(f.t, "bn1.num_batches_tracked", -1));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_batches(f.t, "bn1.num_batches_tracked", 3));
  end(&f);
}

static void case_nunatak_trainer_get_gradient(void) {
  fixture f = make_usual();
  nunatak_config during = f.config;
  float out[640] = {77};
  BUFFER(f, float, 640, nunatak_trainer_get_gradient(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_get_gradient(f.t, name, out, 640));
  EXPECT(NUNATAK_UNKNOWN_NAME, nunatak_trainer_get_gradient(f.t, "bn1.running_mean", out, 16));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_get_gradient(f.t, "fc.weight", out, 640));
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_forward(f.t));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_get_gradient(f.t, "fc.weight", out, 640));
  TRUE(out[0] == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_backward(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_get_gradient(f.t, "fc.weight", out, 640));
  during.update = NUNATAK_UPDATE_DURING;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &during));
  learn(&f);
  out[0] = 77;
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_get_gradient(f.t, "fc.weight", out, 640));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_gradient(f.t, "fc.weight", out, 640));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_clip_grad_norm(f.t, 1, out));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_update(f.t));
  TRUE(out[0] == 77);
  end(&f);
}

static void case_nunatak_trainer_set_gradient(void) {
  fixture f = make_usual();
  nunatak_config head = f.config;
  float numbers[640] = {0};
  BUFFER(f, float, 640, nunatak_trainer_set_gradient(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_set_gradient(f.t, name, numbers, 640));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_gradient(f.t, "fc.weight", numbers, 640));
  set_sgd(&f, 0.9f);
  EXPECT(NUNATAK_OK, nunatak_trainer_update(f.t));
  head.trainable = "head";
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &head));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_gradient(f.t, "bn1.weight", numbers, 16));
  end(&f);
}

static void case_nunatak_trainer_get_momentum(void) {
  fixture f = make_usual();
  float out[640] = {77};
  BUFFER(f, float, 640, nunatak_trainer_get_momentum(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_get_momentum(f.t, name, out, 640));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_get_momentum(f.t, "fc.weight", out, 640));
  TRUE(out[0] == 77);
  learn(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_get_momentum(f.t, "fc.weight", out, 640));
  end(&f);
}

static void case_nunatak_trainer_set_momentum(void) {
  fixture f = make_usual();
  nunatak_config without = f.config;
  float numbers[640] = {0};
  BUFFER(f, float, 640, nunatak_trainer_set_momentum(t, "fc.weight", buffer, count));
  NAMES(nunatak_trainer_set_momentum(f.t, name, numbers, 640));
  EXPECT(NUNATAK_OK, nunatak_trainer_set_momentum(f.t, "fc.weight", numbers, 640));
  without.momentum = 0;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &without));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_set_momentum(f.t, "fc.weight", numbers, 640));
  end(&f);
}

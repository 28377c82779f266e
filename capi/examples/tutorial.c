/*
 * PyTorch's autograd tutorial in C, with PyTorch's lines above each step, and PyTorch's numbers:
 * torch 2.15, torch.manual_seed(0) before the model and torch.manual_seed(1) before the data.
 *
 *   cc tutorial.c -lnunatak -lm && ./a.out
 */
#include "check.h"

/* The norm of a parameter's gradient. */
static double norm_of(nunatak_trainer *model, const char *name) {
  nunatak_shape shape;
  CHECK(nunatak_trainer_tensor_shape(model, name, sizeof(nunatak_shape), &shape));
  size_t count = shape.sizes[0] * shape.sizes[1] * shape.sizes[2] * shape.sizes[3];
  float *gradient = (float *)allocate(count * sizeof(float));
  CHECK(nunatak_trainer_get_gradient(model, name, gradient, count));
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += (double)gradient[i] * gradient[i];
  free(gradient);
  return sqrt(sum);
}

/* The first number of a tensor. */
static double first_of(nunatak_trainer *model, const char *name) {
  nunatak_shape shape;
  CHECK(nunatak_trainer_tensor_shape(model, name, sizeof(nunatak_shape), &shape));
  float *numbers = (float *)allocate(shape.sizes[0] * sizeof(float));
  CHECK(nunatak_trainer_get_tensor(model, name, numbers, shape.sizes[0]));
  double first = numbers[0];
  free(numbers);
  return first;
}

int main(void) {
  static float data[3 * 64 * 64], labels[1000], prediction[1000];
  nunatak_random random;
  nunatak_recipe recipe;
  nunatak_config config;
  nunatak_trainer *model;
  nunatak_sgd sgd;
  size_t bytes;
  float loss;

  if (nunatak_version() != (NUNATAK_VERSION_MAJOR << 16 | NUNATAK_VERSION_MINOR << 8 | NUNATAK_VERSION_PATCH)) {
    fprintf(stderr, "the header is not the library's, which is %s\n", nunatak_version_text());
    return 1;
  }

  /* model = resnet18(); the step is planned, and memory handed over */
  CHECK(nunatak_recipe_resnet18(1000, sizeof(nunatak_recipe), &recipe));
  CHECK(nunatak_config_default(&recipe, 1, 64, 64, sizeof(nunatak_config), &config));
  config.loss = NUNATAK_LOSS_SUM;
  CHECK(nunatak_trainer_required_bytes(&config, &bytes));
  printf("a full step takes %.1f MB\n", (double)bytes / 1e6);
  void *memory = allocate(bytes);
  CHECK(nunatak_trainer_init(&config, memory, bytes, &model));

  /* torch.manual_seed(0), before the model was made */
  CHECK(nunatak_random_seed(&random, sizeof(nunatak_random), 0));
  CHECK(nunatak_trainer_draw_weights(model, &random));

  /* torch.manual_seed(1); data = torch.rand(1, 3, 64, 64); labels = torch.rand(1, 1000) */
  CHECK(nunatak_random_seed(&random, sizeof(nunatak_random), 1));
  CHECK(nunatak_random_uniform(&random, 0, 1, data, 3 * 64 * 64));
  CHECK(nunatak_random_uniform(&random, 0, 1, labels, 1000));

  /* prediction = model(data) */
  CHECK(nunatak_trainer_set_images(model, data, 3 * 64 * 64));
  CHECK(nunatak_trainer_set_targets(model, labels, 1000));
  CHECK(nunatak_trainer_forward(model));
  CHECK(nunatak_trainer_predictions(model, prediction, 1000));
  expect("prediction[0]", prediction[0], .315981776, 2e-4);
  expect("prediction[1]", prediction[1], .230452359, 2e-4);
  expect("prediction[2]", prediction[2], -.268828839, 2e-4);
  expect("prediction[3]", prediction[3], .307489038, 2e-4);

  /* loss = (prediction - labels).sum() */
  CHECK(nunatak_trainer_loss(model, &loss));
  expect("loss", loss, -512.952026, 5e-5);

  /* loss.backward() */
  CHECK(nunatak_trainer_backward(model));
  expect("gradient of conv1", norm_of(model, "conv1.weight"), 3290.07788, 1e-3);
  expect("gradient of bn1", norm_of(model, "bn1.weight"), 51.6525078, 1e-3);
  expect("gradient of layer1.0.conv1", norm_of(model, "layer1.0.conv1.weight"), 834.92041, 1e-3);
  expect("gradient of layer2.0.downsample.0", norm_of(model, "layer2.0.downsample.0.weight"), 194.133484, 1e-3);
  expect("gradient of layer4.1.conv2", norm_of(model, "layer4.1.conv2.weight"), 201.625504, 1e-3);
  expect("gradient of fc.weight", norm_of(model, "fc.weight"), 629.02124, 1e-4);
  expect("gradient of fc.bias", norm_of(model, "fc.bias"), 31.622776, 1e-6);

  /* optim = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9); optim.step() */
  CHECK(nunatak_sgd_default(1e-2f, sizeof(nunatak_sgd), &sgd));
  sgd.momentum = 0.9f;
  CHECK(nunatak_trainer_set_sgd(model, &sgd));
  CHECK(nunatak_trainer_update(model));
  CHECK(nunatak_trainer_zero_grad(model));

  /* once more: the loss has fallen */
  CHECK(nunatak_trainer_set_images(model, data, 3 * 64 * 64));
  CHECK(nunatak_trainer_set_targets(model, labels, 1000));
  CHECK(nunatak_trainer_forward(model));
  CHECK(nunatak_trainer_loss(model, &loss));
  expect("loss after a step", loss, -4355.15137, 1e-3);
  expect("bn1.running_mean[0]", first_of(model, "bn1.running_mean"), -.250842541, 1e-3);
  expect("layer4.1.bn2.running_var[0]", first_of(model, "layer4.1.bn2.running_var"), .822585762, 1e-3);

  /* for p in model.parameters(): p.requires_grad = False; model.fc = torch.nn.Linear(512, 10) */
  recipe.classes = 10;
  config.recipe = recipe;
  config.trainable = "head";
  CHECK(nunatak_trainer_switch(model, &config));
  CHECK(nunatak_trainer_draw_head(model, &random));
  CHECK(nunatak_trainer_set_images(model, data, 3 * 64 * 64));
  CHECK(nunatak_trainer_set_targets(model, labels, 10));
  CHECK(nunatak_trainer_forward(model));
  CHECK(nunatak_trainer_loss(model, &loss));
  expect("loss of the new head", loss, -3.80504626, 2e-3);
  CHECK(nunatak_trainer_backward(model));
  expect("gradient of fc.weight", norm_of(model, "fc.weight"), 64.9559181, 2e-3);

  /* only fc has a gradient now */
  float gradient[64];
  if (nunatak_trainer_get_gradient(model, "bn1.weight", gradient, 64) != NUNATAK_NO_GRADIENT) return 1;
  CHECK(nunatak_trainer_update(model));
  CHECK(nunatak_trainer_zero_grad(model));

  /* torch.save(model.state_dict(), …), as .safetensors */
  CHECK(nunatak_trainer_saved_bytes(model, NUNATAK_SAFETENSORS, &bytes));
  void *file = allocate(bytes);
  CHECK(nunatak_trainer_save(model, NUNATAK_SAFETENSORS, file, bytes, &bytes));
  printf("the model file has %lu bytes\n", (unsigned long)bytes);

  CHECK(nunatak_trainer_release(model));
  free(file);
  free(memory);
  printf("PyTorch's numbers, all of them\n");
  return 0;
}

/*
 * A new head on a frozen ResNet18, whose weights are used where they lie: in a file that is mapped, as
 * they would be in flash. Only the head and its momentum are in RAM.
 *
 *   cc finetune.c -lnunatak -lm && ./a.out backbone.nunatak
 *
 * Where the file does not exist it is made, with random weights: even those tell stripes from dots.
 * From pretrained weights it is made by: nunatak convert resnet18-f37072fd.pth backbone.nunatak
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Pixels of a line. Tests under valgrind make it smaller. */
#ifndef SIZE
#define SIZE 64
#endif
enum { CHANNELS = 3, PIXELS = SIZE * SIZE * CHANNELS, CLASSES = 3, STEPS = 12, TESTS = 6 };

static const float mean[CHANNELS] = {.485f, .456f, .406f}, deviation[CHANNELS] = {.229f, .224f, .225f};

/* Draws an image of a class: lying stripes, standing stripes, dots; with noise, as bytes. */
static void draw(nunatak_random *random, int64_t label, uint8_t *pixels) {
  static float noise[PIXELS];
  CHECK(nunatak_random_uniform(random, 0, 60, noise, PIXELS));
  for (int y = 0; y < SIZE; y++) {
    for (int x = 0; x < SIZE; x++) {
      int lying = y / 4 % 2, standing = x / 4 % 2;
      int bright = label == 0 ? lying : label == 1 ? standing : lying && standing;
      for (int c = 0; c < CHANNELS; c++) {
        int at = (y * SIZE + x) * CHANNELS + c;
        pixels[at] = (uint8_t)(30 + 150 * bright + (int)noise[at]);
      }
    }
  }
}

/*
 * Writes a ResNet18 with random weights as a native file. Its running statistics are those of images like
 * ours, so that it can work with them. This takes memory for all of it.
 */
static void make(const char *path) {
  static uint8_t batch[CLASSES * PIXELS];
  nunatak_recipe recipe;
  nunatak_config config;
  nunatak_trainer *model;
  nunatak_random random;
  size_t bytes, written;
  CHECK(nunatak_recipe_resnet18(1000, sizeof(nunatak_recipe), &recipe));
  CHECK(nunatak_config_default(&recipe, CLASSES, SIZE, SIZE, sizeof(nunatak_config), &config));
  config.loss = NUNATAK_LOSS_NONE;
  CHECK(nunatak_trainer_required_bytes(&config, &bytes));
  void *memory = allocate(bytes);
  CHECK(nunatak_trainer_init(&config, memory, bytes, &model));
  CHECK(nunatak_random_seed(&random, sizeof(nunatak_random), 0));
  CHECK(nunatak_trainer_draw_weights(model, &random));
  for (int i = 0; i < 6; i++) {
    for (int label = 0; label < CLASSES; label++) draw(&random, label, batch + label * PIXELS);
    CHECK(nunatak_trainer_set_images_u8(model, batch, sizeof batch, mean, deviation));
    CHECK(nunatak_trainer_forward(model));
  }
  CHECK(nunatak_trainer_saved_bytes(model, NUNATAK_NATIVE, &bytes));
  void *file = allocate(bytes);
  CHECK(nunatak_trainer_save(model, NUNATAK_NATIVE, file, bytes, &written));
  CHECK(nunatak_trainer_release(model));
  FILE *out = fopen(path, "wb");
  if (out == NULL || fwrite(file, 1, written, out) != written || fclose(out) != 0) {
    perror(path);
    exit(1);
  }
  free(file);
  free(memory);
  printf("made %s: %.1f MB\n", path, (double)written / 1e6);
}

/* The class of the largest prediction for one image. */
static int64_t predict(nunatak_trainer *model, const uint8_t *pixels, float *prediction) {
  int64_t best = 0;
  CHECK(nunatak_trainer_set_images_u8(model, pixels, PIXELS, mean, deviation));
  CHECK(nunatak_trainer_predict(model, prediction, CLASSES));
  for (int64_t i = 1; i < CLASSES; i++) {
    if (prediction[i] > prediction[best]) best = i;
  }
  return best;
}

int main(int argc, char **argv) {
  static uint8_t pixels[PIXELS];
  nunatak_recipe recipe;
  nunatak_config train, evaluate;
  nunatak_trainer *model;
  nunatak_random random;
  nunatak_sgd sgd;
  size_t bytes, bytes_to_evaluate, written;
  float loss = 0, prediction[CLASSES], again[CLASSES];
  struct stat about;

  if (argc != 2) {
    fprintf(stderr, "usage: finetune BACKBONE.nunatak\n");
    return 2;
  }
  if (stat(argv[1], &about) != 0) make(argv[1]);

  /* The file is mapped: what is frozen is read where it lies. */
  int descriptor = open(argv[1], O_RDONLY);
  if (descriptor < 0 || fstat(descriptor, &about) != 0) {
    perror(argv[1]);
    return 1;
  }
  size_t file_bytes = (size_t)about.st_size;
  void *file = mmap(NULL, file_bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
  close(descriptor);
  if (file == MAP_FAILED) {
    perror(argv[1]);
    return 1;
  }
  CHECK(nunatak_file_verify(file, file_bytes));

  /* The network of the file, with a head of its own. */
  CHECK(nunatak_recipe_of_file(file, file_bytes, sizeof(nunatak_recipe), &recipe));
  recipe.classes = CLASSES;
  CHECK(nunatak_config_default(&recipe, 1, SIZE, SIZE, sizeof(nunatak_config), &train));
  train.trainable = "head";
  train.statistics = NUNATAK_STATISTICS_FIXED;
  train.memory = NUNATAK_MEMORY_SMALL;
  train.weights = file;
  train.weights_bytes = file_bytes;
  evaluate = train;
  evaluate.loss = NUNATAK_LOSS_NONE;
  evaluate.mode = NUNATAK_EVAL;
  CHECK(nunatak_trainer_required_bytes(&train, &bytes));
  CHECK(nunatak_trainer_required_bytes(&evaluate, &bytes_to_evaluate));
  if (bytes < bytes_to_evaluate) bytes = bytes_to_evaluate;
  printf("RAM besides the file: %lu bytes\n", (unsigned long)bytes);
  void *memory = allocate(bytes);
  CHECK(nunatak_trainer_init(&train, memory, bytes, &model));
  CHECK(nunatak_random_seed(&random, sizeof(nunatak_random), 7));
  CHECK(nunatak_trainer_draw_head(model, &random));

  CHECK(nunatak_sgd_default(0.005f, sizeof(nunatak_sgd), &sgd));
  sgd.momentum = 0.9f;
  CHECK(nunatak_trainer_set_sgd(model, &sgd));
  for (int step = 0; step < STEPS; step++) {
    int64_t label = step % CLASSES;
    draw(&random, label, pixels);
    CHECK(nunatak_trainer_set_images_u8(model, pixels, PIXELS, mean, deviation));
    CHECK(nunatak_trainer_set_labels(model, &label, 1));
    CHECK(nunatak_trainer_step(model, &loss));
    if (step % 3 == 0) printf("step %2d: loss %.4f\n", step, loss);
  }

  /* Images that it has not seen. The predictor has the same memory. */
  CHECK(nunatak_trainer_switch(model, &evaluate));
  int right = 0;
  for (int i = 0; i < TESTS; i++) {
    int64_t label = i % CLASSES;
    draw(&random, label, pixels);
    right += predict(model, pixels, prediction) == label;
  }
  printf("%d of %d right\n", right, TESTS);
  if (right != TESTS) return 1;

  /* What was trained is saved as a delta, which names its base; laid over it again, it predicts the same bits. */
  predict(model, pixels, prediction);
  CHECK(nunatak_trainer_saved_bytes(model, NUNATAK_NATIVE_DELTA, &written));
  void *delta = allocate(written);
  CHECK(nunatak_trainer_save(model, NUNATAK_NATIVE_DELTA, delta, written, &written));
  printf("the delta has %lu bytes\n", (unsigned long)written);
  CHECK(nunatak_trainer_release(model));
  CHECK(nunatak_trainer_init(&train, memory, bytes, &model));
  CHECK(nunatak_trainer_load(model, delta, written, NUNATAK_HEAD_LOAD));
  CHECK(nunatak_trainer_switch(model, &evaluate));
  predict(model, pixels, again);
  if (memcmp(prediction, again, sizeof prediction) != 0) return 1;

  CHECK(nunatak_trainer_release(model));
  munmap(file, file_bytes);
  free(delta);
  free(memory);
  return 0;
}

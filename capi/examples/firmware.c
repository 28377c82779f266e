/*
 * Firmware that trains: ResNet-8 on a board without an operating system and without a C library, in static
 * memory. First a new head on a random, frozen backbone, then everything; at the end it must classify images
 * that it has not seen. The images are drawn: stripes that lie, stripes that stand, dots.
 *
 * What a step computes comes from flash: firmware_plan.c has planned it on a desktop, as the three programs in
 * firmware_programs.h.
 *
 * tests/bare_metal/run.sh builds it and runs it on an emulated Cortex-M7 (see there for the commands).
 */
#include "firmware_board.h"
#include "firmware_programs.h"
#include "firmware_sizes.h"
#include <nunatak.h>

enum { HEAD_STEPS = 4, ALL_STEPS = 12, TESTS = 4 };

/* All the memory that the library gets. */
static __attribute__((section(".psram"), aligned(64))) unsigned char memory[4 << 20];
static float images[BATCH * PIXELS];

static void print_number(unsigned long number) {
  char text[12];
  int at = 11;
  text[at] = 0;
  do text[--at] = (char)('0' + number % 10);
  while ((number /= 10) != 0);
  board_print(text + at);
}

/* A number of 0 or more, with four digits behind the point. */
static void print_fraction(float number) {
  unsigned long parts = (unsigned long)(number * 10000 + .5f);
  print_number(parts / 10000);
  char digits[6] = ".0000";
  for (int i = 4; i > 0; i--, parts /= 10) digits[i] = (char)('0' + parts % 10);
  board_print(digits);
}

static void check(nunatak_status status, const char *call) {
  if (status == NUNATAK_OK) return;
  board_print(call);
  board_print(": ");
  board_print(nunatak_last_error());
  board_print("\n");
  board_exit(1);
}
#define CHECK(call) check((call), #call)

static void on_panic(const char *text) {
  board_print("panic: ");
  board_print(text);
  board_print("\n");
  board_exit(1);
}

/* Draws a batch whose first image is of this class, the next of the next one, and so on. */
static void draw(nunatak_random *random, int first, int64_t *labels) {
  CHECK(nunatak_random_uniform(random, -.4f, .4f, images, BATCH * PIXELS));
  for (int i = 0; i < BATCH; i++) {
    float choice[2];
    CHECK(nunatak_random_uniform(random, 0, 8, choice, 2));
    int width = 3 + (int)choice[0] % 3, shift = (int)choice[1];
    labels[i] = (first + i) % CLASSES;
    for (int at = 0; at < PIXELS; at++) {
      int lying = (at / SIZE % SIZE + shift) / width % 2, standing = (at % SIZE + shift) / width % 2;
      int bright = labels[i] == 0 ? lying : labels[i] == 1 ? standing : lying && standing;
      images[i * PIXELS + at] += bright ? 1 : -.5f;
    }
  }
}

/* Some steps; the loss of the last. */
static float teach(nunatak_trainer *model, nunatak_random *random, const char *what, int steps) {
  float loss = 0;
  int64_t labels[BATCH];
  for (int step = 0; step < steps; step++) {
    draw(random, step, labels);
    CHECK(nunatak_trainer_set_images(model, images, BATCH * PIXELS));
    CHECK(nunatak_trainer_set_labels(model, labels, BATCH));
    CHECK(nunatak_trainer_step(model, &loss));
    board_print(what);
    print_number((unsigned long)step);
    board_print(": loss ");
    print_fraction(loss);
    board_print("\n");
  }
  return loss;
}

int main(void) {
  nunatak_trainer *model;
  nunatak_random random;
  nunatak_sgd sgd;
  size_t bytes_head, bytes_all;

  /* A mistake of the library's own ends here; a library with another one's panic handler says so. */
  CHECK(nunatak_on_panic(on_panic));
  /* Programs come from a file beside: whatever they call is there. `nunatak export` writes a table of less. */
  CHECK(nunatak_use_all_routines());

  CHECK(nunatak_program_required_bytes(program_head, sizeof program_head, &bytes_head));
  CHECK(nunatak_program_required_bytes(program_all, sizeof program_all, &bytes_all));
  board_print("bytes head ");
  print_number(bytes_head);
  board_print(" all ");
  print_number(bytes_all);
  board_print("\n");

  nunatak_region region = {memory, sizeof memory};
  CHECK(nunatak_trainer_init_program(program_head, sizeof program_head, NULL, 0, 1, NULL, &region, 1, &model));
  CHECK(nunatak_random_seed(&random, sizeof(nunatak_random), 0));
  CHECK(nunatak_trainer_draw_weights(model, &random));
  CHECK(nunatak_sgd_default(.05f, sizeof(nunatak_sgd), &sgd));
  sgd.momentum = .9f;
  CHECK(nunatak_trainer_set_sgd(model, &sgd));
  teach(model, &random, "head ", HEAD_STEPS);
  CHECK(nunatak_trainer_switch_program(model, program_all, sizeof program_all));
  teach(model, &random, "all ", ALL_STEPS);

  /* Images that it has not seen, each batch with its own statistics: the running ones lag behind so few steps. */
  CHECK(nunatak_trainer_switch_program(model, program_predict, sizeof program_predict));
  int right = 0;
  for (int i = 0; i < TESTS; i++) {
    float prediction[BATCH * CLASSES];
    int64_t labels[BATCH];
    draw(&random, i, labels);
    CHECK(nunatak_trainer_set_images(model, images, BATCH * PIXELS));
    CHECK(nunatak_trainer_predict(model, prediction, BATCH * CLASSES));
    for (int j = 0; j < BATCH; j++) {
      int best = 0;
      for (int k = 1; k < CLASSES; k++) {
        if (prediction[j * CLASSES + k] > prediction[j * CLASSES + best]) best = k;
      }
      right += best == labels[j];
    }
  }
  CHECK(nunatak_trainer_release(model));
  board_print("right ");
  print_number((unsigned long)right);
  board_print(" of ");
  print_number(TESTS * BATCH);
  board_print(" new images\nstack ");
  print_number(board_stack_used());
  board_print(" bytes\n");
  return right >= TESTS * BATCH - 2 ? 0 : 1;
}

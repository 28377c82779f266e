/*
 * Firmware from what `nunatak export --name model` wrote and the library's header alone. With SELFTEST it replays the golden
 * trace; without it trains on images that it draws, by the program that PROGRAM names, and fails where the loss does
 * not fall.
 */
#include "firmware_board.h"
#include "model.h"
#ifdef SELFTEST
#include "selftest.h"
#endif

#ifdef MODEL_RAM_BYTES
static _Alignas(64) unsigned char ram[MODEL_RAM_BYTES];
static const nunatak_region regions[MODEL_REGIONS] = {{ram, sizeof ram}};
#else /* an STM32H743's */
static _Alignas(64) unsigned char dtcm[MODEL_DTCM_BYTES], axi[MODEL_AXI_BYTES], sram[MODEL_SRAM_BYTES];
static const nunatak_region regions[MODEL_REGIONS] = {{dtcm, sizeof dtcm}, {axi, sizeof axi}, {sram, sizeof sram}};
#endif

static void print_number(unsigned long number) {
  char text[12];
  int at = 11;
  text[at] = 0;
  do text[--at] = (char)('0' + number % 10);
  while ((number /= 10) != 0);
  board_print(text + at);
}

static void print_line(const char *what, unsigned long number) {
  board_print(what);
  print_number(number);
  board_print("\n");
}

static unsigned long all_bytes(void) {
  unsigned long bytes = 0;
  for (int i = 0; i < MODEL_REGIONS; i++) bytes += (unsigned long)regions[i].bytes;
  return bytes;
}

static void on_panic(const char *text) {
  board_print("panic: ");
  board_print(text);
  board_exit(1);
}

#ifdef SELFTEST
/* The system's counter, whose 24 bits go down with the clock. */
#define SYSTICK ((volatile uint32_t *)0xe000e010u)

static uint64_t ticks(void) {
  static uint64_t turns;
  static uint32_t last;
  uint32_t here = 0xffffffu - SYSTICK[2];
  if (here < last) turns += 1u << 24;
  last = here;
  return turns + here;
}

int main(void) {
  static const model_board board = {board_print, ticks, board_stack_used};
  SYSTICK[1] = 0xffffff;
  SYSTICK[2] = 0;
  SYSTICK[0] = 5;
  nunatak_on_panic(on_panic);
  print_line("bytes ", all_bytes());
  return model_selftest(&board, regions);
}
#else
enum { PIXELS = MODEL_CHANNELS * MODEL_HEIGHT * MODEL_WIDTH, SHOWN = 3 };

static uint8_t pixels[BATCH * PIXELS];
static uint32_t random_state = 1;

static uint32_t random_below(uint32_t end) {
  random_state = random_state * 1664525u + 1013904223u;
  return (random_state >> 16) % end;
}

static void check(nunatak_status status, const char *call) {
  if (status == NUNATAK_OK) return;
  board_print(call);
  board_print(": ");
  board_print(nunatak_status_name(status));
  board_print("\n");
  board_exit(1);
}
#define CHECK(call) check((call), #call)

/* Bars that lie, bars that stand, or both crossed, in noise: three classes in turn, from image `first` of a step on. */
static void draw(int64_t *labels, int first, int batch) {
  for (int i = 0; i < batch; i++) {
    uint32_t width = 3 + random_below(3), shift = random_below(8);
    labels[i] = (first + i) % SHOWN;
    for (uint32_t at = 0; at < PIXELS; at++) {
      uint32_t x = at / MODEL_CHANNELS % MODEL_WIDTH, y = at / MODEL_CHANNELS / MODEL_WIDTH;
      int lying = (y + shift) / width % 2, standing = (x + shift) / width % 2;
      int bright = labels[i] == 0 ? lying : labels[i] == 1 ? standing : lying && standing;
      pixels[(uint32_t)i * PIXELS + at] = (uint8_t)((bright ? 160 : 40) + random_below(60));
    }
  }
}

int main(void) {
  static const float mean[] = {.5f, .5f, .5f}, deviation[] = {.25f, .25f, .25f};
  nunatak_trainer *trainer;
  nunatak_sgd sgd;
  float first = 0, loss = 0;
  int64_t labels[BATCH];
  nunatak_on_panic(on_panic);
  print_line("bytes ", all_bytes());
  CHECK(model_open(PROGRAM, regions, &trainer));
  CHECK(nunatak_sgd_default(RATE, sizeof sgd, &sgd));
  sgd.momentum = .9f;
  CHECK(nunatak_trainer_set_sgd(trainer, &sgd));
  for (int step = 0; step < STEPS; step++) {
#ifdef MICRO
    /* One micro-batch at a time: no more images are in memory. */
    float part;
    loss = 0;
    for (int micro = 0; micro < MICRO; micro++) {
      draw(labels, micro * BATCH, BATCH);
      CHECK(nunatak_trainer_set_images_u8(trainer, pixels, sizeof pixels, mean, deviation));
      CHECK(nunatak_trainer_set_labels(trainer, labels, BATCH));
      CHECK(nunatak_trainer_accumulate(trainer, 1.0f / MICRO, &part));
      loss += part / MICRO;
    }
    CHECK(nunatak_trainer_update(trainer));
#else
    draw(labels, 0, BATCH);
    CHECK(nunatak_trainer_set_images_u8(trainer, pixels, sizeof pixels, mean, deviation));
    CHECK(nunatak_trainer_set_labels(trainer, labels, BATCH));
    CHECK(nunatak_trainer_step(trainer, &loss));
#endif
    if (step == 0) first = loss;
    print_line("loss / 10000 ", (unsigned long)(loss * 10000));
  }
  CHECK(model_switch(trainer, MODEL_PREDICT));
  int right = 0;
  for (int i = 0; i < 12; i++) {
    float prediction[MODEL_CLASSES];
    draw(labels, i, 1);
    CHECK(nunatak_trainer_set_images_u8(trainer, pixels, PIXELS, mean, deviation));
    CHECK(nunatak_trainer_predict(trainer, prediction, MODEL_CLASSES));
    int best = 0;
    for (int k = 1; k < MODEL_CLASSES; k++) {
      if (prediction[k] > prediction[best]) best = k;
    }
    right += best == i % SHOWN;
  }
  CHECK(nunatak_trainer_release(trainer));
  print_line("right ", (unsigned long)right);
  print_line("stack ", board_stack_used());
  return loss < .8f * first ? 0 : 1;
}
#endif

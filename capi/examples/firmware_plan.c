/*
 * Plans the steps of firmware.c on a desktop, and prints them as C arrays, which the linker puts into flash: a board
 * then needs neither a heap nor the stack to plan.
 *
 *   cc firmware_plan.c -lnunatak -lm && ./a.out > firmware_programs.h
 */
#include "check.h"
#include "firmware_sizes.h"

/* Prints the program of a config as an array of this name. */
static void print_program(const char *name, const nunatak_config *config) {
  size_t bytes = 0;
  char nothing;
  /* The first call says how many bytes it takes. */
  if (nunatak_program_from_config(config, &nothing, 0, &bytes) != NUNATAK_BUFFER_TOO_SMALL) {
    fprintf(stderr, "%s: %s\n", name, nunatak_last_error());
    exit(1);
  }
  unsigned char *program = (unsigned char *)allocate(bytes);
  CHECK(nunatak_program_from_config(config, program, bytes, &bytes));
  printf("\nstatic const unsigned char %s[%lu] = {", name, (unsigned long)bytes);
  for (size_t i = 0; i < bytes; i++) printf("%s%u,", i % 32 == 0 ? "\n  " : "", program[i]);
  printf("\n};\n");
  free(program);
}

int main(void) {
  nunatak_recipe recipe;
  nunatak_config head, all, predict;
  CHECK(nunatak_recipe_resnet8(CLASSES, sizeof(nunatak_recipe), &recipe));
  CHECK(nunatak_config_default(&recipe, BATCH, SIZE, SIZE, sizeof(nunatak_config), &all));
  all.memory = NUNATAK_MEMORY_SMALL;
  all.update = NUNATAK_UPDATE_DURING;
  /* The board's library is built without the feature `algorithms`. */
  all.gemm_only = 1;
  head = all;
  head.trainable = "head";
  predict = all;
  predict.loss = NUNATAK_LOSS_NONE;
  predict.trainable = "none";
  printf("/* Made by firmware_plan.c: do not edit. */\n");
  print_program("program_head", &head);
  print_program("program_all", &all);
  print_program("program_predict", &predict);
  return 0;
}

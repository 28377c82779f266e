/* Trainers that are made, switched, released. */
#include "fixture.h"

static nunatak_status init(const nunatak_config *config) {
  static char memory[4096];
  nunatak_trainer *t = NULL;
  nunatak_status status = nunatak_trainer_init(config, memory, sizeof memory, &t);
  TRUE(t == NULL);
  return status;
}

static void case_nunatak_trainer_init(void) {
  nunatak_config good = config_of(NUNATAK_LOSS_CROSS_ENTROPY), threads = good;
  size_t bytes = bytes_of(&good), shift;
  char *memory = (char *)allocate(2 * bytes + 64);
  nunatak_trainer *t = NULL, *second = NULL;
  bad_configs(init);
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, init(&good));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_init(&good, NULL, bytes, &t));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_init(&good, memory, bytes, NULL));
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, nunatak_trainer_init(&good, memory, bytes - 1, &t));
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, nunatak_trainer_init(&good, memory, 0, &t));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_trainer_init(&good, memory, SIZE_MAX, &t));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_init(&good, memory, bytes, (nunatak_trainer **)(void *)memory));
  threads.threads = 5;
  {
    size_t more = bytes_of(&threads);
    void *large = allocate(more);
    EXPECT(NUNATAK_NO_THREADS, nunatak_trainer_init(&threads, large, more, &t));
    free(large);
  }
  TRUE(t == NULL);
  /* Any address will do, and one block serves one trainer. */
  for (shift = 0; shift < 3; shift++) {
    EXPECT(NUNATAK_OK, nunatak_trainer_init(&good, memory + shift, bytes, &t));
    EXPECT(NUNATAK_MEMORY_IN_USE, nunatak_trainer_init(&good, memory + shift, bytes, &second));
    EXPECT(NUNATAK_MEMORY_IN_USE, nunatak_trainer_init(&good, memory + shift + bytes - 1, bytes, &second));
    EXPECT(NUNATAK_OK, nunatak_trainer_init(&good, memory + shift + bytes, bytes, &second));
    EXPECT(NUNATAK_OK, nunatak_trainer_release(second));
    EXPECT(NUNATAK_OK, nunatak_trainer_release(t));
  }
  free(memory);
}

static fixture *switched;
static nunatak_status switch_it(const nunatak_config *config) { return nunatak_trainer_switch(switched->t, config); }

static void case_nunatak_trainer_switch(void) {
  fixture f = make_usual();
  nunatak_config other = f.config;
  switched = &f;
  NO_HANDLES(f, nunatak_trainer_switch(t, &f.config));
  bad_configs(switch_it);
  other.batch = 3;
  EXPECT(NUNATAK_MEMORY_TOO_SMALL, nunatak_trainer_switch(f.t, &other));
  other = f.config;
  other.recipe.widths[0] = 8;
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_trainer_switch(f.t, &other));
  other = f.config;
  other.threads = 2;
  EXPECT(NUNATAK_BAD_CONFIG, nunatak_trainer_switch(f.t, &other));
  other = f.config;
  other.trainable = "head";
  other.recipe.classes = 4;
  feed(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  EXPECT(NUNATAK_NO_WEIGHTS, nunatak_trainer_forward(f.t)); /* a head of another size */
  EXPECT(NUNATAK_OK, nunatak_trainer_draw_head(f.t, &f.random));
  EXPECT(NUNATAK_WRONG_ORDER, nunatak_trainer_forward(f.t)); /* inputs were those of another plan */
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &other));
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &f.config));
  EXPECT(NUNATAK_OK, nunatak_trainer_draw_head(f.t, &f.random));
  learn(&f);
  end(&f);
}

static void case_nunatak_trainer_release(void) {
  fixture f = make_usual();
  nunatak_trainer *before = f.t;
  NO_HANDLES(f, nunatak_trainer_release(t));
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_release((nunatak_trainer *)f.memory));
  /* A handle of before is none, also where the memory has another trainer. */
  EXPECT(NUNATAK_OK, nunatak_trainer_release(f.t));
  EXPECT(NUNATAK_OK, nunatak_trainer_init(&f.config, (char *)f.memory + 64, f.bytes - 64, &f.t));
  TRUE(before != f.t);
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_forward(before));
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_release(before));
  EXPECT(NUNATAK_OK, nunatak_trainer_draw_weights(f.t, &f.random));
  learn(&f);
  end(&f); /* releases twice */
}

/* Of a program, so that nothing on the heap is lost. */
static void case_nunatak_trainer_forget(void) {
  fixture f = make_usual();
  size_t program_bytes;
  unsigned char *program = program_of(&f.config, &program_bytes);
  char *memory = (char *)allocate(f.bytes);
  nunatak_trainer *lost = NULL;
  volatile uintptr_t gone = (uintptr_t)memory; /* the compiler need not know */
#define START(memory) \
  in_one(program, program_bytes, NULL, 0, 1, NULL, memory, f.bytes, &lost)
  EXPECT(NUNATAK_OK, START(memory));
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_forget(NULL));
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_forget(&f));
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_forget(memory - 1));
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_forget(memory + f.bytes));
  /* The memory vanishes under the trainer: nothing is read there. */
  memset(memory, 0xee, f.bytes);
  free(memory);
  EXPECT(NUNATAK_OK, nunatak_trainer_forget((void *)gone));
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_forget((void *)gone));
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_forward(lost));
  EXPECT(NUNATAK_BAD_HANDLE, nunatak_trainer_release(lost));
  memory = (char *)allocate(f.bytes);
  EXPECT(NUNATAK_OK, START(memory));
  EXPECT(NUNATAK_MEMORY_IN_USE, START(memory));
  EXPECT(NUNATAK_OK, nunatak_trainer_forget(memory + f.bytes - 1));
  EXPECT(NUNATAK_OK, START(memory));
  EXPECT(NUNATAK_OK, nunatak_trainer_draw_weights(lost, &f.random));
  EXPECT(NUNATAK_OK, nunatak_trainer_release(lost));
  free(memory);
  free(program);
  learn(&f);
  end(&f);
}

/* Buffers that lie over each other, or in a trainer's memory, own or another's. */
static void overlaps(void) {
  fixture f = make_usual(), g = make_usual();
  size_t bytes;
  float loss, pixels[4], *inside = (float *)(void *)((char *)f.memory + 128);
  char name[NUNATAK_NAME_BYTES];
  nunatak_shape shape;
  nunatak_trainer *t = NULL;
  nunatak_config in_it = f.config;
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_step(g.t, inside));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_step(f.t, inside));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_loss(g.t, inside));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_predictions(g.t, inside, BATCH * CLASSES));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_set_images(g.t, inside, PIXELS));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_get_tensor(g.t, "fc.bias", inside, CLASSES));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_saved_bytes(g.t, NUNATAK_SAFETENSORS, (size_t *)(void *)inside));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_required_bytes(&f.config, (size_t *)(void *)inside));
  EXPECT(NUNATAK_OVERLAP, nunatak_config_default(&f.config.recipe, 1, 8, 8, sizeof(nunatak_config), &f.config));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_required_bytes(&f.config, &f.config.batch));
  EXPECT(NUNATAK_OVERLAP, nunatak_plan_text(&f.config, (char *)(void *)&f.config, sizeof f.config));
  memcpy(name, "fc.weight", 10);
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_get_tensor(g.t, (char *)(void *)pixels, (strcpy((char *)(void *)pixels, "fc.bias"), pixels), 4));
  (void)shape;
  in_it.trainable = name;
  EXPECT(NUNATAK_OVERLAP, nunatak_plan_text(&in_it, name, sizeof name));
  /* Weights inside the memory that is handed over would be overwritten. */
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, NUNATAK_NATIVE, &bytes));
  {
    size_t size = g.bytes + bytes + 192, written;
    char *memory = (char *)allocate(size), *file = memory + (64 - (size_t)memory % 64) + 64;
    EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, NUNATAK_NATIVE, file, bytes, &written));
    in_it = f.config;
    in_it.weights = file;
    in_it.weights_bytes = bytes;
    EXPECT(NUNATAK_OVERLAP, nunatak_trainer_init(&in_it, memory, size, &t));
    EXPECT(NUNATAK_OK, nunatak_file_verify(file, bytes));
    /* What a trainer reads in place is not written while it lives. */
    in_it.trainable = "head";
    in_it.mode = NUNATAK_EVAL;
    {
      size_t needed = bytes_of(&in_it);
      char *apart = (char *)allocate(needed);
      EXPECT(NUNATAK_OK, nunatak_trainer_init(&in_it, apart, needed, &t));
      EXPECT(NUNATAK_OVERLAP, nunatak_trainer_save(f.t, NUNATAK_NATIVE, file, bytes, &written));
      EXPECT(NUNATAK_OVERLAP, nunatak_trainer_init(&f.config, memory, size, &g.released));
      EXPECT(NUNATAK_OK, nunatak_trainer_release(t));
      free(apart);
    }
    EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, NUNATAK_NATIVE, file, bytes, &written));
    free(memory);
  }
  EXPECT(NUNATAK_OK, (learn(&f), nunatak_trainer_loss(f.t, &loss)));
  learn(&g);
  end(&f);
  end(&g);
}

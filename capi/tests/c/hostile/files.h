/* Files, whole and damaged. */
#include "fixture.h"

static void case_nunatak_trainer_load(void) {
  fixture f = make_usual();
  nunatak_config four = f.config;
  size_t bytes = 0, written = 0, cut;
  char *file, *wrong;
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, NUNATAK_SAFETENSORS, &bytes));
  file = (char *)allocate(bytes);
  EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, NUNATAK_SAFETENSORS, file, bytes, &written));
  NO_HANDLES(f, nunatak_trainer_load(t, file, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_load(f.t, NULL, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_load(f.t, file, bytes, 2));
  EXPECT(NUNATAK_WRONG_LENGTH, nunatak_trainer_load(f.t, file, SIZE_MAX, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_load(f.t, f.t, 100, NUNATAK_HEAD_LOAD));
  for (cut = 0; cut < bytes; cut += 1 + bytes / 50) {
    char *part = (char *)allocate(cut);
    memcpy(part, file, cut);
    EXPECT(NUNATAK_BAD_FILE, nunatak_trainer_load(f.t, part, cut, NUNATAK_HEAD_LOAD));
    free(part);
  }
  wrong = (char *)allocate(bytes);
  memcpy(wrong, file, bytes);
  for (cut = 0; strncmp(wrong + cut, "conv1.weight", 12) != 0; cut++) {
  }
  wrong[cut] = 'C';
  EXPECT(NUNATAK_WRONG_FILE, nunatak_trainer_load(f.t, wrong, bytes, NUNATAK_HEAD_LOAD));
  free(wrong);
  EXPECT(NUNATAK_OK, nunatak_trainer_load(f.t, file, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_OK, nunatak_trainer_load(f.t, file, bytes, NUNATAK_HEAD_KEEP));
  four.recipe.classes = 4;
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &four));
  EXPECT(NUNATAK_WRONG_FILE, nunatak_trainer_load(f.t, file, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_OK, nunatak_trainer_load(f.t, file, bytes, NUNATAK_HEAD_KEEP));
  free(file);
  end(&f);
}

static void case_nunatak_trainer_load_momentum(void) {
  fixture f = make_usual();
  nunatak_config stem = f.config;
  size_t bytes = 0, written = 0;
  char *file;
  float out[640];
  learn(&f);
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, NUNATAK_SAFETENSORS_WITH_MOMENTUM, &bytes));
  file = (char *)allocate(bytes);
  EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, NUNATAK_SAFETENSORS_WITH_MOMENTUM, file, bytes, &written));
  NO_HANDLES(f, nunatak_trainer_load_momentum(t, file, bytes));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_load_momentum(f.t, NULL, bytes));
  EXPECT(NUNATAK_BAD_FILE, nunatak_trainer_load_momentum(f.t, file, bytes - 1));
  EXPECT(NUNATAK_BAD_FILE, nunatak_trainer_load_momentum(f.t, file, 0));
  EXPECT(NUNATAK_OK, nunatak_trainer_load(f.t, file, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_get_momentum(f.t, "fc.weight", out, 640));
  EXPECT(NUNATAK_OK, nunatak_trainer_load_momentum(f.t, file, bytes));
  EXPECT(NUNATAK_OK, nunatak_trainer_load_momentum(f.t, file, bytes));
  EXPECT(NUNATAK_OK, nunatak_trainer_get_momentum(f.t, "fc.weight", out, 640));
  stem.trainable = "conv1"; /* the file has more momenta than there is room for: none is taken */
  EXPECT(NUNATAK_OK, nunatak_trainer_switch(f.t, &stem));
  EXPECT(NUNATAK_OK, nunatak_trainer_load(f.t, file, bytes, NUNATAK_HEAD_LOAD));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_load_momentum(f.t, file, bytes));
  EXPECT(NUNATAK_NO_GRADIENT, nunatak_trainer_get_momentum(f.t, "conv1.weight", out, 432));
  free(file);
  end(&f);
}

static void case_nunatak_trainer_saved_bytes(void) {
  fixture f = make_usual();
  size_t bytes = 77;
  NO_HANDLES(f, nunatak_trainer_saved_bytes(t, NUNATAK_SAFETENSORS, &bytes));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_saved_bytes(f.t, NUNATAK_SAFETENSORS, NULL));
  EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_saved_bytes(f.t, 4, &bytes));
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_saved_bytes(f.t, NUNATAK_NATIVE_DELTA, &bytes)); /* over what? */
  TRUE(bytes == 77);
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, NUNATAK_NATIVE, &bytes));
  TRUE(bytes > 300000 && bytes % 64 == 0);
  end(&f);
}

static void case_nunatak_trainer_save(void) {
  fixture f = make_usual();
  uint32_t format;
  size_t written = 77;
  for (format = NUNATAK_SAFETENSORS; format <= NUNATAK_NATIVE; format++) {
    size_t bytes = 0;
    unsigned char *file;
    EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, format, &bytes));
    file = (unsigned char *)allocate(bytes + 1);
    memset(file, 0xee, bytes + 1);
    written = 77;
    NO_HANDLES(f, nunatak_trainer_save(t, format, file, bytes, &written));
    EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_save(f.t, format, NULL, bytes, &written));
    EXPECT(NUNATAK_NULL_POINTER, nunatak_trainer_save(f.t, format, file, bytes, NULL));
    EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_trainer_save(f.t, format, file, bytes - 1, &written));
    EXPECT(NUNATAK_BUFFER_TOO_SMALL, nunatak_trainer_save(f.t, format, file, 0, &written));
    EXPECT(NUNATAK_OVERLAP, nunatak_trainer_save(f.t, format, f.t, 100, &written));
    EXPECT(NUNATAK_BAD_SETTING, nunatak_trainer_save(f.t, 99, file, bytes, &written));
    TRUE(file[0] == 0xee && file[bytes - 1] == 0xee && written == bytes); /* what a buffer that is too small takes */
    EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, format, file + 1, bytes, &written)); /* any address */
    TRUE(file[0] == 0xee && written == bytes);
    EXPECT(NUNATAK_OK, nunatak_trainer_load(f.t, file + 1, bytes, NUNATAK_HEAD_LOAD));
    free(file);
  }
  EXPECT(NUNATAK_NOT_PLANNED, nunatak_trainer_save(f.t, NUNATAK_NATIVE_DELTA, anything, sizeof anything, &written));
  EXPECT(NUNATAK_OVERLAP, nunatak_trainer_save(f.t, NUNATAK_NATIVE, &written, sizeof written, &written));
  end(&f);
}

static void case_nunatak_recipe_of_file(void) {
  fixture f = make_usual();
  nunatak_recipe recipe;
  size_t bytes = 0;
  char *file;
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, NUNATAK_NATIVE, &bytes));
  file = (char *)allocate(bytes);
  EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, NUNATAK_NATIVE, file, bytes, &bytes));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_recipe_of_file(NULL, bytes, sizeof(nunatak_recipe), &recipe));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_recipe_of_file(file, bytes, sizeof(nunatak_recipe), NULL));
  EXPECT(NUNATAK_BAD_FILE, nunatak_recipe_of_file(file, bytes - 1, sizeof(nunatak_recipe), &recipe));
  EXPECT(NUNATAK_BAD_FILE, nunatak_recipe_of_file(file, 0, sizeof(nunatak_recipe), &recipe));
  EXPECT(NUNATAK_OK, nunatak_recipe_of_file(file, bytes, sizeof(nunatak_recipe), &recipe));
  TRUE(memcmp(&recipe.widths, &f.config.recipe.widths, sizeof recipe.widths) == 0);
  free(file);
  end(&f);
}

static void case_nunatak_file_verify(void) {
  fixture f = make_usual();
  size_t bytes = 0;
  char *file;
  EXPECT(NUNATAK_OK, nunatak_trainer_saved_bytes(f.t, NUNATAK_NATIVE, &bytes));
  file = (char *)allocate(bytes);
  EXPECT(NUNATAK_OK, nunatak_trainer_save(f.t, NUNATAK_NATIVE, file, bytes, &bytes));
  EXPECT(NUNATAK_NULL_POINTER, nunatak_file_verify(NULL, bytes));
  EXPECT(NUNATAK_BAD_FILE, nunatak_file_verify(file, bytes - 64));
  EXPECT(NUNATAK_BAD_FILE, nunatak_file_verify(file, 0));
  EXPECT(NUNATAK_OK, nunatak_file_verify(file, bytes));
  file[bytes / 2] ^= 1;
  EXPECT(NUNATAK_BAD_FILE, nunatak_file_verify(file, bytes));
  free(file);
  end(&f);
}

/*
 * Every function with NULLs, short buffers, in the wrong order and twice: a status each time, and no
 * output written but on success. Run under AddressSanitizer and valgrind: buffers are as long as they are
 * said to be, and not a byte longer.
 *
 *   hostile                 all cases
 *   hostile NAME NAME …     the cases of these functions; one without a case is an error
 */
#include "hostile/information.h"
#include "hostile/configs.h"
#include "hostile/planning.h"
#include "hostile/programs.h"
#include "hostile/bundles.h"
#include "hostile/life.h"
#include "hostile/random.h"
#include "hostile/classes.h"
#include "hostile/inputs.h"
#include "hostile/steps.h"
#include "hostile/optimizer.h"
#include "hostile/tensors.h"
#include "hostile/files.h"
#include "hostile/features.h"
#include "hostile/in_place.h"
#include "hostile/callbacks.h"

typedef struct test {
  const char *name;
  void (*run)(void);
} test;

#define CASE(name) {#name, case_##name}
static const test tests[] = {
    CASE(nunatak_version), CASE(nunatak_version_text), CASE(nunatak_last_error), CASE(nunatak_last_error_numbers), CASE(nunatak_status_name),
    CASE(nunatak_recipe_resnet18), CASE(nunatak_recipe_resnet34), CASE(nunatak_recipe_resnet8),
    CASE(nunatak_config_default), CASE(nunatak_sgd_default), CASE(nunatak_schedule_default),
    CASE(nunatak_schedule_factor),
    CASE(nunatak_trainer_required_bytes), CASE(nunatak_plan_text_bytes), CASE(nunatak_plan_text),
    CASE(nunatak_threads_start), CASE(nunatak_threads_stop), CASE(nunatak_trainer_init), CASE(nunatak_trainer_switch),
    CASE(nunatak_trainer_release), CASE(nunatak_trainer_forget), CASE(nunatak_trainer_was_updated), CASE(nunatak_random_seed), CASE(nunatak_random_uniform),
    CASE(nunatak_random_permutation), CASE(nunatak_trainer_draw_weights), CASE(nunatak_trainer_draw_head),
    CASE(nunatak_trainer_set_images), CASE(nunatak_trainer_set_images_u8), CASE(nunatak_trainer_set_labels),
    CASE(nunatak_trainer_set_targets), CASE(nunatak_trainer_set_features),
    CASE(nunatak_trainer_forward), CASE(nunatak_trainer_backward),
    CASE(nunatak_trainer_backward_from), CASE(nunatak_trainer_update), CASE(nunatak_trainer_accumulate), CASE(nunatak_trainer_step),
    CASE(nunatak_trainer_zero_grad), CASE(nunatak_trainer_clip_grad_norm), CASE(nunatak_trainer_loss),
    CASE(nunatak_trainer_predictions), CASE(nunatak_trainer_features), CASE(nunatak_trainer_predict),
    CASE(nunatak_trainer_set_sgd), CASE(nunatak_trainer_add_group), CASE(nunatak_trainer_set_rate),
    CASE(nunatak_trainer_tensor_count), CASE(nunatak_trainer_tensor_name), CASE(nunatak_trainer_tensor_shape),
    CASE(nunatak_trainer_get_tensor), CASE(nunatak_trainer_set_tensor), CASE(nunatak_trainer_get_batches),
    CASE(nunatak_trainer_set_batches), CASE(nunatak_trainer_get_gradient), CASE(nunatak_trainer_set_gradient),
    CASE(nunatak_trainer_get_momentum), CASE(nunatak_trainer_set_momentum), CASE(nunatak_trainer_load),
    CASE(nunatak_trainer_load_momentum), CASE(nunatak_trainer_saved_bytes), CASE(nunatak_trainer_save),
    CASE(nunatak_recipe_of_file), CASE(nunatak_file_verify), CASE(nunatak_trainer_on_progress),
    CASE(nunatak_trainer_on_tick), CASE(nunatak_trainer_call_name), CASE(nunatak_trainer_level),
    CASE(nunatak_on_panic), CASE(nunatak_program_from_config), CASE(nunatak_program_check),
    CASE(nunatak_program_required_bytes), CASE(nunatak_program_region_count), CASE(nunatak_program_region_bytes), CASE(nunatak_program_text_bytes), CASE(nunatak_program_text),
    CASE(nunatak_trainer_init_program), CASE(nunatak_trainer_switch_program), CASE(nunatak_bundle_count),
    CASE(nunatak_bundle_program), CASE(nunatak_use_routines), CASE(nunatak_use_all_routines),
    CASE(nunatak_trainer_on_digest), CASE(nunatak_trainer_add_class), CASE(nunatak_trainer_add_class_program),
    CASE(nunatak_features_key), CASE(nunatak_features_flash_bytes), CASE(nunatak_features_open), CASE(nunatak_features_clear),
    CASE(nunatak_features_append), CASE(nunatak_features_count), CASE(nunatak_features_read),
};

int main(int argc, char **argv) {
  size_t count = sizeof tests / sizeof tests[0], i;
  int a;
  if (getenv("NUNATAK_STATUSES") != NULL) statuses = fopen(getenv("NUNATAK_STATUSES"), "w");
  for (a = 1; a < argc; a++) {
    for (i = 0; i < count && strcmp(tests[i].name, argv[a]) != 0; i++) {
    }
    if (i == count) {
      fprintf(stderr, "%s has no hostile case: write one\n", argv[a]);
      failures++;
    }
  }
  weights_in_place();
  overlaps();
  for (i = 0; i < count; i++) {
    int wanted = argc == 1;
    for (a = 1; a < argc; a++) wanted |= strcmp(tests[i].name, argv[a]) == 0;
    if (wanted) tests[i].run();
  }
  if (statuses != NULL) fclose(statuses);
  printf("%d failures\n", failures);
  return failures != 0;
}

// Links for a board with nothing but the library: what an exported program needs.
#include <nunatak.h>

int main(void) {
  nunatak_trainer *trainer = 0;
  nunatak_use_all_routines();
  return nunatak_version() == 0 || nunatak_trainer_forward(trainer) == NUNATAK_OK;
}

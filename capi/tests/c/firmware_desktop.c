/*
 * A desktop as the board of firmware.c. Built with -Dnunatak_on_panic=board_on_panic, since a library with the
 * standard library has no panic handler to set.
 */
#include "../../examples/firmware_board.h"
#include <nunatak.h>
#include <stdio.h>
#include <stdlib.h>

void board_print(const char *text) { fputs(text, stdout); }
_Noreturn void board_exit(int status) { exit(status); }
size_t board_stack_used(void) { return 0; }
nunatak_status nunatak_on_panic(nunatak_panic_callback callback) {
  return callback == NULL ? NUNATAK_NULL_POINTER : NUNATAK_OK;
}

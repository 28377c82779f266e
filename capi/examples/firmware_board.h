/* What the firmware needs of a board: a place to print, an end, and how much stack was used. */
#ifndef FIRMWARE_BOARD_H
#define FIRMWARE_BOARD_H

#include <stddef.h>

/* Prints a text. */
void board_print(const char *text);

/* Ends the program: 0 where all went well. */
_Noreturn void board_exit(int status);

/* The most bytes that the stack has had. */
size_t board_stack_used(void);

#endif

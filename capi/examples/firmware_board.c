/*
 * A Cortex-M7 from reset to main, without a C library; printing by semihosting, which emulators and
 * debuggers understand. memcpy, memmove, memset and memcmp are in libnunatak.a.
 */
#include "firmware_board.h"
#include <stdint.h>

extern uint32_t data_start[], data_end[], data_from[], bss_start[], bss_end[], stack_end[], stack_start[];

int main(void);
void reset(void);

enum { SYS_WRITE0 = 0x04, SYS_EXIT = 0x18, STOPPED = 0x20026, FAILED = 0x20023 };

/* Coprocessor access control. */
#define CPACR 0xe000ed88u

/* What the unused stack holds. */
#define PAINT 0xcccccccc

static void host(uint32_t call, uintptr_t argument) {
  register uint32_t r0 __asm__("r0") = call;
  register uintptr_t r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void board_print(const char *text) { host(SYS_WRITE0, (uintptr_t)text); }

_Noreturn void board_exit(int status) {
  host(SYS_EXIT, status == 0 ? STOPPED : FAILED);
  for (;;) {
  }
}

size_t board_stack_used(void) {
  const volatile uint32_t *at = stack_end;
  while (at < stack_start && *at == PAINT) at++;
  return (size_t)((uintptr_t)stack_start - (uintptr_t)at);
}

static void fault(void) {
  board_print("fault\n");
  board_exit(1);
}

void reset(void) {
  /* The floating-point unit is off after reset. */
  *(volatile uint32_t *)CPACR |= 0xfu << 20;
  __asm__ volatile("dsb\n isb" ::: "memory");
  volatile uint32_t *to = data_start;
  for (const uint32_t *from = data_from; to < data_end;) *to++ = *from++;
  for (to = bss_start; to < bss_end;) *to++ = 0;
  /* Everything below this function's own frame. */
  uint32_t here;
  for (to = stack_end; to < (volatile uint32_t *)(uintptr_t)((uintptr_t)&here - 256);) *to++ = PAINT;
  board_exit(main());
}

/* The first entry is the stack's start, then reset, NMI and the faults. */
typedef union {
  void (*function)(void);
  uint32_t *stack;
} vector;

extern const vector vectors[];
__attribute__((section(".vectors"), used)) const vector vectors[16] = {
    {.stack = stack_start}, {.function = reset}, {.function = fault}, {.function = fault},
    {.function = fault},    {.function = fault}, {.function = fault}, {.function = fault},
    {.function = fault},    {.function = fault}, {.function = fault}, {.function = fault},
    {.function = fault},    {.function = fault}, {.function = fault}, {.function = fault},
};

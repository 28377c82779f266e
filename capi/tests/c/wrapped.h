/* The allocator behind the linker's --wrap: the real functions, and those that a test puts in their place. */
#ifndef WRAPPED_H
#define WRAPPED_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
int __real_posix_memalign(void **memory, size_t align, size_t bytes);
void *__real_aligned_alloc(size_t align, size_t bytes);
void __real_free(void *memory);
void __wrap_free(void *memory);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
int __wrap_posix_memalign(void **memory, size_t align, size_t bytes);
void *__wrap_aligned_alloc(size_t align, size_t bytes);
#ifdef __cplusplus
}
#endif

#endif

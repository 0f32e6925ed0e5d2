// Checked sizes, aligned allocations, and an arena for what lives and dies together (graph nodes, names).
#ifndef CORE_MEMORY_H
#define CORE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

// false on overflow (or a negative operand); *out is then untouched.
bool checked_mul(int64_t a, int64_t b, int64_t *out);
bool checked_add(int64_t a, int64_t b, int64_t *out);

// 64-byte aligned and zeroed; size rounded up to 64. NULL with a message on failure. Freed by aligned_free.
elbo_status aligned_new(elbo_ctx *ctx, size_t bytes, const char *what, void **out);
void aligned_free(void *memory);

// calloc with overflow check and message.
elbo_status array_new(elbo_ctx *ctx, size_t count, size_t element, const char *what, void **out);
char *string_copy(const char *text); // malloc'd; NULL when out of memory or text is NULL

// Grows *items (element bytes each) so that index `need - 1` exists; amortised doubling. New elements are zeroed.
elbo_status array_grow(elbo_ctx *ctx, void *items_address, int64_t *capacity, int64_t need, size_t element);

typedef struct arena arena;
arena *arena_create(size_t block_bytes); // NULL when out of memory
void arena_destroy(arena **a);
void *arena_alloc(arena *a, size_t bytes); // zeroed, 16-byte aligned, NULL when out of memory
char *arena_string(arena *a, const char *text);
char *arena_printf(arena *a, const char *format, ...) ELBO_PRINTF(2, 3);

#endif

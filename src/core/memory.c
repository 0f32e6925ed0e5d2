#include "core/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_FROM = 4 << 20 };

bool checked_mul(int64_t a, int64_t b, int64_t *out) {
  int64_t r;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &r)) return false;
  *out = r;
  return true;
}

bool checked_add(int64_t a, int64_t b, int64_t *out) {
  int64_t r;
  if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &r)) return false;
  *out = r;
  return true;
}

// Large blocks are used to the last page: in pages of two megabytes a first step takes hundreds of faults, not tens of thousands, and later
// ones miss the TLB less. What the system cannot do it leaves.
static void use_huge_pages(char *block, size_t bytes) {
#ifdef MADV_HUGEPAGE
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)block + page - 1) & ~(page - 1);
  uintptr_t end = ((uintptr_t)block + bytes) & ~(page - 1);
  if (begin < end) (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#else
  (void)block, (void)bytes;
#endif
}

// calloc rather than aligned_alloc and memset: the system's fresh pages are zero already, and stay out of memory until they are used.
// The block's true address lies in front of what the caller gets.
elbo_status aligned_new(elbo_ctx *ctx, size_t bytes, const char *what, void **out) {
  *out = NULL;
  if (bytes > (size_t)PTRDIFF_MAX - 128) return fail_memory(ctx, bytes, what);
  size_t rounded = bytes ? (bytes + 63) & ~(size_t)63 : 64;
  char *block = calloc(1, rounded + 64);
  if (!block) return fail_memory(ctx, bytes, what);
  if (rounded >= HUGE_FROM) use_huge_pages(block, rounded);
  char *aligned = block + (64 - ((uintptr_t)block & 63)); // 16 to 64 bytes on: malloc aligns to 16
  memcpy(aligned - sizeof block, &block, sizeof block);
  *out = aligned;
  return ELBO_OK;
}

void aligned_free(void *memory) {
  char *block;
  if (!memory) return;
  memcpy(&block, (char *)memory - sizeof block, sizeof block);
  free(block);
}

elbo_status array_new(elbo_ctx *ctx, size_t count, size_t element, const char *what, void **out) {
  size_t bytes;
  *out = NULL;
  if (__builtin_mul_overflow(count, element, &bytes) || bytes > (size_t)PTRDIFF_MAX)
    return fail(ctx, ELBO_ERROR_MEMORY, "out of memory: %zu times %zu bytes for %s", count, element, what);
  *out = calloc(count ? count : 1, element ? element : 1);
  return *out ? ELBO_OK : fail_memory(ctx, bytes, what);
}

char *string_copy(const char *text) {
  if (!text) return NULL;
  size_t n = strlen(text) + 1;
  char *copy = malloc(n);
  return copy ? memcpy(copy, text, n) : NULL;
}

elbo_status array_grow(elbo_ctx *ctx, void *items_address, int64_t *capacity, int64_t need, size_t element) {
  void *items;
  int64_t wanted = *capacity, bytes;
  if (need <= *capacity) return ELBO_OK;
  if (wanted < 8) wanted = 8;
  while (wanted < need)
    if (!checked_add(wanted, wanted, &wanted)) return fail_memory(ctx, SIZE_MAX, "a growing array");
  if (element > PTRDIFF_MAX || !checked_mul(wanted, (int64_t)element, &bytes)) return fail_memory(ctx, SIZE_MAX, "a growing array");
  memcpy(&items, items_address, sizeof items); // the caller's is a pointer to some type's pointer
  void *grown = realloc(items, (size_t)bytes);
  if (!grown) return fail_memory(ctx, (size_t)bytes, "a growing array");
  memset((char *)grown + (size_t)*capacity * element, 0, (size_t)(wanted - *capacity) * element);
  memcpy(items_address, &grown, sizeof grown);
  *capacity = wanted;
  return ELBO_OK;
}

// Blocks are chained; only the first is filled. A request larger than a block gets one of its own behind it.
typedef struct arena_block arena_block;
struct arena_block {
  arena_block *next;
  size_t used, size;
  _Alignas(16) char bytes[];
};

struct arena {
  arena_block *first;
  size_t block_bytes;
};

static arena_block *new_block(size_t size) {
  arena_block *block = calloc(1, sizeof *block + size);
  if (block) block->size = size;
  return block;
}

arena *arena_create(size_t block_bytes) {
  arena *a = calloc(1, sizeof *a);
  if (a) a->block_bytes = block_bytes < 256 ? 256 : (block_bytes + 15) & ~(size_t)15;
  return a;
}

void arena_destroy(arena **a) {
  if (!a || !*a) return;
  while ((*a)->first) {
    arena_block *next = (*a)->first->next;
    free((*a)->first);
    (*a)->first = next;
  }
  free(*a);
  *a = NULL;
}

void *arena_alloc(arena *a, size_t bytes) {
  if (!a || bytes > (size_t)PTRDIFF_MAX - 4096) return NULL;
  bytes = bytes ? (bytes + 15) & ~(size_t)15 : 16;
  arena_block *block = a->first;
  if (!block || block->size - block->used < bytes) {
    bool large = bytes > a->block_bytes;
    block = new_block(large ? bytes : a->block_bytes);
    if (!block) return NULL;
    if (large && a->first) { // the present block keeps its room
      block->next = a->first->next;
      a->first->next = block;
    } else {
      block->next = a->first;
      a->first = block;
    }
  }
  void *memory = block->bytes + block->used;
  block->used += bytes;
  return memory;
}

char *arena_string(arena *a, const char *text) {
  if (!text) return NULL;
  size_t n = strlen(text) + 1;
  char *copy = arena_alloc(a, n);
  return copy ? memcpy(copy, text, n) : NULL;
}

char *arena_printf(arena *a, const char *format, ...) {
  va_list args, again;
  char *text = NULL;
  va_start(args, format);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, format, args);
  if (n >= 0) text = arena_alloc(a, (size_t)n + 1);
  if (text) vsnprintf(text, (size_t)n + 1, format, again);
  va_end(again);
  va_end(args);
  return text;
}

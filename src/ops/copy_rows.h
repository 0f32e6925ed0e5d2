// Parallel copies of rows that lie at a fixed stride: the inside of concat, slice and pad. Included by *_cpu.c alone.
#ifndef OPS_COPY_ROWS_H
#define OPS_COPY_ROWS_H

#include <string.h>

#include "core/threads.h"

#define COPY_GRAIN 65536 // bytes worth a thread

typedef struct copy_rows_job {
  char *to;
  const char *from; // NULL: zeros
  int64_t to_stride, from_stride, row_bytes;
} copy_rows_job;

// Rows of one pixel's channels are too short for a call each.
static inline void copy_bytes(char *to, const char *from, int64_t n) {
  typedef char line __attribute__((vector_size(64), aligned(1), may_alias));
  if (n > 4096 || n < 64) {
    memcpy(to, from, (size_t)n);
    return;
  }
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) *(line *)(to + i) = *(const line *)(from + i);
  if (i < n) *(line *)(to + n - 64) = *(const line *)(from + n - 64);
}

static void copy_rows_range(void *arg, int64_t begin, int64_t end) {
  const copy_rows_job *j = arg;
  for (int64_t r = begin; r < end; r++) {
    if (j->from)
      copy_bytes(j->to + r * j->to_stride, j->from + r * j->from_stride, j->row_bytes);
    else
      memset(j->to + r * j->to_stride, 0, (size_t)j->row_bytes);
  }
}

static void copy_bytes_range(void *arg, int64_t begin, int64_t end) {
  const copy_rows_job *j = arg;
  if (j->from)
    memcpy(j->to + begin, j->from + begin, (size_t)(end - begin));
  else
    memset(j->to + begin, 0, (size_t)(end - begin));
}

// `rows` rows of row_bytes from `from` (NULL: zeros) to `to`. They do not overlap.
static void copy_rows(const thread_pool *pool, void *to, int64_t to_stride, const void *from, int64_t from_stride, int64_t row_bytes,
                      int64_t rows) {
  copy_rows_job j = {to, from, to_stride, from_stride, row_bytes};
  if (row_bytes <= 0 || rows <= 0) return;
  if (rows >= 4 * (int64_t)pool_threads(pool) || row_bytes < COPY_GRAIN) {
    parallel_for(pool, rows, COPY_GRAIN / row_bytes + 1, copy_rows_range, &j);
    return;
  }
  for (int64_t r = 0; r < rows; r++) { // few long rows: threads within each
    copy_rows_job one = {j.to + r * to_stride, from ? j.from + r * from_stride : NULL, 0, 0, row_bytes};
    parallel_for(pool, row_bytes, COPY_GRAIN, copy_bytes_range, &one);
  }
}

#endif

// Offsets from lifetimes: greedy by size [Pisarchyk20], which on these graphs comes within a few per cent of the lower bound.
#include "graph/memory_plan.h"

#include <stdlib.h>

static bool live_together(const buffer *a, const buffer *b) { return a->first <= b->last && b->first <= a->last; }

static int compare_size(const buffer *a, const buffer *b) {
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
  if (a->first != b->first) return a->first < b->first ? -1 : 1;
  return a < b ? -1 : a > b;
}

static int compare_indirect(const void *x, const void *y) { return compare_size(*(buffer *const *)x, *(buffer *const *)y); }

static int compare_offset(const void *x, const void *y) {
  const buffer *a = *(buffer *const *)x, *b = *(buffer *const *)y;
  return a->offset < b->offset ? -1 : a->offset > b->offset;
}

elbo_status plan_memory(elbo_ctx *ctx, int64_t n, buffer *buffers, int64_t *arena_bytes) {
  buffer **order = NULL, **placed = NULL, **near = NULL;
  elbo_status status = ELBO_OK;
  *arena_bytes = 0;
  TRY_GOTO(array_new(ctx, (size_t)n + 1, sizeof *order, "the memory plan", (void **)&order));
  TRY_GOTO(array_new(ctx, (size_t)n + 1, sizeof *near, "the memory plan", (void **)&near));
  TRY_GOTO(array_new(ctx, (size_t)n + 1, sizeof *placed, "the memory plan", (void **)&placed));
  int64_t count = 0, n_placed = 0;
  for (int64_t i = 0; i < n; i++) {
    buffers[i].offset = -1;
    if (buffers[i].in_arena && buffers[i].bytes > 0) order[count++] = &buffers[i];
  }
  if (count) qsort(order, (size_t)count, sizeof *order, compare_indirect);
  for (int64_t i = 0; i < count; i++) {
    buffer *b = order[i];
    int64_t n_near = 0, at = 0;
    for (int64_t k = 0; k < n_placed; k++)
      if (live_together(placed[k], b)) near[n_near++] = placed[k];
    if (n_near) qsort(near, (size_t)n_near, sizeof *near, compare_offset);
    int64_t best = -1, best_gap = INT64_MAX; // the tightest gap that holds it
    for (int64_t k = 0; k < n_near; k++) {
      int64_t gap = near[k]->offset - at;
      if (gap >= b->bytes && gap < best_gap) best = at, best_gap = gap;
      if (near[k]->offset + near[k]->bytes > at) at = near[k]->offset + near[k]->bytes;
    }
    b->offset = best >= 0 ? best : at;
    placed[n_placed++] = b;
    if (b->offset + b->bytes > *arena_bytes) *arena_bytes = b->offset + b->bytes;
  }
fail:
  free(order);
  free(near);
  free(placed);
  return status;
}

int64_t memory_lower_bound(int64_t n, const buffer *buffers, int steps, int *at_step) {
  int64_t most = 0;
  if (at_step) *at_step = 0;
  for (int s = -1; s < steps; s++) {
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++)
      if (buffers[i].in_arena && buffers[i].first <= s && s <= buffers[i].last) sum += buffers[i].bytes;
    if (sum > most) {
      most = sum;
      if (at_step) *at_step = s;
    }
  }
  return most;
}

bool memory_plan_sound(int64_t n, const buffer *buffers, int64_t *a, int64_t *b) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = i + 1; k < n; k++) {
      const buffer *x = &buffers[i], *y = &buffers[k];
      if (!x->in_arena || !y->in_arena || x->bytes == 0 || y->bytes == 0 || !live_together(x, y)) continue;
      if (x->offset < y->offset + y->bytes && y->offset < x->offset + x->bytes) {
        *a = i, *b = k;
        return false;
      }
    }
  return true;
}

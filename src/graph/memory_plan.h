// Where every intermediate lives: offsets in one arena, from lifetimes.
#ifndef GRAPH_MEMORY_PLAN_H
#define GRAPH_MEMORY_PLAN_H

#include "backend/node.h"

// One block of memory: a tensor, with all that are views of it or took its place; or a kernel's scratch.
typedef struct buffer {
  int64_t bytes;   // a multiple of 64
  int first, last; // steps in which it is live, both ends counted; -1: before the first step
  int64_t offset;  // the answer; -1 when it is not in the arena (parameters, outputs bound outside)
  bool in_arena;
} buffer;

// Places the buffers: largest first, each at the lowest offset that no live neighbour holds. Returns the arena's size.
elbo_status plan_memory(elbo_ctx *ctx, int64_t n, buffer *buffers, int64_t *arena_bytes);
// The largest sum of bytes live at one step: no placement can do with less.
int64_t memory_lower_bound(int64_t n, const buffer *buffers, int steps, int *at_step);
// True when no two buffers that live at the same time overlap; otherwise the pair.
bool memory_plan_sound(int64_t n, const buffer *buffers, int64_t *a, int64_t *b);

#endif

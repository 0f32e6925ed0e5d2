// Axes that stay neighbours are merged first, so that what is left is one of: a plain copy, rows moved whole ((B,N,H,D) <-> (B,H,N,D)), or
// batches of two-dimensional transpositions in square tiles.
#include <string.h>

#include "ops/isa.h"
#include "ops/layout.h"

enum { TILE = 32 }; // 32 x 32 floats read and written: 8 KiB, half of the smallest first-level cache

typedef struct transpose_state {
  int rank;                      // after merging
  int64_t dim[ELBO_MAX_RANK];    // of the output
  int64_t stride[ELBO_MAX_RANK]; // of the input, in elements, in the order of the output's axes
  int64_t element;               // bytes
  // two-dimensional case: output axis `across` is the input's innermost one
  int across;
  int64_t across_stride; // of the output
  int64_t outer;         // product of the other dims
  int64_t tiles;         // of `across`
} transpose_state;

typedef struct transpose_job {
  const transpose_state *s;
  const char *x;
  char *y;
} transpose_job;

// Offset in the input and the output of item `i` of the axes but `skip` and the last.
static void outer_offsets(const transpose_state *s, int64_t i, int skip, int64_t *x, int64_t *y) {
  int64_t y_stride = s->dim[s->rank - 1];
  *x = *y = 0;
  for (int d = s->rank - 2; d >= 0; d--) {
    if (d != skip) {
      int64_t j = i % s->dim[d];
      i /= s->dim[d];
      *x += j * s->stride[d], *y += j * y_stride;
    }
    y_stride *= s->dim[d];
  }
}

static void move_rows(void *arg, int64_t begin, int64_t end) {
  const transpose_job *j = arg;
  const transpose_state *s = j->s;
  int64_t bytes = s->dim[s->rank - 1] * s->element, index[ELBO_MAX_RANK] = {0}, from = 0, rest = begin;
  for (int d = s->rank - 2; d >= 0; d--) {
    index[d] = rest % s->dim[d], rest /= s->dim[d];
    from += index[d] * s->stride[d];
  }
  for (int64_t i = begin; i < end; i++) {
    memcpy(j->y + i * bytes, j->x + from * s->element, (size_t)bytes);
    for (int d = s->rank - 2; d >= 0; d--) {
      from += s->stride[d];
      if (++index[d] < s->dim[d]) break;
      from -= s->dim[d] * s->stride[d];
      index[d] = 0;
    }
  }
}

typedef float f4 __attribute__((vector_size(16), aligned(4), may_alias));

// y[p][q] = x[q][p] for a 4 x 4 block of four-byte elements
static inline void transpose_block4(char *y, int64_t y_stride, const char *x, int64_t x_stride) {
  f4 a = *(const f4 *)x, b = *(const f4 *)(x + x_stride), c = *(const f4 *)(x + 2 * x_stride), d = *(const f4 *)(x + 3 * x_stride);
  f4 ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  f4 cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *(f4 *)y = __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5);
  *(f4 *)(y + y_stride) = __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7);
  *(f4 *)(y + 2 * y_stride) = __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5);
  *(f4 *)(y + 3 * y_stride) = __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7);
}

// y[p][q] = x[q][p], p < np, q < nq; strides in bytes
static void transpose_tile(char *y, int64_t y_stride, const char *x, int64_t x_stride, int64_t np, int64_t nq, int64_t element) {
  int64_t p4 = 0, q4 = 0;
  if (element == 4) {
    p4 = np / 4 * 4, q4 = nq / 4 * 4;
    for (int64_t p = 0; p < p4; p += 4)
      for (int64_t q = 0; q < q4; q += 4) transpose_block4(y + p * y_stride + q * 4, y_stride, x + q * x_stride + p * 4, x_stride);
  }
  for (int64_t p = 0; p < np; p++)
    for (int64_t q = p < p4 ? q4 : 0; q < nq; q++) memcpy(y + p * y_stride + q * element, x + q * x_stride + p * element, (size_t)element);
}

static void transpose_tiles(void *arg, int64_t begin, int64_t end) {
  const transpose_job *j = arg;
  const transpose_state *s = j->s;
  int64_t np = s->dim[s->across], nq = s->dim[s->rank - 1], e = s->element;
  for (int64_t i = begin; i < end; i++) {
    int64_t x, y, p = i % s->tiles * TILE, m = np - p < TILE ? np - p : TILE;
    outer_offsets(s, i / s->tiles, s->across, &x, &y);
    for (int64_t q = 0; q < nq; q += TILE)
      transpose_tile(j->y + (y + p * s->across_stride + q) * e, s->across_stride * e, j->x + (x + p + q * s->stride[s->rank - 1]) * e,
                     s->stride[s->rank - 1] * e, m, nq - q < TILE ? nq - q : TILE, e);
  }
}

static elbo_status transpose_run(const kernel *k, const kernel_args *a) {
  const transpose_state *s = k->state;
  transpose_job j = {s, a->in[0], a->out[0]};
  int64_t row = s->dim[s->rank - 1];
  if (s->stride[s->rank - 1] == 1)
    parallel_for(a->pool, s->outer, 65536 / (row * s->element) + 1, move_rows, &j);
  else
    parallel_for(a->pool, s->outer * s->tiles, 16384 / (TILE * row) + 1, transpose_tiles, &j);
  return ELBO_OK;
}

static elbo_status transpose_prepare(compile_env *env, const node *n, kernel *k) {
  const transpose_attr *a = n->attr;
  const shape *xs = &n->in[0]->shape;
  transpose_state *s;
  TRY(kernel_state_new(env, k, sizeof *s, &s));
  s->element = (int64_t)elbo_dtype_size(n->in[0]->dtype);
  int64_t last = -2; // input axis that the previous kept output axis came from
  for (int i = 0; i < xs->rank; i++) {
    int64_t p = a->perm[i];
    if (xs->dim[p] == 1) continue;
    int64_t between = 1; // axes of length 1 do not part neighbours
    for (int64_t d = last + 1; last >= 0 && d < p; d++) between *= xs->dim[d];
    if (s->rank > 0 && last < p && between == 1) {
      s->dim[s->rank - 1] *= xs->dim[p];
      s->stride[s->rank - 1] = shape_product(xs, (int)p + 1, xs->rank);
    } else {
      s->dim[s->rank] = xs->dim[p];
      s->stride[s->rank++] = shape_product(xs, (int)p + 1, xs->rank);
    }
    last = p;
  }
  if (s->rank == 0) s->rank = 1, s->dim[0] = 1, s->stride[0] = 1;
  int64_t stride = 1;
  s->outer = 1, s->across = s->rank - 1, s->tiles = 1;
  for (int d = s->rank - 1; d >= 0; stride *= s->dim[d--])
    if (s->stride[d] == 1) s->across = d, s->across_stride = stride;
  if (s->stride[s->rank - 1] != 1) s->tiles = (s->dim[s->across] + TILE - 1) / TILE;
  for (int d = 0; d < s->rank - 1; d++)
    if (d != s->across) s->outer *= s->dim[d];
  k->name = "own:transpose." ISA_TEXT;
  k->run = transpose_run;
  return ELBO_OK;
}

const cpu_op ISA(transpose_cpu) = {transpose_prepare};

// What attention forward and backward share: tiles packed into padded buffers, the product of two tiles, and the scores of a tile.
// Only *_cpu.c files include this.
#ifndef OPS_ATTENTION_TILE_H
#define OPS_ATTENTION_TILE_H

#include "ops/attention.h"
#include "ops/vec_part.h"

// Rows of a product tile; columns are whole vectors. 4 x 2 vectors fill the latency of AVX2's multiply-adds, 4 x 4 AVX-512's registers.
enum { TILE_ROWS = 4, TILE_VECTORS = VW == 16 ? 4 : 2 };

typedef struct attention_shape {
  int64_t batch, heads, nq, nk, d, width; // width = heads d: from one token to the next
  int64_t q_block, k_block;               // tokens of a tile, multiples of TILE_ROWS (k_block: of VW)
  int64_t q_tiles, k_tiles;
  int64_t dp;             // d rounded up to whole vectors
  int64_t bias_stride[4]; // 0 where it is broadcast
  int64_t bias_dim[4];
  float scale;
  bool causal, has_bias, want_dbias;
} attention_shape;

// The next `count` floats of a scratch that begins at `base`, in whole cache lines; NULL while sizes are only being counted (base NULL).
static float *take_floats(float *base, int64_t *used, int64_t count) {
  float *at = base ? base + *used : NULL;
  *used += round_up(count, 16);
  return at;
}

static void attention_shape_of(const node *n, attention_shape *s) {
  const attention_attr *a = n->attr;
  const shape *q = &n->in[0]->shape;
  s->batch = q->dim[0], s->heads = a->heads, s->nq = q->dim[1], s->nk = n->in[1]->shape.dim[1];
  s->width = q->dim[2], s->d = s->width / s->heads, s->dp = round_up(s->d, VW);
  s->scale = (float)a->scale, s->causal = a->causal, s->want_dbias = a->want_dbias;
  // Tiles of about 32 KiB each, five or so of them in use: half a megabyte at most
  s->q_block = s->d <= 64 ? 128 : s->d <= 256 ? 64 : 32;
  s->k_block = s->d <= 256 ? 64 : 32;
  if (s->q_block > s->nq) s->q_block = round_up(s->nq, TILE_ROWS);
  if (s->k_block > s->nk) s->k_block = round_up(s->nk, VW);
  s->q_tiles = (s->nq + s->q_block - 1) / s->q_block;
  s->k_tiles = (s->nk + s->k_block - 1) / s->k_block;
  for (int i = 0; i < 4; i++) s->bias_dim[i] = 1, s->bias_stride[i] = 0;
  if (!n->in[3]) return;
  const shape *b = &n->in[3]->shape;
  s->has_bias = true;
  for (int i = 0; i < b->rank; i++) {
    int to = 4 - b->rank + i;
    s->bias_dim[to] = b->dim[i];
    if (b->dim[i] != 1) s->bias_stride[to] = shape_product(b, i + 1, b->rank);
  }
}

// c (m,n) = or += a (m,k) b (k,n): m a multiple of TILE_ROWS, n of VW; element (i,p) of a at a[i a_row + p a_col]
VEC_INLINE void tile_block(int64_t k, const float *a, int64_t a_row, int64_t a_col, const float *b, int64_t ldb, float *c, int64_t ldc,
                           const bool add, const int vectors) {
  vfloat sum[TILE_ROWS][TILE_VECTORS];
  for (int i = 0; i < TILE_ROWS; i++)
    for (int v = 0; v < vectors; v++) sum[i][v] = add ? vload(c + i * ldc + v * VW) : (vfloat){0};
  for (int64_t p = 0; p < k; p++) {
    vfloat row[TILE_VECTORS];
    for (int v = 0; v < vectors; v++) row[v] = vload(b + p * ldb + v * VW);
    for (int i = 0; i < TILE_ROWS; i++) {
      float x = a[i * a_row + p * a_col];
      for (int v = 0; v < vectors; v++) sum[i][v] += x * row[v];
    }
  }
  for (int i = 0; i < TILE_ROWS; i++)
    for (int v = 0; v < vectors; v++) vstore(c + i * ldc + v * VW, sum[i][v]);
}

static void tile_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_col, const float *b, int64_t ldb,
                         float *c, int64_t ldc, bool add) {
  for (int64_t i = 0; i < m; i += TILE_ROWS) {
    int64_t j = 0;
    for (; j + TILE_VECTORS * VW <= n; j += TILE_VECTORS * VW)
      tile_block(k, a + i * a_row, a_row, a_col, b + j, ldb, c + i * ldc + j, ldc, add, TILE_VECTORS);
    for (; j < n; j += VW) tile_block(k, a + i * a_row, a_row, a_col, b + j, ldb, c + i * ldc + j, ldc, add, 1);
  }
}

// to (rows,dp) = factor * tokens [begin, begin+n) of one head, zeros behind; rows >= n
static void pack_rows(const attention_shape *s, const float *x, int64_t n, int64_t rows, float factor, float *to) {
  for (int64_t r = 0; r < n; r++)
    for (int64_t c = 0; c < s->dp; c += VW) {
      int64_t left = s->d - c;
      vstore(to + r * s->dp + c, factor * vload_upto(x + r * s->width + c, left));
    }
  memset(to + n * s->dp, 0, (size_t)((rows - n) * s->dp) * sizeof *to);
}

typedef float vquad __attribute__((vector_size(16)));
typedef float vquad_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

// to (d,columns) = the transpose of the tokens [begin, begin+n) of one head, zeros behind; columns >= n
static void pack_columns(const attention_shape *s, const float *x, int64_t n, int64_t columns, float *to) {
  int64_t w = s->width, n4 = n / 4 * 4, d4 = s->d / 4 * 4;
  for (int64_t r = 0; r < n4; r += 4)
    for (int64_t c = 0; c < d4; c += 4) {
      const float *f = x + r * w + c;
      float *t = to + c * columns + r;
      vquad a = *(const vquad_unaligned *)f, b = *(const vquad_unaligned *)(f + w);
      vquad e = *(const vquad_unaligned *)(f + 2 * w), g = *(const vquad_unaligned *)(f + 3 * w);
      vquad ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      vquad eg0 = __builtin_shufflevector(e, g, 0, 4, 1, 5), eg1 = __builtin_shufflevector(e, g, 2, 6, 3, 7);
      *(vquad_unaligned *)t = __builtin_shufflevector(ab0, eg0, 0, 1, 4, 5);
      *(vquad_unaligned *)(t + columns) = __builtin_shufflevector(ab0, eg0, 2, 3, 6, 7);
      *(vquad_unaligned *)(t + 2 * columns) = __builtin_shufflevector(ab1, eg1, 0, 1, 4, 5);
      *(vquad_unaligned *)(t + 3 * columns) = __builtin_shufflevector(ab1, eg1, 2, 3, 6, 7);
    }
  for (int64_t c = 0; c < s->d; c++) {
    for (int64_t r = c < d4 ? n4 : 0; r < n; r++) to[c * columns + r] = x[r * w + c];
    for (int64_t r = n; r < columns; r++) to[c * columns + r] = 0;
  }
}

// Whether queries [q0, q0+nq) see any of the keys from k0 on.
static inline bool tile_visible(const attention_shape *s, int64_t q0, int64_t nq, int64_t k0) {
  return !s->causal || k0 <= q0 + nq - 1 + s->nk - s->nq;
}

// score (rows,k_block) += bias, and -infinity where a query may not look or there is no key
static void mask_scores(const attention_shape *s, const float *bias, int64_t b, int64_t h, int64_t q0, int64_t nq, int64_t k0, int64_t nk,
                        float *score) {
  for (int64_t i = 0; i < nq; i++) {
    float *row = score + i * s->k_block;
    if (bias) {
      const float *from = bias + b * s->bias_stride[0] + h * s->bias_stride[1] + (q0 + i) * s->bias_stride[2] + k0 * s->bias_stride[3];
      if (s->bias_stride[3])
        for (int64_t j = 0; j < nk; j++) row[j] += from[j];
      else
        for (int64_t j = 0; j < nk; j++) row[j] += from[0];
    }
    int64_t seen = s->causal ? q0 + i + s->nk - s->nq + 1 - k0 : nk; // keys of this tile that query i sees
    seen = seen < 0 ? 0 : seen < nk ? seen : nk;
    for (int64_t j = seen; j < s->k_block; j++) row[j] = -INFINITY;
  }
}

#endif

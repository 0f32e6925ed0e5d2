// What attention forward and backward share. Scores are made as tiles of keys by queries, S = K q^T, with queries in the lanes of vectors:
// softmax is then vertical, and no head size leaves lanes empty. They are in units of log 2, so that softmax takes powers of two.
// Only *_cpu.c files include this.
#ifndef OPS_ATTENTION_TILE_H
#define OPS_ATTENTION_TILE_H

#include "ops/attention.h"
#include "ops/bf16.h"
#include "ops/gemm_cpu.h"
#include "ops/vec_part.h"

enum {
  TILE_LANES = GEMM_NR, // queries that one micro-kernel takes
  TILE_KEYS = 80,       // keys of a tile at most: 77, a usual length of captions, is one
  TILE_CHUNK = GEMM_KC  // channels of a packed token that lie in one row of GEMM_LD
};

#define LOG2_E 1.44269504f
#define LN_2 0.693147181f

typedef struct attention_shape {
  int64_t batch, heads, nq, nk, d, width; // width = heads d: from one token to the next
  int64_t q_block;                        // queries of a tile, whole TILE_LANES
  int64_t q_tiles, k_tiles;
  int64_t bias_stride[4]; // 0 where it is broadcast
  int64_t bias_dim[4];
  float scale;
  bool causal, has_bias, want_dbias;
  bool pairs; // operands of both products are rounded to bfloat16 and lie in pairs (bf16.h) of what is summed
} attention_shape;

// The queries and keys of one tile.
typedef struct tile_place {
  int64_t b, h, q0, nq, k0, nk;
} tile_place;

// The next `count` floats of a scratch that begins at `base`, in whole cache lines; NULL while sizes are only being counted (base NULL).
static float *take_floats(float *base, int64_t *used, int64_t count) {
  float *at = base ? base + *used : NULL;
  *used += round_up(count, 16);
  return at;
}

static void attention_shape_of(const node *n, int64_t q_block, attention_shape *s) {
  const attention_attr *a = n->attr;
  const shape *q = &n->in[0]->shape;
  s->batch = q->dim[0], s->heads = a->heads, s->nq = q->dim[1], s->nk = n->in[1]->shape.dim[1];
  s->width = q->dim[2], s->d = s->width / s->heads;
  s->scale = (float)a->scale, s->causal = a->causal, s->want_dbias = a->want_dbias;
  s->q_block = q_block < s->nq ? q_block : round_up(s->nq, TILE_LANES);
  s->q_tiles = (s->nq + s->q_block - 1) / s->q_block;
  s->k_tiles = (s->nk + TILE_KEYS - 1) / TILE_KEYS;
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

static void place_queries(const attention_shape *s, tile_place *at, int64_t tile) {
  at->q0 = tile * s->q_block;
  at->nq = s->nq - at->q0 < s->q_block ? s->nq - at->q0 : s->q_block;
}

static void place_keys(const attention_shape *s, tile_place *at, int64_t tile) {
  int64_t end;
  split_range(s->nk, (int)tile, (int)s->k_tiles, &at->k0, &end);
  at->nk = end - at->k0;
}

// Whether the queries of a tile see any of its keys.
static inline bool tile_visible(const attention_shape *s, const tile_place *at) {
  return !s->causal || at->k0 <= at->q0 + at->nq - 1 + s->nk - s->nq;
}

// --- packing ---

static inline int64_t packed_keys_floats(const attention_shape *s) { return (s->d + TILE_CHUNK - 1) / TILE_CHUNK * TILE_KEYS * GEMM_LD; }

// to: for each TILE_CHUNK channels, rows of GEMM_LD: n tokens of one head
static void pack_keys(const attention_shape *s, const float *x, int64_t n, float *to) {
  if (s->d <= VW) { // one load and one store
    for (int64_t r = 0; r < n; r++) vstore(to + r * GEMM_LD, vload_upto(x + r * s->width, s->d));
    return;
  }
  for (int64_t c = 0; c < s->d; c += TILE_CHUNK, to += TILE_KEYS * GEMM_LD)
    for (int64_t r = 0; r < n; r++) copy_floats(to + r * GEMM_LD, x + r * s->width + c, s->d - c < TILE_CHUNK ? s->d - c : TILE_CHUNK);
}

// Queries in lanes: (q_block/TILE_LANES,d,TILE_LANES), so that what a micro-kernel reads lies together
static inline float *lanes_at(const attention_shape *s, float *lanes, int64_t i) {
  return lanes + i / TILE_LANES * TILE_LANES * s->d + i % TILE_LANES;
}

// to = factor * n tokens, as lanes; zeros up to whole TILE_LANES
static void pack_lanes(const attention_shape *s, const float *x, int64_t n, float factor, float *to) {
  const int64_t ld = TILE_LANES, d4 = s->d / 4 * 4;
  for (int64_t i = 0; i < round_up(n, TILE_LANES); i += VW, x += VW * s->width) {
    float *lanes = lanes_at(s, to, i);
    if (i + VW > n) {
      for (int64_t c = 0; c < s->d; c++)
        for (int64_t l = 0; l < VW; l++) lanes[c * ld + l] = i + l < n ? factor * x[l * s->width + c] : 0;
      continue;
    }
    for (int64_t c = 0; c < d4; c += 4) {
      vfloat out[4];
      load_transposed4(x + c, s->width, out);
      for (int j = 0; j < 4; j++) vstore(lanes + (c + j) * ld, factor * out[j]);
    }
    for (int64_t c = d4; c < s->d; c++)
      for (int64_t l = 0; l < VW; l++) lanes[c * ld + l] = factor * x[l * s->width + c];
  }
}

// The way back: token i = factor[i] * from; factor has whole vectors
static void unpack_lanes(const attention_shape *s, float *from, int64_t n, const float *factor, float *x) {
  const int64_t ld = TILE_LANES, d4 = s->d / 4 * 4;
  for (int64_t i = 0; i < n; i += VW, x += VW * s->width) {
    const float *lanes = lanes_at(s, from, i);
    vfloat f = vload(factor + i);
    int64_t count = n - i < VW ? n - i : VW;
    for (int64_t c = 0; c < d4; c += 4) {
      vfloat v[4], out[4];
      for (int j = 0; j < 4; j++) v[j] = f * vload(lanes + (c + j) * ld);
      transpose4(v, out);
      for (int j = 0; j < 4; j++) store_quads(x + j * s->width + c, 4 * s->width, out[j], (count - j + 3) / 4);
    }
    for (int64_t c = d4; c < s->d; c++)
      for (int64_t l = 0; l < count; l++) x[l * s->width + c] = factor[i + l] * lanes[c * ld + l];
  }
}

// --- products ---

// c (m,n) (+)= a (m,k) b (k,n), a in rows of GEMM_LD, n whole vectors; pairs: k of them
static void tile_product(bool pairs, int64_t m, int64_t n, int64_t k, const float *a, const float *b, int64_t ldb, float *c, int64_t ldc,
                         bool add) {
  int tiles = gemm_tiles(m), rows = (int)m / tiles, longer = (int)m % tiles;
  for (int64_t j = 0; j < n; j += GEMM_NR) {
    int vectors = n - j > VW ? 2 : 1;
    for (int64_t t = 0, r = 0; t < tiles; t++) {
      int now = rows + (t < longer);
      (pairs ? ISA(gemm_dot_rows) : ISA(gemm_rows))(now, vectors, k, a + r * GEMM_LD, b + j, ldb, c + r * ldc + j, ldc, add);
      r += now;
    }
  }
}

// lanes (d,TILE_LANES) (+)= packed keys (nk,d) transposed times b (nk,n); n at most TILE_LANES
static void keys_product(const attention_shape *s, int64_t nk, int64_t n, const float *keys, const float *b, int64_t ldb, float *lanes,
                         bool add) {
  const int64_t steps = s->pairs ? (nk + 1) / 2 : nk;
  for (int64_t c0 = 0; c0 < s->d; c0 += TILE_CHUNK, keys += TILE_KEYS * GEMM_LD) {
    int width = (int)(s->d - c0 < TILE_CHUNK ? s->d - c0 : TILE_CHUNK), tiles = gemm_tiles(width), rows = width / tiles,
        longer = width % tiles;
    for (int t = 0, r = 0; t < tiles; t++) {
      int now = rows + (t < longer);
      (s->pairs ? ISA(gemm_dot_outer) : ISA(gemm_outer))(now, n > VW ? 2 : 1, steps, keys + r, GEMM_LD, b, ldb,
                                                         lanes + (c0 + r) * TILE_LANES, TILE_LANES, add);
      r += now;
    }
  }
}

// score (nk,n) = packed keys (nk,d) times lanes (d,TILE_LANES); n at most TILE_LANES
static void scores(const attention_shape *s, int64_t nk, int64_t n, const float *keys, const float *lanes, float *score, int64_t ld) {
  const int64_t of = s->pairs ? 2 : 1; // channels a step
  for (int64_t c = 0; c < s->d; c += TILE_CHUNK, keys += TILE_KEYS * GEMM_LD) {
    int64_t width = s->d - c < TILE_CHUNK ? s->d - c : TILE_CHUNK;
    tile_product(s->pairs, nk, round_up(n, VW), (width + of - 1) / of, keys, lanes + c / of * TILE_LANES, TILE_LANES, score, ld, c > 0);
  }
}

// score += log2(e) bias, and -infinity where a query may not look; columns are the queries from q0 + i0 on
static void mask_scores(const attention_shape *s, const float *bias, const tile_place *at, int64_t i0, int64_t n, float *score,
                        int64_t ld) {
  const int64_t *stride = s->bias_stride;
  if (bias) bias += at->b * stride[0] + at->h * stride[1] + (at->q0 + i0) * stride[2] + at->k0 * stride[3];
  for (int64_t r = 0; bias && r < at->nk; r++)
    for (int64_t i = 0; i < n; i++) score[r * ld + i] += LOG2_E * bias[i * stride[2] + r * stride[3]];
  if (!s->causal) return;
  for (int64_t r = 0; r < at->nk; r++) { // the first query that sees the key, among the columns
    int64_t first = at->k0 + r - (s->nk - s->nq) - at->q0 - i0;
    for (int64_t i = 0; i < first && i < n; i++) score[r * ld + i] = -INFINITY;
  }
}

#endif

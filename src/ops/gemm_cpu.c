#include "ops/gemm_cpu.h"

#include "core/ctx.h"
#include "ops/gemm_panel.h"

#define INLINE static inline __attribute__((always_inline))

// --- micro-kernels ------------------------------------------------------------------------------------------------------------------

INLINE void rows_body(const int rows, const int vectors, int64_t K, const float *restrict a, const float *restrict b, int64_t ldb,
                      float *restrict acc_out, int64_t ld_acc, bool add) {
  vfloat acc[GEMM_MR][2];
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) acc[r][v] = add ? vload(acc_out + r * ld_acc + v * VW) : (vfloat){0};
  for (int64_t k = 0; k < K; k++) {
    vfloat bv[2];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) bv[v] = vload(b + v * VW);
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
      vfloat ar = vsplat(a[r * GEMM_LD]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) acc[r][v] += ar * bv[v];
    }
    a++;
    b += ldb;
  }
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) vstore(acc_out + r * ld_acc + v * VW, acc[r][v]);
}

// Two steps of k at once: their numbers of a, repeated over a vector.
INLINE void pairs_body(const int rows, const int vectors, int64_t K, const float *restrict a, const float *restrict b, int64_t ldb,
                       float *restrict acc_out, int64_t ld_acc) {
  typedef double vpair __attribute__((vector_size(4 * VW)));
  typedef double pair __attribute__((aligned(4), may_alias));
  vfloat acc[GEMM_MR][2];
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) acc[r][v] = vload(acc_out + r * ld_acc + v * VW);
  for (int64_t k = 0; k < K; k += 2) {
    vfloat bv[2];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) bv[v] = vload(b + v * VW);
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
      vfloat ar = (vfloat)(*(const pair *)(a + r * GEMM_LD) - (vpair){0});
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) acc[r][v] += ar * bv[v];
    }
    a += 2;
    b += ldb;
  }
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) vstore(acc_out + r * ld_acc + v * VW, acc[r][v]);
}

INLINE void outer_body(const int rows, const int vectors, int64_t K, const float *restrict a, int64_t lda, const float *restrict b,
                       int64_t ldb, float *restrict acc_out, int64_t ld_acc, bool add) {
  vfloat acc[GEMM_MR][2];
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) acc[r][v] = add ? vload(acc_out + r * ld_acc + v * VW) : (vfloat){0};
  for (int64_t k = 0; k < K; k++) {
    vfloat bv[2];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) bv[v] = vload(b + v * VW);
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
      vfloat ar = vsplat(a[r]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) acc[r][v] += ar * bv[v];
    }
    a += lda;
    b += ldb;
  }
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) vstore(acc_out + r * ld_acc + v * VW, acc[r][v]);
}

// What a tile's kernel asks memory for while it computes.
typedef struct tile_ahead {
  const float *next;     // B of the next tiles: a cache line of it with every step of k, into the second level
  const float *c;        // where the tile goes,
  const int64_t *offset; // rows of it: a little before they are needed. At the beginning they would be gone again by then
} tile_ahead;

enum { TILE_AHEAD = 40, FEW_ROWS = 4 }; // steps of k: some hundred cycles

// tile = product; a block of A has rows `row_step` apart and steps of k `k_step` apart, B is packed
INLINE void tile_body(const int rows, const int vectors, const int64_t row_step, const int64_t k_step, int64_t K, const float *restrict a,
                      const float *restrict b, const tile_ahead *ahead, float *restrict tile) {
  vfloat acc[GEMM_MR][2];
  const float *next = ahead->next;
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) acc[r][v] = (vfloat){0};
  int64_t end = K > TILE_AHEAD ? K - TILE_AHEAD : 0;
  for (int64_t k = 0;; end = K) {
    for (; k < end; k++) {
      vfloat bv[2];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) bv[v] = vload(b + v * VW);
      __builtin_prefetch(next, 0, 2);
#pragma GCC unroll 14
      for (int r = 0; r < rows; r++) {
        vfloat ar = vsplat(a[r * row_step]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) acc[r][v] += ar * bv[v];
      }
      a += k_step;
      b += vectors * VW;
      next += 16;
    }
    if (k == K) break;
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++)
      for (int n = 0; n < vectors * VW; n += 16) __builtin_prefetch(ahead->c + ahead->offset[r] + n, 1);
  }
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) vstore(tile + r * GEMM_NR + v * VW, acc[r][v]);
}

typedef void (*tile_fn)(int64_t K, const float *a, const float *b, const tile_ahead *ahead, float *tile);
typedef void (*rows_fn)(int64_t K, const float *a, const float *b, int64_t ldb, float *acc, int64_t ld_acc, bool add);
typedef void (*pairs_fn)(int64_t K, const float *a, const float *b, int64_t ldb, float *acc, int64_t ld_acc);
typedef void (*outer_fn)(int64_t K, const float *a, int64_t lda, const float *b, int64_t ldb, float *acc, int64_t ld_acc, bool add);

#define MICRO(rows, vectors)                                                                                                            \
  static void rows_##rows##_##vectors(int64_t K, const float *a, const float *b, int64_t ldb, float *acc, int64_t ld_acc, bool add) {   \
    rows_body(rows, vectors, K, a, b, ldb, acc, ld_acc, add);                                                                           \
  }                                                                                                                                     \
  static void pairs_##rows##_##vectors(int64_t K, const float *a, const float *b, int64_t ldb, float *acc, int64_t ld_acc) {            \
    pairs_body(rows, vectors, K, a, b, ldb, acc, ld_acc);                                                                               \
  }                                                                                                                                     \
  static void tile_rows_##rows##_##vectors(int64_t K, const float *a, const float *b, const tile_ahead *ahead, float *tile) {           \
    tile_body(rows, vectors, GEMM_LD, 1, K, a, b, ahead, tile);                                                                         \
  }                                                                                                                                     \
  static void tile_outer_##rows##_##vectors(int64_t K, const float *a, const float *b, const tile_ahead *ahead, float *tile) {          \
    tile_body(rows, vectors, 1, GEMM_KMAJOR_LD, K, a, b, ahead, tile);                                                                  \
  }                                                                                                                                     \
  static void outer_##rows##_##vectors(int64_t K, const float *a, int64_t lda, const float *b, int64_t ldb, float *acc, int64_t ld_acc, \
                                       bool add) {                                                                                      \
    outer_body(rows, vectors, K, a, lda, b, ldb, acc, ld_acc, add);                                                                     \
  }
#define BOTH(rows) MICRO(rows, 1) MICRO(rows, 2)
GEMM_FOR_ROWS(BOTH)
#define ROWS_ENTRY(rows) {rows_##rows##_1, rows_##rows##_2},
#define PAIRS_ENTRY(rows) {pairs_##rows##_1, pairs_##rows##_2},
#define OUTER_ENTRY(rows) {outer_##rows##_1, outer_##rows##_2},
#define TILE_ENTRY(rows) {{tile_rows_##rows##_1, tile_rows_##rows##_2}, {tile_outer_##rows##_1, tile_outer_##rows##_2}},
static const tile_fn tile_table[GEMM_MR][2][2] = {GEMM_FOR_ROWS(TILE_ENTRY)}; // [rows][A transposed][vectors]
static const rows_fn rows_table[GEMM_MR][2] = {GEMM_FOR_ROWS(ROWS_ENTRY)};
static const pairs_fn pairs_table[GEMM_MR][2] = {GEMM_FOR_ROWS(PAIRS_ENTRY)};
static const outer_fn outer_table[GEMM_MR][2] = {GEMM_FOR_ROWS(OUTER_ENTRY)};

void ISA(gemm_outer)(int rows, int vectors, int64_t K, const float *a, int64_t lda, const float *b, int64_t ldb, float *acc, int64_t ld_acc,
                     bool add) {
  outer_table[rows - 1][vectors - 1](K, a, lda, b, ldb, acc, ld_acc, add);
}

void ISA(gemm_rows)(int rows, int vectors, int64_t K, const float *a, const float *b, int64_t ldb, float *acc, int64_t ld_acc, bool add) {
  rows_table[rows - 1][vectors - 1](K, a, b, ldb, acc, ld_acc, add);
}

void ISA(gemm_pairs)(int rows, int vectors, int64_t K, const float *a, const float *b, int64_t ldb, float *acc, int64_t ld_acc) {
  pairs_table[rows - 1][vectors - 1](K, a, b, ldb, acc, ld_acc);
}

// --- packing ------------------------------------------------------------------------------------------------------------------------

// dst[k * width + n] = b[n * ld + k] for VW columns and K rows
static void pack_transposed(int64_t K, const float *b, int64_t ld, int width, float *dst) {
  int64_t k = 0;
  for (; k + 4 <= K; k += 4) {
    vfloat out[4];
    load_transposed4(b + k, ld, out);
    for (int j = 0; j < 4; j++) vstore(dst + (k + j) * width, out[j]);
  }
  for (; k < K; k++)
    for (int n = 0; n < VW; n++) dst[k * width + n] = b[n * ld + k];
}

enum { PACK_AHEAD = 16 }; // rows of B that lie further apart than the processor fetches by itself

// Rows [k0, k0 + K) of columns [n0, n0 + width): dst[k * width + n]
void ISA(gemm_pack_matrix)(const gemm_job *j, const float *b, int64_t k0, int64_t K, int64_t n0, int width, float *dst) {
  b += j->b_transposed ? n0 * j->ldb + k0 : k0 * j->ldb + n0;
  if (!j->b_transposed && width == GEMM_NR && j->N - n0 >= GEMM_NR) {
    for (int64_t k = 0; k < K; k++, b += j->ldb, dst += GEMM_NR) {
      for (int n = 0; n < GEMM_NR; n += 16) __builtin_prefetch(b + PACK_AHEAD * j->ldb + n);
      for (int n = 0; n < GEMM_NR; n += VW) vstore(dst + n, vload(b + n));
    }
    return;
  }
  for (int v = 0; v < width; v += VW) {
    int64_t columns = j->N - n0 - v < VW ? j->N - n0 - v : VW;
    if (!j->b_transposed) {
      for (int64_t k = 0; k < K; k++) vstore(dst + k * width + v, vload_upto(b + k * j->ldb + v, columns));
    } else if (columns == VW) {
      pack_transposed(K, b + v * j->ldb, j->ldb, width, dst + v);
    } else {
      for (int64_t k = 0; k < K; k++) vstore(dst + k * width + v, (vfloat){0});
      for (int64_t n = 0; n < columns; n++)
        for (int64_t k = 0; k < K; k++) dst[k * width + v + n] = b[(v + n) * j->ldb + k];
    }
  }
}

static void pack_rows(const gemm_job *j, const float *b, int64_t k0, int64_t kc, int64_t n0, int width, float *dst) {
  if (j->pack)
    j->pack(j, b, k0, kc, n0, width, dst);
  else
    ISA(gemm_pack_matrix)(j, b, k0, kc, n0, width, dst);
}

// Rows of a packed panel.
static int64_t packed_rows(const gemm_job *j) { return j->precision == GEMM_FLOAT32 ? j->K : (j->K + 1) / 2; }

// block: the thread's own scratch
static void pack_panel(const gemm_job *j, const gemm_io *io, int64_t v, int width, float *block) {
  const float *b = io->b + j->b_offset;
  float *dst = io->packed + j->packed_offset + v * VW * packed_rows(j);
  if (j->precision == GEMM_FLOAT32) {
    pack_rows(j, b, 0, j->K, v * VW, width, dst);
    return;
  }
  for (int64_t k = 0; k < j->K; k += GEMM_KC) {
    int64_t kc = j->K - k < GEMM_KC ? j->K - k : GEMM_KC;
    pack_rows(j, b, k, kc, v * VW, width, block);
    ISA(bf16_pair_rows)(block, width, kc, width, dst + k / 2 * width, width);
  }
}

// Block kb of `blocks` of K; pairs stay together.
static void block_range(const gemm_job *j, int kb, int blocks, int64_t *k0, int64_t *k1) {
  int64_t step = j->precision == GEMM_FLOAT32 ? 1 : 2;
  split_range((j->K + step - 1) / step, kb, blocks, k0, k1);
  *k0 *= step, *k1 *= step;
  if (*k1 > j->K) *k1 = j->K;
}

// The vectors of columns that column part `part` has; its packed panels begin at begin * VW * packed_rows.
static void column_range(const gemm_job *j, int part, int64_t *begin, int64_t *end) {
  split_range((j->N + VW - 1) / VW, part, j->column_parts, begin, end);
}

static void pack_part(const gemm_job *j, const gemm_io *io, int part, float *block) {
  int64_t v0, v1;
  column_range(j, part, &v0, &v1);
  for (int64_t v = v0; v < v1; v += 2) pack_panel(j, io, v, v + 1 < v1 ? GEMM_NR : VW, block);
}

enum { GEMM_NARROW = 8 }; // vectors of columns

// --- one thread's share -------------------------------------------------------------------------------------------------------------

static void gather_matrix(const gemm_job *j, const float *a, int64_t m0, int64_t rows, int64_t k0, int64_t kc, float *dst) {
  for (int64_t r = 0; r < rows; r++) copy_floats(dst + r * GEMM_LD, a + (m0 + r) * j->lda + k0, kc);
}

// A stored (K,M): tile t of `rows` rows at m0 becomes dst[k][GEMM_KMAJOR_LD].
static void gather_transposed(const gemm_job *j, const float *a, int64_t m0, int rows, int64_t k0, int64_t kc, float *dst) {
  for (int64_t k = 0; k < kc; k++) copy_floats(dst + k * GEMM_KMAJOR_LD, a + (k0 + k) * j->lda + m0, rows);
}

// The usual tile: whole, with no more of an epilogue than bias and residual.
INLINE void store_whole(const float *tile, const int64_t *offset, int rows, float *c, const float *bias, const float *residual,
                        const bool first) {
  vfloat b[2] = {{0}, {0}};
  if (bias) b[0] = vload(bias), b[1] = vload(bias + VW);
  for (int r = 0; r < rows; r++, tile += GEMM_NR)
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) {
      float *to = c + offset[r] + v * VW;
      vfloat x = vload(tile + v * VW);
      if (!first) x += vload(to);
      if (bias) x += b[v];
      if (residual) x += vload(residual + offset[r] + v * VW);
      vstore(to, x);
    }
}

// Adds a tile to C and, after the last block of K, applies the epilogue.
void ISA(gemm_store_tile)(const gemm_job *j, const gemm_io *io, bool first, bool last, const float *tile, const int64_t *offset, int rows,
                          int64_t n0, int vectors) {
  const contraction_epilogue *e = &j->epilogue;
  float alpha = (float)e->alpha, slope = (float)e->slope;
  bool plain = e->alpha == 1 && e->activation == CONTRACTION_LINEAR && !io->pre;
  if (vectors == 2 && j->N - n0 >= GEMM_NR && (plain || !last)) {
    const float *bias = last && io->bias ? io->bias + j->n_offset + n0 : NULL;
    const float *residual = last && io->residual ? io->residual + n0 : NULL;
    if (first)
      store_whole(tile, offset, rows, io->c + n0, bias, residual, true);
    else
      store_whole(tile, offset, rows, io->c + n0, bias, residual, false);
    return;
  }
  for (int v = 0; v < vectors; v++) {
    int64_t n = n0 + v * VW, columns = j->N - n < VW ? j->N - n : VW;
    vfloat bias = io->bias && last ? vload_upto(io->bias + j->n_offset + n, columns) : (vfloat){0};
    for (int r = 0; r < rows; r++) {
      float *c = io->c + offset[r] + n;
      vfloat x = vload(tile + r * GEMM_NR + v * VW);
      if (!first) x += vload_upto(c, columns);
      if (last) {
        x = alpha * x + bias;
        if (io->residual) x += vload_upto(io->residual + offset[r] + n, columns);
        if (io->pre) vstore_upto(io->pre + offset[r] + n, x, columns);
        if (e->activation != CONTRACTION_LINEAR) x = activate(x, e->activation, slope);
      }
      vstore_upto(c, x, columns);
    }
  }
}

static void place_matrix(const gemm_job *j, int64_t m0, int rows, int64_t *offset) {
  for (int r = 0; r < rows; r++) offset[r] = j->c_offset + (m0 + r) * j->ldc;
}

// Packed columns from vector `v0` on; panels of `rows` rows each.
typedef struct packed_columns {
  const float *panels;
  int64_t v0, rows;
} packed_columns;

// Rows [m0, m0 + rows) of A as the micro-kernels take them.
static void gather_block(const gemm_job *j, const float *a, int64_t m0, int rows, int64_t k0, int64_t kc, float *block) {
  if (!j->a_transposed) {
    (j->gather ? j->gather : gather_matrix)(j, a, m0, rows, k0, kc, block);
    for (int64_t r = 0; r < rows && j->precision == GEMM_BF16_WIDENED; r++) ISA(bf16_round_row)(block + r * GEMM_LD, kc);
    for (int64_t r = 0; r < rows && j->precision == GEMM_BF16_DOT; r++) ISA(bf16_pair_elements)(block + r * GEMM_LD, kc);
    return;
  }
  for (int t = 0, tiles = gemm_tiles(rows); t < tiles; t++) {
    int64_t r0, r1;
    float *tile = block + t * GEMM_KMAJOR_LD * GEMM_KC;
    split_range(rows, t, tiles, &r0, &r1);
    gather_transposed(j, a, m0 + r0, (int)(r1 - r0), k0, kc, tile);
    if (j->precision == GEMM_BF16_WIDENED) ISA(bf16_round_row)(tile, kc * GEMM_KMAJOR_LD);
    if (j->precision == GEMM_BF16_DOT) ISA(bf16_pair_rows)(tile, GEMM_KMAJOR_LD, kc, GEMM_KMAJOR_LD, tile, GEMM_KMAJOR_LD);
  }
}

// tile = rows of A times `vectors` columns of B, over `steps` rows of the packed B
static void multiply_tile(const gemm_job *j, int rows, int vectors, int64_t steps, const float *a, const float *b, const tile_ahead *ahead,
                          float *tile) {
  if (j->precision != GEMM_BF16_DOT && rows < FEW_ROWS && !j->a_transposed) // bound by B, which the processor fetches by itself
    rows_table[rows - 1][vectors - 1](steps, a, b, vectors * VW, tile, GEMM_NR, false);
  else if (j->precision != GEMM_BF16_DOT)
    tile_table[rows - 1][j->a_transposed][vectors - 1](steps, a, b, ahead, tile);
  else if (!j->a_transposed)
    ISA(gemm_dot_rows)(rows, vectors, steps, a, b, vectors * VW, tile, GEMM_NR, false);
  else
    ISA(gemm_dot_outer)(rows, vectors, steps, a, GEMM_KMAJOR_LD, b, vectors * VW, tile, GEMM_NR, false);
}

// A thread's scratch: the block of A, then one panel's block of B, widened.
#define BLOCK_FLOATS                                                                          \
  (GEMM_ROWS * GEMM_LD > GEMM_ROWS / GEMM_MR * GEMM_KMAJOR_LD * GEMM_KC ? GEMM_ROWS * GEMM_LD \
                                                                        : GEMM_ROWS / GEMM_MR * GEMM_KMAJOR_LD * GEMM_KC)
#define THREAD_FLOATS (BLOCK_FLOATS + GEMM_KC * GEMM_NR)

// Block kb of `blocks` of K; rows [m0, m0 + rows), rows <= GEMM_ROWS, vectors of columns [v0, v1).
static void run_block(const gemm_job *j, const gemm_io *io, const packed_columns *packed, int64_t m0, int rows, int64_t v0, int64_t v1,
                      int kb, int blocks, float *block) {
  int64_t offset[GEMM_ROWS], k0, k1;
  float tile[GEMM_MR * GEMM_NR] __attribute__((aligned(64)));
  int tiles = gemm_tiles(rows);
  const float *a = io->a + j->a_offset;
  block_range(j, kb, blocks, &k0, &k1);
  (j->place ? j->place : place_matrix)(j, m0, rows, offset);
  gather_block(j, a, m0, rows, k0, k1 - k0, block);
  for (int64_t v = v0; v < v1; v += 2) {
    int vectors = v + 1 < v1 ? 2 : 1;
    int64_t steps = j->precision == GEMM_BF16_DOT ? (k1 - k0 + 1) / 2 : k1 - k0;
    const float *b = packed->panels + (v - packed->v0) * VW * packed->rows;
    if (!j->by_block) b += (j->precision == GEMM_FLOAT32 ? k0 : k0 / 2) * vectors * VW;
    if (!j->by_block && j->precision == GEMM_BF16_WIDENED) {
      ISA(bf16_widen_rows)(b, (k1 - k0 + 1) / 2, vectors * VW, block + BLOCK_FLOATS);
      b = block + BLOCK_FLOATS;
    }
    // The first tiles ask for the next panel, each for a line a step.
    const float *next = j->precision == GEMM_FLOAT32 && v + 2 < v1 ? b + packed->rows * GEMM_NR : NULL;
    for (int t = 0; t < tiles; t++) {
      int64_t r0, r1;
      split_range(rows, t, tiles, &r0, &r1);
      tile_ahead ahead = {next && t * 16 < GEMM_NR ? next + t * steps * 16 : b, io->c + v * VW, offset + r0};
      multiply_tile(j, (int)(r1 - r0), vectors, steps, block + (j->a_transposed ? t * GEMM_KMAJOR_LD * GEMM_KC : r0 * GEMM_LD), b, &ahead,
                    tile);
      ISA(gemm_store_tile)(j, io, kb == 0, kb == blocks - 1, tile, offset + r0, (int)(r1 - r0), v * VW, vectors);
    }
  }
}

// Columns and rows that are taken through all of K together. A block of K of so many columns of B stays in L2: the more, the less often A
// is gathered. Where B is packed by block, so does C.
enum { LEAST_COLUMNS = 128, MOST_COLUMNS = 1024, BY_BLOCK_COLUMNS = 512, PANEL_ROWS = 280, BY_BLOCK_ROWS = 640 };

static int panel_columns(void) {
  int64_t columns = cpu_cache_bytes(2) * 5 / 8 / (GEMM_KC * (int64_t)sizeof(float)) / GEMM_NR * GEMM_NR;
  return (int)(columns < LEAST_COLUMNS ? LEAST_COLUMNS : columns > MOST_COLUMNS ? MOST_COLUMNS : columns);
}

// A panel's block of a job that packs by block: nothing keeps it, so it lies as it is multiplied.
static void pack_own(const gemm_job *j, const float *b, int64_t k0, int64_t kc, int64_t n0, int width, float *dst) {
  ISA(gemm_pack_matrix)(j, b, k0, kc, n0, width, dst);
  if (j->precision == GEMM_BF16_WIDENED) ISA(bf16_round_row)(dst, kc * width);
  if (j->precision == GEMM_BF16_DOT) ISA(bf16_pair_rows)(dst, width, kc, width, dst, width);
}

// own: where a job that packs by block has its block
static void run_rows(const gemm_job *j, const gemm_io *io, int64_t m0, int64_t m1, int64_t v0, int64_t v1, float *block, float *own) {
  // With few columns one tile of rows at a time, which its own gathering leaves in L1; with many, as much as L2 holds, so that B is not
  // read again for every tile.
  int64_t most = v1 - v0 <= GEMM_NARROW && j->precision != GEMM_BF16_WIDENED ? GEMM_MR : GEMM_ROWS, blocks = (m1 - m0 + most - 1) / most;
  int64_t k_blocks = j->K <= GEMM_KC ? 1 : (j->K + GEMM_KC - 1) / GEMM_KC; // an empty sum is still the epilogue of zero
  int64_t column_step = k_blocks > 1 ? j->panel_columns / VW : v1 - v0, group = k_blocks > 1 ? PANEL_ROWS / most : 1;
  if (j->by_block) group = blocks;
  for (int64_t v = v0; v < v1; v += column_step) {
    int64_t v_end = v1 - v < column_step ? v1 : v + column_step;
    for (int64_t g = 0; g < blocks; g += group)
      for (int64_t kb = 0; kb < k_blocks; kb++) {
        packed_columns packed = {io->packed + j->packed_offset, 0, packed_rows(j)};
        if (j->by_block) {
          int64_t k0, k1;
          block_range(j, (int)kb, (int)k_blocks, &k0, &k1);
          packed = (packed_columns){own, v, k1 - k0};
          for (int64_t p = v; p < v_end; p += 2)
            pack_own(j, io->b + j->b_offset, k0, k1 - k0, p * VW, p + 1 < v_end ? GEMM_NR : VW, own + (p - v) * VW * (k1 - k0));
        }
        for (int64_t i = g; i < blocks && i < g + group; i++) {
          int64_t b0, b1;
          split_range(m1 - m0, (int)i, (int)blocks, &b0, &b1);
          run_block(j, io, &packed, m0 + b0, (int)(b1 - b0), v, v_end, (int)kb, (int)k_blocks, block);
        }
      }
  }
}

// --- sharing the work ---------------------------------------------------------------------------------------------------------------

const char *ISA(gemm_name)(gemm_precision precision) {
  static const char *const names[] = {"own:gemm." ISA_TEXT, "own:gemm_bf16." ISA_TEXT, "own:gemm_bf16_dot." ISA_TEXT};
  return names[precision];
}

size_t ISA(gemm_scratch_bytes)(int threads) { return (size_t)threads * THREAD_FLOATS * sizeof(float); }

// Columns when they divide well, as every thread then packs what it uses; rows otherwise. Costs in cycles of one vector operation a cycle.
int64_t ISA(gemm_plan)(gemm_job *j, int threads) {
  if (ISA(gemm_panel_takes)(j)) return ISA(gemm_panel_plan)(j, threads);
  int64_t vectors = (j->N + VW - 1) / VW;
  double best = INFINITY;
  for (int columns = 1; columns <= threads; columns++) {
    if (threads % columns) continue;
    int rows = threads / columns;
    double m = (double)((j->M + rows - 1) / rows), v = (double)((vectors + columns - 1) / columns);
    double pack = rows == 1 ? v * 4 : (double)vectors * 4 / threads;
    double cost = (double)j->K * (m * v + m * 0.2 + pack) + (rows == 1 ? 0 : 5000);
    if (cost < best) best = cost, j->row_parts = rows, j->column_parts = columns;
  }
  // What a block of K needs of C should stay in the cache, and there must be more of B than a block to gain anything.
  j->by_block = !j->keep && !j->pack && j->row_parts == 1 && j->K > GEMM_KC && j->M <= BY_BLOCK_ROWS;
  j->panel_columns = j->by_block ? BY_BLOCK_COLUMNS : panel_columns();
  return j->by_block ? (int64_t)threads * BY_BLOCK_COLUMNS * GEMM_KC : vectors * VW * packed_rows(j);
}

typedef struct gemm_region {
  const gemm_job *jobs;
  int64_t n;
  const gemm_io *io;
  bool pack, compute;
} gemm_region;

static void pack_share(const gemm_region *region, const gemm_job *j, int row_part, int column_part, float *block) {
  int64_t v0, v1;
  if (j->row_parts == 1) {
    pack_part(j, region->io, column_part, block);
    return;
  }
  column_range(j, column_part, &v0, &v1); // parts that share columns take turns at the panels
  for (int64_t v = v0 + 2 * row_part; v < v1; v += 2 * j->row_parts) pack_panel(j, region->io, v, v + 1 < v1 ? GEMM_NR : VW, block);
}

// Jobs that read the same A (the sets of a transposed convolution) go over it together, SLICE rows of each in turn.
enum { SLICE = 512 };

static void gemm_thread(void *arg, int id, int count) {
  const gemm_region *region = arg;
  float *block = region->io->scratch + (int64_t)id * THREAD_FLOATS;
  int64_t slices = 1;
  for (int64_t i = 0; i < region->n; i++) {
    const gemm_job *j = region->jobs + i;
    int64_t need = (j->M / j->row_parts + SLICE - 1) / SLICE;
    if (region->n > 1 && need > slices) slices = need;
    for (int part = id; region->pack && !j->by_block && !gemm_by_panel(j) && part < j->row_parts * j->column_parts; part += count)
      pack_share(region, j, part / j->column_parts, part % j->column_parts, block);
  }
  for (int64_t slice = 0; region->compute && slice < slices; slice++)
    for (int64_t i = 0; i < region->n; i++) {
      const gemm_job *j = region->jobs + i;
      for (int part = id; part < j->row_parts * j->column_parts; part += count) {
        if (gemm_by_panel(j)) {
          if (slice == 0) ISA(gemm_panel_run)(j, region->io, part);
          continue;
        }
        int64_t m0, m1, s0, s1, v0, v1;
        split_range(j->M, part / j->column_parts, j->row_parts, &m0, &m1);
        split_range(m1 - m0, (int)slice, (int)slices, &s0, &s1);
        column_range(j, part % j->column_parts, &v0, &v1);
        run_rows(j, region->io, m0 + s0, m0 + s1, v0, v1, block, region->io->packed + part * (int64_t)(BY_BLOCK_COLUMNS * GEMM_KC));
      }
    }
}

void ISA(gemm_run)(const thread_pool *pool, const gemm_job *jobs, int64_t n, const gemm_io *io) {
  bool shared = false; // some thread uses what another has packed
  for (int64_t i = 0; i < n; i++) shared |= jobs[i].row_parts > 1 && !gemm_by_panel(&jobs[i]);
  gemm_region region = {jobs, n, io, !io->packed_valid, io->packed_valid || !shared};
  parallel_run(pool, gemm_thread, &region);
  if (region.compute) return;
  region.pack = false, region.compute = true;
  parallel_run(pool, gemm_thread, &region);
}

void ISA(gemm_run_single)(const gemm_job *j, const gemm_io *io, float *scratch) {
  int64_t vectors = (j->N + VW - 1) / VW;
  gemm_job one = *j;
  one.row_parts = one.column_parts = 1;
  if (gemm_by_panel(j)) {
    ISA(gemm_panel_run)(&one, io, 0);
    return;
  }
  if (!io->packed_valid && !j->by_block) pack_part(&one, io, 0, scratch);
  run_rows(&one, io, 0, j->M, 0, vectors, scratch, io->packed);
}

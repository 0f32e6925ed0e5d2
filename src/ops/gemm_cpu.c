#include "ops/gemm_cpu.h"

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
  static void outer_##rows##_##vectors(int64_t K, const float *a, int64_t lda, const float *b, int64_t ldb, float *acc, int64_t ld_acc, \
                                       bool add) {                                                                                      \
    outer_body(rows, vectors, K, a, lda, b, ldb, acc, ld_acc, add);                                                                     \
  }
#if GEMM_MR == 14
#define FOR_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#else
#define FOR_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif
#define BOTH(rows) MICRO(rows, 1) MICRO(rows, 2)
FOR_ROWS(BOTH)
#define ROWS_ENTRY(rows) {rows_##rows##_1, rows_##rows##_2},
#define PAIRS_ENTRY(rows) {pairs_##rows##_1, pairs_##rows##_2},
#define OUTER_ENTRY(rows) {outer_##rows##_1, outer_##rows##_2},
static const rows_fn rows_table[GEMM_MR][2] = {FOR_ROWS(ROWS_ENTRY)};
static const pairs_fn pairs_table[GEMM_MR][2] = {FOR_ROWS(PAIRS_ENTRY)};
static const outer_fn outer_table[GEMM_MR][2] = {FOR_ROWS(OUTER_ENTRY)};

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
static void pack_matrix(const gemm_job *j, const float *b, int64_t k0, int64_t K, int64_t n0, int width, float *dst) {
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
      for (int64_t k = 0; k < K; k++) vstore(dst + k * width + v, load_upto(b + k * j->ldb + v, columns));
    } else if (columns == VW) {
      pack_transposed(K, b + v * j->ldb, j->ldb, width, dst + v);
    } else {
      for (int64_t k = 0; k < K; k++) vstore(dst + k * width + v, (vfloat){0});
      for (int64_t n = 0; n < columns; n++)
        for (int64_t k = 0; k < K; k++) dst[k * width + v + n] = b[(v + n) * j->ldb + k];
    }
  }
}

static void pack_panel(const gemm_job *j, const gemm_io *io, int64_t v, int width) {
  float *dst = io->packed + j->packed_offset + v * VW * j->K;
  if (j->pack)
    j->pack(j, io->b + j->b_offset, v * VW, width, dst);
  else
    pack_matrix(j, io->b + j->b_offset, 0, j->K, v * VW, width, dst);
}

// The vectors of columns that column part `part` has; its packed panels begin at begin * VW * K.
static void column_range(const gemm_job *j, int part, int64_t *begin, int64_t *end) {
  split_range((j->N + VW - 1) / VW, part, j->column_parts, begin, end);
}

static void pack_part(const gemm_job *j, const gemm_io *io, int part) {
  int64_t v0, v1;
  column_range(j, part, &v0, &v1);
  for (int64_t v = v0; v < v1; v += 2) pack_panel(j, io, v, v + 1 < v1 ? GEMM_NR : VW);
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

typedef struct tile_store {
  const gemm_job *job;
  const gemm_io *io;
  bool first, last; // of the blocks of K
} tile_store;

// Adds a tile to C and, after the last block of K, applies the epilogue.
static void store_tile(const tile_store *s, const float *tile, const int64_t *offset, int rows, int64_t n0, int vectors) {
  const gemm_job *j = s->job;
  const gemm_io *io = s->io;
  const contraction_epilogue *e = &j->epilogue;
  float alpha = (float)e->alpha, slope = (float)e->slope;
  for (int v = 0; v < vectors; v++) {
    int64_t n = n0 + v * VW, columns = j->N - n < VW ? j->N - n : VW;
    vfloat bias = io->bias && s->last ? load_upto(io->bias + j->n_offset + n, columns) : (vfloat){0};
    for (int r = 0; r < rows; r++) {
      float *c = io->c + offset[r] + n;
      vfloat x = vload(tile + r * GEMM_NR + v * VW);
      if (!s->first) x += load_upto(c, columns);
      if (s->last) {
        x = alpha * x + bias;
        if (io->residual) x += load_upto(io->residual + offset[r] + n, columns);
        if (io->pre) store_upto(io->pre + offset[r] + n, x, columns);
        if (e->activation != CONTRACTION_LINEAR) x = activate(x, e->activation, slope);
      }
      store_upto(c, x, columns);
    }
  }
}

static void place_matrix(const gemm_job *j, int64_t m0, int rows, int64_t *offset) {
  for (int r = 0; r < rows; r++) offset[r] = j->c_offset + (m0 + r) * j->ldc;
}

// Packed columns from vector `v0` on; panels of K rows each.
typedef struct packed_columns {
  const float *panels;
  int64_t v0, K;
} packed_columns;

// Block kb of `blocks` of K; rows [m0, m0 + rows), rows <= GEMM_ROWS, vectors of columns [v0, v1).
static void run_block(const gemm_job *j, const gemm_io *io, const packed_columns *packed, int64_t m0, int rows, int64_t v0, int64_t v1,
                      int kb, int blocks, float *block) {
  int64_t offset[GEMM_ROWS], k0, k1;
  float tile[GEMM_MR * GEMM_NR] __attribute__((aligned(64)));
  int tiles = gemm_tiles(rows);
  const float *a = io->a + j->a_offset;
  const tile_store s = {j, io, kb == 0, kb == blocks - 1};
  split_range(j->K, kb, blocks, &k0, &k1);
  (j->place ? j->place : place_matrix)(j, m0, rows, offset);
  for (int r = 0; r < rows && s.first; r++) // C comes to the cache while the product is computed, not when it is stored
    for (int64_t n = v0 * VW; n < v1 * VW && n < j->N; n += 16) __builtin_prefetch(io->c + offset[r] + n, 1);
  if (!j->a_transposed) {
    (j->gather ? j->gather : gather_matrix)(j, a, m0, rows, k0, k1 - k0, block);
  } else {
    for (int t = 0; t < tiles; t++) {
      int64_t r0, r1;
      split_range(rows, t, tiles, &r0, &r1);
      gather_transposed(j, a, m0 + r0, (int)(r1 - r0), k0, k1 - k0, block + t * GEMM_KMAJOR_LD * GEMM_KC);
    }
  }
  for (int64_t v = v0; v < v1; v += 2) {
    int vectors = v + 1 < v1 ? 2 : 1;
    const float *b = packed->panels + (v - packed->v0) * VW * packed->K + (j->by_block ? 0 : k0 * vectors * VW);
    for (int t = 0; t < tiles; t++) {
      int64_t r0, r1;
      split_range(rows, t, tiles, &r0, &r1);
      int tile_rows = (int)(r1 - r0);
      if (!j->a_transposed)
        rows_table[tile_rows - 1][vectors - 1](k1 - k0, block + r0 * GEMM_LD, b, vectors * VW, tile, GEMM_NR, false);
      else
        outer_table[tile_rows - 1][vectors - 1](k1 - k0, block + t * GEMM_KMAJOR_LD * GEMM_KC, GEMM_KMAJOR_LD, b, vectors * VW, tile,
                                                GEMM_NR, false);
      store_tile(&s, tile, offset + r0, tile_rows, v * VW, vectors);
    }
  }
}

// Columns and rows that are taken through all of K together: a block of K of so many columns of B, and so much of C, stay in L2.
enum { PANEL_COLUMNS = 512, PANEL_ROWS = 280, BY_BLOCK_ROWS = 640 };

// own: where a job that packs by block has its block
static void run_rows(const gemm_job *j, const gemm_io *io, int64_t m0, int64_t m1, int64_t v0, int64_t v1, float *block, float *own) {
  // With few columns one tile of rows at a time, which its own gathering leaves in L1; with many, as much as L2 holds, so that B is not
  // read again for every tile.
  int64_t most = v1 - v0 <= GEMM_NARROW ? GEMM_MR : GEMM_ROWS, blocks = (m1 - m0 + most - 1) / most;
  int64_t k_blocks = j->K <= GEMM_KC ? 1 : (j->K + GEMM_KC - 1) / GEMM_KC; // an empty sum is still the epilogue of zero
  int64_t column_step = k_blocks > 1 ? PANEL_COLUMNS / VW : v1 - v0, group = k_blocks > 1 ? PANEL_ROWS / most : 1;
  if (j->by_block) group = blocks;
  for (int64_t v = v0; v < v1; v += column_step) {
    int64_t v_end = v1 - v < column_step ? v1 : v + column_step;
    for (int64_t g = 0; g < blocks; g += group)
      for (int64_t kb = 0; kb < k_blocks; kb++) {
        packed_columns packed = {io->packed + j->packed_offset, 0, j->K};
        if (j->by_block) {
          int64_t k0, k1;
          split_range(j->K, (int)kb, (int)k_blocks, &k0, &k1);
          packed = (packed_columns){own, v, k1 - k0};
          for (int64_t p = v; p < v_end; p += 2)
            pack_matrix(j, io->b + j->b_offset, k0, k1 - k0, p * VW, p + 1 < v_end ? GEMM_NR : VW, own + (p - v) * VW * (k1 - k0));
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

#define BLOCK_FLOATS                                                                          \
  (GEMM_ROWS * GEMM_LD > GEMM_ROWS / GEMM_MR * GEMM_KMAJOR_LD * GEMM_KC ? GEMM_ROWS * GEMM_LD \
                                                                        : GEMM_ROWS / GEMM_MR * GEMM_KMAJOR_LD * GEMM_KC)

size_t ISA(gemm_scratch_bytes)(int threads) { return (size_t)threads * BLOCK_FLOATS * sizeof(float); }

// Columns when they divide well, as every thread then packs what it uses; rows otherwise. Costs in cycles of one vector operation a cycle.
int64_t ISA(gemm_plan)(gemm_job *j, int threads) {
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
  return j->by_block ? (int64_t)threads * PANEL_COLUMNS * GEMM_KC : vectors * VW * j->K;
}

typedef struct gemm_region {
  const gemm_job *jobs;
  int64_t n;
  const gemm_io *io;
  bool pack, compute;
} gemm_region;

static void pack_share(const gemm_region *region, const gemm_job *j, int row_part, int column_part) {
  int64_t v0, v1;
  if (j->row_parts == 1) {
    pack_part(j, region->io, column_part);
    return;
  }
  column_range(j, column_part, &v0, &v1); // parts that share columns take turns at the panels
  for (int64_t v = v0 + 2 * row_part; v < v1; v += 2 * j->row_parts) pack_panel(j, region->io, v, v + 1 < v1 ? GEMM_NR : VW);
}

// Jobs that read the same A (the sets of a transposed convolution) go over it together, SLICE rows of each in turn.
enum { SLICE = 512 };

static void gemm_thread(void *arg, int id, int count) {
  const gemm_region *region = arg;
  float *block = region->io->scratch + (int64_t)id * BLOCK_FLOATS;
  int64_t slices = 1;
  for (int64_t i = 0; i < region->n; i++) {
    const gemm_job *j = region->jobs + i;
    int64_t need = (j->M / j->row_parts + SLICE - 1) / SLICE;
    if (region->n > 1 && need > slices) slices = need;
    for (int part = id; region->pack && !j->by_block && part < j->row_parts * j->column_parts; part += count)
      pack_share(region, j, part / j->column_parts, part % j->column_parts);
  }
  for (int64_t slice = 0; region->compute && slice < slices; slice++)
    for (int64_t i = 0; i < region->n; i++) {
      const gemm_job *j = region->jobs + i;
      for (int part = id; part < j->row_parts * j->column_parts; part += count) {
        int64_t m0, m1, s0, s1, v0, v1;
        split_range(j->M, part / j->column_parts, j->row_parts, &m0, &m1);
        split_range(m1 - m0, (int)slice, (int)slices, &s0, &s1);
        column_range(j, part % j->column_parts, &v0, &v1);
        run_rows(j, region->io, m0 + s0, m0 + s1, v0, v1, block, region->io->packed + part * (int64_t)(PANEL_COLUMNS * GEMM_KC));
      }
    }
}

void ISA(gemm_run)(const thread_pool *pool, const gemm_job *jobs, int64_t n, const gemm_io *io) {
  bool shared = false; // some thread uses what another has packed
  for (int64_t i = 0; i < n; i++) shared |= jobs[i].row_parts > 1;
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
  if (!io->packed_valid && !j->by_block) pack_part(&one, io, 0);
  run_rows(&one, io, 0, j->M, 0, vectors, scratch, io->packed);
}

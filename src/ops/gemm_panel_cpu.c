// Products with so few rows that all of A stays in a core's second cache: the layers of an MLP, and their gradients.
//
// The general way (gemm_cpu.c) packs B whole or by blocks of K and goes over it for every block of rows. Here B is used up panel by panel:
// one panel of 2 VW columns and a block of K is packed into a piece of memory that never leaves the first cache, multiplied with all rows,
// and forgotten. Nothing of B but its source is read from further away, and what is left of packing is hidden by asking for the next
// panel's source while this one is multiplied. A is read where it lies; only a transposed one is copied, once.
#include "ops/gemm_panel.h"

#include "core/ctx.h"

#define INLINE static inline __attribute__((always_inline))

// --- the tile's kernel --------------------------------------------------------------------------------------------------------------

enum { UNROLL = 4 };

// c (+)= A B: rows of A `lda` apart, or, transposed, steps of k GEMM_KMAJOR_LD apart
INLINE void panel_body(const int rows, const int vectors, const bool transposed, int64_t K, const float *restrict a, int64_t lda,
                       const float *restrict b, float *restrict c, int64_t ldc, bool add) {
  vfloat acc[GEMM_MR][2];
  int64_t k = 0;
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++) {
    for (int n = 0; n < vectors * VW; n += 16) __builtin_prefetch(c + r * ldc + n, 1);
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) acc[r][v] = (vfloat){0};
  }
#define STEP(at)                                                                                             \
  do {                                                                                                       \
    vfloat bv[2];                                                                                            \
    _Pragma("GCC unroll 2") for (int v = 0; v < vectors; v++) bv[v] = vload(b + (at)*vectors * VW + v * VW); \
    _Pragma("GCC unroll 14") for (int r = 0; r < rows; r++) {                                                \
      vfloat ar = vsplat(transposed ? a[(at)*GEMM_KMAJOR_LD + r] : a[r * lda + (at)]);                       \
      _Pragma("GCC unroll 2") for (int v = 0; v < vectors; v++) acc[r][v] += ar * bv[v];                     \
    }                                                                                                        \
  } while (0)
  for (; k + UNROLL <= K; k += UNROLL) {
#pragma GCC unroll 4
    for (int u = 0; u < UNROLL; u++) STEP(u);
    a += UNROLL * (transposed ? GEMM_KMAJOR_LD : 1);
    b += UNROLL * vectors * VW;
  }
  for (; k < K; k++) {
    STEP(0);
    a += transposed ? GEMM_KMAJOR_LD : 1;
    b += vectors * VW;
  }
#undef STEP
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
      float *to = c + r * ldc + v * VW;
      vstore(to, add ? vload(to) + acc[r][v] : acc[r][v]);
    }
}

typedef void (*panel_fn)(int64_t K, const float *a, int64_t lda, const float *b, float *c, int64_t ldc, bool add);

#define PANEL(rows, vectors)                                                                                                            \
  static void panel_rows_##rows##_##vectors(int64_t K, const float *a, int64_t lda, const float *b, float *c, int64_t ldc, bool add) {  \
    panel_body(rows, vectors, false, K, a, lda, b, c, ldc, add);                                                                        \
  }                                                                                                                                     \
  static void panel_outer_##rows##_##vectors(int64_t K, const float *a, int64_t lda, const float *b, float *c, int64_t ldc, bool add) { \
    panel_body(rows, vectors, true, K, a, lda, b, c, ldc, add);                                                                         \
  }
#define BOTH(rows) PANEL(rows, 1) PANEL(rows, 2)
GEMM_FOR_ROWS(BOTH)
#define ENTRY(rows) {{panel_rows_##rows##_1, panel_rows_##rows##_2}, {panel_outer_##rows##_1, panel_outer_##rows##_2}},
static const panel_fn panel_table[GEMM_MR][2][2] = {GEMM_FOR_ROWS(ENTRY)}; // [rows][A transposed][vectors]

// --- what a job needs ---------------------------------------------------------------------------------------------------------------

// Blocks of K: a panel and a tile's rows of A take three quarters of a first cache of 32 KiB or more.
enum { PANEL_KC = 24576 / (4 * (GEMM_NR + GEMM_MR)) / UNROLL * UNROLL, LEAST_ROWS = GEMM_MR };

static int64_t blocks_of(int64_t K) { return K <= PANEL_KC ? 1 : (K + PANEL_KC - 1) / PANEL_KC; }

// Floats of a thread's copy of a transposed A: tiles, each [k][GEMM_KMAJOR_LD].
static int64_t copied_floats(const gemm_job *j) { return j->a_transposed ? gemm_tiles(j->M) * j->K * GEMM_KMAJOR_LD : 0; }

bool ISA(gemm_panel_takes)(const gemm_job *j) {
  if (j->keep || j->gather || j->pack || j->place || j->precision != GEMM_FLOAT32 || j->M < LEAST_ROWS) return false;
  int64_t floats = j->a_transposed ? copied_floats(j) : j->M * j->K;
  return floats * (int64_t)sizeof(float) <= cpu_cache_bytes(2) / 2;
}

static int64_t panel_floats(void) { return PANEL_KC * GEMM_NR; }

int64_t ISA(gemm_panel_plan)(gemm_job *j, int threads) {
  // Columns when every thread may as well read all of A; rows when it is cheaper that each packs all of B.
  bool rows = j->N * 4 <= j->M * (j->a_transposed ? 4 : 1);
  j->panel_columns = 0, j->by_block = false;
  j->row_parts = rows ? threads : 1, j->column_parts = rows ? 1 : threads;
  return threads * (panel_floats() + copied_floats(j));
}

// --- one thread's share -------------------------------------------------------------------------------------------------------------

typedef struct panel_share {
  const gemm_job *job;
  const gemm_io *io;
  int tiles;
  float *panel, *copy; // packed B; transposed A
} panel_share;

static void copy_tiles(const panel_share *s, int t0, int t1) {
  const gemm_job *j = s->job;
  for (int t = t0; t < t1; t++) {
    int64_t r0, r1;
    split_range(j->M, t, s->tiles, &r0, &r1);
    const float *from = s->io->a + j->a_offset + r0;
    float *to = s->copy + t * j->K * GEMM_KMAJOR_LD;
    if (r0 + VW <= j->M && VW == GEMM_KMAJOR_LD) // more than the tile has does no harm
      for (int64_t k = 0; k < j->K; k++) vstore(to + k * GEMM_KMAJOR_LD, vload(from + k * j->lda));
    else
      for (int64_t k = 0; k < j->K; k++) copy_floats(to + k * GEMM_KMAJOR_LD, from + k * j->lda, r1 - r0);
  }
}

// Lines of the source of columns [n0, n0 + NR) and steps [k0, k0 + kc): line i of `count`.
static void fetch_source(const gemm_job *j, const float *b, int64_t n0, int64_t k0, int64_t kc, int64_t from, int64_t to) {
  if (!j->b_transposed) {
    const float *at = b + (k0 + from) * j->ldb + n0;
    for (int64_t i = from; i < to && i < kc; i++, at += j->ldb)
      for (int n = 0; n < GEMM_NR; n += 16) __builtin_prefetch(at + n, 0, 2);
    return;
  }
  int64_t lines = (kc + 15) / 16;
  for (int64_t i = from; i < to && i < lines * GEMM_NR; i++) {
    int64_t n = n0 + i / lines;
    if (n < j->N) __builtin_prefetch(b + n * j->ldb + k0 + i % lines * 16, 0, 2);
  }
}

// Tiles [t0, t1) of one panel, from column n0 on.
static void run_panel(const panel_share *s, int64_t n0, int t0, int t1) {
  const gemm_job *j = s->job;
  const gemm_io *io = s->io;
  const float *a = io->a + j->a_offset, *b = io->b + j->b_offset;
  int64_t blocks = blocks_of(j->K);
  int vectors = j->N - n0 > VW ? 2 : 1;
  bool whole = j->N - n0 >= vectors * VW;
  bool plain = j->epilogue.alpha == 1 && j->epilogue.activation == CONTRACTION_LINEAR && !io->pre && !io->bias && !io->residual;
  for (int64_t kb = 0; kb < blocks; kb++) {
    int64_t k0, k1;
    split_range(j->K, (int)kb, (int)blocks, &k0, &k1);
    ISA(gemm_pack_matrix)(j, b, k0, k1 - k0, n0, vectors * VW, s->panel);
    bool last = kb == blocks - 1, direct = whole && (plain || !last);
    // the next block of this panel, or the first of the next
    int64_t next_n = last ? n0 + GEMM_NR : n0, next_k = last ? 0 : k1;
    int64_t lines = next_n < j->N ? (j->b_transposed ? (k1 - k0 + 15) / 16 * GEMM_NR : k1 - k0) : 0;
    for (int t = t0; t < t1; t++) {
      int64_t r0, r1, f0, f1;
      split_range(j->M, t, s->tiles, &r0, &r1);
      split_range(lines, t - t0, t1 - t0, &f0, &f1);
      fetch_source(j, b, next_n, next_k, k1 - k0, f0, f1);
      const float *at = j->a_transposed ? s->copy + (t * j->K + k0) * GEMM_KMAJOR_LD : a + r0 * j->lda + k0;
      panel_fn run = panel_table[r1 - r0 - 1][j->a_transposed][vectors - 1];
      float *c = io->c + j->c_offset + r0 * j->ldc + n0;
      if (direct) {
        run(k1 - k0, at, j->lda, s->panel, c, j->ldc, kb > 0);
        continue;
      }
      float tile[GEMM_MR * GEMM_NR] __attribute__((aligned(64)));
      int64_t offset[GEMM_MR];
      for (int64_t r = 0; r < r1 - r0; r++) offset[r] = j->c_offset + (r0 + r) * j->ldc;
      run(k1 - k0, at, j->lda, s->panel, tile, GEMM_NR, false);
      ISA(gemm_store_tile)(j, io, kb == 0, last, tile, offset, (int)(r1 - r0), n0, vectors);
    }
  }
}

// Items are a panel's tiles, counted by vectors of columns; a share of them may begin and end within a panel.
void ISA(gemm_panel_run)(const gemm_job *j, const gemm_io *io, int part) {
  int tiles = gemm_tiles(j->M), parts = j->row_parts * j->column_parts;
  float *memory = io->packed + j->packed_offset + part * (panel_floats() + copied_floats(j));
  panel_share s = {j, io, tiles, memory, memory + panel_floats()};
  if (j->row_parts > 1) {
    int64_t t0, t1;
    split_range(tiles, part, parts, &t0, &t1);
    if (j->a_transposed) copy_tiles(&s, (int)t0, (int)t1);
    for (int64_t n0 = 0; n0 < j->N && t0 < t1; n0 += GEMM_NR) run_panel(&s, n0, (int)t0, (int)t1);
    return;
  }
  int64_t vectors = (j->N + VW - 1) / VW, i0, i1;
  split_range(vectors * tiles, part, parts, &i0, &i1);
  if (i0 >= i1) return;
  int64_t p0 = i0 / (2 * tiles), p1 = (i1 - 1) / (2 * tiles);
  for (int64_t p = p0; p <= p1; p++) {
    int64_t width = vectors - 2 * p < 2 ? 1 : 2, begin = 2 * tiles * p;
    int t0 = i0 > begin ? (int)((i0 - begin) / width) : 0, t1 = i1 < begin + width * tiles ? (int)((i1 - begin) / width) : tiles;
    if (j->a_transposed && p == p0) copy_tiles(&s, p0 == p1 ? t0 : 0, p0 == p1 ? t1 : tiles);
    if (t0 < t1) run_panel(&s, p * GEMM_NR, t0, t1);
  }
}

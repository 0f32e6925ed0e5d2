// C = epilogue(A B) in float32 on one instruction set: what linear, matmul and the convolutions run on. Only *_cpu.c files include this.
//
// A job is one product of M x N x K. B is packed beforehand into panels [k][2 VW] (columns past N are zero); the last panel of a column
// part is [k][VW] where one vector is enough. Blocks of A, `GEMM_ROWS` rows by at most `GEMM_KC` of K, are gathered into a thread's own
// scratch (L2) with a fixed row length GEMM_LD, so that the micro-kernel reaches every row by a constant displacement. A convolution
// gathers its image patches there, block by block: the whole patch matrix never exists.
#ifndef OPS_GEMM_CPU_H
#define OPS_GEMM_CPU_H

#include "ops/bf16.h"
#include "ops/contraction.h"
#include "ops/isa.h"
#include "ops/vec_part.h"

#if VW == 16
#define GEMM_MR 14 // 28 accumulators of 32 registers
#define GEMM_FOR_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define GEMM_ROWS 56
#define GEMM_KC 320
#else
#define GEMM_MR 6 // 12 accumulators of 16 registers
#define GEMM_FOR_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define GEMM_ROWS 48
#define GEMM_KC 256
#endif
#define GEMM_NR (2 * VW)
#define GEMM_LD (GEMM_KC + 16)            // an odd number of cache lines
#define GEMM_KMAJOR_LD (VW >= 8 ? VW : 8) // row length of a tile of transposed A: [k][GEMM_KMAJOR_LD]

typedef struct gemm_job gemm_job;

// How the operands are multiplied. Of the two that round them to bfloat16 (packed B then lies in pairs, ops/bf16.h), one widens them to
// float32 again, so that its products are those of any processor, and one leaves the pairs to the processor's own instruction.
typedef enum gemm_precision { GEMM_FLOAT32, GEMM_BF16_WIDENED, GEMM_BF16_DOT } gemm_precision;

// Where the instruction has but a quarter of the multiply-adds' rate it pays for so few rows, which are bound by reading B.
enum { GEMM_DOT_ROWS = 3 };
static inline gemm_precision gemm_precision_of(bool bf16, bf16_unit unit, int64_t M) {
  if (!bf16) return GEMM_FLOAT32;
  return unit == BF16_FULL_RATE || (unit != BF16_NONE && M <= GEMM_DOT_ROWS) ? GEMM_BF16_DOT : GEMM_BF16_WIDENED;
}

// The arrays of one run. Offsets in jobs are in elements.
typedef struct gemm_io {
  const float *a, *b, *bias, *residual;
  float *c, *pre;    // pre: the value before the activation, or NULL
  float *packed;     // B of all jobs
  bool packed_valid; // B is packed already
  float *scratch;    // gemm_scratch_bytes
} gemm_io;

struct gemm_job {
  int64_t M, N, K;
  gemm_precision precision;
  int64_t a_offset, b_offset, c_offset, n_offset; // n_offset: of the bias
  int64_t packed_offset;
  int64_t lda, ldb, ldc;
  bool a_transposed, b_transposed; // stored (K,M), (N,K)
  // Fills dst[r * GEMM_LD + k] with A[m0 + r][k0 + k]; NULL: A is the matrix at `a`.
  void (*gather)(const gemm_job *j, const float *a, int64_t m0, int64_t rows, int64_t k0, int64_t kc, float *dst);
  // Packs rows [k0, k0 + kc) of columns [n0, n0 + width) into dst[k * width + n]; NULL: B is the matrix at `b`.
  void (*pack)(const gemm_job *j, const float *b, int64_t k0, int64_t kc, int64_t n0, int width, float *dst);
  // Where row m0 + r of C begins; NULL: c_offset + (m0 + r) ldc.
  void (*place)(const gemm_job *j, int64_t m0, int rows, int64_t *offset);
  const void *user;
  contraction_epilogue epilogue;
  bool keep; // B is packed once for many runs
  // set by gemm_plan
  int row_parts, column_parts; // row_parts * column_parts threads
  bool by_block;               // B is packed block by block of K as it is used, and is never packed whole
  int panel_columns;           // taken through all of K together
};

// "own:gemm.v4", "own:gemm_bf16.v4", "own:gemm_bf16_dot.v4"
const char *ISA(gemm_name)(gemm_precision precision);
// Chooses how `threads` share the job, and gives the elements that its packed B takes.
int64_t ISA(gemm_plan)(gemm_job *j, int threads);
// Bytes of scratch of a run on `threads` (without packed B).
size_t ISA(gemm_scratch_bytes)(int threads);
// Runs all jobs; they must not depend on each other.
void ISA(gemm_run)(const thread_pool *pool, const gemm_job *jobs, int64_t n, const gemm_io *io);
// One job wholly in the calling thread, packing included.
void ISA(gemm_run_single)(const gemm_job *j, const gemm_io *io, float *scratch);

// acc[r * ld_acc + n] (+)= sum over k of a[k * lda + r] b[k * ldb + n], r < rows <= GEMM_MR, n < vectors * VW, vectors 1 or 2.
void ISA(gemm_outer)(int rows, int vectors, int64_t K, const float *a, int64_t lda, const float *b, int64_t ldb, float *acc, int64_t ld_acc,
                     bool add);
// acc[r * ld_acc + n] (+)= sum over k of a[r * GEMM_LD + k] b[k * ldb + n]; rows, n and vectors as above.
void ISA(gemm_rows)(int rows, int vectors, int64_t K, const float *a, const float *b, int64_t ldb, float *acc, int64_t ld_acc, bool add);
// acc[r * ld_acc + 2 n + i] += sum over even k of a[r * GEMM_LD + k + i] b[k / 2 * ldb + 2 n + i], i 0 and 1, K even: for matrices with
// half a vector of columns, two rows of which lie interleaved in a row of b. The two halves are left for the caller to add.
void ISA(gemm_pairs)(int rows, int vectors, int64_t K, const float *a, const float *b, int64_t ldb, float *acc, int64_t ld_acc);

// Rows of tile t when `rows` are cut into tiles of at most GEMM_MR: as even as can be.
static inline int gemm_tiles(int64_t rows) { return (int)((rows + GEMM_MR - 1) / GEMM_MR); }

// Short copies, without a call.
static inline void copy_floats(float *restrict dst, const float *restrict src, int64_t n) {
  int64_t i = 0;
  for (; i + VW <= n; i += VW) vstore(dst + i, vload(src + i));
#if VW == 16
  if (i < n) vstore_upto(dst + i, vload_upto(src + i, n - i), n - i);
#else
  typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
  for (; i + 4 <= n; i += 4) *(four *)(dst + i) = *(const four *)(src + i);
  for (; i < n; i++) dst[i] = src[i];
#endif
}

static inline void clear_floats(float *dst, int64_t n) {
  int64_t i = 0;
  for (; i + VW <= n; i += VW) vstore(dst + i, (vfloat){0});
  for (; i < n; i++) dst[i] = 0;
}

// Lanes 4 g to 4 g + 3 are the four floats at p + g step. (Written to memory in parts and read back whole, a vector waits for every part.)
static inline vfloat load_quads(const float *p, int64_t step) {
#if VW == 16
  __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(p));
  v = _mm512_insertf32x4(v, _mm_loadu_ps(p + step), 1);
  v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 2 * step), 2);
  return (vfloat)_mm512_insertf32x4(v, _mm_loadu_ps(p + 3 * step), 3);
#elif VW == 8
  return (vfloat)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + step), 1);
#else
  (void)step;
  return vload(p);
#endif
}

// The first `count` of those groups.
static inline void store_quads(float *p, int64_t step, vfloat v, int64_t count) {
#if VW == 16
  if (count > 0) _mm_storeu_ps(p, _mm512_castps512_ps128((__m512)v));
  if (count > 1) _mm_storeu_ps(p + step, _mm512_extractf32x4_ps((__m512)v, 1));
  if (count > 2) _mm_storeu_ps(p + 2 * step, _mm512_extractf32x4_ps((__m512)v, 2));
  if (count > 3) _mm_storeu_ps(p + 3 * step, _mm512_extractf32x4_ps((__m512)v, 3));
#elif VW == 8
  if (count > 0) _mm_storeu_ps(p, _mm256_castps256_ps128((__m256)v));
  if (count > 1) _mm_storeu_ps(p + step, _mm256_extractf128_ps((__m256)v, 1));
#else
  (void)step;
  if (count > 0) vstore(p, v);
#endif
}

// Four rows of 4-lane groups to four columns: out[i] lane 4 g + j = group g, row j, element i; v[j] holds row j of every group.
static inline void transpose4(const vfloat v[4], vfloat out[4]) {
#if VW == 16
  __m512 a = _mm512_unpacklo_ps((__m512)v[0], (__m512)v[1]), b = _mm512_unpackhi_ps((__m512)v[0], (__m512)v[1]);
  __m512 c = _mm512_unpacklo_ps((__m512)v[2], (__m512)v[3]), d = _mm512_unpackhi_ps((__m512)v[2], (__m512)v[3]);
  out[0] = (vfloat)_mm512_shuffle_ps(a, c, 0x44);
  out[1] = (vfloat)_mm512_shuffle_ps(a, c, 0xee);
  out[2] = (vfloat)_mm512_shuffle_ps(b, d, 0x44);
  out[3] = (vfloat)_mm512_shuffle_ps(b, d, 0xee);
#elif VW == 8
  __m256 a = _mm256_unpacklo_ps((__m256)v[0], (__m256)v[1]), b = _mm256_unpackhi_ps((__m256)v[0], (__m256)v[1]);
  __m256 c = _mm256_unpacklo_ps((__m256)v[2], (__m256)v[3]), d = _mm256_unpackhi_ps((__m256)v[2], (__m256)v[3]);
  out[0] = (vfloat)_mm256_shuffle_ps(a, c, 0x44);
  out[1] = (vfloat)_mm256_shuffle_ps(a, c, 0xee);
  out[2] = (vfloat)_mm256_shuffle_ps(b, d, 0x44);
  out[3] = (vfloat)_mm256_shuffle_ps(b, d, 0xee);
#else
  for (int i = 0; i < 4; i++) out[i] = (vfloat){v[0][i], v[1][i], v[2][i], v[3][i]};
#endif
}

// Elements 0 to 3 of VW rows that lie `ld` apart: out[i] lane l = row l, element i.
static inline void load_transposed4(const float *rows, int64_t ld, vfloat out[4]) {
  vfloat v[4];
  for (int j = 0; j < 4; j++) v[j] = load_quads(rows + j * ld, 4 * ld);
  transpose4(v, out);
}

// The reverse: element i of row l is v[i] lane l.
static inline void store_transposed4(const vfloat v[4], float *rows, int64_t ld) {
  vfloat out[4];
  transpose4(v, out);
  for (int j = 0; j < 4; j++) store_quads(rows + j * ld, 4 * ld, out[j], VW / 4);
}

static inline vfloat activate(vfloat x, contraction_activation activation, float slope) {
  switch (activation) {
  case CONTRACTION_RELU: return vselect(x < 0, vsplat(0), x);
  case CONTRACTION_LEAKY_RELU: return vselect(x < 0, slope * x, x);
  case CONTRACTION_SILU: return vsilu(x);
  case CONTRACTION_GELU: return vgelu(x);
  case CONTRACTION_TANH: return vtanh(x);
  case CONTRACTION_SIGMOID: return vsigmoid(x);
  case CONTRACTION_SOFTPLUS: return vsoftplus(x);
  case CONTRACTION_LINEAR:
  case CONTRACTION_ACTIVATIONS: break;
  }
  return x;
}

#endif

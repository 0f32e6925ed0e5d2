// C = epilogue(A B) in float32 on one instruction set: what linear, matmul and the convolutions run on. Only *_cpu.c files include this.
//
// A job is one product of M x N x K. B is packed beforehand into panels [k][2 VW] (columns past N are zero); the last panel of a column
// part is [k][VW] where one vector is enough. Blocks of A, `GEMM_ROWS` rows by at most `GEMM_KC` of K, are gathered into a thread's own
// scratch (L2) with a fixed row length GEMM_LD, so that the micro-kernel reaches every row by a constant displacement. A convolution
// gathers its image patches there, block by block: the whole patch matrix never exists.
#ifndef OPS_GEMM_CPU_H
#define OPS_GEMM_CPU_H

#include "ops/contraction.h"
#include "ops/isa.h"
#include "ops/vec.h"

#if VW == 16
#define GEMM_MR 14 // 28 accumulators of 32 registers
#define GEMM_ROWS 56
#else
#define GEMM_MR 6 // 12 accumulators of 16 registers
#define GEMM_ROWS 48
#endif
#define GEMM_NR (2 * VW)
#define GEMM_KC 256
#define GEMM_LD (GEMM_KC + 16)            // an odd number of cache lines
#define GEMM_KMAJOR_LD (VW >= 8 ? VW : 8) // row length of a tile of transposed A: [k][GEMM_KMAJOR_LD]

typedef struct gemm_job gemm_job;

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
  int64_t a_offset, b_offset, c_offset, n_offset; // n_offset: of the bias
  int64_t packed_offset;
  int64_t lda, ldb, ldc;
  bool a_transposed, b_transposed; // stored (K,M), (N,K)
  // Fills dst[r * GEMM_LD + k] with A[m0 + r][k0 + k]; NULL: A is the matrix at `a`.
  void (*gather)(const gemm_job *j, const float *a, int64_t m0, int64_t rows, int64_t k0, int64_t kc, float *dst);
  // Packs columns [n0, n0 + width) into dst[k * width + n]; NULL: B is the matrix at `b`.
  void (*pack)(const gemm_job *j, const float *b, int64_t n0, int width, float *dst);
  // Where row m0 + r of C begins; NULL: c_offset + (m0 + r) ldc.
  void (*place)(const gemm_job *j, int64_t m0, int rows, int64_t *offset);
  const void *user;
  contraction_epilogue epilogue;
  // set by gemm_plan
  int row_parts, column_parts; // row_parts * column_parts threads
};

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

// Rows of tile t when `rows` are cut into tiles of at most GEMM_MR: as even as can be.
static inline int gemm_tiles(int64_t rows) { return (int)((rows + GEMM_MR - 1) / GEMM_MR); }

static inline vfloat load_upto(const float *p, int64_t n) {
  if (n >= VW) return vload(p);
#if VW == 16
  return (vfloat)_mm512_maskz_loadu_ps((__mmask16)((1u << (n > 0 ? n : 0)) - 1), p);
#else
  vfloat v = {0};
  for (int64_t i = 0; i < n; i++) ((float *)&v)[i] = p[i];
  return v;
#endif
}

static inline void store_upto(float *p, vfloat v, int64_t n) {
  if (n >= VW) {
    vstore(p, v);
    return;
  }
#if VW == 16
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << (n > 0 ? n : 0)) - 1), (__m512)v);
#else
  for (int64_t i = 0; i < n; i++) p[i] = ((float *)&v)[i];
#endif
}

// Short copies, without a call.
static inline void copy_floats(float *restrict dst, const float *restrict src, int64_t n) {
  int64_t i = 0;
  for (; i + VW <= n; i += VW) vstore(dst + i, vload(src + i));
#if VW == 16
  if (i < n) store_upto(dst + i, load_upto(src + i, n - i), n - i);
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
  typedef float quarter __attribute__((vector_size(16), aligned(4), may_alias));
  vfloat v[4];
  for (int j = 0; j < 4; j++) {
    union {
      quarter part[VW / 4];
      vfloat whole;
    } u;
    for (int g = 0; g < VW / 4; g++) u.part[g] = *(const quarter *)(rows + (4 * g + j) * ld);
    v[j] = u.whole;
  }
  transpose4(v, out);
}

// The reverse: element i of row l is v[i] lane l.
static inline void store_transposed4(const vfloat v[4], float *rows, int64_t ld) {
  typedef float quarter __attribute__((vector_size(16), aligned(4), may_alias));
  vfloat out[4];
  transpose4(v, out);
  for (int j = 0; j < 4; j++) {
    union {
      vfloat whole;
      quarter part[VW / 4];
    } u = {out[j]};
    for (int g = 0; g < VW / 4; g++) *(quarter *)(rows + (4 * g + j) * ld) = u.part[g];
  }
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

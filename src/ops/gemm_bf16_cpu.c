// Rounding, pairing and multiplying bfloat16 operands. With AVX-512 the products are the processor's own (vdpbf16ps); whoever calls them
// has asked whether it has them (cpu_bf16). The other instruction sets have the same functions by float32 multiply-adds.
#include "ops/bf16.h"
#include "ops/gemm_cpu.h"

#if VW == 16
#define DOT_TARGET __attribute__((target("avx512bf16")))
#else
#define DOT_TARGET
#endif
#define DOT_INLINE static inline __attribute__((always_inline)) DOT_TARGET

// --- operands -----------------------------------------------------------------------------------------------------------------------

void ISA(bf16_round_row)(float *x, int64_t n) {
  for (int64_t i = 0; i < n; i += VW) vstore(x + i, bf16_round(vload(x + i)));
}

void ISA(bf16_pair_rows)(const float *from, int64_t ld, int64_t K, int64_t width, float *to, int64_t to_ld) {
  for (int64_t k = 0; k < K; k += 2, from += 2 * ld, to += to_ld)
    for (int64_t n = 0; n < width; n += VW) vstore(to + n, bf16_pair(vload(from + n), k + 1 < K ? vload(from + ld + n) : (vfloat){0}));
}

void ISA(bf16_widen_rows)(const float *from, int64_t pairs, int64_t width, float *to) {
  for (int64_t k = 0; k < pairs; k++, from += width, to += 2 * width)
    for (int64_t n = 0; n < width; n += VW) {
      vfloat pair = vload(from + n);
      vstore(to + n, bf16_first(pair));
      vstore(to + width + n, bf16_second(pair));
    }
}

void ISA(bf16_pair_elements)(float *x, int64_t n) {
  if (n % 2) x[n] = 0;
#if VW == 16
  __m512i high_words = _mm512_set1_epi32(0x00030001); // 1, 3, 5, ...: the upper halves of 32 floats in two registers
  high_words = _mm512_add_epi16(high_words, _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                                               _mm512_set1_epi32(0x00040004)));
  for (int64_t i = 0; i < n; i += 2 * VW) {
    __m512i low = (__m512i)bf16_round(vload(x + i)), high = (__m512i)bf16_round(vload(x + i + VW));
    vstore(x + i / 2, (vfloat)_mm512_permutex2var_epi16(low, high_words, high));
  }
#else
  for (int64_t i = 0; i < n; i += 2 * VW) {
    vfloat first, second;
    for (int l = 0; l < VW; l++) first[l] = x[i + 2 * l], second[l] = x[i + 2 * l + 1];
    vstore(x + i / 2, bf16_pair(first, second));
  }
#endif
}

// --- products -----------------------------------------------------------------------------------------------------------------------

DOT_INLINE vfloat splat_pair(const float *pair) {
  uint32_t bits;
  memcpy(&bits, pair, sizeof bits);
  return (vfloat)((vuint){0} + bits);
}

DOT_INLINE vfloat dot_pairs(vfloat acc, vfloat a, vfloat b) {
#if VW == 16
  return (vfloat)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#else
  return acc + bf16_second(a) * bf16_second(b) + bf16_first(a) * bf16_first(b);
#endif
}

// a of row r at a + r row_step, moving on by k_step a pair
DOT_INLINE void dot_body(const int rows, const int vectors, int64_t pairs, const float *restrict a, int64_t row_step, int64_t k_step,
                         const float *restrict b, int64_t ldb, float *restrict acc_out, int64_t ld_acc, bool add) {
  vfloat acc[GEMM_MR][2];
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) acc[r][v] = add ? vload(acc_out + r * ld_acc + v * VW) : (vfloat){0};
  for (int64_t k = 0; k < pairs; k++) {
    vfloat bv[2];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) bv[v] = vload(b + v * VW);
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
      vfloat ar = splat_pair(a + r * row_step);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) acc[r][v] = dot_pairs(acc[r][v], ar, bv[v]);
    }
    a += k_step;
    b += ldb;
  }
#pragma GCC unroll 14
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) vstore(acc_out + r * ld_acc + v * VW, acc[r][v]);
}

typedef void (*dot_rows_fn)(int64_t pairs, const float *a, const float *b, int64_t ldb, float *acc, int64_t ld_acc, bool add);
typedef void (*dot_outer_fn)(int64_t pairs, const float *a, int64_t lda, const float *b, int64_t ldb, float *acc, int64_t ld_acc, bool add);

#define DOT(rows, vectors)                                                                                                                 \
  DOT_TARGET static void dot_rows_##rows##_##vectors(int64_t pairs, const float *a, const float *b, int64_t ldb, float *acc,               \
                                                     int64_t ld_acc, bool add) {                                                           \
    dot_body(rows, vectors, pairs, a, GEMM_LD, 1, b, ldb, acc, ld_acc, add);                                                               \
  }                                                                                                                                        \
  DOT_TARGET static void dot_outer_##rows##_##vectors(int64_t pairs, const float *a, int64_t lda, const float *b, int64_t ldb, float *acc, \
                                                      int64_t ld_acc, bool add) {                                                          \
    dot_body(rows, vectors, pairs, a, 1, lda, b, ldb, acc, ld_acc, add);                                                                   \
  }
#define BOTH(rows) DOT(rows, 1) DOT(rows, 2)
GEMM_FOR_ROWS(BOTH)
#define ROWS_ENTRY(rows) {dot_rows_##rows##_1, dot_rows_##rows##_2},
#define OUTER_ENTRY(rows) {dot_outer_##rows##_1, dot_outer_##rows##_2},
static const dot_rows_fn rows_table[GEMM_MR][2] = {GEMM_FOR_ROWS(ROWS_ENTRY)};
static const dot_outer_fn outer_table[GEMM_MR][2] = {GEMM_FOR_ROWS(OUTER_ENTRY)};

void ISA(gemm_dot_rows)(int rows, int vectors, int64_t pairs, const float *a, const float *b, int64_t ldb, float *acc, int64_t ld_acc,
                        bool add) {
  rows_table[rows - 1][vectors - 1](pairs, a, b, ldb, acc, ld_acc, add);
}

void ISA(gemm_dot_outer)(int rows, int vectors, int64_t pairs, const float *a, int64_t lda, const float *b, int64_t ldb, float *acc,
                         int64_t ld_acc, bool add) {
  outer_table[rows - 1][vectors - 1](pairs, a, lda, b, ldb, acc, ld_acc, add);
}

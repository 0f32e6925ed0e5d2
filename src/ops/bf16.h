// Bfloat16 operands of float32 products. Only *_cpu.c files include this.
//
// A number is rounded to 8 bits of significand, to nearest, ties to even; a product of two such numbers is exact in float32. Two successive
// numbers of the summed dimension are a pair: the first in the low half of a word of 32 bits, the second in the high half. That is what
// packed weights are kept as, half of what they take in float32, and what the processor's own instruction (vdpbf16ps) multiplies.
#ifndef OPS_BF16_H
#define OPS_BF16_H

#include <stdbool.h>

#include "ops/isa.h"
#include "ops/vec.h"

#define BF16_INLINE static inline __attribute__((always_inline, unused))

// The nearest bfloat16 as float32. A NaN stays one, whatever its payload.
BF16_INLINE vfloat bf16_round(vfloat x) {
  vuint bits = (vuint)x, nearest = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
  return vselect(x == x, (vfloat)nearest, (vfloat)(bits | 0x400000u));
}
BF16_INLINE vfloat bf16_pair(vfloat first, vfloat second) { // as bits; both rounded
  return (vfloat)((vuint)bf16_round(first) >> 16 | ((vuint)bf16_round(second) & 0xffff0000u));
}
BF16_INLINE vfloat bf16_first(vfloat pair) { return (vfloat)((vuint)pair << 16); }
BF16_INLINE vfloat bf16_second(vfloat pair) { return (vfloat)((vuint)pair & 0xffff0000u); }

// x[0..n) rounded where it is, n rounded up to whole vectors.
void ISA(bf16_round_row)(float *x, int64_t n);
// Rows 2 k and 2 k + 1 of K rows of `width` floats (whole vectors), `ld` apart, become row k of pairs, `to_ld` apart; the missing last row
// of an odd K is zero. May be done in place when to_ld <= ld.
void ISA(bf16_pair_rows)(const float *from, int64_t ld, int64_t K, int64_t width, float *to, int64_t to_ld);
// The reverse, as float32: 2 `pairs` rows of `width`, without gaps on either side.
void ISA(bf16_widen_rows)(const float *from, int64_t pairs, int64_t width, float *to);
// x[2 k] and x[2 k + 1] become pair k, in place, k < (n + 1) / 2; the missing one is zero. Works on whole vectors: x has room for n rounded
// up to 2 VW.
void ISA(bf16_pair_elements)(float *x, int64_t n);

// gemm_rows and gemm_outer (gemm_cpu.h) over pairs: `pairs` steps of a and b, two products each.
void ISA(gemm_dot_rows)(int rows, int vectors, int64_t pairs, const float *a, const float *b, int64_t ldb, float *acc, int64_t ld_acc,
                        bool add);
void ISA(gemm_dot_outer)(int rows, int vectors, int64_t pairs, const float *a, int64_t lda, const float *b, int64_t ldb, float *acc,
                         int64_t ld_acc, bool add);

#endif

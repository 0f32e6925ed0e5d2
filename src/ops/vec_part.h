// Loads and stores of fewer numbers than a vector holds. Only *_cpu.c files include this.
#ifndef OPS_VEC_PART_H
#define OPS_VEC_PART_H

#include "ops/vec.h"

#define VEC_INLINE static inline __attribute__((always_inline, unused))

// The first n < VW numbers at p, none where n < 0; zeros behind.
VEC_INLINE vfloat vload_part(const float *p, int64_t n) {
#if VW == 16
  return (vfloat)_mm512_maskz_loadu_ps((__mmask16)((1u << (n > 0 ? n : 0)) - 1), p);
#else
  float lane[VW] = {0};
  for (int64_t i = 0; i < n; i++) lane[i] = p[i];
  return vload(lane);
#endif
}
VEC_INLINE void vstore_part(float *p, vfloat v, int64_t n) {
#if VW == 16
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << (n > 0 ? n : 0)) - 1), (__m512)v);
#else
  float lane[VW];
  vstore(lane, v);
  for (int64_t i = 0; i < n; i++) p[i] = lane[i];
#endif
}
// n >= VW counts as VW.
VEC_INLINE vfloat vload_upto(const float *p, int64_t n) { return n >= VW ? vload(p) : vload_part(p, n); }
VEC_INLINE void vstore_upto(float *p, vfloat v, int64_t n) {
  if (n >= VW)
    vstore(p, v);
  else
    vstore_part(p, v, n);
}

#endif

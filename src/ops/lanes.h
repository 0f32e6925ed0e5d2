// A vector of floats as wide as the instruction set of the file that includes this (*_cpu.c alone), by GNU vector extensions.
#ifndef OPS_LANES_H
#define OPS_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

#define LANES_INLINE static inline __attribute__((always_inline, unused))

typedef float lanes __attribute__((vector_size(LANES * 4)));
typedef int32_t lanes_int __attribute__((vector_size(LANES * 4)));
typedef float lanes_unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

LANES_INLINE lanes lanes_load(const float *p) { return *(const lanes_unaligned *)p; }
LANES_INLINE void lanes_store(float *p, lanes v) { *(lanes_unaligned *)p = v; }
LANES_INLINE lanes lanes_all(float x) { return x - (lanes){0}; }
LANES_INLINE lanes lanes_select(lanes_int mask, lanes yes, lanes no) { return (lanes)((mask & (lanes_int)yes) | (~mask & (lanes_int)no)); }
LANES_INLINE lanes lanes_max(lanes a, lanes b) { return lanes_select(a > b, a, b); }
// The first n < LANES numbers at p, zeros behind.
LANES_INLINE lanes lanes_load_part(const float *p, int64_t n) {
  lanes v = {0};
  memcpy(&v, p, (size_t)n * sizeof *p);
  return v;
}
LANES_INLINE void lanes_store_part(float *p, lanes v, int64_t n) { memcpy(p, &v, (size_t)n * sizeof *p); }
// n >= LANES counts as LANES.
LANES_INLINE lanes lanes_load_upto(const float *p, int64_t n) { return n >= LANES ? lanes_load(p) : lanes_load_part(p, n); }
LANES_INLINE void lanes_store_upto(float *p, lanes v, int64_t n) {
  if (n >= LANES)
    lanes_store(p, v);
  else
    lanes_store_part(p, v, n);
}

LANES_INLINE float lanes_sum(lanes v) {
  float s = 0;
  for (int i = 0; i < LANES; i++) s += v[i];
  return s;
}
LANES_INLINE float lanes_largest(lanes v) {
  float m = v[0];
  for (int i = 1; i < LANES; i++) m = v[i] > m ? v[i] : m;
  return m;
}

// e^x within 2 units in the last place: 2^n e^r, |r| <= ln(2)/2, e^r by its Taylor polynomial of degree 7 (relative remainder
// r^8/8! < 6e-9). 0 below -87 (float32's smallest normal number is e^-87.3), infinite above 88.72, NaN for NaN.
LANES_INLINE lanes lanes_exp(lanes x) {
  const float round_by = 12582912.0f; // 1.5 * 2^23: adding it leaves no bits for fractions
  lanes n = (x * 1.44269504f + round_by) - round_by;
  lanes r = x - n * 0.693359375f + n * 2.12194440e-4f; // ln 2 in two parts
  lanes p = 1.9841270e-4f * r + 1.3888889e-3f;
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  lanes_int low = x<-87.0f, high = x> 88.72f;
  lanes_int in_range = ~(low | high);
  // 2^(n-1), then doubled: 2^128 is not a float but half of it is
  lanes_int scale = ((__builtin_convertvector((lanes)((lanes_int)n & in_range), lanes_int) + 126) << 23);
  lanes y = p * (lanes)scale * 2.0f;
  y = lanes_select(high, lanes_all(INFINITY), y);
  return lanes_select(low, lanes_all(0.0f), y);
}

LANES_INLINE lanes lanes_sigmoid(lanes x) { return 1.0f / (1.0f + lanes_exp(-x)); }

#endif

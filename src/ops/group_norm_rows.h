// The loops of group_norm_cpu.c over rows of channels: sums per channel, and what is written from them. Only *_cpu.c files include this.
// Blocks of rows go through columns of up to four vectors of channels, whose numbers stay in registers; rows lie `stride` apart,
// those of a part of the channels that is a tensor of its own lie `own` apart.
#ifndef OPS_GROUP_NORM_ROWS_H
#define OPS_GROUP_NORM_ROWS_H

#include "ops/norm_act.h"

enum { BLOCK_ROWS = 64 }; // rows summed in float32 before they are folded into double

// Rows AHEAD_ROWS on are called for meanwhile: no prefetcher of the processor's follows rows that lie this far apart.
enum { AHEAD_ROWS = 8 };

// For every block of rows [r, r + n): call(i, vectors, lanes), columns [i, i + vectors VW), or the last `lanes` < VW.
#define FOR_BLOCKS(rows, width, call)                                 \
  for (int64_t r = 0; r < (rows); r += BLOCK_ROWS) {                  \
    int64_t n = (rows)-r < BLOCK_ROWS ? (rows)-r : BLOCK_ROWS, i = 0; \
    for (; i + 4 * VW <= (width); i += 4 * VW) call(i, 4, VW);        \
    if (i + 2 * VW <= (width)) {                                      \
      call(i, 2, VW);                                                 \
      i += 2 * VW;                                                    \
    }                                                                 \
    if (i + VW <= (width)) {                                          \
      call(i, 1, VW);                                                 \
      i += VW;                                                        \
    }                                                                 \
    if (i < (width)) call(i, 1, (width)-i);                           \
  }

VEC_INLINE void fold(double *sum, vfloat part, int64_t lanes) {
  for (int64_t l = 0; l < lanes; l++) sum[l] += (double)part[l];
}

// s1 += sum of x - shift, s2 += sum of its square. Fewer vectors than four go over several rows at once: the sums of one row after the
// other would wait for each other.
VEC_INLINE void block_moments(const float *x, int64_t rows, int64_t stride, const float *shift, double *s1, double *s2, const int vectors,
                              int64_t lanes) {
  const int at_once = 4 / vectors;
  vfloat k[4], a1[4] = {{0}}, a2[4] = {{0}};
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) k[v] = vload_upto(shift + v * VW, lanes);
  int64_t r = 0;
  for (; r + at_once <= rows; r += at_once, x += at_once * stride)
#pragma GCC unroll 4
    for (int u = 0; u < at_once; u++)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) {
        __builtin_prefetch(x + (u + AHEAD_ROWS) * stride + v * VW, 0, 3);
        vfloat d = vload_upto(x + u * stride + v * VW, lanes) - k[v];
        a1[u * vectors + v] += d, a2[u * vectors + v] += d * d;
      }
  for (; r < rows; r++, x += stride)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      vfloat d = vload_upto(x + v * VW, lanes) - k[v];
      a1[v] += d, a2[v] += d * d;
    }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
#pragma GCC unroll 4
    for (int u = 1; u < at_once; u++) a1[v] += a1[u * vectors + v], a2[v] += a2[u * vectors + v];
    fold(s1 + v * VW, a1[v], lanes), fold(s2 + v * VW, a2[v], lanes);
  }
}

static inline void moments(const float *x, int64_t rows, int64_t stride, int64_t width, const float *shift, double *s1, double *s2){
#define CALL(i, vectors, lanes) block_moments(x + r * stride + (i), n, stride, shift + (i), s1 + (i), s2 + (i), vectors, lanes)
    FOR_BLOCKS(rows, width, CALL)
#undef CALL
}

// s1 += sum of dn (x - mean), s2 += sum of dn, where dn = dy act'((x - mean) scale + bias), kept in dn for the second pass when there is
// an activation. With `again` act's value goes to y.
VEC_INLINE void block_products(const float *x, const float *dy, float *dn, float *y, int64_t rows, int64_t own, int64_t stride,
                               const float *mean, const float *scale, const float *bias, double *s1, double *s2, const int vectors,
                               int64_t lanes, const int64_t act, float slope, const bool again) {
  vfloat m[4], w[4], h[4], a1[4] = {{0}}, a2[4] = {{0}};
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    m[v] = vload_upto(mean + v * VW, lanes), w[v] = vload_upto(scale + v * VW, lanes);
    h[v] = vload_upto(bias + v * VW, lanes);
  }
  for (int64_t r = 0; r < rows; r++) {
    int64_t in = r * own, at = r * stride;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++, in += VW, at += VW) {
      __builtin_prefetch(x + in + AHEAD_ROWS * own, 0, 3);
      __builtin_prefetch(dy + at + AHEAD_ROWS * stride, 0, 3);
      vfloat d = vload_upto(x + in, lanes) - m[v], g = vload_upto(dy + at, lanes);
      if (again) {
        vfloat value;
        g *= act_slope_and_value(d * w[v] + h[v], act, slope, &value);
        vstore_upto(y + at, value, lanes);
      } else if (act != NORM_ACT_NONE) {
        g *= act_slope(d * w[v] + h[v], act, slope);
      }
      if (act != NORM_ACT_NONE) vstore_upto(dn + in, g, lanes);
      a1[v] += g * d, a2[v] += g;
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) fold(s1 + v * VW, a1[v], lanes), fold(s2 + v * VW, a2[v], lanes);
}

VEC_INLINE void products(const float *x, const float *dy, float *dn, float *y, int64_t rows, int64_t own, int64_t stride, int64_t width,
                         const float *mean, const float *scale, const float *bias, double *s1, double *s2, const int64_t act, float slope,
                         const bool again){
#define CALL(i, vectors, lanes)                                                                                                     \
  block_products(x + r * own + (i), dy + r * stride + (i), dn + r * own + (i), again ? y + r * stride + (i) : NULL, n, own, stride, \
                 mean + (i), scale + (i), bias + (i), s1 + (i), s2 + (i), vectors, lanes, act, slope, again)
    FOR_BLOCKS(rows, width, CALL)
#undef CALL
}

// y = act((x - mean) scale + bias); `ahead` from x lies what is read next, called for meanwhile
VEC_INLINE void block_normalise(const float *x, float *y, int64_t rows, int64_t own, int64_t stride, const float *mean, const float *scale,
                                const float *bias, int64_t ahead, const int vectors, int64_t lanes, const int64_t act, float slope) {
  vfloat m[4], w[4], h[4];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    m[v] = vload_upto(mean + v * VW, lanes), w[v] = vload_upto(scale + v * VW, lanes);
    h[v] = vload_upto(bias + v * VW, lanes);
  }
  for (int64_t r = 0; r < rows; r++, x += own, y += stride)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      if (ahead) __builtin_prefetch(x + ahead + v * VW, 0, 2);
      vstore_upto(y + v * VW, act_value((vload_upto(x + v * VW, lanes) - m[v]) * w[v] + h[v], act, slope), lanes);
    }
}

VEC_INLINE void normalise(const float *x, float *y, int64_t rows, int64_t own, int64_t stride, int64_t width, const float *mean,
                          const float *scale, const float *bias, int64_t ahead, const int64_t act, float slope){
#define CALL(i, vectors, lanes)                                                                                                        \
  block_normalise(x + r * own + (i), y + r * stride + (i), n, own, stride, mean + (i), scale + (i), bias + (i), ahead, vectors, lanes, \
                  act, slope)
    FOR_BLOCKS(rows, width, CALL)
#undef CALL
}

// dx = scale dn - (x - mean) q - p + residual, sums += sum of dx; dn may be dx
VEC_INLINE void block_gradient(const float *x, const float *dn, const float *residual, float *dx, int64_t rows, int64_t own, int64_t stride,
                               const float *mean, const float *scale, const float *q, const float *p, double *sums, const int vectors,
                               int64_t lanes, const bool add, const bool sum) {
  vfloat m[4], w[4], along[4], off[4], a[4] = {{0}};
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    m[v] = vload_upto(mean + v * VW, lanes), w[v] = vload_upto(scale + v * VW, lanes);
    along[v] = vload_upto(q + v * VW, lanes), off[v] = vload_upto(p + v * VW, lanes);
  }
  for (int64_t r = 0; r < rows; r++) {
    int64_t in = r * own, at = r * stride;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++, in += VW, at += VW) {
      if (add) __builtin_prefetch(residual + in + AHEAD_ROWS * own, 0, 3);
      vfloat d = vload_upto(x + in, lanes) - m[v];
      vfloat g = w[v] * vload_upto(dn + at, lanes) - d * along[v] - off[v];
      if (add) g += vload_upto(residual + in, lanes);
      if (sum) a[v] += g;
      vstore_upto(dx + in, g, lanes);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; sum && v < vectors; v++) fold(sums + v * VW, a[v], lanes);
}

VEC_INLINE void gradient_rows(const float *x, const float *dn, const float *residual, float *dx, int64_t rows, int64_t own, int64_t stride,
                              int64_t width, const float *mean, const float *scale, const float *q, const float *p, double *sums,
                              const bool add, const bool sum) {
#define CALL(i, vectors, lanes)                                                                                                       \
  block_gradient(x + r * own + (i), dn + r * stride + (i), add ? residual + r * own + (i) : NULL, dx + r * own + (i), n, own, stride, \
                 mean + (i), scale + (i), q + (i), p + (i), sum ? sums + (i) : NULL, vectors, lanes, add, sum)
  FOR_BLOCKS(rows, width, CALL)
#undef CALL
}

#endif

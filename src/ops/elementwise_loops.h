// The inner loops of the element-wise interpreter: one instruction over a block. Only elementwise_cpu.c includes this.
//
// d, x, y, z: n floats each, n a multiple of VW; d may be any of the operands.
#ifndef OPS_ELEMENTWISE_LOOPS_H
#define OPS_ELEMENTWISE_LOOPS_H

#include "ops/elementwise.h"
#include "ops/vec.h"

#define VEC_LOOP1(expression)           \
  for (int64_t i = 0; i < n; i += VW) { \
    vfloat u = vload(x + i);            \
    vstore(d + i, expression);          \
  }                                     \
  break
#define VEC_LOOP2(expression)                  \
  for (int64_t i = 0; i < n; i += VW) {        \
    vfloat u = vload(x + i), v = vload(y + i); \
    vstore(d + i, expression);                 \
  }                                            \
  break

static void run_instruction(int code, float a, float b, float *d, const float *x, const float *y, const float *z, int64_t n) {
  const vfloat zero = {0}, one = zero + 1.0f;
  switch (code) {
  case EW_NEG: VEC_LOOP1(-u);
  case EW_ABS: VEC_LOOP1(vabs(u));
  case EW_SIGN: VEC_LOOP1(vselect(u != u, u, (vfloat)((u > 0.0f) & (vint)one) - (vfloat)((u < 0.0f) & (vint)one)));
  case EW_EXP: VEC_LOOP1(vexp(u));
  case EW_LOG: VEC_LOOP1(vlog(u));
  case EW_LOG1P: VEC_LOOP1(vlog1p(u));
  case EW_EXPM1: VEC_LOOP1(vexpm1(u));
  case EW_SQRT: VEC_LOOP1(vsqrt(u));
  case EW_RSQRT: VEC_LOOP1(1.0f / vsqrt(u));
  case EW_SQUARE: VEC_LOOP1(u * u);
  case EW_RECIPROCAL: VEC_LOOP1(1.0f / u);
  case EW_SIN: VEC_LOOP1(vsin(u));
  case EW_COS: VEC_LOOP1(vcos(u));
  case EW_TANH: VEC_LOOP1(vtanh(u));
  case EW_SIGMOID: VEC_LOOP1(vsigmoid(u));
  case EW_SOFTPLUS: VEC_LOOP1(vsoftplus(u));
  case EW_RELU: VEC_LOOP1(vselect(u <= 0.0f, zero, u));
  case EW_LEAKY_RELU: VEC_LOOP1(vselect(u > 0.0f, u, a * u));
  case EW_GELU: VEC_LOOP1(vgelu(u));
  case EW_GELU_TANH: VEC_LOOP1(vgelu_tanh(u));
  case EW_SILU: VEC_LOOP1(vsilu(u));
  case EW_ERF: VEC_LOOP1(verf(u));
  case EW_CLAMP: VEC_LOOP1(vclamp(u, a, b));
  case EW_SCALE: VEC_LOOP1(a * u + b);
  case EW_ADD: VEC_LOOP2(u + v);
  case EW_SUB: VEC_LOOP2(u - v);
  case EW_MUL: VEC_LOOP2(u * v);
  case EW_DIV: VEC_LOOP2(u / v);
  case EW_MAXIMUM: VEC_LOOP2(vmax(u, v));
  case EW_MINIMUM: VEC_LOOP2(vmin(u, v));
  case EW_LESS: VEC_LOOP2((vfloat)((u < v) & (vint)one));
  case EW_WHERE:
    for (int64_t i = 0; i < n; i += VW) vstore(d + i, vselect(vload(x + i) > 0.5f, vload(y + i), vload(z + i)));
    break;
  case EW_COPY: VEC_LOOP1(u);
  default: break;
  }
}

// --- random numbers -------------------------------------------------------------------------------------------------------------
// A block of consecutive elements may span examples, and an example's first element in it need not be the first of its Philox block (four
// elements). So: list the Philox blocks, make all their words in vectors, copy out what belongs.

enum { RANDOM_LIST = EW_BLOCK + 2 * VW }; // Philox blocks of a block: at most one for each element

typedef struct random_scratch {
  uint32_t block[RANDOM_LIST], low[RANDOM_LIST], high[RANDOM_LIST];
  float value[4 * RANDOM_LIST];
  float uniform[EW_BLOCK]; // of dropout
} random_scratch;

static void fill_random(random_scratch *r, int normal, uint64_t seed, uint32_t stream, const int64_t *sample_index, int64_t per_sample,
                        int64_t begin, int64_t n, float *out) {
  int64_t entries = 0;
  for (int64_t at = begin; at < begin + n;) {
    int64_t sample = at / per_sample, element = at - sample * per_sample, stop = (sample + 1) * per_sample;
    if (stop > begin + n) stop = begin + n;
    uint64_t index = (uint64_t)sample_index[sample];
    for (int64_t q = element / 4; q <= (element + (stop - at) - 1) / 4; q++, entries++) {
      r->block[entries] = (uint32_t)q;
      r->low[entries] = (uint32_t)index;
      r->high[entries] = (uint32_t)(index >> 32);
    }
    at = stop;
  }
  for (int64_t i = entries; i % VW; i++) r->block[i] = r->low[i] = r->high[i] = 0;
  for (int64_t i = 0; i < entries; i += VW) {
    vuint c[4];
    memcpy(&c[0], r->block + i, sizeof(vuint));
    memcpy(&c[1], r->low + i, sizeof(vuint));
    memcpy(&c[2], r->high + i, sizeof(vuint));
    c[3] = (vuint){0} + stream;
    vphilox(c, seed);
    vfloat v[4];
    if (normal) {
      vnormal2(c[0], c[1], &v[0], &v[1]);
      vnormal2(c[2], c[3], &v[2], &v[3]);
    } else {
      for (int j = 0; j < 4; j++) v[j] = vuniform(c[j]);
    }
    float lane[4][VW], *to = r->value + 4 * i;
    memcpy(lane, v, sizeof lane);
    for (int l = 0; l < VW; l++) {
      to[4 * l] = lane[0][l];
      to[4 * l + 1] = lane[1][l];
      to[4 * l + 2] = lane[2][l];
      to[4 * l + 3] = lane[3][l];
    }
  }
  entries = 0;
  for (int64_t at = begin; at < begin + n;) {
    int64_t sample = at / per_sample, element = at - sample * per_sample, stop = (sample + 1) * per_sample;
    if (stop > begin + n) stop = begin + n;
    const float *from = r->value + 4 * entries + element % 4;
    for (int64_t i = 0; i < stop - at; i++) out[at - begin + i] = from[i];
    entries += (element + (stop - at) - 1) / 4 - element / 4 + 1;
    at = stop;
  }
}

// x / (1-p) where the uniform number u is at least p: u = w 2^-24 with w whole, so u >= p is w >= p 2^24, exact in float.
static void apply_dropout(double probability, float *d, const float *x, const float *u, int64_t n) {
  float threshold = (float)(ceil(probability * 0x1p24) * 0x1p-24), keep = (float)(1.0 / (1.0 - probability));
  for (int64_t i = 0; i < n; i += VW) vstore(d + i, (vfloat)((vload(u + i) >= threshold) & (vint)(vload(x + i) * keep)));
}

#endif

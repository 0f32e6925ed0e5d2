// One pass over parameters, gradients, moments and averages: bound by memory, so each number is read and written once.
#include <math.h>

#include "ops/isa.h"
#include "ops/vec.h"
#include "train/optimizer.h"

// Sixteen lanes whatever the instruction set: squares of floats are exact in double, so that fused and unfused multiply-adds, and with the
// lanes fixed all variants, agree to the bit. Vectors are as wide as the processor's: of wider ones the compiler keeps the pieces in
// memory.
enum { LANES = 16, WIDTH = VW / 2, VECTORS = LANES / WIDTH };

static double sum_of_squares(const float *x, int64_t n) {
  typedef float floats __attribute__((vector_size(4 * WIDTH)));
  typedef double doubles __attribute__((vector_size(8 * WIDTH)));
  doubles sum[VECTORS] = {{0}};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; v++) {
      floats a;
      __builtin_memcpy(&a, x + i + v * WIDTH, sizeof a);
      doubles wide = __builtin_convertvector(a, doubles);
      sum[v] += wide * wide;
    }
  double lane[LANES];
  for (int l = 0; l < LANES; l++) lane[l] = sum[l / WIDTH][l % WIDTH];
  for (int l = 0; l < 8; l++) lane[l] += lane[l + 8];
  double total = ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
  for (; i < n; i++) total += (double)x[i] * x[i];
  return total;
}

static void add(float *restrict sum, const float *restrict x, int64_t n) {
  for (int64_t i = 0; i < n; i++) sum[i] += x[i];
}

static void average(float *restrict ema, const float *restrict x, int64_t n, double decay) {
  const float keep = (float)(1.0 - decay);
  for (int64_t i = 0; i < n; i++) ema[i] += (x[i] - ema[i]) * keep;
}

// The rules, in PyTorch's formulas. kind, momentum and with_ema are constants at every call: each combination is a loop of its own.
static inline __attribute__((always_inline)) void update_as(int kind, bool momentum, bool with_ema, const optimizer_scalars *s, int64_t n,
                                                            float *restrict p, const float *restrict g, float *restrict m,
                                                            float *restrict v, float *restrict ema) {
  const float scale = (float)s->gradient_scale, rate = (float)s->learning_rate, decay = (float)s->weight_decay;
  const float beta1 = (float)s->beta1, new1 = (float)(1.0 - s->beta1), new2 = (float)(1.0 - s->beta2);
  const float epsilon = (float)s->epsilon, keep = (float)(1.0 - s->ema_decay);
  const float shrink = (float)(1.0 - s->learning_rate * s->weight_decay);
  const float step1 = (float)(s->learning_rate / s->correction1), root2 = (float)(1.0 / sqrt(s->correction2));
  for (int64_t i = 0; i < n; i++) {
    float w = p[i], d = g[i] * scale;
    if (kind == OPTIMIZER_ADAMW)
      w *= shrink; // [Loshchilov19 alg. 2]
    else
      d += decay * w;
    switch (kind) {
    case OPTIMIZER_SGD: // [Sutskever13], without dampening
      if (momentum) m[i] = d = beta1 * m[i] + d;
      w -= rate * d;
      break;
    case OPTIMIZER_ADAM: // [Kingma15 alg. 1]
    case OPTIMIZER_ADAMW: {
      float m1 = m[i] + (d - m[i]) * new1, v1 = v[i] + (d * d - v[i]) * new2;
      m[i] = m1, v[i] = v1;
      w -= step1 * (m1 / (sqrtf(v1) * root2 + epsilon));
      break;
    }
    case OPTIMIZER_RMSPROP: {
      float v1 = v[i] + (d * d - v[i]) * new2;
      v[i] = v1;
      d /= sqrtf(v1) + epsilon;
      if (momentum) m[i] = d = beta1 * m[i] + d;
      w -= rate * d;
      break;
    }
    default: break;
    }
    p[i] = w;
    if (with_ema) ema[i] += (w - ema[i]) * keep;
  }
}

static void update(const optimizer_scalars *s, int64_t n, float *param, const float *gradient, float *m, float *v, float *ema) {
  switch (s->kind) {
#define CASES(KIND, MOMENTUM)                                          \
  if (ema)                                                             \
    update_as(KIND, MOMENTUM, true, s, n, param, gradient, m, v, ema); \
  else                                                                 \
    update_as(KIND, MOMENTUM, false, s, n, param, gradient, m, v, NULL)
  case OPTIMIZER_SGD:
    if (m) {
      CASES(OPTIMIZER_SGD, true);
    } else {
      CASES(OPTIMIZER_SGD, false);
    }
    break;
  case OPTIMIZER_ADAM: CASES(OPTIMIZER_ADAM, true); break;
  case OPTIMIZER_ADAMW: CASES(OPTIMIZER_ADAMW, true); break;
  case OPTIMIZER_RMSPROP:
    if (m) {
      CASES(OPTIMIZER_RMSPROP, true);
    } else {
      CASES(OPTIMIZER_RMSPROP, false);
    }
    break;
  default: break;
#undef CASES
  }
}

extern const optimizer_kernels ISA(optimizer_cpu);
const optimizer_kernels ISA(optimizer_cpu) = {sum_of_squares, add, average, update};

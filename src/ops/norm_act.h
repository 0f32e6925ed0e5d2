// The activations of norms and their slopes, in vectors. Only *_cpu.c files include this.
#ifndef OPS_NORM_ACT_H
#define OPS_NORM_ACT_H

#include "ops/norm.h"
#include "ops/vec_part.h"

// One specialised copy of a loop per activation `act`.
#define BY_ACT(act, call)                                     \
  switch (act) {                                              \
  case NORM_ACT_RELU: call(NORM_ACT_RELU); break;             \
  case NORM_ACT_LEAKY_RELU: call(NORM_ACT_LEAKY_RELU); break; \
  case NORM_ACT_SILU: call(NORM_ACT_SILU); break;             \
  default: call(NORM_ACT_NONE); break;                        \
  }

VEC_INLINE vfloat act_value(vfloat v, const int64_t act, float slope) {
  switch (act) {
  case NORM_ACT_RELU: return vselect(v > 0.0f, v, vsplat(0.0f));
  case NORM_ACT_LEAKY_RELU: return vselect(v > 0.0f, v, slope * v);
  case NORM_ACT_SILU: return v * vsigmoid_near(v);
  default: return v;
  }
}

VEC_INLINE vfloat act_slope(vfloat v, const int64_t act, float slope) {
  vfloat one = vsplat(1.0f);
  switch (act) {
  case NORM_ACT_RELU: return vselect(v > 0.0f, one, vsplat(0.0f));
  case NORM_ACT_LEAKY_RELU: return vselect(v > 0.0f, one, vsplat(slope));
  case NORM_ACT_SILU: {
    vfloat s = vsigmoid_near(v);
    return s * (1.0f + v * (1.0f - s));
  }
  default: return one;
  }
}

// act'(v), and act(v) in *value, sharing what they share
VEC_INLINE vfloat act_slope_and_value(vfloat v, const int64_t act, float slope, vfloat *value) {
  if (act != NORM_ACT_SILU) {
    *value = act_value(v, act, slope);
    return act_slope(v, act, slope);
  }
  vfloat s = vsigmoid_near(v);
  *value = v * s;
  return s * (1.0f + v * (1.0f - s));
}

#endif

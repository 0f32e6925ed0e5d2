// Pooling and resampling of (B,H,W,C). All are linear, and come in adjoint pairs: each is the other's gradient.
#ifndef OPS_RESAMPLE_H
#define OPS_RESAMPLE_H

#include "ops/kernel_util.h"

// avg_pool2d: factor times the sum over windows of fh x fw (factor 1/(fh fw): the mean).
// upsample_nearest: factor times each number, repeated fh x fw times.
typedef struct window_attr {
  int64_t fh, fw;
  double factor;
} window_attr;

// resize_bilinear: to (h,w). resize_bilinear_grad, its adjoint: from the resized shape back to (h,w).
typedef struct resize_attr {
  int64_t h, w;
} resize_attr;

// Where output i of n looks in an input of `from` numbers: between low and low + 1 with weight `part` of the latter. Pixel centres at i +
// 1/2, clamped to the first and the last.
static inline void bilinear_source(int64_t i, int64_t n, int64_t from, int64_t *low, double *part) {
  double x = ((double)i + 0.5) * (double)from / (double)n - 0.5;
  if (x < 0) x = 0;
  *low = (int64_t)x;
  if (*low > from - 1) *low = from - 1;
  *part = *low == from - 1 ? 0 : x - (double)*low;
}

// Sets the graph's error unless x is float32 (B,H,W,C).
bool resample_check(elbo_graph *g, const node *n);

OP_REFERENCE(avg_pool2d);
OP_REFERENCE(upsample_nearest);
OP_REFERENCE(resize_bilinear);
OP_REFERENCE(resize_bilinear_grad);

#endif

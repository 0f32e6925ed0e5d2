#include <math.h>
#include <string.h>

#include "ops/max_pool2d.h"

// Index into x of the first largest number of a window, or of the first that is not a number.
static int64_t first_largest(const max_pool_attr *a, const shape *x, const double *at, int64_t b, int64_t oh, int64_t ow, int64_t c) {
  int64_t h0, h1, w0, w1, best = -1;
  pool_window(oh, a->stride[0], a->window[0], a->pad[0], x->dim[1], &h0, &h1);
  pool_window(ow, a->stride[1], a->window[1], a->pad[1], x->dim[2], &w0, &w1);
  for (int64_t h = h0; h < h1; h++)
    for (int64_t w = w0; w < w1; w++) {
      int64_t i = ((b * x->dim[1] + h) * x->dim[2] + w) * x->dim[3] + c;
      if (best < 0 || at[i] > at[best] || (isnan(at[i]) && !isnan(at[best]))) best = i;
    }
  return best;
}

OP_REFERENCE(max_pool2d) {
  (void)ctx;
  const shape *y = &n->out[0]->shape;
  const double *x = in[0];
  double *to = out[0];
  for (int64_t b = 0; b < y->dim[0]; b++)
    for (int64_t h = 0; h < y->dim[1]; h++)
      for (int64_t w = 0; w < y->dim[2]; w++)
        for (int64_t c = 0; c < y->dim[3]; c++) *to++ = x[first_largest(n->attr, &n->in[0]->shape, x, b, h, w, c)];
  return ELBO_OK;
}

OP_REFERENCE(max_pool2d_grad) {
  (void)ctx;
  const shape *x = &n->in[0]->shape, *y = &n->in[1]->shape;
  const double *dy = in[1];
  double *dx = out[0];
  memset(dx, 0, (size_t)shape_count(x) * sizeof *dx);
  for (int64_t b = 0; b < y->dim[0]; b++)
    for (int64_t h = 0; h < y->dim[1]; h++)
      for (int64_t w = 0; w < y->dim[2]; w++)
        for (int64_t c = 0; c < y->dim[3]; c++) dx[first_largest(n->attr, x, in[0], b, h, w, c)] += *dy++;
  return ELBO_OK;
}

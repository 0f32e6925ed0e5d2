#include <math.h>

#include "ops/attention.h"

OP_REFERENCE(softmax) {
  (void)ctx;
  const double *x = in[0];
  double *y = out[0];
  const shape *s = &n->in[0]->shape;
  int64_t width = s->dim[s->rank - 1], rows = shape_product(s, 0, s->rank - 1);
  for (int64_t r = 0; r < rows; r++, x += width, y += width) {
    double most = x[0], sum = 0;
    for (int64_t c = 1; c < width; c++) most = x[c] > most ? x[c] : most;
    for (int64_t c = 0; c < width; c++) sum += y[c] = exp(x[c] - most);
    for (int64_t c = 0; c < width; c++) y[c] /= sum;
  }
  return ELBO_OK;
}

OP_REFERENCE(softmax_grad) {
  (void)ctx;
  const double *y = in[0], *dy = in[1];
  double *dx = out[0];
  const shape *s = &n->in[0]->shape;
  int64_t width = s->dim[s->rank - 1], rows = shape_product(s, 0, s->rank - 1);
  for (int64_t r = 0; r < rows; r++, y += width, dy += width, dx += width) {
    double along = 0;
    for (int64_t c = 0; c < width; c++) along += y[c] * dy[c];
    for (int64_t c = 0; c < width; c++) dx[c] = y[c] * (dy[c] - along);
  }
  return ELBO_OK;
}

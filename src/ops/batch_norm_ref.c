#include <math.h>

#include "ops/norm.h"

OP_REFERENCE(batch_norm) {
  (void)ctx;
  const norm_attr *a = n->attr;
  const double *x = in[0], *weight = in[1], *bias = in[2];
  double *y = out[0], *mean = out[1], *var = out[2];
  const shape *s = &n->in[0]->shape;
  int64_t channels = s->dim[s->rank - 1], rows = shape_product(s, 0, s->rank - 1);
  for (int64_t c = 0; c < channels; c++) {
    double m = 0, v = 0;
    for (int64_t r = 0; r < rows; r++) m += x[r * channels + c] / (double)rows;
    for (int64_t r = 0; r < rows; r++) v += (x[r * channels + c] - m) * (x[r * channels + c] - m) / (double)rows;
    mean[c] = m, var[c] = v;
    for (int64_t r = 0; r < rows; r++)
      y[r * channels + c] = (x[r * channels + c] - m) / sqrt(v + a->eps) * (weight ? weight[c] : 1) + (bias ? bias[c] : 0);
  }
  return ELBO_OK;
}

OP_REFERENCE(batch_norm_grad) {
  (void)ctx;
  const norm_attr *a = n->attr;
  const double *x = in[0], *weight = in[1], *mean = in[2], *var = in[3], *dy = in[4];
  double *dx = out[0], *dweight = out[1], *dbias = out[2];
  const shape *s = &n->in[0]->shape;
  int64_t channels = s->dim[s->rank - 1], rows = shape_product(s, 0, s->rank - 1);
  for (int64_t c = 0; c < channels; c++) {
    double rstd = 1 / sqrt(var[c] + a->eps), w = weight ? weight[c] : 1;
    dweight[c] = dbias[c] = 0;
    for (int64_t r = 0; r < rows; r++) {
      int64_t i = r * channels + c;
      dweight[c] += dy[i] * (x[i] - mean[c]) * rstd, dbias[c] += dy[i];
    }
    for (int64_t r = 0; r < rows; r++) {
      int64_t i = r * channels + c;
      dx[i] = w * rstd * (dy[i] - dbias[c] / (double)rows - (x[i] - mean[c]) * rstd * dweight[c] / (double)rows);
    }
  }
  return ELBO_OK;
}

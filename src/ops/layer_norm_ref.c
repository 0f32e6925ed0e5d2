#include <math.h>

#include "ops/norm.h"

OP_REFERENCE(layer_norm) {
  (void)ctx;
  const norm_attr *a = n->attr;
  const double *x = in[0], *weight = in[1], *bias = in[2];
  double *y = out[0], *mean = out[1], *rstd = out[2];
  const shape *s = &n->in[0]->shape;
  int64_t width = s->dim[s->rank - 1], rows = shape_product(s, 0, s->rank - 1);
  for (int64_t r = 0; r < rows; r++) {
    double m = 0, v = 0;
    for (int64_t c = 0; c < width; c++) m += x[r * width + c] / (double)width;
    for (int64_t c = 0; c < width; c++) v += (x[r * width + c] - m) * (x[r * width + c] - m) / (double)width;
    double inverse = 1 / sqrt(v + a->eps);
    mean[r] = m, rstd[r] = inverse;
    for (int64_t c = 0; c < width; c++)
      y[r * width + c] = (x[r * width + c] - m) * inverse * (weight ? weight[c] : 1) + (bias ? bias[c] : 0);
  }
  return ELBO_OK;
}

OP_REFERENCE(layer_norm_grad) {
  (void)ctx;
  const double *x = in[0], *weight = in[1], *mean = in[2], *rstd = in[3], *dy = in[4];
  double *dx = out[0], *dweight = out[1], *dbias = out[2];
  const shape *s = &n->in[0]->shape;
  int64_t width = s->dim[s->rank - 1], rows = shape_product(s, 0, s->rank - 1);
  for (int64_t c = 0; c < width; c++) dweight[c] = dbias[c] = 0;
  for (int64_t r = 0; r < rows; r++) {
    double sum = 0, along = 0;
    for (int pass = 0; pass < 2; pass++)
      for (int64_t c = 0; c < width; c++) {
        int64_t i = r * width + c;
        double xhat = (x[i] - mean[r]) * rstd[r], e = dy[i] * (weight ? weight[c] : 1);
        if (pass == 0)
          sum += e, along += e * xhat, dweight[c] += dy[i] * xhat, dbias[c] += dy[i];
        else
          dx[i] = rstd[r] * (e - sum / (double)width - xhat * along / (double)width);
      }
  }
  return ELBO_OK;
}

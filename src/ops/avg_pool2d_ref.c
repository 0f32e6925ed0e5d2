#include "ops/resample.h"

OP_REFERENCE(avg_pool2d) {
  (void)ctx;
  const window_attr *a = n->attr;
  const shape *xs = &n->in[0]->shape, *ys = &n->out[0]->shape;
  const double *x = in[0];
  double *y = out[0];
  for (int64_t b = 0; b < ys->dim[0]; b++)
    for (int64_t h = 0; h < ys->dim[1]; h++)
      for (int64_t w = 0; w < ys->dim[2]; w++)
        for (int64_t c = 0; c < ys->dim[3]; c++) {
          double sum = 0;
          for (int64_t p = 0; p < a->fh; p++)
            for (int64_t q = 0; q < a->fw; q++) sum += x[((b * xs->dim[1] + h * a->fh + p) * xs->dim[2] + w * a->fw + q) * xs->dim[3] + c];
          *y++ = a->factor * sum;
        }
  return ELBO_OK;
}

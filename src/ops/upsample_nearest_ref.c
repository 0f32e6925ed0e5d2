#include "ops/resample.h"

OP_REFERENCE(upsample_nearest) {
  (void)ctx;
  const window_attr *a = n->attr;
  const shape *xs = &n->in[0]->shape, *ys = &n->out[0]->shape;
  const double *x = in[0];
  double *y = out[0];
  for (int64_t b = 0; b < ys->dim[0]; b++)
    for (int64_t h = 0; h < ys->dim[1]; h++)
      for (int64_t w = 0; w < ys->dim[2]; w++)
        for (int64_t c = 0; c < ys->dim[3]; c++)
          *y++ = a->factor * x[((b * xs->dim[1] + h / a->fh) * xs->dim[2] + w / a->fw) * xs->dim[3] + c];
  return ELBO_OK;
}

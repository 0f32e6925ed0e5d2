#include "ops/resample.h"

// `of` is the shape that resizing reads, `to` the one that it makes. Adds every weight times one side to the other: forward when y is
// given, the adjoint when dx is.
static void resize(const shape *of, const shape *to, const double *x, double *y, double *dx, const double *dy) {
  int64_t channels = of->dim[3];
  for (int64_t b = 0; b < to->dim[0]; b++)
    for (int64_t h = 0; h < to->dim[1]; h++)
      for (int64_t w = 0; w < to->dim[2]; w++) {
        int64_t h0, w0;
        double ph, pw;
        bilinear_source(h, to->dim[1], of->dim[1], &h0, &ph);
        bilinear_source(w, to->dim[2], of->dim[2], &w0, &pw);
        for (int tap = 0; tap < 4; tap++) {
          double weight = (tap & 2 ? ph : 1 - ph) * (tap & 1 ? pw : 1 - pw);
          if (weight == 0) continue; // at the edge there is no second pixel
          int64_t from = ((b * of->dim[1] + h0 + (tap >> 1)) * of->dim[2] + w0 + (tap & 1)) * channels;
          int64_t at = ((b * to->dim[1] + h) * to->dim[2] + w) * channels;
          for (int64_t c = 0; c < channels; c++) {
            if (y) y[at + c] += weight * x[from + c];
            if (dx) dx[from + c] += weight * dy[at + c];
          }
        }
      }
}

OP_REFERENCE(resize_bilinear) {
  (void)ctx;
  double *y = out[0];
  for (int64_t i = shape_count(&n->out[0]->shape); i-- > 0;) y[i] = 0;
  resize(&n->in[0]->shape, &n->out[0]->shape, in[0], y, NULL, NULL);
  return ELBO_OK;
}

OP_REFERENCE(resize_bilinear_grad) {
  (void)ctx;
  double *dx = out[0];
  for (int64_t i = shape_count(&n->out[0]->shape); i-- > 0;) dx[i] = 0;
  resize(&n->out[0]->shape, &n->in[0]->shape, NULL, NULL, dx, in[0]);
  return ELBO_OK;
}

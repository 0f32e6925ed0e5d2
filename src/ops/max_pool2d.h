// max_pool2d: the largest number of each window. max_pool2d_grad: dy to where that number first stands, rows before columns.
#ifndef OPS_MAX_POOL2D_H
#define OPS_MAX_POOL2D_H

#include "ops/kernel_util.h"

typedef struct max_pool_attr {
  int64_t window[2], stride[2], pad[4]; // pad: top, left, bottom, right
} max_pool_attr;

// Positions of x, h0 <= h < h1, that window `out` of an axis covers.
static inline void pool_window(int64_t out, int64_t stride, int64_t window, int64_t pad, int64_t size, int64_t *h0, int64_t *h1) {
  int64_t from = out * stride - pad, to = from + window;
  *h0 = from > 0 ? from : 0;
  *h1 = to < size ? to : size;
}

OP_REFERENCE(max_pool2d);
OP_REFERENCE(max_pool2d_grad);

#endif

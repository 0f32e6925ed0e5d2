// What the FLOPs of a convolution are counted by.
#ifndef OPS_CONV_TAPS_H
#define OPS_CONV_TAPS_H

#include "ops/contraction.h"

// Positions of the kernel: multiply-adds of an element with a channel of the other map. Where a pass put a convolution in place of
// something else (graph/fuse_upsample.c), conv2d_attr.taps has the number that the direct algorithm of what was asked for takes; else it
// is 0.
static inline int64_t conv2d_taps(const conv2d_attr *a, const elbo_tensor *w) {
  return a->taps ? a->taps : w->shape.dim[2] * w->shape.dim[3];
}

#endif

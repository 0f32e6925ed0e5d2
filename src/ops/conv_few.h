// What the kernels for convolutions to few channels share (conv_few_cpu.c, conv_few_weight_cpu.c).
#ifndef OPS_CONV_FEW_H
#define OPS_CONV_FEW_H

#include "ops/conv_cpu.h"
#include "ops/gemm_cpu.h"
#include "ops/kernel_util.h"

enum { FEW = 4 }; // result channels at most

// Stride 1, one group, padding less than the kernel above and to the left, channels enough to fill a vector.
static inline bool few_supports(const conv_problem *p) {
  const conv2d_attr *a = &p->attr;
  return p->size.groups == 1 && p->size.O <= FEW && a->stride[0] == 1 && a->stride[1] == 1 && a->dilation[0] == 1 && a->dilation[1] == 1 &&
         a->pad[0] < p->size.kh && a->pad[1] < p->size.kw && p->size.I >= VW;
}

#endif

// Operations that move numbers and compute nothing: transpose, concat, slice, pad.
#ifndef OPS_LAYOUT_H
#define OPS_LAYOUT_H

#include "ops/kernel_util.h"

typedef struct transpose_attr {
  int64_t perm[ELBO_MAX_RANK]; // axis i of the result is axis perm[i] of the input
} transpose_attr;

typedef struct concat_attr {
  int64_t axis;
} concat_attr;

typedef struct slice_attr {
  int64_t axis, begin, end;
} slice_attr;

typedef struct pad_attr {
  int64_t axis, before, after;
} pad_attr;

OP_REFERENCE(transpose);
OP_REFERENCE(concat);
OP_REFERENCE(slice);
OP_REFERENCE(pad);

#endif

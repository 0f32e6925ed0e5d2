// Reductions: op_sum, op_max; a mean is a scaled sum.
#ifndef OPS_REDUCE_H
#define OPS_REDUCE_H

#include "ops/op.h"

// Attribute of op_sum, op_max and op_max_gradient.
typedef struct reduce_attr {
  int64_t axes; // bit mask
  int64_t keep; // 1: reduced axes stay, of length 1
} reduce_attr;

// Axes of length 1 dropped, neighbours of one kind merged: kept and reduced ones alternate. A scalar has none.
typedef struct reduce_axes {
  int rank;
  int64_t dim[ELBO_MAX_RANK], stride[ELBO_MAX_RANK]; // of the dense input
  bool reduced[ELBO_MAX_RANK];
  int64_t n_kept, n_reduced; // elements of the result; elements of the input behind each
} reduce_axes;

reduce_axes reduce_collapse(const shape *s, int64_t axes);
// Where in the input element `index` of the kept (or the reduced) axes lies; the reduced ones count from axis 0 to before `rank`.
int64_t reduce_place(const reduce_axes *r, int rank, bool reduced, int64_t index);

// For the fuse pass: whether n is a plain sum over the axes from *axis to the last of its input (axes kept as length 1 or dropped).
bool sum_of_trailing_axes(const node *n, int *axis);

#endif

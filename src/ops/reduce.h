// Sums, means and maxima over axes.
#ifndef OPS_REDUCE_H
#define OPS_REDUCE_H

#include "ops/op.h"

// For the fuse pass: whether n is a plain sum over the axes from *axis to the last of its input (axes kept as length 1 or dropped).
bool sum_of_trailing_axes(const node *n, int *axis);

#endif

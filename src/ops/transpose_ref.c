#include <string.h>

#include "ops/layout.h"

OP_REFERENCE(transpose) {
  (void)ctx;
  const transpose_attr *a = n->attr;
  const shape *xs = &n->in[0]->shape, *ys = &n->out[0]->shape;
  size_t size = reference_size(n->in[0]->dtype);
  int64_t stride[ELBO_MAX_RANK], index[ELBO_MAX_RANK] = {0}, count = shape_count(ys);
  for (int i = 0; i < xs->rank; i++) stride[i] = shape_product(xs, (int)a->perm[i] + 1, xs->rank);
  for (int64_t i = 0; i < count; i++) {
    int64_t from = 0;
    for (int d = 0; d < ys->rank; d++) from += index[d] * stride[d];
    memcpy((char *)out[0] + (size_t)i * size, (const char *)in[0] + (size_t)from * size, size);
    for (int d = ys->rank - 1; d >= 0 && ++index[d] == ys->dim[d]; d--) index[d] = 0;
  }
  return ELBO_OK;
}

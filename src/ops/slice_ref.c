#include <string.h>

#include "ops/layout.h"

OP_REFERENCE(slice) {
  (void)ctx;
  const slice_attr *a = n->attr;
  const shape *xs = &n->in[0]->shape;
  size_t inner = (size_t)shape_product(xs, (int)a->axis + 1, xs->rank) * reference_size(n->in[0]->dtype);
  int64_t outer = shape_product(xs, 0, (int)a->axis);
  size_t length = (size_t)(a->end - a->begin) * inner, row = (size_t)xs->dim[a->axis] * inner;
  for (int64_t o = 0; o < outer; o++)
    memcpy((char *)out[0] + (size_t)o * length, (const char *)in[0] + (size_t)o * row + (size_t)a->begin * inner, length);
  return ELBO_OK;
}

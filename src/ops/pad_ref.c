#include <string.h>

#include "ops/layout.h"

OP_REFERENCE(pad) {
  (void)ctx;
  const pad_attr *a = n->attr;
  const shape *xs = &n->in[0]->shape;
  size_t inner = (size_t)shape_product(xs, (int)a->axis + 1, xs->rank) * reference_size(n->in[0]->dtype);
  int64_t outer = shape_product(xs, 0, (int)a->axis);
  size_t length = (size_t)xs->dim[a->axis] * inner, row = (size_t)n->out[0]->shape.dim[a->axis] * inner;
  memset(out[0], 0, (size_t)outer * row); // all bits zero is 0 in every dtype
  for (int64_t o = 0; o < outer; o++)
    memcpy((char *)out[0] + (size_t)o * row + (size_t)a->before * inner, (const char *)in[0] + (size_t)o * length, length);
  return ELBO_OK;
}

#include <string.h>

#include "ops/layout.h"

OP_REFERENCE(concat) {
  (void)ctx;
  const concat_attr *a = n->attr;
  const shape *ys = &n->out[0]->shape;
  size_t size = reference_size(n->out[0]->dtype);
  int64_t outer = shape_product(ys, 0, (int)a->axis);
  char *to = out[0];
  for (int64_t o = 0; o < outer; o++)
    for (int i = 0; i < n->n_in; i++) {
      size_t row = (size_t)shape_product(&n->in[i]->shape, (int)a->axis, ys->rank) * size;
      memcpy(to, (const char *)in[i] + (size_t)o * row, row);
      to += row;
    }
  return ELBO_OK;
}

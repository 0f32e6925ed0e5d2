// Simplifications that hold for every value.
#include "graph/algebra.h"

#include "ops/op.h"

elbo_tensor *algebra_simplify(rewrite *r, const node *k) {
  (void)r, (void)k;
  return NULL;
}

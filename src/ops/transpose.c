// transpose: any permutation of the axes.
#include <elbo/ops.h>

#include "ops/layout.h"

static bool transpose_infer(elbo_graph *g, node *n) {
  const transpose_attr *a = n->attr;
  const elbo_tensor *x = n->in[0];
  elbo_tensor *y = n->out[0];
  unsigned seen = 0;
  y->dtype = x->dtype;
  y->shape.rank = x->shape.rank;
  for (int i = 0; i < x->shape.rank; i++) {
    int64_t p = a->perm[i];
    if (p < 0 || p >= x->shape.rank || (seen >> p & 1)) {
      char text[SHAPE_TEXT];
      return graph_fail(g, ELBO_ERROR_ARGUMENT, "transpose of %s: entry %d of the permutation is %lld, expected each of 0..%d once",
                        shape_text(&x->shape, text), i, (long long)p, x->shape.rank - 1);
    }
    seen |= 1u << p;
    y->shape.dim[i] = x->shape.dim[p];
  }
  return true;
}

static bool transpose_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g, (void)wanted;
  const transpose_attr *a = n->attr;
  int inverse[ELBO_MAX_RANK] = {0};
  for (int i = 0; i < n->in[0]->shape.rank; i++) inverse[a->perm[i]] = i;
  dx[0] = elbo_transpose(dy[0], inverse);
  return dx[0] != NULL;
}

const op_def op_transpose = {
    .name = "transpose",
    .attr_size = sizeof(transpose_attr),
    .n_in = 1,
    .n_out = 1,
    .infer = transpose_infer,
    .gradient = transpose_gradient,
    .reference = transpose_ref,
};

elbo_tensor *elbo_transpose(elbo_tensor *x, const int *perm) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  transpose_attr a = {{0}};
  bool moved = false;
  for (int i = 0; i < x->shape.rank; i++) a.perm[i] = perm[i], moved |= perm[i] != i;
  return moved ? graph_add(g, &op_transpose, &a, 1, &x, NULL) : x;
}

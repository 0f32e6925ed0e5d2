// concat: several tensors one after another along an axis.
#include <elbo/ops.h>

#include "ops/layout.h"

static bool concat_infer(elbo_graph *g, node *n) {
  const concat_attr *a = n->attr;
  elbo_tensor *y = n->out[0];
  const shape *first = &n->in[0]->shape;
  char text[2][SHAPE_TEXT];
  if (a->axis < 0 || a->axis >= first->rank)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "concat of %s: there is no axis %lld", shape_text(first, text[0]), (long long)a->axis) !=
           NULL;
  y->dtype = n->in[0]->dtype;
  y->shape = *first;
  for (int i = 1; i < n->n_in; i++) {
    shape s = n->in[i]->shape;
    int64_t length = s.rank > a->axis ? s.dim[a->axis] : 0;
    if (s.rank > a->axis) s.dim[a->axis] = first->dim[a->axis];
    if (n->in[i]->dtype != y->dtype || !shape_equal(&s, first))
      return graph_fail(g, ELBO_ERROR_ARGUMENT, "concat along axis %lld: input %d is %s %s and input 0 is %s %s; they must agree elsewhere",
                        (long long)a->axis, i, elbo_dtype_name(n->in[i]->dtype), shape_text(&n->in[i]->shape, text[0]),
                        elbo_dtype_name(y->dtype), shape_text(first, text[1])) != NULL;
    if (!checked_add(y->shape.dim[a->axis], length, &y->shape.dim[a->axis]))
      return graph_fail(g, ELBO_ERROR_ARGUMENT, "concat: axis %lld becomes too long", (long long)a->axis);
  }
  return true;
}

static bool concat_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g;
  const concat_attr *a = n->attr;
  int64_t begin = 0;
  for (int i = 0; i < n->n_in; i++) {
    int64_t end = begin + n->in[i]->shape.dim[a->axis];
    if (wanted[i] && !(dx[i] = elbo_slice(dy[0], (int)a->axis, begin, end))) return false;
    begin = end;
  }
  return true;
}

const op_def op_concat = {
    .name = "concat",
    .attr_size = sizeof(concat_attr),
    .n_in = -1,
    .n_out = 1,
    .infer = concat_infer,
    .gradient = concat_gradient,
    .reference = concat_ref,
};

elbo_tensor *elbo_concat(int n, elbo_tensor *const *xs, int axis) {
  elbo_graph *g = n > 0 ? graph_of(n, xs) : NULL;
  if (!g) return NULL;
  concat_attr a = {axis < 0 ? axis + xs[0]->shape.rank : axis};
  return n == 1 ? xs[0] : graph_add(g, &op_concat, &a, n, xs, NULL);
}

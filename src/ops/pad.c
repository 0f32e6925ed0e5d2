// pad: zeros before and after one axis.
#include <elbo/ops.h>

#include "ops/layout.h"

static bool pad_infer(elbo_graph *g, node *n) {
  const pad_attr *a = n->attr;
  const shape *xs = &n->in[0]->shape;
  elbo_tensor *y = n->out[0];
  char text[SHAPE_TEXT];
  if (a->axis < 0 || a->axis >= xs->rank)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "pad of %s: there is no axis %lld", shape_text(xs, text), (long long)a->axis);
  y->dtype = n->in[0]->dtype;
  y->shape = *xs;
  int64_t *length = &y->shape.dim[a->axis];
  if (a->before < 0 || a->after < 0 || !checked_add(*length, a->before, length) || !checked_add(*length, a->after, length))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "pad of %s along axis %lld by %lld and %lld: expected numbers from 0 that fit in memory",
                      shape_text(xs, text), (long long)a->axis, (long long)a->before, (long long)a->after);
  return true;
}

static bool pad_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g, (void)wanted;
  const pad_attr *a = n->attr;
  dx[0] = elbo_slice(dy[0], (int)a->axis, a->before, a->before + n->in[0]->shape.dim[a->axis]);
  return dx[0] != NULL;
}

const op_def op_pad = {
    .name = "pad",
    .attr_size = sizeof(pad_attr),
    .n_in = 1,
    .n_out = 1,
    .infer = pad_infer,
    .gradient = pad_gradient,
    .reference = pad_ref,
};

elbo_tensor *elbo_pad(elbo_tensor *x, int axis, int64_t before, int64_t after) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  pad_attr a = {axis < 0 ? axis + x->shape.rank : axis, before, after};
  if (a.axis >= 0 && a.axis < x->shape.rank && before == 0 && after == 0) return x;
  return graph_add(g, &op_pad, &a, 1, &x, NULL);
}

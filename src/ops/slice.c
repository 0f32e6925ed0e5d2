// slice: a range of one axis. split_axis makes several of them.
#include <elbo/ops.h>

#include "ops/layout.h"

static bool slice_infer(elbo_graph *g, node *n) {
  const slice_attr *a = n->attr;
  const shape *xs = &n->in[0]->shape;
  elbo_tensor *y = n->out[0];
  char text[SHAPE_TEXT];
  if (a->axis < 0 || a->axis >= xs->rank)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "slice of %s: there is no axis %lld", shape_text(xs, text), (long long)a->axis);
  if (a->begin < 0 || a->end <= a->begin || a->end > xs->dim[a->axis])
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "slice of %s along axis %lld: [%lld,%lld) is empty or reaches outside", shape_text(xs, text),
                      (long long)a->axis, (long long)a->begin, (long long)a->end);
  y->dtype = n->in[0]->dtype;
  y->shape = *xs;
  y->shape.dim[a->axis] = a->end - a->begin;
  return true;
}

static bool slice_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)g, (void)wanted;
  const slice_attr *a = n->attr;
  dx[0] = elbo_pad(dy[0], (int)a->axis, a->begin, n->in[0]->shape.dim[a->axis] - a->end);
  return dx[0] != NULL;
}

const op_def op_slice = {
    .name = "slice",
    .attr_size = sizeof(slice_attr),
    .n_in = 1,
    .n_out = 1,
    .infer = slice_infer,
    .gradient = slice_gradient,
    .reference = slice_ref,
};

elbo_tensor *elbo_slice(elbo_tensor *x, int axis, int64_t begin, int64_t end) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  slice_attr a = {axis < 0 ? axis + x->shape.rank : axis, begin, end};
  if (a.axis >= 0 && a.axis < x->shape.rank && begin == 0 && end == x->shape.dim[a.axis]) return x;
  return graph_add(g, &op_slice, &a, 1, &x, NULL);
}

int elbo_split_axis(elbo_tensor *x, int axis, int n, elbo_tensor **parts) {
  elbo_graph *g = graph_of(1, &x);
  for (int i = 0; i < n; i++) parts[i] = NULL;
  if (!g) return 0;
  int at = axis < 0 ? axis + x->shape.rank : axis;
  if (at < 0 || at >= x->shape.rank || n < 1 || x->shape.dim[at] % n != 0) {
    char text[SHAPE_TEXT];
    graph_fail(g, ELBO_ERROR_ARGUMENT, "split_axis of %s: axis %d does not come apart into %d equal slices", shape_text(&x->shape, text),
               axis, n);
    return 0;
  }
  int64_t length = x->shape.dim[at] / n;
  for (int i = 0; i < n; i++) {
    parts[i] = elbo_slice(x, at, i * length, (i + 1) * length);
    if (parts[i]) continue;
    for (int j = 0; j < i; j++) parts[j] = NULL;
    return 0;
  }
  return n;
}

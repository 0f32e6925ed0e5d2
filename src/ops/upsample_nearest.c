// upsample_nearest: every pixel becomes a block of fh x fw.
#include <elbo/ops.h>

#include "ops/resample.h"

static bool upsample_nearest_infer(elbo_graph *g, node *n) {
  const window_attr *a = n->attr;
  if (!resample_check(g, n)) return false;
  const shape *x = &n->in[0]->shape;
  shape *y = &n->out[0]->shape;
  *y = *x;
  if (a->fh < 1 || a->fw < 1 || !checked_mul(x->dim[1], a->fh, &y->dim[1]) || !checked_mul(x->dim[2], a->fw, &y->dim[2])) {
    char text[SHAPE_TEXT];
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "upsample_nearest of %s by %lld x %lld: expected factors of at least 1 that fit in memory",
                      shape_text(x, text), (long long)a->fh, (long long)a->fw);
  }
  n->out[0]->dtype = ELBO_F32;
  return true;
}

static bool upsample_nearest_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)wanted;
  dx[0] = graph_add(g, &op_avg_pool2d, n->attr, 1, &dy[0], NULL);
  return dx[0] != NULL;
}

const op_def op_upsample_nearest = {
    .name = "upsample_nearest",
    .attr_size = sizeof(window_attr),
    .n_in = 1,
    .n_out = 1,
    .infer = upsample_nearest_infer,
    .gradient = upsample_nearest_gradient,
    .reference = upsample_nearest_ref,
};

elbo_tensor *elbo_upsample_nearest(elbo_tensor *x, int fh, int fw) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  window_attr a = {fh, fw, 1};
  return graph_add(g, &op_upsample_nearest, &a, 1, &x, NULL);
}

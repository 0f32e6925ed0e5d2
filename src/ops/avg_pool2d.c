// avg_pool2d: the mean over windows that do not overlap.
#include <elbo/ops.h>

#include "ops/resample.h"

bool resample_check(elbo_graph *g, const node *n) {
  const elbo_tensor *x = n->in[0];
  char text[SHAPE_TEXT];
  if (x->dtype == ELBO_F32 && x->shape.rank == 4) return true;
  return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s %s: expected float32 (B,H,W,C)", n->op->name, elbo_dtype_name(x->dtype),
                    shape_text(&x->shape, text));
}

static bool avg_pool2d_infer(elbo_graph *g, node *n) {
  const window_attr *a = n->attr;
  if (!resample_check(g, n)) return false;
  const shape *x = &n->in[0]->shape;
  if (a->fh < 1 || a->fw < 1 || x->dim[1] % a->fh != 0 || x->dim[2] % a->fw != 0) {
    char text[SHAPE_TEXT];
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "avg_pool2d of %s: height and width do not come apart into windows of %lld x %lld",
                      shape_text(x, text), (long long)a->fh, (long long)a->fw);
  }
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = shape_of(4, (int64_t[]){x->dim[0], x->dim[1] / a->fh, x->dim[2] / a->fw, x->dim[3]});
  return true;
}

static bool avg_pool2d_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)wanted;
  dx[0] = graph_add(g, &op_upsample_nearest, n->attr, 1, &dy[0], NULL);
  return dx[0] != NULL;
}

const op_def op_avg_pool2d = {
    .name = "avg_pool2d",
    .attr_size = sizeof(window_attr),
    .n_in = 1,
    .n_out = 1,
    .infer = avg_pool2d_infer,
    .gradient = avg_pool2d_gradient,
    .reference = avg_pool2d_ref,
};

elbo_tensor *elbo_avg_pool2d(elbo_tensor *x, int kh, int kw) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  window_attr a = {kh, kw, kh > 0 && kw > 0 ? 1.0 / ((double)kh * kw) : 0};
  return graph_add(g, &op_avg_pool2d, &a, 1, &x, NULL);
}

// resize_bilinear: to any height and width, pixel centres at half integers (align_corners = False), no antialiasing.
#include <elbo/ops.h>

#include "ops/resample.h"

static bool resize_infer(elbo_graph *g, node *n) {
  const resize_attr *a = n->attr;
  if (!resample_check(g, n)) return false;
  const shape *x = &n->in[0]->shape;
  if (a->h < 1 || a->w < 1) {
    char text[SHAPE_TEXT];
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s to %lld x %lld: expected at least 1 x 1", n->op->name, shape_text(x, text),
                      (long long)a->h, (long long)a->w);
  }
  n->out[0]->dtype = ELBO_F32;
  n->out[0]->shape = shape_of(4, (int64_t[]){x->dim[0], a->h, a->w, x->dim[3]});
  return true;
}

static bool resize_bilinear_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)wanted;
  resize_attr a = {n->in[0]->shape.dim[1], n->in[0]->shape.dim[2]};
  dx[0] = graph_add(g, &op_resize_bilinear_grad, &a, 1, &dy[0], NULL);
  return dx[0] != NULL;
}

static bool resize_bilinear_grad_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  (void)wanted;
  resize_attr a = {n->in[0]->shape.dim[1], n->in[0]->shape.dim[2]};
  dx[0] = graph_add(g, &op_resize_bilinear, &a, 1, &dy[0], NULL);
  return dx[0] != NULL;
}

const op_def op_resize_bilinear = {
    .name = "resize_bilinear",
    .attr_size = sizeof(resize_attr),
    .n_in = 1,
    .n_out = 1,
    .infer = resize_infer,
    .gradient = resize_bilinear_gradient,
    .reference = resize_bilinear_ref,
};

const op_def op_resize_bilinear_grad = {
    .name = "resize_bilinear_grad",
    .attr_size = sizeof(resize_attr),
    .n_in = 1,
    .n_out = 1,
    .infer = resize_infer,
    .gradient = resize_bilinear_grad_gradient,
    .reference = resize_bilinear_grad_ref,
};

elbo_tensor *elbo_resize_bilinear(elbo_tensor *x, int64_t h, int64_t w) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  resize_attr a = {h, w};
  return graph_add(g, &op_resize_bilinear, &a, 1, &x, NULL);
}

// layer_norm [Ba16] over the last axis.
#include <elbo/ops.h>

#include "ops/norm.h"

static bool layer_norm_check(elbo_graph *g, const node *n) {
  const norm_attr *a = n->attr;
  const elbo_tensor *x = n->in[0];
  char text[SHAPE_TEXT];
  if (x->dtype != ELBO_F32 || x->shape.rank < 1)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s %s: expected float32 (...,C)", n->op->name, elbo_dtype_name(x->dtype),
                      shape_text(&x->shape, text));
  if (!(a->eps > 0))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: eps is %g, expected a positive number", n->op->name, shape_text(&x->shape, text),
                      a->eps);
  return norm_check_channels(g, n->op->name, x, n->in[1], "weight");
}

static shape without_last(const shape *s) {
  shape r = *s;
  r.dim[--r.rank] = 0;
  return r;
}

static bool layer_norm_infer(elbo_graph *g, node *n) {
  if (!layer_norm_check(g, n) || !norm_check_channels(g, n->op->name, n->in[0], n->in[2], "bias")) return false;
  n->out[0]->dtype = n->out[1]->dtype = n->out[2]->dtype = ELBO_F32;
  n->out[0]->shape = n->in[0]->shape;
  n->out[1]->shape = n->out[2]->shape = without_last(&n->in[0]->shape);
  return true;
}

static bool layer_norm_grad_infer(elbo_graph *g, node *n) {
  const elbo_tensor *x = n->in[0];
  if (!layer_norm_check(g, n)) return false;
  shape statistics = without_last(&x->shape);
  if (!shape_equal(&n->in[2]->shape, &statistics) || !shape_equal(&n->in[3]->shape, &statistics) ||
      !shape_equal(&n->in[4]->shape, &x->shape)) {
    char text[2][SHAPE_TEXT];
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: statistics or dy %s do not belong to it", n->op->name,
                      shape_text(&x->shape, text[0]), shape_text(&n->in[4]->shape, text[1]));
  }
  n->out[0]->dtype = n->out[1]->dtype = n->out[2]->dtype = ELBO_F32;
  n->out[0]->shape = x->shape;
  n->out[1]->shape = n->out[2]->shape = shape_of(1, &x->shape.dim[x->shape.rank - 1]);
  return true;
}

static bool layer_norm_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  if (!norm_statistics_unused(g, n, dy)) return false;
  if (!dy[0]) return true;
  node *grad = graph_add_node(g, &op_layer_norm_grad, n->attr, 5, (elbo_tensor *[]){n->in[0], n->in[1], n->out[1], n->out[2], dy[0]}, NULL);
  if (!grad) return false;
  for (int i = 0; i < 3; i++)
    if (wanted[i] && n->in[i]) dx[i] = grad->out[i];
  return true;
}

const op_def op_layer_norm = {
    .name = "layer_norm",
    .attr_size = sizeof(norm_attr),
    .n_in = 3,
    .n_out = 3,
    .optional = 6,
    .flags = OP_INPLACE,
    .infer = layer_norm_infer,
    .gradient = layer_norm_gradient,
    .reference = layer_norm_ref,
};

const op_def op_layer_norm_grad = {
    .name = "layer_norm_grad",
    .attr_size = sizeof(norm_attr),
    .n_in = 5,
    .n_out = 3,
    .optional = 2,
    .infer = layer_norm_grad_infer,
    .reference = layer_norm_grad_ref,
};

elbo_tensor *elbo_layer_norm(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, double eps) {
  elbo_graph *g = graph_of(1, &x);
  if (!g) return NULL;
  norm_attr a = {eps};
  node *n = graph_add_node(g, &op_layer_norm, &a, 3, (elbo_tensor *[]){x, weight, bias}, NULL);
  return n ? n->out[0] : NULL;
}

// batch_norm [Ioffe15] over all axes but the last. In training the batch's statistics; otherwise the running ones, as plain operations.
#include <elbo/ops.h>

#include "ops/norm.h"

static bool batch_norm_check(elbo_graph *g, const node *n) {
  const norm_attr *a = n->attr;
  const elbo_tensor *x = n->in[0];
  char text[SHAPE_TEXT];
  if (x->dtype != ELBO_F32 || x->shape.rank < 2)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s %s: expected float32 (B,...,C)", n->op->name, elbo_dtype_name(x->dtype),
                      shape_text(&x->shape, text));
  if (shape_product(&x->shape, 0, x->shape.rank - 1) < 2)
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: training needs more than one value per channel", n->op->name,
                      shape_text(&x->shape, text));
  if (!(a->eps > 0))
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: eps is %g, expected a positive number", n->op->name, shape_text(&x->shape, text),
                      a->eps);
  return norm_check_channels(g, n->op->name, x, n->in[1], "weight");
}

static bool batch_norm_infer(elbo_graph *g, node *n) {
  const shape *x = &n->in[0]->shape;
  if (!batch_norm_check(g, n) || !norm_check_channels(g, n->op->name, n->in[0], n->in[2], "bias")) return false;
  n->out[0]->dtype = n->out[1]->dtype = n->out[2]->dtype = ELBO_F32;
  n->out[0]->shape = *x;
  n->out[1]->shape = n->out[2]->shape = shape_of(1, &x->dim[x->rank - 1]);
  return true;
}

static bool batch_norm_grad_infer(elbo_graph *g, node *n) {
  const elbo_tensor *x = n->in[0];
  if (!batch_norm_check(g, n) || !norm_check_channels(g, n->op->name, x, n->in[2], "mean") ||
      !norm_check_channels(g, n->op->name, x, n->in[3], "variance"))
    return false;
  if (!shape_equal(&n->in[4]->shape, &x->shape)) {
    char text[2][SHAPE_TEXT];
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "%s of %s: dy is %s", n->op->name, shape_text(&x->shape, text[0]),
                      shape_text(&n->in[4]->shape, text[1]));
  }
  n->out[0]->dtype = n->out[1]->dtype = n->out[2]->dtype = ELBO_F32;
  n->out[0]->shape = x->shape;
  n->out[1]->shape = n->out[2]->shape = shape_of(1, &x->shape.dim[x->shape.rank - 1]);
  return true;
}

static bool batch_norm_gradient(elbo_graph *g, const node *n, elbo_tensor *const *dy, const bool *wanted, elbo_tensor **dx) {
  if (!norm_statistics_unused(g, n, dy)) return false;
  if (!dy[0]) return true;
  node *grad = graph_add_node(g, &op_batch_norm_grad, n->attr, 5, (elbo_tensor *[]){n->in[0], n->in[1], n->out[1], n->out[2], dy[0]}, NULL);
  if (!grad) return false;
  for (int i = 0; i < 3; i++)
    if (wanted[i] && n->in[i]) dx[i] = grad->out[i];
  return true;
}

const op_def op_batch_norm = {
    .name = "batch_norm",
    .attr_size = sizeof(norm_attr),
    .n_in = 3,
    .n_out = 3,
    .optional = 6,
    .flags = OP_INPLACE,
    .infer = batch_norm_infer,
    .gradient = batch_norm_gradient,
    .reference = batch_norm_ref,
};

const op_def op_batch_norm_grad = {
    .name = "batch_norm_grad",
    .attr_size = sizeof(norm_attr),
    .n_in = 5,
    .n_out = 3,
    .optional = 2,
    .infer = batch_norm_grad_infer,
    .reference = batch_norm_grad_ref,
};

// r = (1 - momentum) r + momentum batch
static void update_running(elbo_tensor *running, elbo_tensor *batch, double momentum, double factor) {
  elbo_state_update(running, elbo_add(elbo_scale(running, 1 - momentum, 0), elbo_scale(batch, momentum * factor, 0)));
}

elbo_tensor *elbo_batch_norm(elbo_tensor *x, elbo_tensor *weight, elbo_tensor *bias, elbo_tensor *running_mean, elbo_tensor *running_var,
                             double momentum, double eps, int training) {
  elbo_graph *g = graph_of(3, (elbo_tensor *[]){x, running_mean, running_var});
  if (!g) return NULL;
  if (x->shape.rank < 2) {
    char text[SHAPE_TEXT];
    return graph_fail(g, ELBO_ERROR_ARGUMENT, "batch_norm of %s: expected (B,...,C)", shape_text(&x->shape, text));
  }
  if (!norm_check_channels(g, "batch_norm", x, running_mean, "running mean") ||
      !norm_check_channels(g, "batch_norm", x, running_var, "running variance"))
    return NULL;
  if (!(momentum >= 0 && momentum <= 1)) return graph_fail(g, ELBO_ERROR_ARGUMENT, "batch_norm: momentum is %g, expected 0 to 1", momentum);
  if (!training) {
    if (!norm_check_channels(g, "batch_norm", x, weight, "weight") || !norm_check_channels(g, "batch_norm", x, bias, "bias")) return NULL;
    elbo_tensor *scale = elbo_rsqrt(elbo_scale(running_var, 1, eps));
    if (weight) scale = elbo_mul(scale, weight);
    elbo_tensor *shift = elbo_mul(running_mean, scale);
    shift = bias ? elbo_sub(bias, shift) : elbo_neg(shift);
    return elbo_add(elbo_mul(x, scale), shift);
  }
  norm_attr a = {eps};
  node *n = graph_add_node(g, &op_batch_norm, &a, 3, (elbo_tensor *[]){x, weight, bias}, NULL);
  if (!n) return NULL;
  double count = (double)shape_product(&x->shape, 0, x->shape.rank - 1);
  update_running(running_mean, n->out[1], momentum, 1);
  update_running(running_var, n->out[2], momentum, count / (count - 1)); // unbiased
  return n->out[0];
}
